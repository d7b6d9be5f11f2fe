import { describe, expect, test } from "vitest";
import { float, type Model, newModel, type Value } from "../../ir/graph.ts";
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

describe("whole layers in integers", () => {
  const granularities = ["tensor", "channel"] as const;

  test.each(
    granularities.flatMap((granularity) => (["int8", "uint8"] as const).map((weights) => ({ granularity, weights }))),
  )("Attention becomes QAttention: %o", async (params) => {
    const model = newModel("attention", 17);
    model.opsets.set("com.microsoft", 1);
    const { graph } = model;
    const x = graph.input("x", "float32", [2, 5, 16]);
    const w = graph.initializer("w", normal([16, 48], "w", 0.3));
    const b = graph.initializer("b", normal([48], "b", 0.1));
    const mask = graph.initializer("mask", tensor("int32", [2], [5, 3]));
    const y = graph.append("Attention", [x, w, b, mask], { name: "attention", domain: "com.microsoft", attrs: { num_heads: 4 } })
      .outputs[0]!;
    y.type = { dtype: "float32", shape: [2, 5, 16] };
    graph.addOutput(y);
    const { made, ops } = await quantized(model, params);
    expect(ops).toContain("QAttention");
    expect(ops).not.toContain("Attention");
    expect([...made.graph.initializers].map((v) => v.name)).not.toContain("w");
    const feeds = { x: normal([2, 5, 16], "x") };
    expect(apart(await outputs(model, feeds), await outputs(made, feeds))).toBeLessThan(0.03);
  });

  test.each(granularities)("LSTM becomes DynamicQuantizeLSTM, all outputs kept: %s", async (granularity) => {
    const model = newModel("lstm", 17);
    const { graph } = model;
    const x = graph.input("x", "float32", [7, 2, 12]);
    const weights = [
      graph.initializer("W", normal([2, 64, 12], "W", 0.3)),
      graph.initializer("R", normal([2, 64, 16], "R", 0.2)),
      graph.initializer("B", normal([2, 128], "B", 0.1)),
    ];
    const node = graph.append("LSTM", [x, ...weights], {
      name: "lstm",
      attrs: { hidden_size: 16, direction: "bidirectional" },
      outputs: ["y", "h", "c"],
    });
    // The sequence and the last cell state, as one list of numbers.
    const flat = (v: Value, name: string) => graph.append("Flatten", [v], { name, attrs: { axis: 0 } }).outputs[0]!;
    const all = graph.append("Concat", [flat(node.outputs[0]!, "ys"), flat(node.outputs[2]!, "cs")], { name: "all", attrs: { axis: 1 } });
    const out = all.outputs[0]!;
    out.type = { dtype: "float32", shape: [1, 512] };
    graph.addOutput(out);
    const { made, ops } = await quantized(model, { granularity });
    expect(ops).toContain("DynamicQuantizeLSTM");
    const feeds = { x: normal([7, 2, 12], "x") };
    expect(apart(await outputs(model, feeds), await outputs(made, feeds))).toBeLessThan(0.03);
  });

  test("EmbedLayerNormalization becomes QEmbedLayerNormalization", async () => {
    const model = newModel("embed", 17);
    model.opsets.set("com.microsoft", 1);
    const { graph } = model;
    const ids = graph.input("ids", "int32", [2, 5]);
    const segments = graph.input("segments", "int32", [2, 5]);
    const tables = [
      graph.initializer("words", normal([30, 16], "words")),
      graph.initializer("positions", normal([8, 16], "positions")),
      graph.initializer("types", normal([2, 16], "types")),
      graph.initializer("gamma", normal([16], "gamma")),
      graph.initializer("beta", normal([16], "beta")),
    ];
    const node = graph.append("EmbedLayerNormalization", [ids, segments, ...tables], {
      name: "embed",
      domain: "com.microsoft",
      attrs: { epsilon: float(1e-5) },
      outputs: ["y", "mask"],
    });
    node.outputs[0]!.type = { dtype: "float32", shape: [2, 5, 16] };
    graph.addOutput(node.outputs[0]!);
    const { made, ops } = await quantized(model, {});
    expect(ops).toContain("QEmbedLayerNormalization");
    const feeds = {
      ids: tensor("int32", [2, 5], [1, 2, 3, 4, 5, 29, 0, 7, 7, 9]),
      segments: tensor("int32", [2, 5], [0, 0, 1, 1, 1, 0, 0, 0, 1, 1]),
    };
    expect(apart(await outputs(model, feeds), await outputs(made, feeds))).toBeLessThan(0.03);
  });
});
