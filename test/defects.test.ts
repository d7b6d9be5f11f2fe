/** What other quantizers got wrong when their own code was run: each a small model that this one gets right. */
import { describe, expect, test } from "vitest";
import {
  check,
  compress,
  type Dataset,
  fromArrays,
  half,
  int8,
  type Model,
  numbersOf,
  open,
  random,
  readModel,
  type Step,
  type Tensor,
  tensor,
  type Value,
  weightOnly,
  writeModel,
} from "../src/index.ts";
import { type AppendOptions, type Graph, newModel } from "../src/ir/graph.ts";
import { allNodes } from "../src/ir/walk.ts";

const noise = (shape: readonly number[], scale = 1, seed = 0) =>
  tensor("float32", shape, random(seed, "defects").fillNormal(new Float32Array(shape.reduce((a, d) => a * d, 1)), scale));
const f32 = (shape: readonly number[], values: readonly number[]) => tensor("float32", shape, values);

type Op = (op: string, inputs: readonly (Value | null)[], attrs?: AppendOptions["attrs"]) => Value;

/** A model from "x" to one output. */
function model(shape: readonly (number | string)[], body: (op: Op, g: Graph, x: Value) => Value, opset = 17): Model {
  const m = newModel("m", opset, 8);
  const x = m.graph.input("x", "float32", shape);
  const y = body((op, inputs, attrs = {}) => m.graph.append(op, inputs, { attrs }).outputs[0]!, m.graph, x);
  y.type = { dtype: "float32", shape: null };
  m.graph.addOutput(y);
  return readModel(writeModel(m));
}

async function run(m: Model, x: Tensor): Promise<Float32Array | Float64Array> {
  const session = await open(m, { threads: 1 });
  try {
    return numbersOf(Object.values(await session.run({ x }))[0]!);
  } finally {
    await session.release();
  }
}

/** Applies a step; the result, which the runtime takes, its relative error on `x`, and what was said. */
async function applied(m: Model, step: Step, x: Tensor, calibration: Dataset | null = fromArrays({ x })) {
  const { model: raw, run: record } = await compress(m, [step], { calibration, measure: null, threads: 1 });
  check(raw);
  const out = readModel(writeModel(raw));
  const [want, got] = [await run(m, x), await run(out, x)];
  let [wrong, all] = [0, 0];
  want.forEach((v, i) => {
    wrong += (v - got[i]!) ** 2;
    all += v * v;
  });
  return { out, error: Math.sqrt(wrong / all), notes: record.steps[0]!.notes.join("\n") };
}

const ops = (m: Model, name: string) => [...allNodes(m.graph)].filter((n) => n.opType === name);
const stored = (m: Model) => [...m.graph.initializers].filter((v) => v.data!.data.byteLength > 512).map((v) => v.data!.dtype);

/** Inputs of a few directions and some noise, with columns of very different size: as activations are. */
function activations(n: number, columns: number, seed: number): Tensor {
  const mix = numbersOf(noise([8, columns], 1, 1));
  const base = numbersOf(noise([n, 8], 1, seed));
  const own = numbersOf(noise([n, columns], 0.3, seed + 1));
  const values = Float32Array.from(own, (v, i) => {
    const [r, c] = [Math.floor(i / columns), i % columns];
    let sum = v;
    for (let k = 0; k < 8; k++) sum += base[r * 8 + k]! * mix[k * columns + c]!;
    return (c % 16 === 3 ? 6 : 1) * sum;
  });
  return tensor("float32", [n, columns], values);
}

describe("1 and 2: codes by algorithms", () => {
  // The first layer reads the graph's input, and so do others: nothing before it can take a scale.
  const m = model(["n", 64], (op, g, x) => {
    const h = op("Relu", [op("MatMul", [x, g.initializer("a", noise([64, 96], 0.2))])]);
    return op("Add", [op("MatMul", [h, g.initializer("b", noise([96, 64], 0.2, 1))]), x]);
  });
  const codes = (out: Model) =>
    [...out.graph.initializers]
      .filter((v) => v.data!.dtype === "uint8" && v.data!.data.byteLength > 512)
      .map((v) => Buffer.from(v.data!.data as Uint8Array));

  test.each([
    "gptq",
    "awq",
    "hqq",
    "adaround",
  ] as const)("%s gives other codes than rounding to nearest, and no larger error on data it has not seen", async (algorithm) => {
    const calibration = fromArrays({ x: activations(256, 64, 10) });
    const [x, options] = [activations(64, 64, 90), { type: "int3", maxError: 10 } as const];
    const nearest = await applied(m, weightOnly(options), x, calibration);
    const better = await applied(m, weightOnly({ ...options, algorithm }), x, calibration);
    expect(codes(better.out).length).toBe(2);
    // AWQ is kept only where it helps: at least one layer differs.
    expect(
      codes(better.out).some((c, i) => !c.equals(codes(nearest.out)[i]!)),
      better.notes,
    ).toBe(true);
    expect(better.error, better.notes).toBeLessThan(algorithm === "gptq" ? 0.9 * nearest.error : 1.02 * nearest.error);
  });
});

describe("3: calibration", () => {
  const m = model(["n", "t", 16], (op, g, x) =>
    op("MatMul", [op("Relu", [op("MatMul", [x, g.initializer("a", noise([16, 64], 0.3))])]), g.initializer("b", noise([64, 16], 0.3, 1))]),
  );

  test("entropy and percentile are not min-max under another name, and take inputs of any length", async () => {
    const bytes = new Map<string, string>();
    const errors: number[] = [];
    // One example in three has an element far outside.
    const examples = [3, 7, 1, 12, 5, 9]
      .map((t, i) => noise([1, t, 16], 1, i))
      .map((x, i) =>
        i % 3
          ? x
          : f32(
              x.shape,
              [...numbersOf(x)].map((v, k) => (k === 2 ? 30 : v)),
            ),
      );
    const data: Dataset = { length: examples.length, names: ["x"], stackable: false, take: (at) => ({ x: examples[at[0]!]! }) };
    for (const calibration of ["minmax", "entropy", "percentile"] as const) {
      const { out, error } = await applied(
        m,
        int8({ mode: "static", calibration, percentile: 99.5, maxError: 10 }),
        noise([2, 6, 16], 1, 20),
        data,
      );
      bytes.set(calibration, Buffer.from(writeModel(out)).toString("base64"));
      errors.push(error);
    }
    // Zeros behind the Relu do not count for the entropy: they lose nothing in any range.
    for (const e of errors) expect(e).toBeLessThan(0.08);
    expect(new Set(bytes.values()).size).toBe(3);
  });
});

describe("4: opsets", () => {
  const old = (opset: number) =>
    model(
      [2, 96],
      (op, g, x) => {
        const h = op("Relu", [op("MatMul", [x, g.initializer("a", noise([96, 96], 0.1))])]);
        return op("MatMul", [
          op("Sub", [h, op("ReduceMean", [h], { axes: [1], keepdims: 1 })]),
          g.initializer("b", noise([96, 32], 0.1, 1)),
        ]);
      },
      opset,
    );

  test.each([
    9, 11, 12, 13, 17,
  ])("per channel in 8 bits and blocks of 4 from opset %i: what changed its form is rewritten, the runtime takes it", async (opset) => {
    const x = noise([2, 96]);
    const eight = await applied(old(opset), int8({ mode: "static", smallest: 0 }), x);
    expect(eight.out.opsets.get("")).toBe(Math.max(13, opset));
    expect(ops(eight.out, "DequantizeLinear").length).toBeGreaterThan(0);
    expect(eight.error).toBeLessThan(0.03);
    const four = await applied(old(opset), weightOnly({ type: "int4", format: "dq" }), x);
    expect(four.out.opsets.get("")).toBe(21);
    expect(ops(four.out, "ReduceMean")[0]!.attrs.has("axes")).toBe(false);
    expect(four.error).toBeLessThan(0.2);
  });
});

describe("5: weights in Constant nodes", () => {
  const m = model([2, 64], (op, _, x) =>
    op("MatMul", [
      op("Gemm", [x, op("Constant", [], { value: noise([64, 64], 0.1) })]),
      op("Constant", [], { value: noise([64, 32], 0.1, 1) }),
    ]),
  );
  test.each([
    ["int8", int8(), ["int8", "int8"]],
    ["weightOnly", weightOnly(), ["uint8", "uint8"]],
    ["half", half(), ["float16", "float16"]],
  ] as const)("%s finds them", async (_, step, types) => {
    const { out, error } = await applied(m, step, noise([2, 64]));
    expect(stored(out).filter((t) => t === types[0])).toEqual(types);
    expect(stored(out)).not.toContain("float32");
    expect(error).toBeLessThan(0.2);
  });
});

describe("6: odd shapes", () => {
  const m = model([3, 257], (op, g, x) => {
    const h = op("MatMul", [x, g.initializer("a", noise([257, 33], 0.1))]);
    return op("Gemm", [op("Relu", [h]), g.initializer("b", noise([33, 7], 0.3, 1)), g.initializer("c", noise([1, 7], 1, 2))]);
  });
  test.each([
    ["int8", int8({ smallest: 0 })],
    ["static int8", int8({ mode: "static", smallest: 0 })],
    ["tensorrt", int8({ mode: "static", target: "tensorrt", smallest: 0 })],
    ["4 bits", weightOnly({ smallest: 0 })],
    ["4 bits as DequantizeLinear", weightOnly({ smallest: 0, format: "dq" })],
    ["2 bits, zero points", weightOnly({ smallest: 0, type: "int2", symmetric: false, maxError: 1 })],
    ["nf4", weightOnly({ smallest: 0, type: "nf4" })],
    ["GPTQ", weightOnly({ smallest: 0, algorithm: "gptq" })],
    ["AWQ", weightOnly({ smallest: 0, algorithm: "awq" })],
    ["half", half()],
  ] as const)("257 rows, a bias of [1, 7]: %s", async (name, step) => {
    const { error, notes } = await applied(m, step, noise([3, 257]));
    expect(error, notes).toBeLessThan(name.startsWith("2 bits") ? 0.6 : 0.15);
  });
});

describe("7: masks of −1e9", () => {
  const t = 8;
  const m = model(["n", t, 32], (op, g, x) => {
    const w = (name: string, seed: number) => g.initializer(name, noise([32, 32], 0.25, seed));
    const [q, k, v] = [op("MatMul", [x, w("q", 1)]), op("MatMul", [x, w("k", 2)]), op("MatMul", [x, w("v", 3)])];
    const causal = f32(
      [t, t],
      Array.from({ length: t * t }, (_, i) => (i % t > Math.floor(i / t) ? -1e9 : 0)),
    );
    const scores = op("Add", [op("MatMul", [q, op("Transpose", [k], { perm: [0, 2, 1] })]), g.initializer("mask", causal)]);
    return op("MatMul", [op("MatMul", [op("Softmax", [scores]), v]), w("o", 4)]);
  });
  test.each([
    ["int8", int8()],
    ["static int8", int8({ mode: "static" })],
    ["static int8, entropy", int8({ mode: "static", calibration: "entropy" })],
    ["4 bits", weightOnly({ type: "int4" })],
    ["4 bits, GPTQ", weightOnly({ type: "int4", algorithm: "gptq" })],
    ["half", half()],
    ["half for transformers.js", half({ compat: "transformers" })],
  ] as const)("survive %s", async (name, step) => {
    const { error, notes } = await applied(m, step, noise([4, t, 32]));
    expect(error, notes).toBeLessThan(name.startsWith("half") ? 0.005 : name.startsWith("4 bits") ? 0.4 : 0.15);
  });

  test("nothing later is told by what is masked", async () => {
    const { out } = await applied(m, half(), noise([1, t, 32]));
    const x = noise([1, t, 32]);
    const changed = f32(
      x.shape,
      [...numbersOf(x)].map((v, i) => (i >= 5 * 32 ? v + 3 : v)),
    );
    const [a, b] = [await run(out, x), await run(out, changed)];
    expect(a.slice(0, 5 * 32)).toEqual(b.slice(0, 5 * 32));
  });
});

describe("8: channels of very different size", () => {
  const m = model([1, 8, 12, 12], (op, g, x) => {
    // One channel a thousand times the others.
    const w = [...numbersOf(noise([16, 8, 3, 3], 0.1))].map((v, i) => (i < 72 ? 1000 * v : v));
    const c = op("Conv", [x, g.initializer("w", f32([16, 8, 3, 3], w))]);
    const scale = Array.from({ length: 16 }, (_, i) => (i === 0 ? 1e-3 : 1));
    return op("Mul", [c, g.initializer("s", f32([1, 16, 1, 1], scale))]);
  });

  test("per channel is the default; per tensor the layer stays float, with its error", async () => {
    const x = noise([1, 8, 12, 12]);
    const channel = await applied(m, int8({ mode: "static", maxError: 1 }), x);
    const tensorwise = await applied(m, int8({ mode: "static", granularity: "tensor", maxError: 10 }), x);
    expect(stored(channel.out)).toContain("int8");
    // Its output has one scale all the same: what is left of that is in both.
    expect(tensorwise.error).toBeGreaterThan(channel.error);
  });
});

describe("9: half", () => {
  test("Max and Min of what stays float32 and what does not load", async () => {
    const m = model([2, 64], (op, g, x) => {
      const h = op("MatMul", [x, g.initializer("a", noise([64, 64], 0.1))]);
      const clipped = op("Min", [
        op("Max", [h, g.initializer("low", f32([], [-1])), op("Celu", [h])]),
        g.initializer("high", f32([1], [1])),
      ]);
      return op("MatMul", [clipped, g.initializer("b", noise([64, 64], 0.1, 1))]);
    });
    for (const step of [half(), half({ compat: "transformers" }), half({ exclude: "op:Max" }), half({ blockOps: "Min" })]) {
      const { out, error } = await applied(m, step, noise([2, 64]));
      expect(error).toBeLessThan(0.005);
      expect(stored(out)).not.toContain("float32");
    }
  });
});

describe("10: dynamic Convs", () => {
  test("stay float unless asked for, and the note says why", async () => {
    const m = model([1, 8, 12, 12], (op, g, x) => op("Conv", [x, g.initializer("w", noise([16, 8, 3, 3], 0.1))]));
    const { out, notes } = await applied(m, int8(), noise([1, 8, 12, 12]));
    expect(ops(out, "ConvInteger")).toEqual([]);
    expect(stored(out)).toEqual(["float32"]);
    expect(notes).toMatch(/Conv: dynamic int8 would make a Conv several times slower; mode=static makes it faster/);
  });
});
