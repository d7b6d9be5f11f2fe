import { describe, expect, test } from "vitest";
import { type Dataset, fromArrays } from "../../data/dataset.ts";
import { check } from "../../ir/check.ts";
import { cloneModel, float, Graph, type Model, type Node, newModel, type Value } from "../../ir/graph.ts";
import { allNodes } from "../../ir/walk.ts";
import { readModel } from "../../onnx/read.ts";
import { writeModel } from "../../onnx/write.ts";
import { contextOf } from "../../recipe/compress.ts";
import { open } from "../../runtime/session.ts";
import { random } from "../../tensor/random.ts";
import { integersOf, numbersOf, type Tensor, tensor } from "../../tensor/tensor.ts";
import { half } from "./half.ts";
import { int8 } from "./int8.ts";

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
const dataOf = (x: Tensor): Dataset => fromArrays({ x });

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
    const m = graph([2, 64], (g, x) => [one(g, "Softmax", [one(g, "Relu", [one(g, "MatMul", [x, g.initializer("w", noise([64, 64]))])])])]);
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

  test("Casts that have nothing to do with it stay, under their names", async () => {
    const m = graph([2, 16], (g, x) => {
      const wide = one(g, "Cast", [x], { name: "widen", attrs: { to: 11 } });
      return [
        one(g, "Celu", [
          one(g, "Cast", [one(g, "Cast", [wide], { name: "narrow", attrs: { to: 1 } })], { name: "idle", attrs: { to: 1 } }),
        ]),
      ];
    });
    const { model } = await convert(m);
    expect(ops(model, "Cast").map((n) => n.name)).toEqual(["widen", "narrow", "idle"]);
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
    for (const [name, values] of Object.entries(want)) {
      values.forEach((v, i) => {
        expect(Math.abs(v - got[name]![i]!)).toBeLessThan(5e-3);
      });
    }
  });
});

function newSubgraph(g: Graph, name: string): Graph {
  return new Graph(name, g);
}

describe("subgraphs", () => {
  const large = (g: Graph, x: Value, name: string) => one(g, "MatMul", [x, g.initializer(name, noise([16, 16], 0.3))]);

  test("an If whose branches compute, take a constant, take an outer value, and stay float32", async () => {
    for (const taken of [1, -1]) {
      const m = graph([2, 16], (g, x) => {
        const h = large(g, x, "w");
        const cond = one(g, "Greater", [one(g, "ReduceMax", [x], { attrs: { keepdims: 0 } }), g.initializer("k", f32([], [taken * 100]))]);
        const a = new Graph("a", g);
        a.addOutput(large(a, h, "u"));
        a.addOutput(one(a, "Constant", [], { attrs: { value: noise([2, 16]) } }));
        a.addOutput(one(a, "Celu", [h]));
        const b = new Graph("b", g);
        b.addOutput(one(b, "Celu", [one(b, "Identity", [h])]));
        b.addOutput(one(b, "Identity", [h]));
        b.addOutput(one(b, "Celu", [one(b, "Celu", [h])]));
        const n = g.append("If", [cond], { attrs: { then_branch: a, else_branch: b }, outputs: 3 });
        return [large(g, n.outputs[0]!, "v"), large(g, n.outputs[1]!, "v2"), n.outputs[2]!];
      });
      const { model } = await convert(m);
      for (const n of ops(model, "MatMul")) expect(n.inputs[1]!.data!.dtype).toBe("float16");
      await close(m, model, { x: noise([2, 16]) }, 4e-3);
    }
  });

  test("a Loop's carried and collected values agree inside, outside and round", async () => {
    for (const blocked of ["", "op:MatMul", "op:Loop"]) {
      const m = graph([2, 16], (g, x) => {
        const body = new Graph("body", g);
        body.input("i", "int64", []);
        const go = body.input("go", "bool", []);
        const s = body.input("s", "float32", [2, 16]);
        const t = one(body, "Tanh", [one(body, "Add", [large(body, s, "inner"), x])]);
        body.addOutput(one(body, "Identity", [go]));
        body.addOutput(t);
        body.addOutput(one(body, "Celu", [t]));
        const n = g.append(
          "Loop",
          [g.initializer("n", tensor("int64", [], [3])), g.initializer("yes", tensor("bool", [], [1])), large(g, x, "w")],
          { attrs: { body }, outputs: 2 },
        );
        return [large(g, n.outputs[0]!, "v"), n.outputs[1]!];
      });
      const { model } = await convert(m, { exclude: blocked });
      await close(m, model, { x: noise([2, 16]) }, 4e-3);
    }
  });

  test("a Scan's states and slices too", async () => {
    const m = graph([5, 16], (g, x) => {
      const body = new Graph("body", g);
      const s = body.input("s", "float32", [16]);
      const e = body.input("e", "float32", [16]);
      const t = one(body, "Add", [one(body, "Mul", [s, body.initializer("decay", noise([16], 0.5))]), e]);
      body.addOutput(t);
      body.addOutput(one(body, "Tanh", [t]));
      const n = g.append("Scan", [g.initializer("zero", f32([16], new Array(16).fill(0))), large(g, x, "w")], {
        attrs: { body, num_scan_inputs: 1 },
        outputs: 2,
      });
      return [large(g, n.outputs[1]!, "v"), n.outputs[0]!];
    });
    const { model } = await convert(m);
    await close(m, model, { x: noise([5, 16]) }, 4e-3);
    const { model: blocked } = await convert(m, { exclude: "op:Scan" });
    await close(m, blocked, { x: noise([5, 16]) }, 4e-3);
  });

  test("an If in a Loop, reading what lies two graphs out", async () => {
    const m = graph([2, 16], (g, x) => {
      const h = large(g, x, "w");
      const body = new Graph("body", g);
      const i = body.input("i", "int64", []);
      const go = body.input("go", "bool", []);
      const s = body.input("s", "float32", [2, 16]);
      const branch = (name: string, op: string) => {
        const b = new Graph(name, body);
        b.addOutput(one(b, op, [one(b, "Add", [s, h])]));
        return b;
      };
      const odd = one(body, "Equal", [i, body.initializer("one", tensor("int64", [], [1]))]);
      const r = one(body, "If", [odd], { attrs: { then_branch: branch("a", "Tanh"), else_branch: branch("b", "Celu") } });
      body.addOutput(one(body, "Identity", [go]));
      body.addOutput(r);
      const n = g.append("Loop", [g.initializer("n", tensor("int64", [], [3])), g.initializer("yes", tensor("bool", [], [1])), x], {
        attrs: { body },
      });
      return [large(g, n.outputs[0]!, "v")];
    });
    const { model } = await convert(m);
    await close(m, model, { x: noise([2, 16]) }, 4e-3);
  });
});

describe("ranges", () => {
  const net = (middle: (g: Graph, h: Value) => Value) => graph([2, 16], (g, x) => [dense(g, middle(g, dense(g, x, "w")), "v")]);
  const k = (g: Graph, name: string, v: number) => g.initializer(name, f32([], [v]));
  const x = noise([2, 16]);
  const data = dataOf(x);

  test("what passes 65504 on the data stays float32, and is named, also where the infinity would be absorbed", async () => {
    const cases: Record<string, (g: Graph, h: Value) => Value> = {
      exp: (g, h) => one(g, "Reciprocal", [one(g, "Add", [one(g, "Exp", [one(g, "Mul", [h, k(g, "k", 20)])]), k(g, "one", 1)])]),
      clip: (g, h) => one(g, "Clip", [one(g, "Mul", [h, k(g, "k", 60000)]), k(g, "low", -1), k(g, "high", 1)]),
      softmax: (g, h) => one(g, "Softmax", [one(g, "Mul", [h, k(g, "k", 60000)])]),
      power: (g, h) => one(g, "Sqrt", [one(g, "Pow", [one(g, "Mul", [h, k(g, "k", 300)]), k(g, "two", 2)])]),
    };
    for (const [name, middle] of Object.entries(cases)) {
      const m = net(middle);
      const { model, notes } = await convert(m, {}, data);
      expect(notes.join("\n"), name).toMatch(/stay float32: .*\(\d[\d.e+]*\).*: passes 65504 on the data/);
      expect(typesOf(model)).toMatchObject({ w: "float16", v: "float16" });
      await close(m, model, { x }, 5e-3);
      expect(notes.join("\n")).toMatch(/relative error of the outputs on 2 examples: \S+ 0\.\d+ %/);
    }
  });

  test("sums inside a mean pass it unseen (onnxconverter-common#323)", async () => {
    const m = net((g, h) => {
      const big = one(g, "Add", [one(g, "Abs", [h]), k(g, "k", 9000)]);
      return one(g, "Sub", [one(g, "ReduceMean", [big], { attrs: { axes: [1] } }), big]);
    });
    const { model, notes } = await convert(m, {}, data);
    expect(notes.join("\n")).toMatch(/stay float32: ReduceMean \(144000\): sums magnitudes beyond 65504 on the data/);
    await close(m, model, { x }, 2e-2);
  });

  test("without data that is said; with none looked at, the node that breaks is named afterwards", async () => {
    // The runtime's CPU hides most infinities, for it computes in float32 between casts; not this one.
    const m = newModel("m", 17, 8);
    const ids = m.graph.input("x", "int64", [2, 16]);
    const wide = one(m.graph, "Cast", [ids], { name: "widen", attrs: { to: 1 } });
    const y = dense(m.graph, one(m.graph, "Concat", [wide], { name: "pass", attrs: { axis: 0 } }), "w");
    y.type = { dtype: "float32", shape: [2, 16] };
    m.graph.addOutput(y);
    const large = dataOf(tensor("int64", [2, 16], new Array(32).fill(70000)));
    expect((await convert(m)).notes.join("\n")).toMatch(/no data was looked at for values beyond 65504/);
    expect((await convert(m, { scan: 0 }, large)).notes.join("\n")).toMatch(
      /holds 32 infinities or NaN where the original has numbers; the first to give one is Cast "widen", where float32 goes up to 70000/,
    );
    const { model, notes } = await convert(m, {}, large);
    expect(notes.join("\n")).toMatch(/stay float32: widen \(70000\), pass \(70000\), mm_w \(70000\): passes 65504 on the data/);
    await close(m, model, { x: large.take([0, 1]).x! });
  });

  test("constants: numbers beyond the range and epsilons that would vanish stay; masks and bounds are saturated", async () => {
    const mask = (g: Graph, h: Value, low: number) => {
      const bits = g.initializer(
        "mask",
        f32(
          [16],
          Array.from({ length: 16 }, (_, i) => (i < 9 ? 1 : 0)),
        ),
      );
      return one(g, "Softmax", [one(g, "Add", [h, one(g, "Mul", [one(g, "Sub", [k(g, "one", 1), bits]), k(g, "low", low)])])]);
    };
    for (const low of [-1e9, -3.4028234663852886e38]) {
      const m = net((g, h) => mask(g, h, low));
      const { model, notes } = await convert(m, {}, data);
      expect(notes.join("\n")).toMatch(/became ±16376: low/);
      expect(numbersOf([...model.graph.initializers].find((v) => v.name === "low")!.data!)[0]).toBe(-16376);
      expect(casts(model)).toBe(2);
      await close(m, model, { x });
    }
    const chosen = net((g, h) =>
      one(g, "Softmax", [
        one(g, "Where", [
          g.initializer(
            "c",
            tensor(
              "bool",
              [16],
              Array.from({ length: 16 }, (_, i) => i % 2),
            ),
          ),
          h,
          k(g, "low", -3.4e38),
        ]),
      ]),
    );
    expect((await convert(chosen)).notes.join("\n")).toMatch(/became ±65504: low/);
    await close(chosen, (await convert(chosen)).model, { x });

    const bounded = net((g, h) => one(g, "Softmax", [one(g, "Max", [h, k(g, "low", -3.4028234663852886e38)])]));
    expect((await convert(bounded)).notes.join("\n")).toMatch(/became ±65504: low/);
    const fused = graph([1, 2, 16], (g, x) => {
      const bias = g.initializer("low", f32([1, 1, 2, 2], [0, -1e9, 0, 0]));
      return [
        one(g, "MultiHeadAttention", [dense(g, x, "w"), x, x, null, null, bias], { domain: "com.microsoft", attrs: { num_heads: 2 } }),
      ];
    });
    fused.opsets.set("com.microsoft", 1);
    expect((await convert(fused)).notes.join("\n")).toMatch(/became ±16376: low/);
    await close(fused, (await convert(fused)).model, { x: noise([1, 2, 16]) });

    const clip = net((g, h) => one(g, "Clip", [h, k(g, "low", 0), k(g, "high", 3.4e38)]));
    expect((await convert(clip)).notes.join("\n")).toMatch(/became ±65504: high/);
    await close(clip, (await convert(clip)).model, { x });

    const number = net((g, h) => one(g, "Div", [one(g, "Mul", [h, k(g, "a", 1e9)], { name: "up" }), k(g, "b", 2e9)], { name: "down" }));
    const kept = await convert(number);
    expect(kept.notes.join("\n")).toMatch(
      /stay float32: up \("a", 1000000000\), down \("b", 2000000000\): reads a constant beyond the range/,
    );
    expect(casts(kept.model)).toBe(4);
    await close(number, kept.model, { x });
    expect((await convert(number, { outOfRange: "clamp" })).notes.join("\n")).toMatch(/"a": 1 elements clamped to ±65504/);

    const epsilon = net((g, h) =>
      one(g, "Div", [h, one(g, "Sqrt", [one(g, "Add", [one(g, "Mul", [h, k(g, "zero", 0)]), k(g, "eps", 1e-12)], { name: "guard" })])]),
    );
    const guarded = await convert(epsilon);
    expect(guarded.notes.join("\n")).toMatch(/guard \("eps"\): reads a constant that would become 0/);
    await close(epsilon, guarded.model, { x });
  });

  test("a mask that a ConstantOfShape fills is one too", async () => {
    const m = net((g, h) => {
      const full = one(g, "ConstantOfShape", [g.initializer("shape", tensor("int64", [2], [2, 16]))], {
        attrs: { value: f32([1], [-1e9]) },
      });
      return one(g, "Softmax", [one(g, "Add", [h, one(g, "Trilu", [full, g.initializer("above", tensor("int64", [], [1]))])])]);
    });
    const { model, notes } = await convert(m, {}, data);
    expect(notes.join("\n")).toMatch(/became ±16376: ConstantOfShape_out/);
    expect(notes.join("\n")).not.toMatch(/stay float32/);
    expect(casts(model)).toBe(2);
    await close(m, model, { x });
  });

  test("a row that is masked whole, by two masks, still gives numbers", async () => {
    const m = net((g, h) => {
      const off = (name: string) => g.initializer(name, f32([16], new Array(16).fill(-1e9)));
      return one(g, "Softmax", [one(g, "Add", [one(g, "Add", [one(g, "Mul", [h, k(g, "k", 40)]), off("padding")]), off("causal")])]);
    });
    const { model } = await convert(m);
    for (const y of Object.values(await run(model, { x })).flat()) expect(Number.isFinite(y)).toBe(true);
  });

  test("a float mask among the inputs passes the range: what reads it stays float32", async () => {
    const m = newModel("m", 17, 8);
    const g = m.graph;
    const a = g.input("x", "float32", ["n", 16]);
    const bias = g.input("bias", "float32", ["n", 16]);
    const y = one(g, "MatMul", [one(g, "Softmax", [one(g, "Add", [dense(g, a, "w"), bias])]), weights(g, "v", [16, 16])]);
    y.type = { dtype: "float32", shape: ["n", 16] };
    g.addOutput(y);
    const feeds = {
      x,
      bias: f32(
        [2, 16],
        Array.from({ length: 32 }, (_, i) => (i % 3 ? 0 : -1e9)),
      ),
    };
    const { model, notes } = await convert(m, {}, fromArrays(feeds));
    expect(notes.join("\n")).toMatch(/stay float32: .*\(1000000000\)/);
    await close(m, model, feeds);
  });

  test("weights that become 0 are counted, those beyond the range keep their node", async () => {
    const tiny = noise([16, 16], 1);
    const values = numbersOf(tiny).map((v, i) => (i < 64 ? Math.sign(v) * 1e-9 : v));
    const m = graph([2, 16], (g, x) => [
      one(
        g,
        "MatMul",
        [
          one(g, "MatMul", [x, g.initializer("t", f32([16, 16], [...values]))]),
          g.initializer(
            "big",
            f32(
              [16, 16],
              [...values].map((v, i) => (i === 100 ? 70000 : v)),
            ),
          ),
        ],
        { name: "last" },
      ),
    ]);
    const { notes, model } = await convert(m);
    expect(notes.join("\n")).toMatch(/64 of 256 non-zero weights become 0 \(25 %\)/);
    expect(notes.join("\n")).toMatch(/stay float32: last \("big", 70000\)/);
    expect(typesOf(model)).toEqual({ t: "float16", big: "float32" });
  });
});

describe("positions and sizes", () => {
  test("shape arithmetic in floats and angles stay exact", async () => {
    const model = newModel("m", 17, 8);
    const g = model.graph;
    const ids = g.input("x", "int64", [1, 4]);
    const position = one(g, "Cast", [ids], { attrs: { to: 1 } });
    const angle = one(g, "Mul", [
      one(g, "Unsqueeze", [position, g.initializer("a", tensor("int64", [1], [2]))]),
      g.initializer(
        "freq",
        f32(
          [8],
          Array.from({ length: 8 }, (_, i) => 10 ** -i),
        ),
      ),
    ]);
    const both = one(g, "Concat", [one(g, "Sin", [angle]), one(g, "Cos", [angle])], { attrs: { axis: -1 } });
    const back = one(g, "Cast", [one(g, "Mul", [position, g.initializer("two", f32([], [2]))])], { attrs: { to: 7 } });
    const y = dense(g, both, "w");
    y.type = { dtype: "float32", shape: [1, 4, 16] };
    back.type = { dtype: "int64", shape: [1, 4] };
    g.addOutput(y);
    g.addOutput(back);
    const { model: out, notes } = await convert(model);
    expect(notes.join("\n")).toMatch(/: counts positions or sizes, exact in 16 bits only up to 2048/);
    expect(typesOf(out)).toMatchObject({ w: "float16", freq: "float32" });
    await close(model, out, { x: tensor("int64", [1, 4], [5, 2049, 30001, 100003]) });
  });

  test("a Range of floats under an angle too", async () => {
    const m = graph([3000, 16], (g, x) => {
      const k = (name: string, v: number) => g.initializer(name, f32([], [v]));
      const steps = one(g, "Range", [k("from", 0), k("to", 3000), k("by", 1)]);
      const column = one(g, "Unsqueeze", [steps, g.initializer("axes", tensor("int64", [1], [1]))]);
      const angles = one(g, "Mul", [
        column,
        g.initializer(
          "freq",
          f32(
            [16],
            Array.from({ length: 16 }, (_, i) => 1 / (i + 1)),
          ),
        ),
      ]);
      return [dense(g, one(g, "Add", [one(g, "Sin", [angles]), x]), "w")];
    });
    const { model, notes } = await convert(m);
    expect(notes.join("\n")).toMatch(/Mul, Sin: counts positions/);
    expect(typesOf(model)).toMatchObject({ w: "float16", freq: "float32" });
    await close(m, model, { x: noise([3000, 16]) });
  });
});

describe("bfloat16", () => {
  test("is storage by default: a Cast behind each weight, numbers of 8 bits", async () => {
    const m = graph(
      [2, 96],
      (g, x) => [one(g, "Add", [one(g, "MatMul", [x, g.initializer("w", noise([96, 96], 0.1))]), g.initializer("b", noise([96]))])],
      9,
    );
    const { model, notes } = await convert(m, { dtype: "bfloat16" }, dataOf(noise([2, 96])));
    expect(model.opsets.get("")).toBe(13);
    expect(typesOf(model)).toEqual({ w: "bfloat16", b: "bfloat16" });
    expect(casts(model)).toBe(2);
    expect(writeModel(model).length).toBeLessThan(0.53 * writeModel(m).length);
    expect(notes.join("\n")).toMatch(/2 weights stored in bfloat16, computed in float32/);
    await close(m, model, { x: noise([2, 96]) }, 1e-2);
  });

  test("computed in, it is for other runtimes: this one says that it cannot", async () => {
    const m = graph([2, 96], (g, x) => [one(g, "MatMul", [x, g.initializer("w", noise([96, 96], 0.1))])], 13);
    const { model, notes } = await convert(m, { dtype: "bfloat16", compute: "half" }, dataOf(noise([2, 96])));
    expect(notes.join("\n")).toMatch(/not verified, for this runtime does not run it/);
    expect(ops(model, "Cast").map((n) => n.int("to"))).toEqual([16, 1]);
    await expect(convert(m, { dtype: "bfloat16", keepIO: false })).rejects.toThrow(/passes no bfloat16/);
  });

  test("float16 can be storage too, and a tensor beyond its range is left", async () => {
    const m = graph([2, 16], (g, x) => [
      one(g, "MatMul", [one(g, "MatMul", [x, g.initializer("w", noise([16, 16]))]), g.initializer("big", noise([16, 16], 1e5))]),
    ]);
    const { model, notes } = await convert(m, { compute: "float32" });
    expect(typesOf(model)).toEqual({ w: "float16", big: "float32" });
    expect(notes.join("\n")).toMatch(/stay float32: "big" \(\d+\): beyond the range/);
    expect(typesOf((await convert(m, { compute: "float32", outOfRange: "clamp" })).model)).toEqual({ w: "float16", big: "float16" });
    await close(m, model, { x: noise([2, 16]) });
  });
});

test("compat=transformers bounds weights as that converter does, and keeps its ops in float32", async () => {
  const m = graph([2, 16], (g, x) => {
    const w = f32(
      [16, 16],
      Array.from({ length: 256 }, (_, i) => (i === 0 ? 5e4 : i === 1 ? -5e4 : i === 2 ? 1e-9 : i === 3 ? -1e-9 : i === 4 ? 0 : 0.01)),
    );
    return [dense(g, one(g, "Min", [one(g, "MatMul", [x, g.initializer("w", w)]), g.initializer("k", f32([], [100]))]), "v")];
  });
  const { model } = await convert(m, { compat: "transformers" });
  const w = [...model.graph.initializers].find((v) => v.name === "w")!.data!;
  const tiny = numbersOf(tensor("float16", [1], [1e-7]))[0]!;
  expect([...numbersOf(w).slice(0, 6)]).toEqual([1e4, -1e4, tiny, -tiny, 0, numbersOf(tensor("float16", [1], [0.01]))[0]]);
  expect(typesOf(model)).toMatchObject({ k: "float32" });
  expect(casts(model)).toBe(4);
});

test.each([7, 8])("opset %i, of a time when every initializer was an input", async (opset) => {
  const m = graph(
    [2, 64],
    (g, x) => [
      one(g, "Mul", [one(g, "MatMul", [x, g.initializer("w", noise([64, 64]))]), g.initializer("k", f32([1], [30000]))], { name: "up" }),
    ],
    opset,
  );
  m.irVersion = 3;
  m.graph.inputs.push(...m.graph.initializers);
  const { model, notes } = await convert(m, {}, dataOf(noise([2, 64])));
  expect([model.opsets.get(""), model.irVersion, model.graph.inputs.map((v) => v.name)]).toEqual([opset, 4, ["x"]]);
  expect(notes.join("\n")).toMatch(/stay float32: up \(\d+\): passes 65504 on the data/);
  await close(m, model, { x: noise([2, 64]) });
});

test.each([9, 10, 11, 12, 13, 15, 17, 18, 19, 20, 21])("opset %i", async (opset) => {
  const m = graph(
    [2, 3, 8, 8],
    (g, x) => {
      const c = one(g, "Conv", [x, g.initializer("k", noise([8, 3, 3, 3], 0.3)), g.initializer("b", noise([8]))]);
      const bn = one(g, "BatchNormalization", [
        c,
        ...["s", "t", "m"].map((name, i) => g.initializer(name, noise([8], 0.5, i))),
        g.initializer("v", f32([8], new Array(8).fill(0.7))),
      ]);
      const p = one(g, "MaxPool", [one(g, "LeakyRelu", [bn])], { attrs: { kernel_shape: [2, 2], strides: [2, 2] } });
      const flat = one(g, "Flatten", [one(g, "Concat", [p, one(g, "Sigmoid", [p])], { attrs: { axis: 1 } })]);
      const y = one(g, "Gemm", [flat, g.initializer("w", noise([10, 144], 0.1)), g.initializer("c", noise([10]))], {
        attrs: { transB: 1 },
      });
      return [one(g, "Softmax", [y], { attrs: { axis: 1 } }), one(g, "ArgMax", [y], { attrs: { axis: 1 } })].map((v, i) => {
        if (i) v.type = { dtype: "int64", shape: null };
        return v;
      });
    },
    opset,
  );
  const { model } = await convert(m, {}, dataOf(noise([2, 3, 8, 8])));
  expect(model.opsets.get("")).toBe(opset);
  expect(casts(model)).toBe(2);
  await close(m, model, { x: noise([2, 3, 8, 8]) });
});

describe("models that are in fewer bits already", () => {
  test("converting twice is converting once", async () => {
    const m = graph([2, 96], (g, x) => [one(g, "Softmax", [one(g, "MatMul", [x, g.initializer("w", noise([96, 96], 0.1))])])]);
    const once = (await convert(m)).model;
    const { model: twice, notes } = await convert(once);
    expect(writeModel(twice).length).toBe(writeModel(once).length);
    expect(notes.join("\n")).toMatch(/nothing was/);
  });

  test("static int8 layers keep their floats between, so that they still fuse", async () => {
    const m = graph([2, 16], (g, x) => [dense(g, one(g, "Relu", [dense(g, x, "w")]), "v")]);
    const small = cloneModel(m);
    await int8({ mode: "static", smallest: 0 }).apply(small, contextOf(m, { calibration: dataOf(noise([2, 16])), threads: 1 }));
    const { model } = await convert(small);
    expect(casts(model)).toBe(0);
    await close(small, model, { x: noise([2, 16]) });
  });

  test("the sums of dynamic int8 layers are scaled in float32: they pass 65504", async () => {
    const m = graph([2, 512], (g, x) => {
      const h = one(g, "Relu", [one(g, "MatMul", [x, g.initializer("w", noise([512, 512], 0.1))])]);
      return [
        one(g, "MatMul", [one(g, "MatMul", [h, g.initializer("u", noise([512, 512], 0.1))]), g.initializer("v", noise([512, 16], 0.1))]),
      ];
    });
    const small = cloneModel(m);
    await int8({ exclude: "u" }).apply(small, contextOf(m, { threads: 1 }));
    const { model, notes } = await convert(small);
    expect(notes.join("\n")).toMatch(/: part of a layer in integers/);
    expect(typesOf(model)).toMatchObject({ u: "float16" });
    await close(small, model, { x: noise([2, 512], 20) }, 2e-2);
  });

  test("weights that are stored in bfloat16 already become float16 at once", async () => {
    const m = graph([2, 96], (g, x) => [
      one(g, "MatMul", [one(g, "MatMul", [x, g.initializer("w", noise([96, 96], 0.1))]), g.initializer("v", noise([96, 96], 0.1))]),
    ]);
    const { model } = await convert((await convert(m, { dtype: "bfloat16" })).model);
    expect(
      ops(model, "Cast")
        .map((n) => n.int("to"))
        .sort(),
    ).toEqual([1, 10, 10, 10]);
    await close(m, model, { x: noise([2, 96]) }, 1e-2);
  });

  test("weights in blocks of 4 bits: scales in half at opset 21, so that no Cast stands before the layer", async () => {
    const m = graph(
      [2, 32],
      (g, x) => {
        const codes = g.initializer(
          "codes",
          tensor(
            "int4",
            [32, 8],
            Array.from({ length: 256 }, (_, i) => ((i * 7) % 16) - 8),
          ),
        );
        const w = one(g, "DequantizeLinear", [codes, g.initializer("scales", noise([2, 8], 0.1))], { attrs: { block_size: 16, axis: 0 } });
        return [one(g, "Relu", [one(g, "MatMul", [one(g, "MatMul", [x, g.initializer("v", noise([32, 32], 0.2))]), w])])];
      },
      21,
    );
    m.irVersion = 10;
    const { model } = await convert(m);
    expect(typesOf(model)).toEqual({ codes: "int4", scales: "float16", v: "float16" });
    expect(casts(model)).toBe(2);
    // In Node the float32 one is fused into a layer that sums in int8.
    await close(m, model, { x: noise([2, 32]) }, 2e-2);
  });

  test("an input with a default becomes a constant, and that is said", async () => {
    const m = graph([2, 96], (g, x) => {
      const w = g.initializer("w", noise([96, 96], 0.1));
      g.inputs.push(w);
      return [one(g, "MatMul", [x, w])];
    });
    const { model, notes } = await convert(m);
    expect(model.graph.inputs.map((v) => v.name)).toEqual(["x"]);
    expect(notes.join("\n")).toMatch(/were inputs with a default and are constants now: w/);
  });
});
