import { describe, expect, test } from "vitest";
import { fromArrays } from "../data/dataset.ts";
import type { Model, Value } from "../ir/graph.ts";
import { net } from "../nets/net.ts";
import { transformer } from "../nets/transformer.ts";
import { random } from "../tensor/random.ts";
import { floatsOf, tensor } from "../tensor/tensor.ts";
import { gaussNewtonDiagonal, gradients, secondDerivatives } from "./derivatives.ts";
import { crossEntropy, kl, type Loss, mse, parseLoss } from "./loss.ts";

const classes = 3;
const examples = 7;

/**
 * tanh(weights of one layer, used at some positions) and a dense layer on top, in float64 and with every connection's weight apart: of
 * hidden unit (m, p) the connections are c[m, tap, p] to x[at(tap, p)], and a bias [m, p].
 */
interface Reference {
  readonly model: Model;
  readonly units: number;
  readonly taps: number;
  readonly positions: number;
  readonly inputs: readonly number[];
  at(tap: number, p: number): number;
  /** Index of hidden unit (m, p) in the dense layer's input. */
  flat(m: number, p: number): number;
  /** Stored index of weight (m, tap) in the first layer's. */
  stored(m: number, tap: number): number;
}

function dense(): Reference {
  const n = net("mlp", 3);
  const x = n.model.graph.input("x", "float32", ["batch", 5]);
  const h = n.op("tanh", "Tanh", [n.dense("a", x, [5, 4], "glorot")]);
  const model = n.done(n.dense("z", h, [4, classes], "glorot"), ["batch", classes]);
  return { model, units: 4, taps: 5, positions: 1, inputs: [5], at: (t) => t, flat: (m) => m, stored: (m, t) => 5 * m + t };
}

function convolution(): Reference {
  const n = net("conv", 4);
  const x = n.model.graph.input("x", "float32", ["batch", 1, 5, 5]);
  const h = n.op("tanh", "Tanh", [n.conv("a", x, [1, 2], { kernel: 3 })]);
  const model = n.done(n.dense("z", n.op("flat", "Flatten", [h]), [18, classes], "glorot"), ["batch", classes]);
  const at = (t: number, p: number) => 5 * (Math.floor(t / 3) + Math.floor(p / 3)) + (t % 3) + (p % 3);
  return { model, units: 2, taps: 9, positions: 9, inputs: [1, 5, 5], at, flat: (m, p) => 9 * m + p, stored: (m, t) => 9 * m + t };
}

function sequence(): Reference {
  const n = net("sequence", 5);
  const x = n.model.graph.input("x", "float32", ["batch", 3, 4]);
  const a = n.op("a", "MatMul", [x, n.weight("a.weight", [4, 2], "glorot")]);
  const h = n.op("tanh", "Tanh", [n.op("add", "Add", [a, n.weight("a.bias", [2], 0.1)])]);
  const model = n.done(n.dense("z", n.op("flat", "Flatten", [h]), [6, classes], "glorot"), ["batch", classes]);
  return {
    model,
    units: 2,
    taps: 4,
    positions: 3,
    inputs: [3, 4],
    at: (t, p) => 4 * p + t,
    flat: (m, p) => 2 * p + m,
    stored: (m, t) => 2 * t + m,
  };
}

const named = (model: Model, name: string): Value => [...model.graph.initializers].find((v) => v.name === name)!;
const floats = (model: Model, name: string) => Float64Array.from(floatsOf(named(model, name).data!));
const names = ["a.weight", "a.bias", "z.weight", "z.bias"];

const data = (r: Reference) => {
  const g = random(6, "derivatives");
  const size = r.inputs.reduce((a, d) => a * d, 1);
  return {
    x: g.fillNormal(new Float32Array(examples * size)),
    target: g.fillNormal(new Float32Array(examples * classes)),
    labels: Array.from({ length: examples }, () => g.below(classes)),
    size,
  };
};

/** All connections of all weights in one array, and which of them each weight has. */
function unshared(r: Reference) {
  const wide = r.units * r.positions;
  const [w, b, z, zb] = names.map((n) => floats(r.model, n)) as [Float64Array, Float64Array, Float64Array, Float64Array];
  const first = wide * r.taps;
  const connections = new Float64Array(first + wide + z.length + zb.length);
  const of: number[][][] = [w, b, z, zb].map((a) => Array.from(a, () => []));
  const put = (kind: number, i: number, at: number, value: number) => {
    connections[at] = value;
    of[kind]![i]!.push(at);
  };
  for (let m = 0; m < r.units; m++)
    for (let p = 0; p < r.positions; p++) {
      const unit = m * r.positions + p;
      for (let t = 0; t < r.taps; t++) put(0, r.stored(m, t), unit * r.taps + t, w[r.stored(m, t)]!);
      put(1, m, first + unit, b[m]!);
    }
  for (const [i, v] of z.entries()) put(2, i, first + wide + i, v);
  for (const [i, v] of zb.entries()) put(3, i, first + wide + z.length + i, v);
  const outputs = (x: ArrayLike<number>) => {
    const h = new Float64Array(wide);
    for (let m = 0; m < r.units; m++)
      for (let p = 0; p < r.positions; p++) {
        const unit = m * r.positions + p;
        let sum = connections[first + unit]!;
        for (let t = 0; t < r.taps; t++) sum += connections[unit * r.taps + t]! * x[r.at(t, p)]!;
        h[r.flat(m, p)] = Math.tanh(sum);
      }
    return Array.from({ length: classes }, (_, k) =>
      h.reduce((s, v, i) => s + v * connections[first + wide + k * wide + i]!, connections[first + wide + z.length + k]!),
    );
  };
  return { connections, of, outputs };
}

const softmax = (y: readonly number[]) => {
  const e = y.map(Math.exp);
  const sum = e.reduce((a, v) => a + v, 0);
  return e.map((v) => v / sum);
};

/** What one example loses, and the second derivatives of that by the outputs. */
const kinds = {
  mse: {
    loss: mse(),
    of: (y: readonly number[], target: ArrayLike<number>, _: number) => y.reduce((s, v, k) => s + (v - target[k]!) ** 2 / classes, 0),
    hessian: (y: readonly number[]) => y.map((_, i) => y.map((_, j) => (i === j ? 2 / classes : 0))),
  },
  crossEntropy: {
    loss: crossEntropy(),
    of: (y: readonly number[], _: ArrayLike<number>, label: number) => -Math.log(softmax(y)[label]!),
    hessian(y: readonly number[]) {
      const p = softmax(y);
      return p.map((a, i) => p.map((c, j) => (i === j ? a : 0) - a * c));
    },
  },
};

/** Derivatives of mean losses by central differences of order h⁴, by connection or by weight. */
function reference(r: Reference, kind: (typeof kinds)[keyof typeof kinds]) {
  const { connections, of, outputs } = unshared(r);
  const d = data(r);
  const moved = <T>(which: readonly number[], by: number, run: () => T): T => {
    for (const c of which) connections[c]! += by;
    const out = run();
    for (const c of which) connections[c]! -= by;
    return out;
  };
  const x = (n: number) => d.x.subarray(n * d.size, (n + 1) * d.size);
  const every = Array.from({ length: examples }, (_, n) => n);
  const lossOf = (n: number) => kind.of(outputs(x(n)), d.target.subarray(n * classes, (n + 1) * classes), d.labels[n]!);
  const mean = (xs: readonly number[]) => xs.reduce((a, v) => a + v, 0) / xs.length;
  const h = 2e-3;
  const slope = (which: readonly number[], f: () => number) => {
    const at = (by: number) => moved(which, by, f);
    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
  };
  const bend = (which: readonly number[], f: () => number) => {
    const at = (by: number) => moved(which, by, f);
    return (16 * (at(h) + at(-h)) - (at(2 * h) + at(-2 * h)) - 30 * f()) / (12 * h * h);
  };
  /** uᵀHu of the outputs' second derivatives along some connections. */
  const squared = (which: readonly number[], n: number) => {
    const j = Array.from({ length: classes }, (_, k) => slope(which, () => outputs(x(n))[k]!));
    const hessian = kind.hessian(outputs(x(n)));
    return j.reduce((s, a, i) => s + j.reduce((t, c, k) => t + a * c * hessian[i]![k]!, 0), 0);
  };
  const each = (f: (which: readonly number[]) => number) => of.map((weights) => weights.map(f));
  const sum = (which: readonly number[], f: (which: readonly number[]) => number) => which.reduce((s, c) => s + f([c]), 0);
  const gn = (which: readonly number[]) => mean(every.map((n) => squared(which, n)));
  const second = (which: readonly number[]) => bend(which, () => mean(every.map(lossOf)));
  return {
    mean: () => each((w) => mean(every.map((n) => slope(w, () => lossOf(n))))),
    absolute: () => each((w) => mean(every.map((n) => Math.abs(slope(w, () => lossOf(n)))))),
    squared: () => each((w) => mean(every.map((n) => slope(w, () => lossOf(n)) ** 2))),
    gaussNewton: { weight: () => each(gn), connections: () => each((w) => sum(w, gn)) },
    second: { weight: () => each(second), connections: () => each((w) => sum(w, second)) },
  };
}

function expectClose(got: readonly Float32Array[], want: readonly (readonly number[])[], tolerance: number) {
  got.forEach((g, i) => {
    const scale = Math.max(...want[i]!.map(Math.abs));
    expect(scale).toBeGreaterThan(1e-4);
    expect(g.length).toBe(want[i]!.length);
    g.forEach((v, k) => {
      expect(Math.abs(v - want[i]![k]!), `${names[i]}[${k}]: ${v} for ${want[i]![k]}`).toBeLessThanOrEqual(tolerance * scale);
    });
  });
}

function arrays(r: Reference) {
  const d = data(r);
  return fromArrays({
    x: tensor("float32", [examples, ...r.inputs], d.x),
    target: tensor("float32", [examples, classes], d.target),
    labels: tensor("int64", [examples], d.labels),
  });
}

const nets = { dense, convolution, sequence };
const options = { threads: 1, batchSize: 3 };

describe.each(Object.entries(nets))("%s", (_, make) => {
  const r = make();
  const weights = names.map((n) => named(r.model, n));
  const set = arrays(r);
  describe.each(Object.entries(kinds))("%s", (_, kind) => {
    const want = reference(r, kind);
    test.each(["mean", "absolute", "squared"] as const)("gradients, %s", async (of) => {
      expectClose(await gradients(r.model, weights, set, kind.loss, { ...options, of }), want[of](), 2e-5);
    });
    test.each(["connections", "weight"] as const)("second derivatives with and without f″, by %s", async (sharing) => {
      const lm = want.gaussNewton[sharing]();
      const exact = want.second[sharing]();
      expectClose(await gaussNewtonDiagonal(r.model, weights, set, kind.loss, { ...options, sharing }), lm, 2e-5);
      expectClose(await secondDerivatives(r.model, weights, set, kind.loss, { ...options, sharing }), exact, 2e-5);
      // What the two leave out is no rounding error.
      expect(Math.abs(exact[0]![0]! - lm[0]![0]!)).toBeGreaterThan(1e-3 * Math.max(...lm[0]!));
    });
  });

  test.runIf(make === convolution)("random signs come to the same in the mean", async () => {
    const more = { ...options, probes: 120, seed: 2 };
    for (const run of [gaussNewtonDiagonal, secondDerivatives])
      for (const sharing of ["connections", "weight"] as const) {
        const exact = await run(r.model, weights, set, mse(), { ...options, sharing });
        const close = await run(r.model, weights, set, mse(), { ...more, sharing });
        const length = (xs: readonly number[]) => Math.hypot(...xs);
        const all = exact.flatMap((e) => [...e]);
        const off = close.flatMap((e) => [...e]).map((v, i) => v - all[i]!);
        expect(length(off) / length(all), `${run.name} ${sharing}`).toBeLessThan(0.3);
      }
  });
});

test("without sharing, connections are weights", () => {
  const want = reference(dense(), kinds.mse);
  expect(want.second.connections()).toEqual(want.second.weight());
  const shared = reference(convolution(), kinds.mse);
  expect(shared.second.connections()[0]![0]).not.toBeCloseTo(shared.second.weight()[0]![0]!, 3);
});

/** Everything that has no form for a batch: BatchNormalization's weights, an embedding, weights used twice. */
function cnn(): Model {
  const n = net("cnn", 1);
  let x = n.model.graph.input("x", "float32", ["batch", 2, 6, 6]);
  x = n.relu("relu1", n.batchNorm("bn1", n.conv("conv1", x, [2, 4], { kernel: 3, pad: 1, bias: false }), 4));
  const w = n.weight("grouped", [4, 2, 3, 3], "he");
  x = n.op("g", "Conv", [x, w], { group: 2, strides: [2, 2], pads: [1, 1, 0, 0] });
  const twice = n.weight("twice", [9, 9], "glorot");
  const once = n.op("m1", "MatMul", [
    n.op("rows", "Reshape", [x, n.model.graph.initializer("shape", tensor("int64", [3], [0, 4, 9]))]),
    twice,
  ]);
  const t = n.op("turn", "Transpose", [twice], { perm: [1, 0] });
  x = n.op("m2", "MatMul", [n.op("tanh", "Tanh", [once]), t]);
  return n.done(n.dense("fc", n.op("flat", "Flatten", [x]), [36, classes], "glorot"), ["batch", classes]);
}

test.each([
  ["cnn", cnn()],
  ["transformer", transformer({ layers: 1, width: 8, heads: 2, vocabulary: 5, length: 4, classes, seed: 2 })],
] as const)("%s: by batches as one example at a time", async (name, model) => {
  const g = random(9, "batches");
  const n = 5;
  const labels = tensor(
    "int64",
    [n],
    Array.from({ length: n }, () => g.below(classes)),
  );
  const ids = tensor(
    "int64",
    [n, 4],
    Array.from({ length: n * 4 }, () => g.below(5)),
  );
  const x = tensor("float32", [n, 2, 6, 6], g.fillNormal(new Float32Array(n * 72)));
  const set = fromArrays(name === "cnn" ? { x, labels } : { ids, labels });
  const weights = [...model.graph.initializers].filter(
    (v) => v.data!.dtype === "float32" && v.data!.shape.length > 0 && !/running/.test(v.name),
  );
  const both = async (run: (batchSize: number) => Promise<Float32Array[]>) => {
    const [one, some] = [await run(1), await run(5)];
    const most = Math.max(...one.map((w) => w.reduce((m, v) => Math.max(m, Math.abs(v)), 0)));
    expect(most).toBeGreaterThan(1e-4);
    one.forEach((want, i) => {
      // Some are zero but for rounding: a softmax does not see the bias of attention's keys.
      const scale = Math.max(1e-2 * most, ...want.map(Math.abs));
      want.forEach((v, k) => {
        expect(Math.abs(some[i]![k]! - v), `${weights[i]!.name}[${k}]`).toBeLessThanOrEqual(5e-5 * scale);
      });
    });
  };
  await both((batchSize) => gradients(model, weights, set, crossEntropy(), { of: "absolute", batchSize, threads: 1 }));
  await both((batchSize) => gaussNewtonDiagonal(model, weights, set, crossEntropy(), { sharing: "connections", batchSize, threads: 1 }));
  await both((batchSize) => gaussNewtonDiagonal(model, weights, set, crossEntropy(), { batchSize, threads: 1 }));
});

test("the root of a loss is one of its second derivative: sums, smoothing, temperature, ignored positions", async () => {
  // A net that is linear in its weights has no f″: the Gauss-Newton diagonal is the Hessian's, which knows nothing of roots.
  const n = net("linear", 1);
  const x = n.model.graph.input("x", "float32", ["batch", 4, 3]);
  const model = n.done(n.op("m", "MatMul", [x, n.weight("w", [3, classes], "glorot")]), ["batch", 4, classes]);
  const g = random(3, "roots");
  const [count, size] = [3, 3 * 4];
  const set = fromArrays({
    x: tensor("float32", [count, 4, 3], g.fillNormal(new Float32Array(size * 3))),
    labels: tensor("int64", [count, 4], [0, 1, 2, -100, 1, 1, 0, -100, -100, 2, 2, 0]),
    target: tensor("float32", [count, 4, classes], g.fillNormal(new Float32Array(size * classes))),
    teacher: tensor("float32", [count, 4, classes], g.fillNormal(new Float32Array(size * classes))),
  });
  const weights = [named(model, "w")];
  const losses: Loss[] = [
    crossEntropy({ ignore: -100, labelSmoothing: 0.1 }),
    kl({ temperature: 3 }),
    parseLoss("0.3*mse + 0.7*kl:temperature=2 + 2*crossEntropy:ignore=-100"),
  ];
  for (const loss of losses)
    for (const sharing of ["weight", "connections"] as const) {
      const at = { sharing, threads: 1 };
      const want = await secondDerivatives(model, weights, set, loss, at);
      expectClose(await gaussNewtonDiagonal(model, weights, set, loss, at), [Array.from(want[0]!)], 1e-5);
    }
});

test("the root of the divergence of sigmoids is one of its second derivative", async () => {
  const n = net("linear", 1);
  const x = n.model.graph.input("x", "float32", ["batch", 3]);
  const model = n.done(n.op("p", "Sigmoid", [n.op("m", "MatMul", [x, n.weight("w", [3, classes], "glorot")])]), ["batch", classes]);
  const g = random(4, "roots");
  const set = fromArrays({
    x: tensor("float32", [5, 3], g.fillNormal(new Float32Array(15))),
    teacher: tensor("float32", [5, classes], g.fillNormal(new Float32Array(5 * classes))),
  });
  for (const loss of [kl(), kl({ temperature: 3 })]) {
    const want = await secondDerivatives(model, [named(model, "w")], set, loss, { threads: 1 });
    expectClose(await gaussNewtonDiagonal(model, [named(model, "w")], set, loss, { threads: 1 }), [Array.from(want[0]!)], 1e-5);
  }
});
