import { expect, test } from "vitest";
import { check } from "../ir/check.ts";
import { Graph, type Model, newModel, type Value } from "../ir/graph.ts";
import { find } from "../ir/walk.ts";
import { Build } from "../ops/build.ts";
import { open } from "../runtime/session.ts";
import { random } from "../tensor/random.ts";
import { numbersOf, type Tensor, tensor } from "../tensor/tensor.ts";
import { fold, liftConstants } from "./fold.ts";

const ops = (m: Model) => [...m.graph.nodes].map((n) => n.opType).sort();
const noise = (seed: number, ...shape: number[]) =>
  tensor("float32", shape, random(seed).fillNormal(new Float32Array(shape.reduce((a, d) => a * d, 1))));

async function run(model: Model, feeds: Record<string, Tensor>) {
  check(model);
  const s = await open(model, { threads: 1, spinning: false });
  const out = await s.run(feeds);
  await s.release();
  return Object.values(out).map((t) => Array.from(numbersOf(t)));
}

/** x [2, 64] · W with a weight made by `weight`. */
function product(weight: (b: Build, w: Value) => Value) {
  const model = newModel("product");
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", [2, 64]);
  const w = model.graph.initializer("w", noise(1, 64, 64));
  model.graph.addOutput(b.matmul(x, weight(b, w)));
  return { model, feeds: { x: noise(2, 2, 64) } };
}

test("Constant nodes become initializers of the same name, in branches too", async () => {
  const model = newModel("constants");
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", [2]);
  const k = model.graph.append("Constant", [], { name: "k", attrs: { value: tensor("float32", [2], [1, 2]) } }).outputs[0]!;
  const n = model.graph.append("Constant", [], { attrs: { value_int: 0 } }).outputs[0]!;
  const branch = (name: string, by: number) => {
    const g = new Graph(name, model.graph);
    const c = g.append("Constant", [], { attrs: { value: tensor("float32", [2], [by, by]) } }).outputs[0]!;
    g.addOutput(g.append("Mul", [x, c]).outputs[0]!);
    return g;
  };
  const constantBranch = new Graph("only", model.graph);
  constantBranch.addOutput(constantBranch.append("Constant", [], { attrs: { value: tensor("float32", [2], [7, 7]) } }).outputs[0]!);
  const yes = b.op("Cast", [n], { to: 9 });
  model.graph.addOutput(b.op("If", [yes], { then_branch: constantBranch, else_branch: branch("else", 3) }));
  model.graph.addOutput(b.mul(x, k));
  const feeds = { x: tensor("float32", [2], [5, 6]) };
  const before = await run(model, feeds);
  expect(liftConstants(model)).toBe(3);
  expect(find(model.graph, "k_out")).toBe(k);
  expect(k.data && k.producer).toBe(null);
  expect(ops(model)).not.toContain("Constant");
  expect(await run(model, feeds)).toEqual(before);
});

test("a merged adapter is base plus adapter, under the sum's name", async () => {
  const [p, q] = [noise(3, 64, 2), noise(4, 2, 64)];
  const { model, feeds } = product((b, w) => b.add(w, b.mul(b.matmul(b.constant(p), b.constant(q)), b.f32(0.5))));
  const sum = [...model.graph.nodes].find((n) => n.opType === "Add")!.outputs[0]!;
  const before = await run(model, feeds);
  expect(await fold(model)).toEqual([sum]);
  expect(ops(model)).toEqual(["MatMul"]);
  expect([...model.graph.initializers]).toEqual([sum]);
  const [w, a, c] = [noise(1, 64, 64), p, q].map(numbersOf) as [Float32Array, Float32Array, Float32Array];
  const merged = numbersOf(sum.data!);
  for (let i = 0; i < 64; i++)
    for (let j = 0; j < 64; j++)
      expect(merged[i * 64 + j]).toBeCloseTo(w[i * 64 + j]! + 0.5 * (a[2 * i]! * c[j]! + a[2 * i + 1]! * c[64 + j]!), 5);
  const after = await run(model, feeds);
  after[0]!.forEach((y, i) => {
    expect(y).toBeCloseTo(before[0]![i]!, 4);
  });
});

test("a weight that is read in two ways stays one tensor, unless it may split", async () => {
  const tied = () => {
    const { model, feeds } = product((b, w) => b.transpose(w, [1, 0]));
    const w = find(model.graph, "w")!;
    model.graph.addOutput(Build.of(model).op("Gather", [w, model.graph.input("ids", "int64", [1])]));
    return { model, feeds: { ...feeds, ids: tensor("int64", [1], [5]) } };
  };
  const { model, feeds } = tied();
  expect(await fold(model)).toEqual([]);
  expect(model.graph.initializers.size).toBe(1);
  const before = await run(model, feeds);
  const other = tied().model;
  expect(await fold(other, { split: true })).toHaveLength(1);
  expect(other.graph.initializers.size).toBe(2);
  expect(await run(other, feeds)).toEqual(before);
});

test("the same computation twice gives one tensor", async () => {
  const { model, feeds } = product((b, w) => {
    const mask = b.constant(noise(5, 64, 64));
    return b.matmul(b.mul(w, mask), b.op("Relu", [b.mul(w, mask)]));
  });
  const x = model.graph.inputs[0]!;
  const b = Build.of(model);
  const [w, mask] = [...model.graph.initializers];
  model.graph.addOutput(b.matmul(x, b.mul(w!, mask!)));
  model.graph.addOutput(b.matmul(x, b.mul(w!, mask!)));
  const before = await run(model, feeds);
  expect(await fold(model)).toHaveLength(2);
  expect(model.graph.initializers.size).toBe(2);
  expect(ops(model)).toEqual(["MatMul", "MatMul", "MatMul"]);
  const after = await run(model, feeds);
  expect(after[1]).toEqual(after[2]);
  expect(after[1]).toEqual(before[1]);
});

test("left alone: overridable defaults, DequantizeLinear, draws, what would grow, outputs", async () => {
  const { model } = product((b, w) => b.neg(w));
  model.graph.inputs.push(find(model.graph, "w")!);
  expect(await fold(model)).toEqual([]);

  const quantized = product((b) => b.op("DequantizeLinear", [b.constant(tensor("int8", [64, 64], new Int8Array(4096))), b.f32(0.1)])).model;
  expect(await fold(quantized)).toEqual([]);

  const drawn = product((b, w) => b.op("RandomNormalLike", [w])).model;
  expect(await fold(drawn)).toEqual([]);

  const grown = product((b) => b.expand(b.f32(1), [64, 64])).model;
  expect(await fold(grown)).toEqual([]);
  expect(ops(grown)).toEqual(["Expand", "MatMul"]);

  const output = newModel("output");
  output.graph.addOutput(Build.of(output).neg(output.graph.initializer("w", noise(1, 4))));
  expect(await fold(output)).toEqual([]);
});

test("what is going to change is no constant", async () => {
  const { model } = product((b, w) => b.mul(b.neg(b.constant(noise(5, 64, 64))), w));
  const [w] = [...model.graph.initializers];
  expect(await fold(model, { variables: new Set([w!]) })).toHaveLength(1);
  expect(ops(model)).toEqual(["MatMul", "Mul"]);
  expect(w!.uses.size).toBe(1);
});

test("known shapes are constants on demand", async () => {
  const { model, feeds } = product((b, w) => {
    const x = [...b.graph.inputs][0]!;
    const last = b.op("Slice", [b.op("Shape", [x]), b.i64([1]), b.i64([2])]);
    return b.op("Reshape", [w, b.op("Concat", [last, b.i64([-1])], { axis: 0 })]);
  });
  const before = await run(model, feeds);
  expect(await fold(model)).toEqual([]);
  expect(await fold(model, { shapes: true })).toHaveLength(1);
  expect(ops(model)).toEqual(["MatMul"]);
  expect(await run(model, feeds)).toEqual(before);
});

test("initializers that are inputs by the rule of IR 3 stay constants when there is a newer one", async () => {
  const model = newModel("old", 9, 3);
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", [2]);
  const w = model.graph.initializer("w", tensor("float32", [2], [1, 2]));
  model.graph.inputs.push(w);
  const k = b.op("Constant", [], { value: tensor("float32", [2], [3, 4]) });
  model.graph.addOutput(b.mul(b.mul(x, w), k));
  expect(liftConstants(model)).toBe(1);
  expect(model.irVersion).toBe(4);
  expect(model.graph.inputs).toEqual([x]);
  expect(await run(model, { x: tensor("float32", [2], [1, 1]) })).toEqual([[3, 8]]);
});
