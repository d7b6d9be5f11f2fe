import { expect, test } from "vitest";
import { cloneModel } from "../ir/graph.ts";
import { mlp } from "../nets/mlp.ts";
import { numbersOf, tensor } from "../tensor/tensor.ts";
import { holdZeros, mergeMasks } from "./mask.ts";
import { weightsOf } from "./weights.ts";

test("zeros are held, of a weight that has no others too; merging the masks gives back the model", () => {
  const model = mlp({ sizes: [3, 4, 5, 2], seed: 1 });
  const [some, all] = weightsOf(model).map((w) => w.value);
  const w = numbersOf(some!.data!).map((x, i) => (i % 3 ? x : 0));
  some!.graph.setData(some!, tensor("float32", some!.data!.shape, w));
  all!.graph.setData(all!, tensor("float32", all!.data!.shape, new Float32Array(20)));
  const before = cloneModel(model);
  const masks = holdZeros(model);
  expect(masks.map((m) => [m.weight.name, ...numbersOf(m.value.data!)])).toEqual([
    [some!.name, ...w.map((x) => (x === 0 ? 0 : 1))],
    [all!.name, ...Array(20).fill(0)],
  ]);
  mergeMasks(masks);
  const of = (m: typeof model) => [...m.graph.initializers].map((v) => [v.name, ...numbersOf(v.data!)]);
  expect(of(model)).toEqual(of(before));
  expect(model.graph.nodes.size).toBe(before.graph.nodes.size);
});
