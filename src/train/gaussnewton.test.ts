import { describe, expect, test } from "vitest";
import { type Dataset, fromArrays } from "../data/dataset.ts";
import { cloneModel, type Model, type Value } from "../ir/graph.ts";
import { mlp } from "../nets/mlp.ts";
import { type Net, net } from "../nets/net.ts";
import { random } from "../tensor/random.ts";
import { floatsOf, tensor } from "../tensor/tensor.ts";
import { gaussNewton } from "./gaussnewton.ts";
import { crossEntropy, type Loss, mse, parseLoss } from "./loss.ts";

const r = random(5, "gauss-newton");
const floats = (n: number) => r.fillNormal(new Float32Array(n));

/** A net of two tanh units and a sigmoid. */
function small(): Model {
  const n = net("small", 4);
  let x = n.model.graph.input("x", "float32", ["batch", 3]);
  x = n.op("tanh", "Tanh", [n.dense("fc1", x, [3, 2], "glorot")]);
  x = n.dense("fc2", x, [2, 1], "glorot");
  x = n.op("sigmoid", "Sigmoid", [x]);
  return n.done(x, ["batch", 1]);
}

const trained = (m: Model): Value[] => [...m.graph.initializers].filter((v) => /weight|bias/.test(v.name));
const prepared = (m: Model, loss: Loss, data: Dataset, batchSize?: number) =>
  gaussNewton(m, { data, loss, weights: trained(m), threads: 1, ...(batchSize ? { batchSize } : {}) });

/** The Hessian of a function of w by central differences, in float64. */
function differences(f: (w: Float64Array) => number, w: Float64Array, step = 1e-4): Float64Array {
  const n = w.length;
  const at = (i: number, a: number, j: number, b: number) => {
    const v = w.slice();
    v[i]! += a * step;
    v[j]! += b * step;
    return f(v);
  };
  const h = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) h[i * n + j] = (at(i, 1, j, 1) - at(i, 1, j, -1) - at(i, -1, j, 1) + at(i, -1, j, -1)) / (4 * step * step);
  return h;
}

/** Its gradient. */
function slopes(f: (w: Float64Array) => number, w: Float64Array, step = 1e-4): Float64Array {
  return w.map((_, i) => {
    const at = (by: number) => f(w.map((x, k) => (k === i ? x + by : x)));
    return (at(step) - at(-step)) / (2 * step);
  });
}

/** The net with a batch that is fixed. */
function fixedAt(model: Model, batch: number): Model {
  const m = cloneModel(model);
  for (const v of [...m.graph.inputs, ...m.graph.outputs]) v.type = { dtype: "float32", shape: [batch, ...v.type!.shape!.slice(1)] };
  return m;
}

const close = (a: ArrayLike<number>, b: ArrayLike<number>, tolerance: number) => {
  expect(a.length).toBe(b.length);
  for (let i = 0; i < a.length; i++) expect(Math.abs(a[i]! - b[i]!)).toBeLessThan(tolerance);
};

describe("H is the Hessian", () => {
  // Where a net fits, or is linear, the second derivatives of the net itself do not count: all that is left out elsewhere.
  test("of the squared error, of a net that fits", async () => {
    const model = small();
    for (const v of trained(model)) v.graph.setData(v, tensor("float32", v.data!.shape, floats(v.data!.data.byteLength / 4)));
    const x = floats(10 * 3);
    // w: fc1.weight [2, 3], fc1.bias [2], fc2.weight [1, 2], fc2.bias [1].
    const output = (w: ArrayLike<number>, e: number) => {
      let z = w[10]!;
      for (let u = 0; u < 2; u++) {
        let a = w[6 + u]!;
        for (let i = 0; i < 3; i++) a += w[u * 3 + i]! * x[e * 3 + i]!;
        z += w[8 + u]! * Math.tanh(a);
      }
      return 1 / (1 + Math.exp(-z));
    };
    const w = trained(model).flatMap((v) => [...floatsOf(v.data!)]);
    const target = Float32Array.from({ length: 10 }, (_, e) => output(w, e));
    const g = await prepared(model, mse(), fromArrays({ x: tensor("float32", [10, 3], x), target: tensor("float32", [10, 1], target) }));
    const { hessian: h, loss, gradient, outputs } = await g.hessian(w);
    expect([...g.initial]).toEqual(w);
    close(outputs, target, 1e-6);
    expect(loss).toBeLessThan(1e-12);
    close(gradient, new Float64Array(g.n), 1e-6);
    const f = (v: Float64Array) => target.reduce((s, t, e) => s + (output(v, e) - t) ** 2 / 10, 0);
    close(h, differences(f, Float64Array.from(w)), 2e-5);
    await g.release();
  });

  test("of the cross-entropy, of a linear net; it is Σ p_c·∂log p_c·∂log p_cᵀ", async () => {
    const [n, classes, inputs] = [12, 3, 4];
    const model = mlp({ sizes: [inputs, classes], seed: 1 });
    const x = floats(n * inputs);
    const labels = Array.from({ length: n }, (_, e) => e % classes);
    const data = fromArrays({ x: tensor("float32", [n, inputs], x), labels: tensor("int64", [n], labels) });
    // Batches of 5: two whole ones and a rest.
    const g = await prepared(model, crossEntropy(), data, 5);
    const { hessian: h, loss, gradient } = await g.hessian(g.initial);
    const logs = (w: ArrayLike<number>, e: number) => {
      const z = Array.from({ length: classes }, (_, c) => {
        let s = w[classes * inputs + c]!;
        for (let i = 0; i < inputs; i++) s += w[c * inputs + i]! * x[e * inputs + i]!;
        return s;
      });
      const total = Math.log(z.reduce((s, a) => s + Math.exp(a), 0));
      return z.map((a) => a - total);
    };
    const f = (w: Float64Array) => labels.reduce((s, c, e) => s - logs(w, e)[c]! / n, 0);
    expect(loss).toBeCloseTo(f(g.initial), 6);
    close(h, differences(f, g.initial), 2e-5);
    close(gradient, slopes(f, g.initial), 2e-5);
    // Nothing is left of one time for the next.
    expect(await g.hessian(g.initial)).toMatchObject({ hessian: h, loss, gradient });
    const fisher = new Float64Array(g.n ** 2);
    for (let e = 0; e < n; e++)
      for (let c = 0; c < classes; c++) {
        const p = Math.exp(logs(g.initial, e)[c]!);
        const d = slopes((w) => logs(w, e)[c]!, g.initial);
        for (let i = 0; i < g.n; i++) for (let j = 0; j < g.n; j++) fisher[i * g.n + j]! += (p * d[i]! * d[j]!) / n;
      }
    close(h, fisher, 2e-5);
    await g.release();
  });
});

/** Convolutions, one of them in groups, and what exporters write for dense layers: MatMul and Add, a scale of one channel each. */
function various(last: (n: Net, x: Value) => Value = (_, x) => x): Model {
  const n = net("various", 4);
  let x = n.model.graph.input("x", "float32", ["batch", 2, 6, 6]);
  x = n.op("tanh1", "Tanh", [n.conv("conv1", x, [2, 4], { kernel: 3, pad: 1 })]);
  const w = n.weight("conv2.weight", [4, 2, 3, 3], "he");
  x = n.op("conv2", "Conv", [x, w], { group: 2, strides: [2, 2] });
  x = n.op("scale", "Mul", [x, n.weight("scale.weight", [4, 1, 1], 0.7)]);
  x = n.op("flat", "Flatten", [n.op("tanh2", "Tanh", [x])]);
  x = n.op("matmul", "MatMul", [x, n.weight("dense.weight", [16, 5], "he")]);
  x = n.op("tanh3", "Tanh", [n.op("add", "Add", [n.weight("dense.bias", [5], 0.1), x])]);
  return n.done(n.dense("fc", last(n, x), [5, 3], "glorot"), ["batch", 3]);
}

/** With a weight that two products share, and it alone taken away and divided by. */
const twice = (n: Net, x: Value): Value => {
  const w = n.weight("twice.weight", [5, 5], "glorot");
  const h = n.op("once", "MatMul", [x, w]);
  const y = n.op("again", "MatMul", [n.op("tanh4", "Tanh", [h]), n.op("turned", "Transpose", [w], { perm: [1, 0] })]);
  const less = n.op("less", "Sub", [y, n.weight("less.bias", [1, 5], 0.2)]);
  return n.op("share", "Div", [less, n.weight("share.weight", [5], 1.5)]);
};

const sloped = (n: Net, x: Value): Value => n.op("prelu", "PRelu", [x, n.weight("prelu.weight", [5], 0.3)]);

describe("examples together", () => {
  const n = 9;
  const data = fromArrays({
    x: tensor("float32", [n, 2, 6, 6], floats(n * 72)),
    labels: tensor(
      "int64",
      [n],
      Array.from({ length: n }, (_, e) => e % 3),
    ),
    target: tensor("float32", [n, 3], floats(n * 3)),
  });

  test.each([
    ["in a free batch", various()],
    // n is three of them.
    ["in a fixed batch", fixedAt(various(), 3)],
    ["of a weight used twice, once turned", various(twice)],
    ["of a weight without a form for it", various(sloped)],
    ["of such a weight in a fixed batch", fixedAt(various(sloped), 3)],
  ])("%s are the examples by themselves", async (_, model) => {
    const loss = parseLoss("0.7*crossEntropy:labelSmoothing=0.1 + 0.3*mse");
    const single = await prepared(fixedAt(model, 1), loss, data);
    const want = await single.hessian(single.initial);
    const g = await prepared(model, loss, data);
    const have = await g.hessian(g.initial);
    expect(have.loss).toBeCloseTo(want.loss, 6);
    expect((await g.value(g.initial)).loss).toBeCloseTo(want.loss, 6);
    close(have.outputs, want.outputs, 1e-5);
    close(have.gradient, want.gradient, 1e-6);
    const scale = Math.max(...want.hessian);
    expect(scale).toBeGreaterThan(0.01);
    close(have.hessian, want.hessian, 2e-6 * Math.max(1, scale));
    await g.release();
    await single.release();
  });

  test("what cannot be done is said", async () => {
    const model = various();
    await expect(gaussNewton(model, { data, loss: crossEntropy(), weights: [] })).rejects.toThrow("no weights");
    await expect(prepared(fixedAt(various(), 10), crossEntropy(), data)).rejects.toThrow("needs at least 10 examples; got 9");
    const wrong = fromArrays({ x: data.take([0, 1]).x!, labels: tensor("int64", [2], [0, 3]) });
    const g = await prepared(model, crossEntropy(), wrong);
    await expect(g.value(g.initial)).rejects.toThrow('"labels" holds class 3 at example 1; the model has classes 0 to 2');
    await g.release();
  });
});
