import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { fromArrays } from "../src/data/dataset.ts";
import { type AttrInput, newModel } from "../src/ir/graph.ts";
import { find } from "../src/ir/walk.ts";
import { lenet5 } from "../src/nets/lenet5.ts";
import { resnet20 } from "../src/nets/resnet20.ts";
import { Build } from "../src/ops/build.ts";
import { open } from "../src/runtime/session.ts";
import { observeShapes } from "../src/runtime/shapes.ts";
import { sizeOf } from "../src/tensor/dtype.ts";
import { bytesOf, floatsOf, type Tensor, tensor } from "../src/tensor/tensor.ts";
import { fit } from "../src/train/fit.ts";
import { crossEntropy } from "../src/train/loss.ts";
import { adam, sgd } from "../src/train/optimizer.ts";
import { grad } from "../src/transform/grad.ts";

interface Reference {
  readonly ops: Record<string, { readonly output: number[]; readonly gradients: number[][] }>;
  readonly net: { readonly order: string[]; readonly losses: number[]; readonly ends: Record<string, number[]>; readonly mean: number[] };
}
// Made by test/reference/windows.py with PyTorch.
const reference: Reference = JSON.parse(readFileSync(join(import.meta.dirname, "reference/fixtures/windows.json"), "utf8"));

/** The same numbers as `made` in windows.py. */
function made(seed: number, shape: readonly number[], change: (v: number) => number = (v) => v): Tensor {
  const value = (i: number) => change(((i * i * 31 + i * 7919 + seed * 104729) % 10007) / 10007 - 0.5);
  return tensor(
    "float32",
    shape,
    Array.from({ length: sizeOf(shape) }, (_, i) => value(i)),
  );
}
const sample = (values: Float32Array) => values.filter((_, i) => i % Math.max(1, Math.ceil(values.length / 256)) === 0);

/** Largest difference relative to the largest wanted value. */
function distance(got: Float32Array, want: readonly number[]): number {
  expect(got.length).toBe(want.length);
  const scale = Math.max(...want.map(Math.abs));
  return Math.max(...want.map((w, i) => Math.abs(got[i]! - w))) / scale;
}

const same = { pads: [1, 1, 1, 1] };
const scales = tensor("float32", [4], [1, 1, 2, 2]);
const cases: Record<string, [op: string, attrs: Record<string, AttrInput>, inputs: (number[] | Tensor | null)[]]> = {
  same: ["Conv", same, [[16, 16, 16, 16], [24, 16, 3, 3], [24]]],
  "valid 5x5": ["Conv", {}, [[16, 8, 12, 12], [20, 8, 5, 5], [20]]],
  "stride 2, odd": ["Conv", { ...same, strides: [2, 2] }, [[8, 16, 15, 17], [32, 16, 3, 3], [32]]],
  "1x1, stride 2": ["Conv", { strides: [2, 2] }, [[8, 16, 16, 16], [32, 16, 1, 1], [32]]],
  "groups, dilation": ["Conv", { group: 4, dilations: [2, 2], pads: [3, 1, 3, 1] }, [[8, 16, 14, 13], [24, 4, 3, 3], [24]]],
  depthwise: ["Conv", { ...same, group: 32 }, [[8, 32, 14, 14], [32, 1, 3, 3], [32]]],
  "one example": ["Conv", same, [[1, 16, 28, 28], [16, 16, 3, 3], [16]]],
  transposed: ["ConvTranspose", { ...same, strides: [2, 2], output_padding: [1, 1], group: 2 }, [[8, 16, 7, 9], [16, 6, 3, 3], [12]]],
  "max pool": ["MaxPool", { kernel_shape: [2, 2], strides: [2, 2] }, [[8, 8, 12, 13]]],
  "max pool, overlap": ["MaxPool", { kernel_shape: [3, 3], strides: [2, 2], ...same }, [[8, 8, 15, 14]]],
  "average pool, overlap": ["AveragePool", { kernel_shape: [3, 3], strides: [2, 2], ...same }, [[8, 8, 15, 14]]],
  bilinear: ["Resize", { mode: "linear" }, [[4, 8, 9, 7], null, scales]],
};

test("the reference covers the same ops", () => expect(Object.keys(cases)).toEqual(Object.keys(reference.ops)));

test.each(Object.entries(cases))("%s: gradients are PyTorch's", async (name, [op, attrs, inputs]) => {
  const { output, gradients } = reference.ops[name]!;
  const forward = newModel(name);
  const given = inputs.flatMap((shape, i) => (Array.isArray(shape) ? [{ name: `x${i}`, value: made(i + 1, shape) }] : []));
  const values = inputs.map((x, i) => {
    if (x === null) return null;
    return Array.isArray(x) ? forward.graph.input(`x${i}`, "float32", x) : forward.graph.initializer("constant", x);
  });
  const y = Build.of(forward).op(op, values, attrs);
  forward.graph.addOutput(y);
  const feeds = Object.fromEntries(given.map(({ name, value }) => [name, value]));
  const model = await observeShapes(forward, feeds);
  const b = Build.of(model);
  const out = find(model.graph, y.name)!;
  expect(out.shape).toEqual(output);
  const weighted = b.mul(out, b.constant(made(9, output)));
  weighted.type = out.type;
  const loss = b.sum(weighted, [0, 1, 2, 3]);
  loss.type = { dtype: "float32", shape: [] };
  const wrt = given.map(({ name }) => find(model.graph, name)!);
  const found = grad(model, loss, wrt);
  for (const w of wrt) model.graph.addOutput(found.get(w)!);
  for (const threads of [1, 2]) {
    const session = await open(model, { threads, spinning: false });
    const results = await session.run(feeds);
    wrt.forEach((w, i) => {
      // float32 sums of up to 4,096 products against float64: about 1e-6 of the largest element.
      expect(distance(sample(floatsOf(results[found.get(w)!.name]!)), gradients[i]!), w.name).toBeLessThan(5e-6);
    });
    await session.release();
  }
});

test("a residual net with BatchNormalization trains as in PyTorch", async () => {
  const { order, losses, ends, mean } = reference.net;
  const model = resnet20({ width: 8, size: 16, blocks: 1 });
  order.forEach((name, k) => {
    const v = find(model.graph, name)!;
    const { shape } = v.data!;
    const spread = Math.sqrt(6 / sizeOf(shape.slice(1)));
    const change = (x: number) => (shape.length > 1 ? x * spread : name.endsWith(".bn.weight") ? 1 + x : x);
    model.graph.setData(v, made(k + 20, shape, change));
  });
  const n = 8;
  const data = fromArrays({
    x: made(7, [n, 3, 16, 16], (v) => v * 4),
    labels: tensor(
      "int64",
      [n],
      Array.from({ length: n }, (_, i) => i % 10),
    ),
  });
  const options = { data, loss: crossEntropy(), optimizer: sgd({ learningRate: 0.05, momentum: 0.9 }), batchStatistics: true };
  const fitted = await fit(model, { ...options, steps: losses.length, batchSize: n, threads: 2 });
  // float32 on both sides; eight steps amplify the last bits' differences.
  expect(distance(Float32Array.from(fitted.losses), losses)).toBeLessThan(1e-4);
  const values = (name: string) => sample(floatsOf(find(model.graph, name)!.data!));
  for (const [name, want] of Object.entries(ends)) expect(distance(values(name), want), name).toBeLessThan(1e-3);
  expect(distance(values("stage2.block1.1.bn.running_mean"), mean)).toBeLessThan(1e-3);
});

test("training twice with two threads gives the same bytes", async () => {
  const n = 64;
  const train = async (of: "lenet5" | "resnet20") => {
    const model = of === "lenet5" ? lenet5() : resnet20({ width: 8, blocks: 1 });
    const image = of === "lenet5" ? [1, 28, 28] : [3, 32, 32];
    const data = fromArrays({
      x: made(3, [n, ...image], (v) => v * 4),
      labels: tensor(
        "int64",
        [n],
        Array.from({ length: n }, (_, i) => i % 10),
      ),
    });
    const fitted = await fit(model, {
      data,
      loss: crossEntropy(),
      optimizer: adam(),
      steps: 6,
      batchSize: 32,
      threads: 2,
      batchStatistics: true,
    });
    expect(fitted.losses.every(Number.isFinite)).toBe(true);
    return [...model.graph.initializers].map((v) => Buffer.from(bytesOf(v.data!)).toString("base64"));
  };
  for (const of of ["lenet5", "resnet20"] as const) expect(await train(of)).toEqual(await train(of));
});
