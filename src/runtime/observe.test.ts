import { join } from "node:path";
import { expect, test } from "vitest";
import { fromArrays, fromFeeds } from "../data/dataset.ts";
import { check } from "../ir/check.ts";
import { Graph, newModel, type Value } from "../ir/graph.ts";
import { allNodes, find } from "../ir/walk.ts";
import { load } from "../onnx/file.ts";
import { writeModel } from "../onnx/write.ts";
import { Build } from "../ops/build.ts";
import { random } from "../tensor/random.ts";
import { numbersOf, type Tensor, tensor } from "../tensor/tensor.ts";
import { type Observer, observe } from "./observe.ts";
import { columnNorm, histogram, minMax, percentile, secondMoment } from "./observers.ts";
import { sampleFeeds } from "./shapes.ts";

const normal = (shape: number[], stream: number) =>
  tensor("float32", shape, random(7, stream).fillNormal(new Float32Array(shape.reduce((a, d) => a * d, 1))));

/** y = relu(x·w) with w: 3 × 4. */
function net(batch: string | number = "n") {
  const model = newModel("net");
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", [batch, 3]);
  const w = model.graph.initializer("w", normal([3, 4], 1));
  const h = b.matmul(x, w);
  const y = b.op("Relu", [h]);
  const later = b.neg(y);
  model.graph.addOutput(later);
  return { model, x, w, h, y };
}

/** h of the net above, computed here. */
function product(x: Tensor): number[] {
  const a = numbersOf(x);
  const w = numbersOf(normal([3, 4], 1));
  const rows = a.length / 3;
  return Array.from({ length: rows * 4 }, (_, i) => {
    let s = 0;
    for (let k = 0; k < 3; k++) s += a[Math.floor(i / 4) * 3 + k]! * w[k * 4 + (i % 4)]!;
    return s;
  });
}

test("ranges of inputs, weights and inner values over all batches", async () => {
  const { model, x, w, h, y } = net();
  const bytes = writeModel(model);
  const xs = normal([101, 3], 2);
  const seen = await observe(model, [x, w, h, y], fromArrays({ x: xs }), minMax, { batchSize: 16 });
  expect(seen.get(x)).toEqual({ min: Math.min(...numbersOf(xs)), max: Math.max(...numbersOf(xs)), n: 303 });
  expect(seen.get(w)!.n).toBe(12);
  const expected = product(xs);
  expect(seen.get(h)!.min).toBeCloseTo(Math.min(...expected), 5);
  expect(seen.get(h)!.max).toBeCloseTo(Math.max(...expected), 5);
  expect(seen.get(h)!.n).toBe(404);
  expect(seen.get(y)!.min).toBe(0);
  expect(writeModel(model)).toEqual(bytes);
});

test("each example is seen once, whatever the batch size; a fixed batch drops what does not fill it, unless there is nothing else", async () => {
  const count: Observer<number> = { init: () => 0, update: (s, t) => s + t.shape[0]! };
  for (const batchSize of [1, 7, 1000]) {
    const { model, h } = net();
    expect((await observe(model, [h], fromArrays({ x: normal([20, 3], 2) }), count, { batchSize })).get(h)).toBe(20);
  }
  const { model, h } = net(8);
  expect((await observe(model, [h], fromArrays({ x: normal([20, 3], 2) }), count)).get(h)).toBe(16);
  expect((await observe(model, [h], fromArrays({ x: normal([5, 3], 2) }), count)).get(h)).toBe(8);
});

test("inputs of varying length, one feed at a time", async () => {
  const { model, h } = net();
  const feeds = [1, 5, 3].map((n) => ({ x: normal([n, 3], n) }));
  const seen = await observe(model, [h], fromFeeds(feeds), columnNorm());
  const sums = [0, 0, 0, 0];
  for (const f of feeds) {
    product(f.x).forEach((v, i) => {
      sums[i % 4]! += v * v;
    });
  }
  expect(seen.get(h)!.n).toBe(9);
  seen.get(h)!.sumSquares.forEach((v, i) => {
    expect(v).toBeCloseTo(sums[i]!, 4);
  });
});

test("second moments are Σ xᵀx over rows of any rank", async () => {
  const { model, x, h } = net();
  const xs = normal([50, 3], 9);
  const seen = await observe(model, [x, h], fromArrays({ x: xs }), secondMoment, { batchSize: 8 });
  const hs = product(xs);
  const expected = Array.from({ length: 16 }, (_, i) => {
    let s = 0;
    for (let r = 0; r < 50; r++) s += hs[r * 4 + Math.floor(i / 4)]! * hs[r * 4 + (i % 4)]!;
    return s;
  });
  const s = seen.get(h)!;
  expect(s.n).toBe(50);
  expect(s.k).toBe(4);
  s.sum.forEach((v, i) => {
    expect(v).toBeCloseTo(expected[i]!, 3);
  });
  // A third dimension only adds rows.
  const deep = newModel("deep");
  const d = deep.graph.input("d", "float32", ["n", 5, 3]);
  deep.graph.addOutput(Build.of(deep).neg(d));
  const flat = (await observe(deep, [d], fromArrays({ d: { ...xs, shape: [10, 5, 3] } }), secondMoment)).get(d)!;
  expect(flat.n).toBe(50);
  flat.sum.forEach((v, i) => {
    expect(v).toBeCloseTo(seen.get(x)!.sum[i]!, 3);
  });
});

const feedAll = <S>(observer: Observer<S>, parts: readonly Tensor[]) =>
  parts.reduce((s, t) => observer.update(s, t, t.shape), observer.init(parts[0]!.shape));

test("a histogram does not depend on order or batches, and counts everything", () => {
  const xs = [...numbersOf(normal([4000], 3)), ...Array.from(numbersOf(normal([100], 4)), (v) => v * 40)];
  const whole = tensor("float32", [xs.length], xs);
  const parts = Array.from({ length: 41 }, (_, i) => tensor("float32", [100], xs.slice(i * 100, i * 100 + 100)));
  const h = histogram({ bins: 512 });
  const a = feedAll(h, [whole]);
  const b = feedAll(h, parts);
  const c = feedAll(h, [...parts].reverse());
  expect(b).toEqual(a);
  expect(c).toEqual(a);
  expect(a.counts.reduce((s, v) => s + v, 0)).toBe(4100);
  const width = 2 ** a.exponent;
  a.counts.forEach((n, i) => {
    const [low, high] = [(a.start + i) * width, (a.start + i + 1) * width];
    expect(numbersOf(whole).filter((v) => v >= low && v < high).length).toBe(n);
  });
  expect((a.max - a.min) / width).toBeGreaterThan(512 / 2 - 2);
});

test("percentiles lie within a bin of the exact ones", () => {
  const xs = numbersOf(normal([20000], 5)).sort();
  const s = feedAll(histogram(), [tensor("float32", [20000], xs)]);
  for (const q of [0.001, 0.1, 0.5, 0.99, 0.9999]) {
    expect(Math.abs(percentile(s, q) - xs[Math.ceil(q * 20000) - 1]!), String(q)).toBeLessThan(2 ** s.exponent);
  }
  expect(percentile(s, 0)).toBe(xs[0]);
  expect(percentile(s, 1)).toBe(xs[19999]);
  expect(() => percentile(s, 99)).toThrow("q must be from 0 to 1; got 99");
});

test("odd tensors: all zeros, one constant, huge and tiny together, infinities, NaN, no elements", () => {
  const of = (...xs: number[]) => feedAll(histogram(), [tensor("float32", [xs.length], xs)]);
  expect(percentile(of(0, 0, 0), 0.5)).toBe(0);
  expect(percentile(of(3.7, 3.7), 0.5)).toBe(Math.fround(3.7));
  const wide = of(1e-30, 1e30);
  expect(wide.counts.reduce((s, v) => s + v, 0)).toBe(2);
  const masked = of(-Infinity, 1, 2);
  expect([masked.min, masked.max, masked.n]).toEqual([1, 2, 2]);
  expect(() => of(1, Number.NaN)).toThrow("NaN among its elements");
  expect(of().n).toBe(0);
  const grown = feedAll(histogram(), [tensor("float32", [1], [0]), tensor("float32", [2], [5, -1000])]);
  expect(grown.n).toBe(3);
  expect(grown.counts.reduce((s, v) => s + v, 0)).toBe(3);
});

test("what does not fit is said in one line", async () => {
  const { model, h } = net();
  const run = (arrays: Record<string, Tensor>) => observe(model, [h], fromArrays(arrays), minMax);
  await expect(run({ y: normal([2, 3], 1) })).rejects.toThrow('data: has no array "x", which the model takes; got y');
  await expect(run({ x: normal([2, 5], 1) })).rejects.toThrow('data: array "x": a batch has the shape [1,5]; the model takes [n,3]');
  await expect(run({ x: tensor("uint8", [1, 3], [1, 2, 3]) })).rejects.toThrow("is uint8; the model takes float32");
  await expect(run({ x: tensor("float32", [2, 3], [1, 2, 3, 4, Number.NaN, 6]) })).rejects.toThrow("holds NaN (example 1)");
  const wide = { x: tensor("float64", [2, 3], [1, 2, 3, 4, 5, 6]) };
  expect((await run(wide)).get(h)!.n).toBe(8);
  const inf = tensor("float32", [1, 3], [Infinity, Infinity, Infinity]);
  await expect(run({ x: inf })).rejects.toThrow(`value "${h.name}": NaN among its elements`);
  expect(find(model.graph, h.name)).toBe(h);
});

test("values of integers, and of a model without inputs", async () => {
  const model = newModel("constant");
  const b = Build.of(model);
  const c = b.op("Cast", [b.add(b.f32(1.5), b.f32(2))], { to: 7 });
  model.graph.addOutput(c);
  const seen = await observe(model, [c], fromFeeds([{}]), minMax);
  expect(seen.get(c)).toEqual({ min: 3, max: 3, n: 1 });
});

test("values inside the branches of an If, nested ones too; a branch not taken has no entry", async () => {
  const model = newModel("branches");
  const { graph } = model;
  const x = graph.input("x", "float32", [1, 3]);
  const b = Build.of(model);
  const positive = b.op("Greater", [b.op("ReduceSum", [x], { keepdims: 0 }), b.f32(0)]);
  const branch = (name: string, parent: Graph, make: (b: Build) => Value) => {
    const g = new Graph(name, parent);
    const out = make(new Build(g, 17, name));
    g.addOutput(out);
    return { g, out };
  };
  const inner: Value[] = [];
  const outer = branch("then", graph, (b) => {
    const deep = ["deep", "other"].map((n, i) => branch(n, b.graph, (b) => b.mul(x, b.f32(i ? 5 : 2))));
    inner.push(...deep.map((d) => d.out));
    return b.op("If", [positive], { then_branch: deep[0]!.g, else_branch: deep[1]!.g });
  });
  const other = branch("else", graph, (b) => b.neg(x));
  graph.addOutput(b.op("If", [positive], { then_branch: outer.g, else_branch: other.g }));
  check(model);
  const ones = { x: tensor("float32", [1, 3], [1, 2, 3]) };
  const seen = await observe(model, [...inner, other.out, x], fromFeeds([ones]), minMax);
  expect(seen.get(inner[0]!)).toEqual({ min: 2, max: 6, n: 3 });
  expect([...seen.keys()]).toEqual([inner[0], x]);
  const both = await observe(model, [inner[0]!, other.out], fromFeeds([ones, { x: tensor("float32", [1, 3], [-1, -2, -3]) }]), minMax);
  expect(both.get(other.out)).toEqual({ min: 1, max: 3, n: 3 });
  expect(both.get(inner[0]!)).toEqual({ min: 2, max: 6, n: 3 });
});

test("a real model whose work is all inside an If", async () => {
  const model = load(join(import.meta.dirname, "../../node_modules/@ricky0123/vad-web/dist/silero_vad_v5.onnx"));
  const inputs = [...allNodes(model.graph)].filter((n) => n.opType === "Conv").map((n) => n.inputs[0]!);
  expect(inputs.every((v) => v.graph.parent)).toBe(true);
  const seen = await observe(model, inputs, fromFeeds([sampleFeeds(model, { shape: { input: [1, 512] } })]), minMax);
  // The branch of 16 kHz was taken, the one of 8 kHz was not.
  const taken = inputs.filter((v) => seen.has(v));
  expect(taken.length).toBeGreaterThan(3);
  expect(taken.length).toBeLessThan(inputs.length);
  for (const v of taken) expect(seen.get(v)!.max).toBeGreaterThan(seen.get(v)!.min);
});
