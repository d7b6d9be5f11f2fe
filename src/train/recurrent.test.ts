import { expect, test } from "vitest";
import { fromArrays } from "../data/dataset.ts";
import { cloneModel, type Model, newModel } from "../ir/graph.ts";
import { find } from "../ir/walk.ts";
import { Build } from "../ops/build.ts";
import { random } from "../tensor/random.ts";
import { bytesOf, tensor } from "../tensor/tensor.ts";
import { fit } from "./fit.ts";
import { crossEntropy } from "./loss.ts";
import { adam } from "./optimizer.ts";

const noise = (seed: number, ...shape: number[]) =>
  tensor("float32", shape, random(seed).fillNormal(new Float32Array(shape.reduce((n, d) => n * d, 1))));

/** x [6, batch, 3] → LSTM or GRU of 4 → the last state → a linear layer → 2 classes. The input comes [batch, 6, 3]. */
function recurrent(op: "LSTM" | "GRU"): Model {
  const gates = op === "LSTM" ? 4 : 3;
  const model = newModel(op);
  const { graph } = model;
  const b = Build.of(model);
  const x = b.transpose(graph.input("x", "float32", ["batch", 6, 3]), [1, 0, 2]);
  const weights = [graph.initializer("rnn.W", noise(1, 1, 4 * gates, 3)), graph.initializer("rnn.R", noise(2, 1, 4 * gates, 4))];
  const node = graph.append(op, [x, ...weights], { name: "rnn", attrs: { hidden_size: 4 }, outputs: ["", "state"] });
  const state = b.op("Squeeze", [node.outputs.at(-1)!, b.constant(tensor("int64", [1], [0]))]);
  const w = graph.initializer("head.weight", noise(3, 4, 2));
  const y = graph.append("MatMul", [state, w], { outputs: ["logits"] }).outputs[0]!;
  y.type = { dtype: "float32", shape: ["batch", 2] };
  graph.addOutput(y);
  return model;
}

const data = fromArrays({
  x: noise(4, 64, 6, 3),
  labels: tensor(
    "int64",
    [64],
    Array.from({ length: 64 }, (_, i) => i % 2),
  ),
});
const options = { data, loss: crossEntropy(), optimizer: adam({ learningRate: 0.05 }), steps: 20, batchSize: 32, seed: 1, threads: 1 };

test.each(["LSTM", "GRU"] as const)("%s: trained after it, refused by name through it", async (op) => {
  const before = recurrent(op);
  const model = cloneModel(before);
  const { history } = await fit(model, { ...options, trainable: "head.weight" });
  expect(history.at(-1)!.loss).toBeLessThan(history[0]!.loss);
  const bytes = (m: Model, name: string) => Buffer.from(bytesOf(find(m.graph, name)!.data!));
  expect(bytes(model, "head.weight").equals(bytes(before, "head.weight"))).toBe(false);
  for (const name of ["rnn.W", "rnn.R"]) expect(bytes(model, name).equals(bytes(before, name))).toBe(true);
  await expect(fit(cloneModel(before), options)).rejects.toThrow(new RegExp(`^grad: no gradient rule for ${op} \\(node "rnn"\\)`));
});
