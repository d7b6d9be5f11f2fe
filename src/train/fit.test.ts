import { describe, expect, test } from "vitest";
import { fromArrays } from "../data/dataset.ts";
import { check } from "../ir/check.ts";
import { cloneModel, type Model } from "../ir/graph.ts";
import { mlp } from "../nets/mlp.ts";
import { writeModel } from "../onnx/write.ts";
import { random } from "../tensor/random.ts";
import { floatsOf, tensor } from "../tensor/tensor.ts";
import { fit } from "./fit.ts";
import { crossEntropy } from "./loss.ts";
import { adam, sgd } from "./optimizer.ts";

/** Three blobs in the plane. */
function blobs(n: number, seed = 1) {
  const r = random(seed);
  const x = new Float32Array(2 * n);
  const labels = Array.from({ length: n }, () => r.below(3));
  labels.forEach((c, i) => {
    x[2 * i] = [0, 2, -2][c]! + 0.5 * r.normal();
    x[2 * i + 1] = [2, -1, -1][c]! + 0.5 * r.normal();
  });
  return fromArrays({ x: tensor("float32", [n, 2], x), labels: tensor("int64", [n], labels) });
}
const net = () => mlp({ sizes: [2, 16, 3], seed: 3 });
const weights = (m: Model) => [...m.graph.initializers].map((v) => [v.name, floatsOf(v.data!)] as const);

test.each([
  ["adam", adam({ learningRate: 0.01 })],
  ["sgd", sgd({ learningRate: 0.1, momentum: 0.9, nesterov: true })],
])("%s learns blobs; the model keeps its names and takes the new weights", async (_, optimizer) => {
  const model = net();
  const before = cloneModel(model);
  const { history, losses, trained } = await fit(model, {
    data: blobs(200),
    validation: blobs(100, 2),
    loss: crossEntropy(),
    optimizer,
    epochs: 6,
    batchSize: 16,
    threads: 1,
  });
  check(model);
  expect(losses).toHaveLength(75);
  expect(history).toHaveLength(6);
  expect(history.at(-1)!.metric).toBeGreaterThan(0.97);
  expect(history.at(-1)!.loss).toBeLessThan(0.2 * history[0]!.loss);
  expect(trained).toEqual(["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]);
  expect(weights(model).map(([n]) => n)).toEqual(weights(before).map(([n]) => n));
  expect(weights(model)).not.toEqual(weights(before));
});

test("equal options give equal bytes with two threads", async () => {
  const bytes = [];
  for (let i = 0; i < 2; i++) {
    const model = net();
    await fit(model, { data: blobs(100), loss: crossEntropy(), epochs: 3, batchSize: 32, threads: 2, seed: 5 });
    bytes.push(writeModel(model));
  }
  expect(bytes[0]).toEqual(bytes[1]);
});
