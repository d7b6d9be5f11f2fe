import { expect, test } from "vitest";
import { fromArrays } from "../../data/dataset.ts";
import { float, type Model, newModel, type Value } from "../../ir/graph.ts";
import { find } from "../../ir/walk.ts";
import { open } from "../../runtime/session.ts";
import { random } from "../../tensor/random.ts";
import { numbersOf, tensor } from "../../tensor/tensor.ts";
import { attach, trainingGraph } from "../../train/graph.ts";
import type { Group, Member } from "../../transform/groups.ts";
import { activationsOf, along, magnitudeOf, randomOf, scaleOf, summedOf } from "./groupimportance.ts";
import { groupLasso } from "./grouplasso.ts";

const range = (n: number, f: (i: number) => number = (i) => i) => Int32Array.from({ length: n }, (_, i) => f(i));
const member = (value: Value, axis: number, role: Member["role"], coordinate: Int32Array): Member => ({ value, axis, role, coordinate });

/** Conv (4 channels) → BatchNormalization → Relu → Flatten (2×2) → Gemm, and its one group, by hand. */
function small(): { model: Model; group: Group; set(name: string, at: (i: number) => boolean, to: number): void } {
  const model = newModel("small");
  const g = model.graph;
  const r = random(3);
  const weight = (name: string, shape: readonly number[], from = -1) =>
    g.initializer(
      name,
      tensor(
        "float32",
        shape,
        Array.from({ length: shape.reduce((a, d) => a * d, 1) }, () => from + r.uniform() * (1 - from)),
      ),
    );
  const x = g.input("x", "float32", [null, 2, 4, 4]);
  const [w, b] = [weight("w", [4, 2, 3, 3]), weight("b", [4])];
  const norm = [weight("gamma", [4], 0.5), weight("beta", [4]), weight("mean", [4]), weight("var", [4], 0.5)];
  const f = weight("f", [3, 16]);
  const conv = g.append("Conv", [x, w, b], { attrs: { kernel_shape: [3, 3] } }).outputs[0]!;
  const bn = g.append("BatchNormalization", [conv, ...norm], { attrs: { epsilon: float(1e-5) } }).outputs[0]!;
  const flat = g.append("Flatten", [g.append("Relu", [bn]).outputs[0]!]).outputs[0]!;
  g.addOutput(g.append("Gemm", [flat, f], { attrs: { transB: 1 }, outputs: ["y"] }).outputs[0]!);
  const members = [
    member(w, 0, "out", range(4)),
    member(b, 0, "along", range(4)),
    ...norm.map((v) => member(v, 0, "along", range(4))),
    member(
      f,
      1,
      "in",
      range(16, (i) => i >> 2),
    ),
  ];
  return {
    model,
    group: { name: "w[0]", size: 4, frozen: null, inexact: null, members },
    set(name, at, to) {
      const v = find(g, name)!;
      g.setData(
        v,
        tensor(
          "float32",
          v.data!.shape,
          numbersOf(v.data!).map((old, i) => (at(i) ? to : old)),
        ),
      );
    },
  };
}

test("sums along an axis, by index", () => {
  const values = Array.from({ length: 24 }, (_, i) => i);
  expect([...along({ axis: 1, coordinate: Int32Array.of(0, -1, 0) }, 1, [2, 3, 4], values, (x) => x)]).toEqual([
    [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 20, 21, 22, 23].reduce((a, z) => a + z),
  ]);
  expect([...along({ axis: 0, coordinate: Int32Array.of(1, 0) }, 2, [2, 3], [1, 2, 3, 4, 5, 6], (x) => x * x)]).toEqual([77, 14]);
  expect([...along({ axis: 0, coordinate: Int32Array.of(1, 0) }, 2, [2, 1], [1, 2], (x) => x, [3, 5])]).toEqual([10, 3]);
});

test("magnitude is the share of each coupled weight, through the BatchNormalization", () => {
  const { group, model } = small();
  const values = (name: string) => [...numbersOf(find(model.graph, name)!.data!)];
  const sums = magnitudeOf(group, (x) => x * x);
  // By the definition.
  const [w, f, gamma, variance] = ["w", "f", "gamma", "var"].map(values) as [number[], number[], number[], number[]];
  const slope = gamma.map((g, i) => g / Math.sqrt(variance[i]! + 1e-5));
  const ws = [0, 1, 2, 3].map((c) => w.slice(18 * c, 18 * c + 18).reduce((a, x) => a + (slope[c]! * x) ** 2, 0));
  const fs = [0, 1, 2, 3].map((c) => f.reduce((a, x, i) => a + ((i % 16) >> 2 === c ? x * x : 0), 0));
  const total = (x: number[]) => x.reduce((a, z) => a + z, 0);
  const largest = Math.max(total(ws), total(fs));
  const vectors = [
    values("b").map((x, i) => (x * slope[i]!) ** 2),
    values("mean").map((x, i) => (x * slope[i]!) ** 2),
    values("beta").map((x) => x ** 2),
  ];
  [0, 1, 2, 3].forEach((c) => {
    const want = ws[c]! / total(ws) + fs[c]! / total(fs) + vectors.reduce((a, v) => a + v[c]! / (total(v) + largest), 0);
    expect(sums[c]).toBeCloseTo(want, 5);
  });
});

test("an index whose weights and biases are all zero has no importance, though its variance and scale are not", () => {
  const { group, set } = small();
  set("w", (i) => Math.floor(i / 18) === 2, 0);
  set("f", (i) => (i % 16) >> 2 === 2, 0);
  for (const name of ["b", "beta", "mean"]) set(name, (i) => i === 2, 0);
  for (const f of [(x: number) => x * x, Math.abs]) {
    const sums = magnitudeOf(group, f);
    expect(sums[2]).toBe(0);
    expect(Math.min(sums[0]!, sums[1]!, sums[3]!)).toBeGreaterThan(0);
  }
});

test("integers count as what a DequantizeLinear makes of them, by channels or by blocks, and their scales only scale", () => {
  const r = random(1);
  const codes = Array.from({ length: 4 * 6 }, () => r.below(200) - 100);
  const scales = [0.1, 0.7, 0.2, 0.4];
  const zeros = [3, -5, 0, 9];
  for (const block of [0, 3]) {
    const model = newModel("integers", 21, 10);
    const g = model.graph;
    const q = g.initializer("q", tensor("int8", [4, 6], codes));
    const shape = block ? [4, 2] : [4];
    const many = <T>(list: readonly T[]) => (block ? list.flatMap((x) => [x, x]) : list);
    const [s, z] = [g.initializer("s", tensor("float32", shape, many(scales))), g.initializer("z", tensor("int8", shape, many(zeros)))];
    const w = g.append("DequantizeLinear", [q, s, z], { attrs: block ? { axis: 1, block_size: block } : { axis: 0 } }).outputs[0]!;
    g.addOutput(g.append("Gemm", [g.input("x", "float32", [null, 6]), w], { attrs: { transB: 1 } }).outputs[0]!);
    const members = [member(q, 0, "out", range(4)), member(s, 0, "along", range(4)), member(z, 0, "along", range(4))];
    const sums = magnitudeOf({ name: "q[0]", size: 4, frozen: null, inexact: null, members }, Math.abs);
    const rows = scales.map((x, c) => codes.slice(6 * c, 6 * c + 6).reduce((a, v) => a + Math.abs((v - zeros[c]!) * x), 0));
    const total = rows.reduce((a, v) => a + v, 0);
    rows.forEach((v, c) => {
      expect(sums[c]).toBeCloseTo(v / total, 5);
    });
  }
});

test("scales of BatchNormalization, sums of given scores, chance by seed", () => {
  const { group, set } = small();
  set("gamma", (i) => i === 1, 0);
  const scales = scaleOf(group)!;
  expect(scales[1]).toBe(0);
  expect(scales.reduce((a, x) => a + x)).toBeCloseTo(1, 6);
  expect(scaleOf({ ...group, members: group.members.slice(-1) })).toBeNull();
  const ones = summedOf(group, (v) =>
    v.name === "f" || v.name === "w"
      ? new Float32Array(100).fill(1).subarray(
          0,
          v.data!.shape.reduce((a, d) => a * d, 1),
        )
      : null,
  );
  expect([...ones]).toEqual([30, 30, 30, 30]);
  expect(randomOf(group, 1)).toEqual(randomOf(group, 1));
  expect(randomOf(group, 1)).not.toEqual(randomOf(group, 2));
});

test("activation: the energy that a channel hands on", async () => {
  const { group, model, set } = small();
  // A channel that its Relu never lets through hands on nothing.
  set("beta", (i) => i === 3, -1e3);
  const n = 8;
  const data = fromArrays({ x: tensor("float32", [n, 2, 4, 4], random(5).fillNormal(new Float32Array(n * 32))) });
  const energy = (await activationsOf(model, [group], data, 1)).get(group)!;
  expect(energy[3]).toBe(0);
  expect(energy.reduce((a, x) => a + x)).toBeCloseTo(1, 5);
  // By the definition, from what the Gemm reads.
  const flat = [...model.graph.nodes].find((node) => node.opType === "Flatten")!.outputs[0]!;
  const copy = { ...model };
  flat.type = { dtype: "float32", shape: null };
  copy.graph.addOutput(flat);
  const session = await open(copy, { threads: 1 });
  const x = numbersOf((await session.run(data.take([0, 1, 2, 3, 4, 5, 6, 7])))[flat.name]!);
  await session.release();
  const f = numbersOf(find(model.graph, "f")!.data!);
  const by = [0, 0, 0, 0];
  for (let p = 0; p < 16; p++) {
    const squares = [0, 1, 2, 3, 4, 5, 6, 7].reduce((a, e) => a + x[16 * e + p]! ** 2, 0);
    for (let o = 0; o < 3; o++) by[p >> 2]! += squares * f[16 * o + p]! ** 2;
  }
  const all = by.reduce((a, z) => a + z);
  by.forEach((e, c) => {
    expect(energy[c]).toBeCloseTo(e / all, 5);
  });
});

test("group lasso: its value by the formula, its gradient by central differences", async () => {
  const { group, model } = small();
  const n = 2;
  const batch = { x: tensor("float32", [n, 2, 4, 4], new Float32Array(n * 32).fill(1)) };
  const penalty = groupLasso([group]);
  const w = numbersOf(find(model.graph, "w")!.data!);
  const f = numbersOf(find(model.graph, "f")!.data!);
  const value = (w: ArrayLike<number>, f: ArrayLike<number>) => {
    const squares = [0, 0, 0, 0];
    for (let i = 0; i < w.length; i++) squares[Math.floor(i / 18)]! += w[i]! ** 2;
    for (let i = 0; i < f.length; i++) squares[(i % 16) >> 2]! += f[i]! ** 2;
    return Math.sqrt(18 + 12) * squares.reduce((a, s) => a + Math.sqrt(s), 0);
  };
  const graph = await trainingGraph(attach(model, penalty, batch), batch, { threads: 1 });
  expect(graph.weights.map((s) => s.name).sort()).toEqual(["f", "w"]);
  const session = await open(graph.model, { training: true, threads: 1 });
  const slots = Object.fromEntries(graph.weights.map((s) => [s.name, s]));
  const out = await session.run({ ...batch, w: tensor("float32", [4, 2, 3, 3], w), f: tensor("float32", [3, 16], f) });
  await session.release();
  expect(numbersOf(out[graph.loss]!)[0]).toBeCloseTo(value(w, f), 4);
  const step = 1e-4;
  for (const [name, at] of [
    ["w", w],
    ["f", f],
  ] as const) {
    const g = numbersOf(out[slots[name]!.gradient!]!);
    for (let i = 0; i < at.length; i++) {
      const moved = (d: number) => Float64Array.from(at, (x, k) => (k === i ? x + d : x));
      const [up, down] = [moved(step), moved(-step)].map((v) => (name === "w" ? value(v, f) : value(w, v))) as [number, number];
      expect(g[i]).toBeCloseTo((up - down) / (2 * step), 4);
    }
  }
});
