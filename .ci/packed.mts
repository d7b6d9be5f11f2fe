// A library user's first lines, compiled by tsc against the packed declarations.
import { type Batch, Build, compress, fromArrays, load, mlp, type Model, newModel, open, random, type Run, save, summarize, svd, tensor } from "pith";

const model: Model = newModel("small");
const b = Build.of(model);
const x = model.graph.input("x", "float32", ["n", 2]);
model.graph.addOutput(b.matmul(x, model.graph.initializer("w", tensor("float32", [2, 2], [1, 2, 3, 4]))));
save(model, "small.onnx");
const again = load("small.onnx");
const session = await open(again);
const outputs = await session.run({ x: tensor("float32", [1, 2], [1, 1]) });
await session.release();
if (Object.keys(outputs).length !== 1 || summarize(again).parameters !== 4) throw new Error("the library gives wrong answers");

// A net for the commands, and the library's own way to compress it.
const net = mlp({ sizes: [8, 16, 3], seed: 1 });
save(net, "net.onnx");
const r = random(1, "packed");
const labels = Array.from({ length: 60 }, () => r.below(3));
const data: Batch = { x: tensor("float32", [60, 8], r.fillNormal(new Float32Array(480))), labels: tensor("int64", [60], labels) };
const { model: thin, run }: { model: Model; run: Run } = await compress(net, [svd({ rank: 2 })], { data: fromArrays(data), measure: { seconds: 0 } });
if (summarize(thin).parameters >= summarize(net).parameters || run.steps[0]?.technique !== "svd") throw new Error("svd made nothing smaller");
