import { describe, expect, test } from "vitest";
import { kernels } from "../../../test/kernels.ts";
import { fromArrays } from "../../data/dataset.ts";
import { cloneModel, type Model } from "../../ir/graph.ts";
import { allNodes } from "../../ir/walk.ts";
import { mlp } from "../../nets/mlp.ts";
import { net } from "../../nets/net.ts";
import { writeModel } from "../../onnx/write.ts";
import { Build } from "../../ops/build.ts";
import { open } from "../../runtime/session.ts";
import { random } from "../../tensor/random.ts";
import { floatsOf, numbersOf, tensor } from "../../tensor/tensor.ts";
import { weightsOf } from "../../transform/weights.ts";
import type { Context } from "../technique.ts";
import { binary, select, trainSigns } from "./binary.ts";
import { digits, packDigits } from "./digits.ts";
import { signed, type WeightSigns } from "./signs.ts";

const r = random(3, "binary");

/** What the nodes that read a weight see, and its gradient for a cotangent, computed with numbers. */
async function seen(w: Float32Array, shape: readonly number[], axis: number, how: WeightSigns): Promise<Float32Array> {
  const model = cnn();
  const b = Build.of(model);
  const y = signed(b, model.graph.initializer("w", tensor("float32", shape, w)), axis, how);
  model.graph.addOutput(y);
  const session = await open(model, { threads: 1 });
  const out = await session.run(images(2), [y.name]);
  await session.release();
  return floatsOf(out[y.name]!);
}

/** Conv, BatchNormalization, Relu, pooling, Conv with a bias, BatchNormalization, Relu, Gemm. */
function cnn(): Model {
  const n = net("cnn", 1);
  let x = n.model.graph.input("x", "float32", ["batch", 2, 8, 8]);
  x = n.relu("relu1", n.batchNorm("bn1", n.conv("conv1", x, [2, 8], { kernel: 3, pad: 1, bias: false }), 8));
  x = n.op("pool", "MaxPool", [x], { kernel_shape: [2, 2], strides: [2, 2] });
  x = n.relu("relu2", n.batchNorm("bn2", n.conv("conv2", x, [8, 16], { kernel: 3, stride: 2 }), 16));
  x = n.op("flat", "Flatten", [x]);
  return n.done(n.dense("fc", x, [16, 4], "glorot"), ["batch", 4]);
}

function images(n: number) {
  const labels = Array.from({ length: n }, (_, i) => i % 4);
  const x = random(5).fillNormal(new Float32Array(n * 128));
  labels.forEach((c, i) => {
    for (let k = 0; k < 128; k++) x[i * 128 + k]! += k % 4 === c ? 1.5 : 0;
  });
  return { x: tensor("float32", [n, 2, 8, 8], x), labels: tensor("int64", [n], labels) };
}

async function logits(model: Model): Promise<Float32Array> {
  const session = await open(model, { threads: 1 });
  const out = await session.run(images(16), ["logits"]);
  await session.release();
  return floatsOf(out.logits!);
}

function contextOf(model: Model, notes: string[] = []): Context {
  return {
    seed: 1,
    train: fromArrays(images(64)),
    calibration: null,
    original: cloneModel(model),
    threads: 1,
    load: () => Promise.reject(new Error("none")),
    note: (line) => notes.push(line),
    progress: () => {},
  };
}

describe("the values that readers of a weight see", () => {
  const w = Float32Array.from([0.5, -0.1, 0, -2, 0.3, 0.1, -0.2, 0.6]);
  const mean = (x: readonly number[]) => x.reduce((a, b) => a + b, 0) / x.length;

  test("binary: ±mean|w| by channel (Rastegari et al. 2016, eq. 6), zero counts as positive", async () => {
    const got = await seen(w, [2, 4], 0, { weights: "binary", scaling: "channel", stochastic: false });
    const alpha = [mean([0.5, 0.1, 0, 2]), mean([0.3, 0.1, 0.2, 0.6])];
    const want = [1, -1, 1, -1, 1, 1, -1, 1].map((s, i) => s * alpha[i >> 2]!);
    want.forEach((x, i) => {
      expect(got[i]).toBeCloseTo(x, 6);
    });
    expect(Array.from(await seen(w, [2, 4], 1, { weights: "binary", scaling: "none", stochastic: false }))).toEqual([
      1, -1, 1, -1, 1, 1, -1, 1,
    ]);
  });

  test("ternary: 0 up to Δ = 0.7·mean|w|, beyond it ±the mean of those (Li et al. 2016, eq. 5 and 6)", async () => {
    const got = await seen(w, [2, 4], 1, { weights: "ternary", scaling: "tensor", stochastic: false });
    const delta = 0.7 * mean(Array.from(w, Math.abs));
    const large = Array.from(w).filter((x) => Math.abs(x) > delta);
    const alpha = mean(large.map(Math.abs));
    Array.from(w).forEach((x, i) => {
      expect(got[i]).toBeCloseTo(Math.abs(x) > delta ? Math.sign(x) * alpha : 0, 6);
    });
  });

  test("stochastic: outside of training the likelier value", async () => {
    const got = await seen(w, [2, 4], 0, { weights: "binary", scaling: "none", stochastic: true });
    expect(Array.from(got)).toEqual([1, -1, 1, -1, 1, 1, -1, 1]);
  });
});

test("digits: eight binary ones or five ternary ones a byte, and back again", async () => {
  expect(Array.from(packDigits(Uint8Array.from([1, 0, 1, 1, 0, 0, 0, 1, 1]), 2))).toEqual([0b10001101, 1]);
  expect(Array.from(packDigits(Uint8Array.from([2, 0, 1, 2, 2, 1]), 3))).toEqual([2 + 9 + 2 * 27 + 2 * 81, 1]);
  for (const [base, shape] of [
    [2, [3, 5, 7]],
    [3, [4, 9]],
    [3, [5, 4]],
  ] as const) {
    const n = shape.reduce((a: number, d: number) => a * d, 1);
    const codes = Uint8Array.from({ length: n }, () => r.below(base));
    const model = cnn();
    const b = Build.of(model);
    const scales = Float32Array.from({ length: shape[0] }, (_, i) => i + 0.5);
    const y = digits(b, "w", shape, codes, base, b.constant(tensor("float32", [shape[0], ...shape.slice(1).map(() => 1)], scales)));
    model.graph.addOutput(y);
    const session = await open(model, { threads: 1 });
    const got = numbersOf((await session.run(images(2), [y.name]))[y.name]!);
    await session.release();
    expect(Array.from(got)).toEqual(Array.from(codes, (c, i) => scales[Math.floor((i * shape[0]) / n)]! * (c - (base - 1) / 2)));
  }
});

const settings = [
  { weights: "binary", scaling: "channel" },
  { weights: "binary", scaling: "none", stochastic: true, keep: "last", epochs: 60, learningRate: 5e-2 },
  { weights: "ternary", scaling: "tensor" },
  { weights: "ternary", scaling: "channel", activations: "binary" },
  { weights: "binary", scaling: "channel", activations: "scaled" },
  { weights: "binary", scaling: "none", store: "nbits" },
  { weights: "ternary", scaling: "channel", store: "nbits" },
] as const;

test.each(settings)("trained and exported, the numbers are those of the net that was trained: %j", async (how) => {
  const params = { epochs: 12, learningRate: 1e-2, batchSize: 16, ...how };
  const notes: string[] = [];
  const exported = cnn();
  await binary(params).apply(exported, contextOf(exported, notes));
  expect(notes.filter((l) => /: \d (values|bits), \d+ bytes$/.test(l))).toHaveLength("keep" in how ? 2 : 3);
  // The same training, left as it is.
  const trained = cnn();
  const p = binary(params).params as Parameters<typeof trainSigns>[2];
  await trainSigns(
    trained,
    select(trained, p, () => {}),
    p,
    contextOf(trained),
  );
  const [got, want] = [await logits(exported), await logits(trained)];
  const scale = Math.max(...want.map(Math.abs));
  want.forEach((y, i) => {
    expect(Math.abs(got[i]! - y)).toBeLessThan(2e-6 * scale);
  });
  // It learned something: more right than by chance.
  const right = Array.from({ length: 16 }, (_, i) => [0, 1, 2, 3].every((c) => got[4 * i + c]! <= got[4 * i + (i % 4)]!)).filter(Boolean);
  expect(right.length).toBeGreaterThan(8);
});

test("the runtime unpacks when it loads: what runs is the float net", async () => {
  const model = cnn();
  await binary({ epochs: 0 }).apply(model, contextOf(model));
  const runs = await kernels(model);
  expect(Object.keys(runs).filter((op) => /Mod|Div|Cast|Slice|Sub|Mul/.test(op))).toEqual([]);
  expect(weightsOf(model)).toEqual([]);
  expect([...allNodes(model.graph)].filter((n) => n.domain === "pith")).toEqual([]);
  const float = mlp({ sizes: [784, 256, 10] });
  const before = writeModel(float).length;
  await binary({ epochs: 0 }).apply(float, contextOf(float));
  expect(writeModel(float).length).toBeLessThan(before / 20);
});

test("in 2 bits for MatMulNBits: a row of more columns than a block holds, MatMul and Gemm, with and without BatchNormalization", async () => {
  const n = net("wide", 1);
  const x = n.model.graph.input("x", "float32", ["batch", 1100]);
  const h = n.relu("relu", n.batchNorm("bn", n.dense("fc", x, [1100, 40], "he", false), 40));
  const y = n.op("add", "Add", [n.op("mul", "MatMul", [h, n.weight("w", [40, 7], "he")]), n.weight("b", [7], 0.5)]);
  const model = n.done(y, ["batch", 7]);
  const feeds = { x: tensor("float32", [3, 1100], random(2).fillNormal(new Float32Array(3300))) };
  const outputs: Float32Array[] = [];
  for (const store of ["digits", "nbits"] as const) {
    const copy = cloneModel(model);
    await binary({ weights: "ternary", store, epochs: 0 }).apply(copy, contextOf(copy));
    expect([...copy.graph.nodes].filter((m) => m.opType === "MatMulNBits")).toHaveLength(store === "nbits" ? 2 : 0);
    const session = await open(copy, { threads: 1 });
    outputs.push(floatsOf((await session.run(feeds)).logits!));
    await session.release();
  }
  outputs[0]!.forEach((v, i) => {
    expect(outputs[1]![i]).toBeCloseTo(v, 3);
  });
});

test("layers that cannot be signs are named, and the ends are kept where told", async () => {
  const n = net("odd", 1);
  const x = n.model.graph.input("x", "float32", ["batch", 8]);
  const shared = n.weight("shared", [8, 8], "he");
  const a = n.op("a", "MatMul", [n.op("b", "Gemm", [x, shared], { transB: 1 }), shared]);
  const model = n.done(n.op("sum", "Add", [a, n.op("direct", "MatMul", [x, n.weight("w", [8, 8], "he")])]), ["batch", 8]);
  const notes: string[] = [];
  await binary({ epochs: 0, keep: "last" }).apply(model, contextOf(model, notes));
  expect(notes).toEqual([
    '"shared" stays float: its readers differ in which axis are its outputs',
    '"w" stays float: kept (keep=last)',
    "no weight of a Conv, Gemm or MatMul is selected; nothing was changed",
  ]);
});
