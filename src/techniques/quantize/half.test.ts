import { describe, expect, test } from "vitest";
import { type Dataset, fromArrays } from "../../data/dataset.ts";
import { check } from "../../ir/check.ts";
import { cloneModel, float, Graph, type Model, type Node, newModel, type Value } from "../../ir/graph.ts";
import { allNodes } from "../../ir/walk.ts";
import { transformer } from "../../nets/transformer.ts";
import { readModel } from "../../onnx/read.ts";
import { writeModel } from "../../onnx/write.ts";
import { contextOf } from "../../recipe/compress.ts";
import { open } from "../../runtime/session.ts";
import { type DType, decodeSmallFloat } from "../../tensor/dtype.ts";
import { random } from "../../tensor/random.ts";
import { integersOf, numbersOf, type Tensor, tensor, valuesOf } from "../../tensor/tensor.ts";
import { half } from "./half.ts";

type Params = Parameters<typeof half>[0];

/** The model converted, through its bytes, and what was said about it. */
async function convert(model: Model, params: Params = {}, data: Dataset | null = null): Promise<{ model: Model; notes: string[] }> {
  const notes: string[] = [];
  const out = cloneModel(readModel(writeModel(model)));
  await half(params).apply(out, contextOf(model, { calibration: data, threads: 1, note: (line) => notes.push(line) }));
  check(out);
  return { model: readModel(writeModel(out)), notes };
}

async function run(model: Model, feeds: Record<string, Tensor>): Promise<Record<string, number[]>> {
  const session = await open(model, { threads: 1 });
  try {
    return Object.fromEntries(Object.entries(await session.run(feeds)).map(([k, t]) => [k, integersOf(t)]));
  } finally {
    await session.release();
  }
}

/** Runs both; every output close to the original's: relative to its largest, `within`. */
async function close(a: Model, b: Model, feeds: Record<string, Tensor>, within = 2e-3): Promise<void> {
  const [want, got] = [await run(a, feeds), await run(b, feeds)];
  expect(Object.keys(got)).toEqual(Object.keys(want));
  for (const [name, x] of Object.entries(want)) {
    const y = got[name]!;
    expect(y.length).toBe(x.length);
    const most = Math.max(...x.filter(Number.isFinite).map(Math.abs), 1e-30);
    x.forEach((v, i) => {
      if (v === y[i]) return;
      expect(Math.abs(v - y[i]!), `${name}[${i}]: ${y[i]} instead of ${v}`).toBeLessThanOrEqual(within * most);
    });
  }
}

const ops = (model: Model, op: string): Node[] => [...allNodes(model.graph)].filter((n) => n.opType === op);
const casts = (model: Model) => ops(model, "Cast").length;
const f32 = (shape: readonly number[], values: readonly number[]) => tensor("float32", shape, values);
const noise = (shape: readonly number[], scale = 1, seed = 0) =>
  tensor("float32", shape, random(seed, "half").fillNormal(new Float32Array(shape.reduce((a, d) => a * d, 1)), scale));

/** A model of one graph: `body` gets it and a float32 input "x", and gives the outputs. */
function graph(shape: readonly number[], body: (g: Graph, x: Value) => Value[], opset = 17): Model {
  const model = newModel("m", opset, 8);
  const x = model.graph.input("x", "float32", shape);
  for (const y of body(model.graph, x)) {
    y.type ??= { dtype: "float32", shape: null };
    model.graph.addOutput(y);
  }
  return model;
}

const one = (g: Graph, op: string, inputs: (Value | null)[], attrs: Parameters<Graph["append"]>[2] = {}) =>
  g.append(op, inputs, attrs).outputs[0]!;

describe("casts", () => {
  test("one in, one out, none between", async () => {
    const m = graph([2, 96], (g, x) => {
      const h = one(g, "Relu", [one(g, "MatMul", [x, g.initializer("w", noise([96, 96], 0.1))])]);
      return [one(g, "Softmax", [one(g, "MatMul", [h, g.initializer("v", noise([96, 8], 0.1, 1))])])];
    });
    const { model } = await convert(m);
    expect(casts(model)).toBe(2);
    expect(model.graph.inputs.map((v) => [v.name, v.type!.dtype])).toEqual([["x", "float32"]]);
    expect(model.graph.outputs.map((v) => [v.name, v.type!.dtype])).toEqual([[m.graph.outputs[0]!.name, "float32"]]);
    for (const v of model.graph.initializers) expect(v.data!.dtype).toBe("float16");
    expect(writeModel(model).length).toBeLessThan(0.53 * writeModel(m).length);
    await close(m, model, { x: noise([2, 96]) });
  });
});

const weights = (g: Graph, name: string, shape: readonly number[], seed = 0) => g.initializer(name, noise(shape, 0.3, seed));
const dense = (g: Graph, x: Value, name: string, columns = 16) =>
  one(g, "MatMul", [x, weights(g, name, [16, columns])], { name: `mm_${name}` });
const typesOf = (model: Model) =>
  Object.fromEntries(model.graph.initializers.size ? [...model.graph.initializers].map((v) => [v.name, v.data!.dtype]) : []);
const dataOf = (...xs: Tensor[]): Dataset =>
  fromArrays({
    x: tensor(
      "float32",
      [xs.length, ...xs[0]!.shape.slice(1)],
      xs.flatMap((t) => [...numbersOf(t)]),
    ),
  });

describe("what a converter gets wrong", () => {
  test("a value that several float32 nodes read is cast once, inside branches too", async () => {
    const m = graph([2, 16], (g, x) => {
      const h = one(g, "Relu", [dense(g, x, "w")]);
      const a = one(g, "Celu", [h]);
      const b = one(g, "Celu", [one(g, "Celu", [h])]);
      const cond = one(g, "Greater", [one(g, "ReduceMax", [x], { attrs: { keepdims: 0 } }), g.initializer("zero", f32([], [0]))]);
      const branch = (name: string) => {
        const s = newSubgraph(g, name);
        s.addOutput(one(s, "Celu", [h]));
        return s;
      };
      const c = one(g, "If", [cond], { attrs: { then_branch: branch("a"), else_branch: branch("b") } });
      return [dense(g, one(g, "Sum", [a, b, c]), "v")];
    });
    const { model } = await convert(m);
    // In, h, and the sum (light, so float32 with its neighbours) to the last MatMul, out.
    expect(casts(model)).toBe(4);
    await close(m, model, { x: noise([2, 16]) });
  });

  test("with every node blocked nothing is cast and nothing changes (microsoft/onnxruntime#21345, #20346)", async () => {
    const m = graph([2, 16], (g, x) => [one(g, "Softmax", [one(g, "Relu", [dense(g, x, "w")])])]);
    for (const params of [{ exclude: "*" }, { blockOps: "MatMul,Relu,Softmax" }] as const) {
      const { model } = await convert(m, params);
      expect(casts(model)).toBe(0);
      expect(typesOf(model)).toEqual({ w: "float32" });
    }
  });

  test("Casts to float32 in the graph are retargeted (onnxconverter-common#320, #331, #196)", async () => {
    const model = newModel("m", 13, 8);
    const g = model.graph;
    const ids = g.input("x", "int64", [2, 16]);
    const a = one(g, "Cast", [ids], { attrs: { to: 1 } });
    const b = one(g, "Cast", [dense(g, a, "w")], { attrs: { to: 1 } });
    const c = one(g, "Cast", [one(g, "Cast", [b], { attrs: { to: 10 } })], { attrs: { to: 1 } });
    const d = one(g, "Cast", [one(g, "Cast", [c], { attrs: { to: 11 } })], { attrs: { to: 1 } });
    const y = one(g, "Add", [d, b]);
    y.type = { dtype: "float32", shape: [2, 16] };
    g.addOutput(y);
    const { model: out } = await convert(model);
    // From int64 to half, and once to float32: all others were one of these.
    expect(ops(out, "Cast").map((n) => n.int("to"))).toEqual([10, 1]);
    await close(model, out, {
      x: tensor(
        "int64",
        [2, 16],
        Array.from({ length: 32 }, (_, k) => k % 5),
      ),
    });
  });

  test("Max and Min between a half value, a float32 one and a constant", async () => {
    const m = graph([2, 16], (g, x) => {
      const h = dense(g, x, "w");
      const e = one(g, "Celu", [h]);
      const max = one(g, "Max", [h, e, g.initializer("low", f32([1], [-0.25]))]);
      return [dense(g, one(g, "Min", [max, g.initializer("high", f32([], [0.5])), e]), "v")];
    });
    const { model } = await convert(m);
    await close(m, model, { x: noise([2, 16]) });
    const { model: transformers } = await convert(m, { compat: "transformers" });
    await close(m, transformers, { x: noise([2, 16]) });
  });

  test("constants in nodes, of every spelling", async () => {
    const m = graph([2, 16], (g, x) => {
      const k = (attrs: Parameters<Graph["append"]>[2]) => one(g, "Constant", [], attrs);
      const sum = one(g, "Sum", [x, k({ attrs: { value_float: float(0.5) } }), k({ attrs: { value: noise([16]) } })]);
      const shape = one(g, "ConstantOfShape", [one(g, "Shape", [x])], { attrs: { value: f32([1], [0.125]) } });
      const zeros = one(g, "ConstantOfShape", [one(g, "Shape", [x])]);
      return [dense(g, one(g, "Sum", [sum, shape, zeros]), "w")];
    });
    const { model } = await convert(m);
    expect(casts(model)).toBe(2);
    await close(m, model, { x: noise([2, 16]) });
  });

  test("inputs that stay float32 by schema, and types in attributes", async () => {
    const m = graph([1, 2, 4, 4], (g, x) => {
      const r = one(g, "Resize", [x, null, g.initializer("scales", f32([4], [1, 1, 2, 2]))], { attrs: { mode: "linear" } });
      const c = one(g, "Conv", [r, g.initializer("k", noise([4, 2, 3, 3]))]);
      const n = g.append("LayerNormalization", [c, g.initializer("g", noise([6]))], { outputs: 3 });
      const noisy = one(g, "Mul", [one(g, "RandomUniformLike", [c], { attrs: { dtype: 1 } }), g.initializer("zero", f32([], [0]))]);
      const flat = one(g, "Reshape", [n.outputs[0]!, g.initializer("to", tensor("int64", [2], [24, 6]))]);
      const eye = one(g, "EyeLike", [flat], { attrs: { dtype: 1 } });
      const q = one(g, "Add", [
        one(g, "Mul", [flat, one(g, "Add", [eye, g.initializer("one", f32([], [1]))])]),
        one(g, "Reshape", [noisy, g.initializer("to2", tensor("int64", [2], [24, 6]))]),
      ]);
      return [q, one(g, "Add", [n.outputs[1]!, n.outputs[2]!])];
    });
    const { model } = await convert(m);
    expect(typesOf(model)).toMatchObject({ scales: "float32", k: "float16" });
    await close(m, model, { x: noise([1, 2, 4, 4]) }, 4e-3);
  });

  test("Range, quantized nodes and what has no 16 bits stay float32, with casts around and shared", async () => {
    const m = graph([2, 16], (g, x) => {
      const h = dense(g, x, "w");
      const q = g.append("DynamicQuantizeLinear", [h], { outputs: 3 });
      const d = one(g, "DequantizeLinear", [q.outputs[0]!, q.outputs[1]!, q.outputs[2]!]);
      const scale = g.initializer("scale", f32([], [0.02]));
      const zero = g.initializer("z", tensor("uint8", [], [128]));
      const s = one(g, "DequantizeLinear", [one(g, "QuantizeLinear", [h, scale, zero]), scale, zero]);
      const k = (v: number) => g.initializer(`k${v}`, f32([], [v]));
      const range = one(g, "Range", [k(0), k(16), k(1)]);
      return [dense(g, one(g, "Sum", [d, s, range]), "v")];
    });
    const { model } = await convert(m);
    expect(typesOf(model)).toMatchObject({ w: "float16", v: "float16", scale: "float32", k16: "float32" });
    await close(m, model, { x: noise([2, 16]) }, 2e-2);
  });

  test("an initializer that half and float32 nodes share: stored once, or twice where a Cast would be larger", async () => {
    const m = graph([2, 16], (g, x) => {
      const w = weights(g, "w", [16, 16]);
      const b = g.initializer("b", noise([16], 1, 2));
      const h = dense(g, one(g, "Add", [one(g, "MatMul", [x, w]), b]), "v");
      return [
        one(
          g,
          "Add",
          [h, one(g, "Celu", [w])].map((v, i) => (i ? one(g, "ReduceSum", [v]) : v)),
        ),
        one(g, "Celu", [b]),
      ];
    });
    const { model } = await convert(m);
    expect(typesOf(model)).toEqual({ w: "float16", v: "float16", b: "float32", "b/float16": "float16" });
    await close(m, model, { x: noise([2, 16]) });
  });

  test("weights of more than a few bytes are halved where their node stays float32 for want of a kernel, not where it is excluded", async () => {
    const m = graph([64, 64], (g, x) => [
      one(g, "Celu", [one(g, "Celu", [g.initializer("w", noise([64, 64]))])]),
      one(g, "MatMul", [x, g.initializer("v", noise([64, 64], 0.1))]),
    ]);
    expect(typesOf((await convert(m)).model)).toEqual({ w: "float16", v: "float16" });
    expect(typesOf((await convert(m, { exclude: "op:Celu,v" })).model)).toEqual({ w: "float32", v: "float32" });
  });

  test("4-bit weights: scales and activations in half, codes untouched", async () => {
    const m = graph([2, 32], (g, x) => {
      const h = one(g, "MatMul", [x, g.initializer("w", noise([32, 32], 0.2))]);
      const codes = tensor(
        "uint8",
        [3, 1, 16],
        Array.from({ length: 48 }, (_, k) => (k * 37) % 256),
      );
      return [
        one(g, "MatMulNBits", [h, g.initializer("codes", codes), g.initializer("scales", f32([3], [0.1, 0.2, 0.05]))], {
          domain: "com.microsoft",
          attrs: { K: 32, N: 3, bits: 4, block_size: 32 },
        }),
      ];
    });
    m.opsets.set("com.microsoft", 1);
    const { model } = await convert(m);
    expect(typesOf(model)).toEqual({ w: "float16", codes: "uint8", scales: "float16" });
    expect(casts(model)).toBe(2);
    await close(m, model, { x: noise([2, 32]) });
  });

  test("sequences are passed by", async () => {
    const m = graph([2, 16], (g, x) => {
      const h = dense(g, x, "w");
      const s = one(g, "SequenceConstruct", [h, one(g, "Relu", [h])]);
      const back = one(g, "SequenceAt", [s, g.initializer("i", tensor("int64", [], [1]))]);
      const all = one(g, "ConcatFromSequence", [s], { attrs: { axis: 0 } });
      back.type = { dtype: "float32", shape: [2, 16] };
      return [dense(g, back, "v"), one(g, "Celu", [all])];
    });
    const { model } = await convert(m);
    await close(m, model, { x: noise([2, 16]) });
  });

  test("what is an input and an output at once, an initializer that is an output, an output that others read", async () => {
    const m = graph([2, 16], (g, x) => {
      const h = dense(g, x, "w");
      return [x, [...g.initializers][0]!, h, one(g, "Relu", [h])];
    });
    const { model } = await convert(m);
    // x in; h out, whose other reader takes it as it goes out.
    expect(casts(model)).toBe(2);
    await close(m, model, { x: noise([2, 16]) });
  });

  test("inputs and outputs in half too", async () => {
    const m = graph([2, 16], (g, x) => [one(g, "Celu", [dense(g, x, "w")]), x]);
    const { model } = await convert(m, { keepIO: false });
    expect([...model.graph.inputs, ...model.graph.outputs].map((v) => v.type!.dtype)).toEqual(["float16", "float16", "float16"]);
    const x = tensor("float16", [2, 16], numbersOf(noise([2, 16])));
    const [want, got] = [await run(m, { x: tensor("float32", [2, 16], numbersOf(x)) }), await run(model, { x })];
    for (const [name, values] of Object.entries(want)) values.forEach((v, i) => expect(Math.abs(v - got[name]![i]!)).toBeLessThan(5e-3));
  });
});

function newSubgraph(g: Graph, name: string): Graph {
  return new Graph(name, g);
}
