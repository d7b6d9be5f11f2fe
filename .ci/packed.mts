// A library user's first lines, compiled by tsc against the packed declarations.
import { Build, load, type Model, newModel, open, save, summarize, tensor } from "pith";

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
