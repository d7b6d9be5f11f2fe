/** Nets of old opsets, spelled as exporters of their time did, train like any other. */
import { expect, test } from "vitest";
import { fromArrays } from "../data/dataset.ts";
import { check } from "../ir/check.ts";
import { float, newModel } from "../ir/graph.ts";
import { Build } from "../ops/build.ts";
import { random } from "../tensor/random.ts";
import { floatsOf, tensor } from "../tensor/tensor.ts";
import { fit } from "./fit.ts";
import { crossEntropy } from "./loss.ts";
import { adam } from "./optimizer.ts";

test("opset 9: attributes for axes and bounds, shapes computed in the graph, weights in Constant nodes", async () => {
  const r = random(1);
  const noise = (...shape: number[]) => tensor("float32", shape, r.fillNormal(new Float32Array(shape.reduce((a, d) => a * d, 1)), 0.5));
  const model = newModel("old", 9, 4);
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", ["n", 4]);
  const w1 = b.op("Constant", [], { value: noise(4, 8) });
  const hidden = b.op("Clip", [b.matmul(x, w1)], { min: float(0), max: float(6) });
  // [n, 8] → [n, 1, 8] → [n, 8] by the shape of x, first row of it and all.
  const n = b.op("Slice", [b.op("Shape", [x])], { starts: [0], ends: [1], axes: [0] });
  const apart = b.op("Unsqueeze", [hidden], { axes: [1] });
  const whole = b.op("Reshape", [apart, b.op("Concat", [n, b.i64([8])], { axis: 0 })]);
  const w2 = model.graph.initializer("w2", noise(8, 2));
  const y = b.op("Softmax", [b.matmul(whole, w2)]);
  y.type = { dtype: "float32", shape: ["n", 2] };
  model.graph.addOutput(y);

  const inputs = r.fillNormal(new Float32Array(4 * 128));
  const labels = Array.from({ length: 128 }, (_, i) => (inputs[4 * i]! + inputs[4 * i + 1]! > 0 ? 1 : 0));
  const data = fromArrays({ x: tensor("float32", [128, 4], inputs), labels: tensor("int64", [128], labels) });
  const before = floatsOf(w1.producer!.attrs.get("value")!.value as ReturnType<typeof tensor>);
  const { losses, trained } = await fit(model, {
    data,
    loss: crossEntropy(),
    optimizer: adam({ learningRate: 0.02 }),
    epochs: 30,
    batchSize: 32,
    threads: 1,
  });
  check(model);
  expect(trained).toHaveLength(2);
  expect(losses.at(-1)).toBeLessThan(0.5 * losses[0]!);
  // Only weights return to the model: it is as old as it was.
  expect(model.opsets.get("")).toBe(9);
  expect([...model.graph.nodes].filter((n) => n.opType === "Clip")[0]!.float("max")).toBe(6);
  expect(floatsOf(w1.producer!.attrs.get("value")!.value as ReturnType<typeof tensor>)).not.toEqual(before);
});
