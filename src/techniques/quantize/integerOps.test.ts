import { describe, expect, test } from "vitest";
import { float, type Model, newModel } from "../../ir/graph.ts";
import { allNodes } from "../../ir/walk.ts";
import { lenet5 } from "../../nets/lenet5.ts";
import { compress } from "../../recipe/compress.ts";
import { open } from "../../runtime/session.ts";
import { random } from "../../tensor/random.ts";
import { floatsOf, type Tensor, tensor } from "../../tensor/tensor.ts";
import { codesOf } from "./codes.ts";
import { integerOps } from "./integerOps.ts";

const normal = (shape: readonly number[], name: string, scale = 1) =>
  tensor("float32", shape, random(1, name).fillNormal(new Float32Array(shape.reduce((a, b) => a * b, 1)), scale));

async function outputs(model: Model, feeds: Record<string, Tensor>): Promise<Float32Array> {
  const session = await open(model, { threads: 1 });
  try {
    const [first] = Object.values(await session.run(feeds));
    return floatsOf(first!);
  } finally {
    await session.release();
  }
}

const apart = (a: Float32Array, b: Float32Array) =>
  Math.sqrt(a.reduce((s, x, i) => s + (x - b[i]!) ** 2, 0) / a.reduce((s, x) => s + x * x, 0));

async function quantized(model: Model, params: Parameters<typeof integerOps>[0]) {
  const { model: made, run } = await compress(model, [integerOps(params)], { measure: null, threads: 1 });
  return { made, notes: run.steps[0]!.notes, ops: [...allNodes(made.graph)].map((n) => n.opType) };
}

describe("codes", () => {
  test("int8 is symmetric over −127 … 127, and −64 … 64 with reduced range", () => {
    const w = Float32Array.of(-2, -1, 0, 0.5, 1.27);
    const { codes, scales, zeroPoints } = codesOf(w, [5], { dtype: "int8", axis: null, reduceRange: false });
    expect([...scales]).toEqual([Math.fround(4 / 254)]);
    expect([...zeroPoints]).toEqual([0]);
    // −1/(2/127) = −63.5 in float32, and half goes to even.
    expect([...codes]).toEqual([-127, -64, 0, 32, 81]);
    const seven = codesOf(w, [5], { dtype: "int8", axis: null, reduceRange: true });
    expect([...seven.scales]).toEqual([4 / 128]);
    expect([...seven.codes]).toEqual([-64, -32, 0, 16, 41]);
  });

  test("uint8 has a zero point for a range that holds 0, by channel", () => {
    const w = Float32Array.of(-1, 0, 1.55, 2.1, 3, 4);
    const { codes, scales, zeroPoints } = codesOf(w, [2, 3], { dtype: "uint8", axis: 0, reduceRange: false });
    expect([...scales]).toEqual([Math.fround(Math.fround(2.55) / 255), Math.fround(4 / 255)]);
    expect([...zeroPoints]).toEqual([100, 0]);
    expect([...codes]).toEqual([0, 100, 255, 134, 191, 255]);
  });

  test("zeros have the scale 1", () => {
    const { codes, scales } = codesOf(new Float32Array(4), [4], { dtype: "uint8", axis: null, reduceRange: false });
    expect([...scales, ...codes]).toEqual([1, 0, 0, 0, 0]);
  });
});

/** Ids to rows of a table, a Gemm with everything it can have, and the table again as output layer. */
function tied(): Model {
  const model = newModel("tied", 17);
  const { graph } = model;
  const ids = graph.input("ids", "int64", [6]);
  const table = graph.initializer("table", normal([50, 32], "table"));
  const rows = graph.append("Gather", [table, ids], { name: "embed" }).outputs[0]!;
  const w = graph.initializer("w", normal([24, 6], "w"));
  const c = graph.initializer("c", normal([24], "c"));
  const mixed = graph.append("Gemm", [rows, w, c], {
    name: "mix",
    attrs: { transA: 1, transB: 1, alpha: float(0.5), beta: float(2) },
  }).outputs[0]!;
  const back = graph.append("MatMul", [graph.initializer("v", normal([6, 32], "v", 0.4)), mixed], { name: "left" }).outputs[0]!;
  const turned = graph.append("Transpose", [table], { name: "turn", attrs: { perm: [1, 0] } }).outputs[0]!;
  const logits = graph.append("MatMul", [graph.append("Tanh", [rows], { name: "tanh" }).outputs[0]!, turned], { name: "head" }).outputs[0]!;
  const y = graph.append("Concat", [logits, back], { name: "y", attrs: { axis: 1 } }).outputs[0]!;
  y.type = { dtype: "float32", shape: [6, 74] };
  graph.addOutput(y);
  return model;
}

describe("layers and tables", () => {
  const feeds = { ids: tensor("int64", [6], [0, 3, 7, 49, 20, 3]) };
  const cases = (["int8", "uint8"] as const).flatMap((weights) =>
    (["tensor", "channel"] as const).flatMap((granularity) => [false, true].map((reduceRange) => ({ weights, granularity, reduceRange }))),
  );

  test.each(cases)("%o: close, and the tied table is stored once", async (params) => {
    const model = tied();
    const { made, ops } = await quantized(model, params);
    const names = [...made.graph.initializers].map((v) => v.name);
    expect(names).not.toContain("table");
    expect(names.filter((n) => /^table.*quantized/.test(n))).toEqual(["table_quantized"]);
    expect(ops.filter((o) => o === "MatMulInteger").length).toBe(2);
    expect(apart(await outputs(model, feeds), await outputs(made, feeds))).toBeLessThan(params.reduceRange ? 0.03 : 0.015);
  });

  test("what stays float is named: weights that 8 bits would change too much", async () => {
    const model = tied();
    const w = [...model.graph.initializers].find((v) => v.name === "w")!;
    const values = Float32Array.from(floatsOf(w.data!));
    values[0] = 1e4;
    w.data = tensor("float32", [24, 6], values);
    const { notes, made } = await quantized(model, { maxError: 1e-6 });
    expect(notes.join("\n")).toMatch(/stay float: .*mix.*8 bits would change its weight by/);
    expect([...made.graph.initializers].map((v) => v.name)).toContain("w");
    expect([...made.graph.initializers].map((v) => v.name)).not.toContain("w_quantized");
  });
});

describe("convolutions", () => {
  const model = lenet5({ seed: 1 });
  const [input] = model.graph.inputs;
  const feeds = { [input!.name]: normal([2, ...input!.type!.shape!.slice(1).map(Number)], "x") };

  test("are computed in float with stored 8-bit weights", async () => {
    const { made, ops } = await quantized(model, {});
    expect(ops.filter((o) => o === "ConvInteger").length).toBe(0);
    expect(ops.filter((o) => o === "DequantizeLinear").length).toBe(2);
    expect(apart(await outputs(model, feeds), await outputs(made, feeds))).toBeLessThan(0.05);
  });

  test.each([
    { weights: "int8", granularity: "tensor" },
    { weights: "uint8", granularity: "tensor" },
    { weights: "int8", granularity: "channel" },
    { weights: "uint8", granularity: "channel" },
  ] as const)("as ConvInteger, %o: one scalar zero point", async (params) => {
    const { made, ops } = await quantized(model, { ...params, conv: "integer" });
    expect(ops.filter((o) => o === "ConvInteger").length).toBe(2);
    expect(apart(await outputs(model, feeds), await outputs(made, feeds))).toBeLessThan(0.05);
  });
});
