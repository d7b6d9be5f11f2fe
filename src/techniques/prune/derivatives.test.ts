import { expect, test } from "vitest";
import { type Dataset, fromArrays } from "../../data/dataset.ts";
import type { Model } from "../../ir/graph.ts";
import { mlp } from "../../nets/mlp.ts";
import { compress } from "../../recipe/compress.ts";
import { random } from "../../tensor/random.ts";
import { floatsOf, tensor } from "../../tensor/tensor.ts";
import type { Step } from "../technique.ts";
import { magnitude } from "./magnitude.ts";
import { obd } from "./obd.ts";
import { taylor } from "./taylor.ts";

/** y = W·x, its inputs of scales 10, 1, 0.1 and 0: by how much a weight matters is w²·E x², not w². */
function linear(): { model: Model; data: Dataset } {
  const model = mlp({ sizes: [4, 2], seed: 1 });
  const [n, scales] = [400, [10, 1, 0.1, 0]];
  const r = random(2, "linear");
  const w = [0.2, -0.5, 3, 9, 0.4, 1, -2, 7];
  for (const v of model.graph.initializers) if (v.name === "fc1.weight") v.graph.setData(v, tensor("float32", [2, 4], w));
  const x = Float32Array.from({ length: 4 * n }, (_, i) => scales[i % 4]! * r.normal());
  const target = new Float32Array(2 * n);
  for (let i = 0; i < n; i++) for (let o = 0; o < 2; o++) for (let k = 0; k < 4; k++) target[2 * i + o]! += w[4 * o + k]! * x[4 * i + k]!;
  // Noise, so that no example's gradient is zero.
  for (let i = 0; i < target.length; i++) target[i]! += r.normal();
  return { model, data: fromArrays({ x: tensor("float32", [n, 4], x), target: tensor("float32", [n, 2], target) }) };
}

async function left(step: Step, { model, data } = linear()): Promise<boolean[]> {
  const { model: small } = await compress(model, [step], { train: data, threads: 1, measure: null });
  const w = [...small.graph.initializers].find((v) => v.name === "fc1.weight")!;
  return Array.from(floatsOf(w.data!), (x) => x !== 0);
}

const p = { loss: "mse", epochs: 0 };

test("second derivatives see the inputs that magnitudes do not", async () => {
  // w²·E x²: 4, 0.25, 0.09, 0, 16, 1, 0.04, 0.
  const order = [3, 7, 6, 2, 1, 5, 0, 4];
  for (let gone = 1; gone < 8; gone++) {
    const want = Array.from({ length: 8 }, (_, i) => !order.slice(0, gone).includes(i));
    for (const form of ["lm", "exact"] as const)
      for (const sharing of ["weight", "connections"] as const)
        expect(await left(obd({ ...p, sparsity: gone / 8, form, sharing }))).toEqual(want);
  }
  expect(await left(magnitude({ ...p, sparsity: 2 / 8 }))).toEqual([false, true, true, true, false, true, true, true]);
});

test("Taylor's first order too, in all its forms", async () => {
  for (const form of ["absolute", "squared"] as const)
    expect(await left(taylor({ ...p, sparsity: 4 / 8, form }))).toEqual([true, true, false, false, true, true, false, false]);
  expect(await left(taylor({ ...p, sparsity: 2 / 8, form: "mean" }))).toEqual([true, true, true, false, true, true, true, false]);
});

test("a missing array of the loss is said", async () => {
  const { model, data } = linear();
  await expect(left(obd({ epochs: 0 }), { model, data })).rejects.toThrow('has no array "labels"');
});
