import { describe, expect, test } from "vitest";
import { check } from "../ir/check.ts";
import { cloneModel, float, type Model, newModel, type Value } from "../ir/graph.ts";
import { Build } from "../ops/build.ts";
import { open } from "../runtime/session.ts";
import { random } from "../tensor/random.ts";
import { floatsOf, type Tensor, tensor } from "../tensor/tensor.ts";
import { fuse } from "./fuse.ts";

const r = random(3, "fuse");
const normal = (shape: readonly number[], scale = 1): Tensor => {
  const x = r.fillNormal(new Float32Array(shape.reduce((a, d) => a * d, 1)));
  return tensor(
    "float32",
    shape,
    x.map((v) => scale * v),
  );
};
const positive = (n: number) =>
  tensor(
    "float32",
    [n],
    floatsOf(normal([n])).map((v) => 0.2 + Math.abs(v)),
  );

type Make = (b: Build, x: Value, c: (t: Tensor) => Value) => Value;
const norm = (b: Build, y: Value, c: (t: Tensor) => Value, n: number) =>
  b.op("BatchNormalization", [y, c(normal([n])), c(normal([n])), c(normal([n])), c(positive(n))], { epsilon: float(1e-3) });

const cases: Record<string, { x: readonly number[]; ops: Record<string, number>; make: Make }> = {
  "Conv, BatchNormalization": {
    x: [2, 3, 7, 6],
    ops: { Conv: 1 },
    make: (b, x, c) => norm(b, b.op("Conv", [x, c(normal([8, 3, 3, 3]))]), c, 8),
  },
  "grouped Conv with bias, BatchNormalization, Relu": {
    x: [2, 4, 7, 6],
    ops: { Conv: 1, Relu: 1 },
    make: (b, x, c) => b.op("Relu", [norm(b, b.op("Conv", [x, c(normal([6, 2, 3, 3])), c(normal([6]))], { group: 2 }), c, 6)]),
  },
  "Conv, Mul, Add by channel": {
    x: [1, 3, 5, 5],
    ops: { Conv: 1 },
    make: (b, x, c) => b.add(c(normal([4, 1, 1])), b.mul(b.op("Conv", [x, c(normal([4, 3, 1, 1]))]), c(normal([1, 4, 1, 1])))),
  },
  "Conv, Div and Sub by scalars": {
    x: [1, 3, 5, 5],
    ops: { Conv: 1 },
    make: (b, x, c) => b.sub(b.f32(3), b.div(b.op("Conv", [x, c(normal([4, 3, 1, 1]))]), b.f32(0.7))),
  },
  "one-dimensional Conv": {
    x: [2, 3, 9],
    ops: { Conv: 1 },
    make: (b, x, c) => norm(b, b.op("Conv", [x, c(normal([4, 3, 3]))]), c, 4),
  },
  "grouped ConvTranspose": {
    x: [2, 4, 5, 5],
    ops: { ConvTranspose: 1 },
    make: (b, x, c) => norm(b, b.op("ConvTranspose", [x, c(normal([4, 3, 2, 2])), c(normal([6]))], { group: 2, strides: [2, 2] }), c, 6),
  },
  "Gemm, transB, alpha, beta": {
    x: [5, 4],
    ops: { Gemm: 1 },
    make: (b, x, c) =>
      norm(b, b.op("Gemm", [x, c(normal([3, 4])), c(normal([1, 3]))], { transB: 1, alpha: float(0.5), beta: float(2) }), c, 3),
  },
  "Gemm without bias": { x: [5, 4], ops: { Gemm: 1 }, make: (b, x, c) => norm(b, b.op("Gemm", [x, c(normal([4, 3]))]), c, 3) },
  "two Convs share a weight": {
    x: [1, 4, 5, 5],
    ops: { Conv: 2 },
    make(b, x, c) {
      const w = c(normal([4, 4, 1, 1]));
      return norm(b, b.op("Conv", [norm(b, b.op("Conv", [x, w]), c, 4), w]), c, 4);
    },
  },
  "what varies over space stays": {
    x: [1, 3, 5, 5],
    ops: { Conv: 1, Add: 1 },
    make: (b, x, c) => b.add(b.op("Conv", [x, c(normal([4, 3, 1, 1]))]), c(normal([1, 1, 5, 5]))),
  },
  "what adds an axis stays": {
    x: [5, 4],
    ops: { Gemm: 1, Add: 1 },
    make: (b, x, c) => b.add(b.op("Gemm", [x, c(normal([4, 3]))]), c(normal([1, 1, 3]))),
  },
  "a Conv that two read stays": {
    x: [1, 3, 5, 5],
    ops: { Conv: 1, BatchNormalization: 1, Add: 1 },
    make(b, x, c) {
      const y = b.op("Conv", [x, c(normal([4, 3, 1, 1]))]);
      return b.add(norm(b, y, c, 4), y);
    },
  },
};

async function run(model: Model, x: Tensor): Promise<Float32Array> {
  const s = await open(model, { threads: 1, optimization: "disabled" });
  const y = Object.values(await s.run({ x }))[0]!;
  await s.release();
  return floatsOf(y);
}

describe("folding into weights leaves the outputs as they were", () => {
  test.each(Object.entries(cases))("%s", async (_, { x: shape, ops, make }) => {
    const model = newModel("fuse", 15);
    const b = Build.of(model);
    const x = model.graph.input("x", "float32", shape);
    model.graph.addOutput(make(b, x, (t) => model.graph.initializer("c", t)));
    const name = model.graph.outputs[0]!.name;
    const fused = cloneModel(model);
    fuse(fused);
    check(fused);
    const count: Record<string, number> = {};
    for (const n of fused.graph.nodes) count[n.opType] = (count[n.opType] ?? 0) + 1;
    expect(count).toEqual(ops);
    expect(fused.graph.outputs[0]!.name).toBe(name);
    const data = normal(shape);
    const [before, after] = [await run(model, data), await run(fused, data)];
    const size = Math.max(...before.map(Math.abs));
    before.forEach((v, i) => {
      expect(Math.abs(after[i]! - v)).toBeLessThan(1e-5 * size);
    });
  });
});

test("weights that were inputs with a default become constants, and the note says so", () => {
  const model = newModel("old", 9, 3);
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", [1, 2, 4, 4]);
  const w = model.graph.initializer("w", normal([2, 2, 1, 1]));
  model.graph.inputs.push(w);
  model.graph.addOutput(norm(b, b.op("Conv", [x, w]), (t) => model.graph.initializer("c", t), 2));
  const notes: string[] = [];
  expect(fuse(model, (line) => notes.push(line))).toBe(1);
  expect(model.graph.inputs.map((v) => v.name)).toEqual(["x"]);
  expect(notes).toEqual(["1 weights were inputs with a default; they are constants now"]);
  expect(model.irVersion).toBe(4);
});
