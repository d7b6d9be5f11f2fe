import { expect, test } from "vitest";
import { fromArrays } from "../data/dataset.ts";
import { newModel } from "../ir/graph.ts";
import { Build } from "../ops/build.ts";
import { tensor } from "../tensor/tensor.ts";
import { sensitivity } from "./sensitivity.ts";

// y = x·W with W = diag(1, 2): everything can be worked out by hand.
const model = newModel("m", 17);
const b = Build.of(model);
const x = model.graph.input("x", "float32", ["n", 2]);
const w = model.graph.initializer("w", tensor("float32", [2, 2], [1, 0, 0, 2]));
const y = b.node("MatMul", [x, w]);
model.graph.addOutput(y.outputs[0]!);
const slot = { name: "w", readers: [{ node: y, input: 1 }], weights: () => w.data! };
const data = fromArrays({ x: tensor("float32", [3, 2], [1, 0, 0, 1, 1, 1]) });
const other = tensor("float32", [2, 2], [1, 0, 0, 3]);

test("relative: squares off over squares, by hand; nothing changed is nothing off; the model stays", async () => {
  const s = await sensitivity(model, [slot], data, { divergence: "relative", threads: 1 });
  // Outputs (1,0), (0,2), (1,2) against (1,0), (0,3), (1,3): off by 2 of 1 + 4 + 5.
  expect(await s.of(new Map([[slot, other]]))).toBeCloseTo(0.2, 7);
  expect(await s.of(new Map())).toBe(0);
  await s.release();
  expect(w.data!.shape).toEqual([2, 2]);
  expect(model.graph.inputs.map((v) => v.name)).toEqual(["x"]);
});

test("kl: by hand", async () => {
  const s = await sensitivity(model, [slot], data, { divergence: "kl", threads: 1 });
  const softmax = (v: number[]) => v.map((u) => Math.exp(u) / v.reduce((n, o) => n + Math.exp(o), 0));
  const kl = (p: number[], q: number[]) => p.reduce((n, pi, i) => n + pi * Math.log(pi / q[i]!), 0);
  const want = (kl(softmax([0, 2]), softmax([0, 3])) + kl(softmax([1, 2]), softmax([1, 3]))) / 3;
  expect(await s.of(new Map([[slot, other]]))).toBeCloseTo(want, 6);
  await s.release();
});
