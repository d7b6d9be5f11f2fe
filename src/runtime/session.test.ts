import { describe, expect, test } from "vitest";
import { newModel } from "../ir/graph.ts";
import { Build } from "../ops/build.ts";
import { numbersOf, stringTensor, type Tensor, tensor } from "../tensor/tensor.ts";
import { open } from "./session.ts";

function affine() {
  const model = newModel("affine");
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", ["n", 2]);
  const w = model.graph.initializer("w", tensor("float32", [2, 2], [1, 2, 3, 4]));
  model.graph.addOutput(b.add(b.matmul(x, w), b.f32(0.5)));
  return { model, out: model.graph.outputs[0]!.name };
}

test("a graph from code runs", async () => {
  const { model, out } = affine();
  const s = await open(model, { threads: 1, spinning: false });
  const y = await s.run({ x: tensor("float32", [1, 2], [1, 1]) });
  expect(Array.from(numbersOf(y[out]!))).toEqual([4.5, 6.5]);
  await expect(s.run({})).rejects.toThrow('input "x" was not given');
  await s.release();
});

test("a bound run reads and writes fixed memory", async () => {
  const { model, out } = affine();
  const s = await open(model, { threads: 1, training: true });
  const x = new Float32Array([1, 1]);
  const y = new Float32Array(2);
  const run = s.bind({ x: tensor("float32", [1, 2], x) }, { [out]: tensor("float32", [1, 2], y) });
  await run();
  expect(Array.from(y)).toEqual([4.5, 6.5]);
  x[0] = 0;
  await run();
  expect(Array.from(y)).toEqual([3.5, 4.5]);
  await s.release();
});

/** y = x, of any type and shape; the shape as declared may leave sizes open. */
function identity(dtype: Tensor["dtype"], shape: readonly (number | string)[]) {
  const model = newModel("identity", 19, 9);
  const x = model.graph.input("x", dtype, shape);
  model.graph.addOutput(model.graph.append("Identity", [x], { outputs: ["y"] }).outputs[0]!);
  return model;
}

describe("what goes in comes out", () => {
  const types = [
    "float32",
    "float64",
    "float16",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
  ] as const;
  test.each(types)("%s, empty tensors and scalars too", async (dtype) => {
    const s = await open(identity(dtype, ["n", 2]), { threads: 1 });
    expect(s.inputs).toEqual([{ name: "x", dtype, shape: ["n", 2] }]);
    for (const shape of [
      [3, 2],
      [0, 2],
    ]) {
      const x = tensor(dtype, shape, [0, 1, 0, 1, 1, 1].slice(0, 2 * shape[0]!));
      const { y } = await s.run({ x });
      expect(y).toMatchObject({ dtype, shape });
      expect(numbersOf(y!)).toEqual(numbersOf(x));
    }
    await s.release();
    const one = await open(identity(dtype, []), { threads: 1 });
    const { y } = await one.run({ x: tensor(dtype, [], [1]) });
    expect(y).toMatchObject({ dtype, shape: [] });
    await one.release();
  });

  test("strings", async () => {
    const s = await open(identity("string", [2]), { threads: 1 });
    const x = stringTensor([2], ["ü", ""]);
    expect((await s.run({ x })).y).toEqual(x);
    await s.release();
  });

  test("bytes at any offset", async () => {
    const bytes = new Uint8Array(9);
    bytes.set(new Uint8Array(Float32Array.of(1, 2).buffer), 1);
    const s = await open(identity("float32", [2]), { threads: 1 });
    const { y } = await s.run({ x: { dtype: "float32", shape: [2], data: bytes.subarray(1) } });
    expect(numbersOf(y!)).toEqual(Float32Array.of(1, 2));
    await s.release();
  });
});

describe("what does not fit is refused in one line", () => {
  test("types, shapes and names", async () => {
    const s = await open(identity("float32", ["n", 2]), { threads: 1 });
    const x = tensor("float32", [1, 2], [1, 2]);
    await expect(s.run({ x: tensor("float64", [1, 2], [1, 2]) })).rejects.toThrow('session: input "x" is float32; got float64');
    await expect(s.run({ x: tensor("float32", [2, 1], [1, 2]) })).rejects.toThrow('session: input "x" takes the shape [n, 2]; got [2, 1]');
    await expect(s.run({ x: tensor("float32", [2], [1, 2]) })).rejects.toThrow("got [2]");
    await expect(s.run({ x }, ["z"])).rejects.toThrow('session: there is no output "z"; the model gives y');
    expect(() => s.bind({}, { y: x })).toThrow('input "x" was not given; the model takes x');
    expect(() => s.bind({ x }, { y: tensor("float32", [2], [1, 2]) })).toThrow('output "y" takes the shape [n, 2]; got [2]');
    // What stands beside the inputs (labels of a batch) is left alone.
    expect(numbersOf((await s.run({ x, labels: x })).y!)).toEqual(Float32Array.of(1, 2));
    await s.release();
  });

  test("a model the runtime does not take", async () => {
    const model = newModel("unheard");
    model.graph.addOutput(model.graph.append("Unheard", [model.graph.input("x", "float32", [1])]).outputs[0]!);
    await expect(open(model)).rejects.toThrow(/^session: [^\n]*Unheard[^\n]*$/);
  });

  test.each(["bfloat16", "float8e4m3fn", "float8e5m2"] as const)("an input of %s", async (dtype) => {
    await expect(open(identity(dtype, [2]))).rejects.toThrow(`session: "x" is ${dtype}, which this runtime does not pass in or out`);
  });
});

test("an input with a value inside the model need not be given, and giving it is refused rather than ignored", async () => {
  const model = newModel("default");
  const g = model.graph;
  const x = g.input("x", "float32", [1]);
  const w = g.initializer("w", tensor("float32", [1], [2]));
  g.inputs.push(w);
  g.addOutput(g.append("Mul", [x, w], { outputs: ["y"] }).outputs[0]!);
  const s = await open(model, { threads: 1 });
  expect(s.inputs.map((i) => i.name)).toEqual(["x"]);
  expect(numbersOf((await s.run({ x: tensor("float32", [1], [3]) })).y!)).toEqual(Float32Array.of(6));
  await expect(s.run({ x: tensor("float32", [1], [3]), w: tensor("float32", [1], [5]) })).rejects.toThrow(
    'input "w" has a value inside the model',
  );
  await s.release();
});

test("outputs that are no tensors, or 4-bit ones, stand in nobody's way and are refused where asked for", async () => {
  const model = newModel("sequence", 21, 10);
  const g = model.graph;
  const x = g.input("x", "float32", [1]);
  const list = g.append("SequenceConstruct", [x], { outputs: ["list"] }).outputs[0]!;
  g.addOutput(list);
  const four = g.append("Constant", [], { attrs: { value: tensor("int4", [3], [1, 2, 3]) }, outputs: ["four"] }).outputs[0]!;
  four.type = { dtype: "int4", shape: [3] };
  g.addOutput(four);
  g.addOutput(g.append("SequenceAt", [list, g.initializer("i", tensor("int64", [], [0]))], { outputs: ["y"] }).outputs[0]!);
  const s = await open(model, { threads: 1 });
  expect(s.outputs.map((o) => o.dtype)).toEqual([null, "int4", "float32"]);
  expect(Object.keys(await s.run({ x: tensor("float32", [1], [3]) }))).toEqual(["y"]);
  await expect(s.run({ x: tensor("float32", [1], [3]) }, ["list"])).rejects.toThrow('output "list" is no tensor');
  await expect(s.run({ x: tensor("float32", [1], [3]) }, ["four"])).rejects.toThrow('output "four" is no tensor, or of a type');
  await s.release();
});
