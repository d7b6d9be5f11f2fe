import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { fromArrays, fromFeeds } from "../../data/dataset.ts";
import { cloneModel, float, Graph, type Model, newModel, type Value } from "../../ir/graph.ts";
import { allGraphs, allNodes, constantOf } from "../../ir/walk.ts";
import { load, save } from "../../onnx/file.ts";
import { writeModel } from "../../onnx/write.ts";
import { Build } from "../../ops/build.ts";
import { compress } from "../../recipe/compress.ts";
import { open } from "../../runtime/session.ts";
import { random } from "../../tensor/random.ts";
import { numbersOf, type Tensor, tensor } from "../../tensor/tensor.ts";
import { weightOnly } from "../index.ts";
import { type BlockScheme, dequantizeBlocks, roundToNearest } from "./blocks.ts";
import { decodeFloats, encodeFloats } from "./floatcodes.ts";

type Params = Parameters<typeof weightOnly>[0];

const normal = (shape: readonly number[], seed: number, scale = 1): Tensor => {
  const n = shape.reduce((a, d) => a * d, 1);
  return tensor(
    "float32",
    shape,
    random(seed)
      .fillNormal(new Float32Array(n))
      .map((x) => x * scale),
  );
};

/** A model of one input x and what `make` appends; [batch, …] in, whatever comes out. */
function modelOf(make: (b: Build, x: Value) => Value, shape: readonly (number | string)[] = ["batch", 64], opset = 17): Model {
  const model = newModel("m", opset);
  const b = new Build(model.graph, opset, "m");
  model.graph.addOutput(make(b, model.graph.input("x", "float32", shape)));
  return model;
}

async function run(model: Model, x: Tensor): Promise<number[]> {
  // Node would compute a DequantizeLinear and MatMul that it fuses in int8.
  const session = await open(model, { threads: 1, config: { "session.qdq_matmulnbits_accuracy_level": "0" } });
  const y = await session.run({ [session.inputs[0]!.name]: x });
  await session.release();
  return [...numbersOf(Object.values(y)[0]!)];
}

const apply = async (model: Model, params: Params, more = {}) => {
  const { model: result, run } = await compress(model, [weightOnly({ smallest: 0, maxError: 1e9, ...params })], {
    measure: null,
    threads: 1,
    ...more,
  });
  return { result, notes: run.steps[0]!.notes };
};

const ops = (model: Model) => [...allNodes(model.graph)].map((n) => n.opType).sort();

function close(got: readonly number[], want: readonly number[], tolerance = 2e-5) {
  expect(got.length).toBe(want.length);
  const most = Math.max(1e-6, ...want.map(Math.abs));
  got.forEach((y, i) => {
    expect(Math.abs(y - want[i]!)).toBeLessThanOrEqual(tolerance * most);
  });
}

const schemes: Record<string, (columns: number, size: number, symmetric: boolean) => BlockScheme> = {
  int8: (_, groupSize, symmetric) => ({ bits: 8, groupSize, symmetric }),
  int4: (_, groupSize, symmetric) => ({ bits: 4, groupSize, symmetric }),
  int3: (_, groupSize, symmetric) => ({ bits: 3, groupSize, symmetric }),
  int2: (_, groupSize, symmetric) => ({ bits: 2, groupSize, symmetric }),
  ternary: (_, groupSize) => ({ bits: 2, groupSize, symmetric: true, ternary: true }),
  binary: (_, groupSize) => ({ bits: 1, groupSize, symmetric: true }),
};
const types = Object.keys(schemes) as ("int8" | "int4" | "int3" | "int2" | "ternary" | "binary")[];

/** The weight [rows, columns] that `type` makes of w. */
function rounded(w: Float32Array, rows: number, columns: number, type: string, size: number, symmetric = true): Float32Array<ArrayBuffer> {
  if (type === "nf4" || type === "fp4") return decodeFloats(encodeFloats(w, size, type), w.length, size, type);
  return dequantizeBlocks(roundToNearest(w, rows, columns, schemes[type]!(columns, size, symmetric)));
}

function transposed(w: Float32Array, rows: number, columns: number): Float32Array<ArrayBuffer> {
  return Float32Array.from(w, (_, i) => w[(i % rows) * columns + Math.floor(i / rows)]!);
}

describe("MatMul in every type and form gives what the float MatMul on the rounded weights gives", () => {
  const cases = types.flatMap((type) =>
    (["nbits", "dq"] as const).flatMap((format) => [true, false].map((symmetric) => ({ type, format, symmetric }))),
  );
  test.each([
    ...cases,
    { type: "nf4", format: "nbits", symmetric: true },
    { type: "fp4", format: "nbits", symmetric: true },
  ] as const)("$type $format, symmetric $symmetric", async ({ type, format, symmetric }) => {
    for (const [k, n, size] of [
      [64, 24, 32],
      [257, 6, 32],
      [20, 5, 128],
      [7, 33, 16],
    ] as const) {
      const w = normal([k, n], k);
      const x = normal([3, k], 1);
      const model = modelOf((b, x) => b.matmul(x, b.constant(w, "w")), ["batch", k]);
      const { result } = await apply(model, { type, format, symmetric, blockSize: size });
      const expected = transposed(rounded(transposed(numbersOf(w) as Float32Array, k, n), n, k, type, size, symmetric), n, k);
      const floats = modelOf((b, x) => b.matmul(x, b.constant(tensor("float32", [k, n], expected), "w")), ["batch", k]);
      close(await run(result, x), await run(floats, x));
      // See the form: two bits and outputs that are no multiple of four.
      const turned = ["int2", "ternary", "binary"].includes(type) && n % 4 !== 0;
      expect(ops(result)).toEqual(
        format === "dq"
          ? ["DequantizeLinear", "MatMul", ...(turned ? ["Transpose"] : [])]
          : [type === "nf4" || type === "fp4" ? "MatMulBnb4" : "MatMulNBits"],
      );
    }
  });
});

test("one scale a channel: DequantizeLinear along the outputs, opset 13 in 8 bits, 21 in 4", async () => {
  for (const [type, opset] of [
    ["int8", 13],
    ["int4", 21],
  ] as const) {
    const w = normal([40, 9], 2);
    const model = modelOf((b, x) => b.matmul(x, b.constant(w, "w")), ["batch", 40], 11);
    const { result } = await apply(model, { type, blockSize: 0 });
    const expected = transposed(rounded(transposed(numbersOf(w) as Float32Array, 40, 9), 9, 40, type, 40), 9, 40);
    const x = normal([3, 40], 1);
    close(
      await run(result, x),
      await run(
        modelOf((b, x) => b.matmul(x, b.constant(tensor("float32", [40, 9], expected), "w")), ["batch", 40]),
        x,
      ),
    );
    expect(result.opsets.get("")).toBe(opset);
    expect([...result.graph.initializers].map((v) => v.data!.shape)).toEqual([[40, 9], [9]]);
  }
});

describe("Gemm", () => {
  const forms = [
    { transA: 0, transB: 0, alpha: 1, beta: 1, c: [1, 12] },
    { transA: 1, transB: 1, alpha: 0.5, beta: 2, c: [12] },
    { transA: 0, transB: 1, alpha: -1.5, beta: 1, c: [4, 12] },
    { transA: 0, transB: 0, alpha: 2, beta: 0.25, c: [] },
    { transA: 1, transB: 1, alpha: 1, beta: 0, c: [4, 1] },
    { transA: 0, transB: 1, alpha: 1, beta: 1, c: null },
  ];
  test.each(
    forms.flatMap((f) =>
      (["int4", "nf4"] as const).flatMap((type) =>
        (type === "nf4" ? ["nbits"] : ["nbits", "dq"]).map((format) => ({ ...f, type, format })),
      ),
    ),
  )("%j", async ({ c, type, format, ...attrs }) => {
    const [n, k] = [12, 50];
    const w = normal([n, k], 5);
    const expected = rounded(numbersOf(w) as Float32Array, n, k, type, 16);
    const values = (v: Float32Array) =>
      attrs.transB ? tensor("float32", [n, k], Float32Array.from(v)) : tensor("float32", [k, n], transposed(v, n, k));
    const gemm = (v: Float32Array) =>
      modelOf(
        (b, x) =>
          b.op("Gemm", [x, b.constant(values(v), "w"), ...(c ? [b.constant(normal(c, 6), "c")] : [])], {
            ...attrs,
            alpha: float(attrs.alpha),
            beta: float(attrs.beta),
          }),
        attrs.transA ? [k, 4] : [4, k],
      );
    const x = normal(attrs.transA ? [k, 4] : [4, k], 1);
    const { result } = await apply(gemm(numbersOf(w) as Float32Array), { type, format: format as "nbits", blockSize: 16 });
    close(await run(result, x), await run(gemm(expected), x));
    expect(ops(result)).toContain(format === "dq" ? "DequantizeLinear" : type === "nf4" ? "MatMulBnb4" : "MatMulNBits");
  });
});

describe("Conv through DequantizeLinear", () => {
  const shapes = [
    { shape: [6, 5, 3, 3], group: 1 },
    { shape: [7, 20, 1, 1], group: 1 },
    { shape: [8, 1, 3, 3], group: 8 },
    { shape: [1, 40, 1, 1], group: 1 },
  ];
  test.each(
    shapes.flatMap((s) =>
      (
        [
          ["int4", 16],
          ["int8", 0],
          ["int2", 32],
          ["int4", 0],
          ["binary", 16],
        ] as const
      ).map(([type, size]) => ({ ...s, type, size })),
    ),
  )("%j", async ({ shape, group, type, size }) => {
    const [m, ...rest] = shape as [number, number, number, number];
    const columns = rest.reduce((a, d) => a * d, 1);
    const channels = rest[0] * group;
    const w = normal(shape, 3);
    const conv = (v: Tensor) => modelOf((b, x) => b.op("Conv", [x, b.constant(v, "w")], { group }), [1, channels, 5, 5]);
    const { result } = await apply(conv(w), { type, blockSize: size, symmetric: type !== "int4" });
    const x = normal([1, channels, 5, 5], 1);
    const expected = tensor("float32", shape, rounded(numbersOf(w) as Float32Array, m, columns, type, size || columns, type !== "int4"));
    close(await run(result, x), await run(conv(expected), x));
    expect(ops(result).filter((op) => op === "DequantizeLinear")).toHaveLength(1);
  });

  test("is left where it should be, by name", async () => {
    const conv = modelOf((b, x) => b.op("Conv", [x, b.constant(normal([8, 8, 3, 3], 3), "w")]), [1, 8, 5, 5]);
    expect((await apply(conv, { conv: false })).notes.join()).toMatch(/stay float: m\/Conv: conv=false/);
    expect((await apply(conv, { format: "nbits" })).notes.join()).toMatch(/m\/Conv: MatMulNBits takes matrices only/);
    expect((await apply(conv, { type: "nf4" })).notes.join()).toMatch(/MatMulBnb4 takes matrices only/);
  });
});

test("batches of matrices go through DequantizeLinear", async () => {
  const w = normal([3, 24, 5], 4);
  const expected = new Float32Array(3 * 24 * 5);
  for (let i = 0; i < 3; i++) {
    const one = (numbersOf(w) as Float32Array).slice(i * 120, i * 120 + 120);
    expected.set(transposed(rounded(transposed(one, 24, 5), 5, 24, "int4", 16), 5, 24), i * 120);
  }
  const model = (v: Tensor) => modelOf((b, x) => b.matmul(x, b.constant(v, "w")), [3, 2, 24]);
  const { result } = await apply(model(w), { blockSize: 16 });
  const x = normal([3, 2, 24], 1);
  close(await run(result, x), await run(model(tensor("float32", [3, 24, 5], expected)), x));
  expect(ops(result)).toEqual(["DequantizeLinear", "MatMul"]);
});

/** Rows of a table, and the same table as the last layer: y = E[ids]·Eᵀ. */
function tied(width: number, gemm: boolean, vocabulary = 50): Model {
  const model = newModel("tied", 17);
  const b = new Build(model.graph, 17, "t");
  const ids = model.graph.input("ids", "int64", [4]);
  const table = model.graph.initializer("table", normal([vocabulary, width], 8));
  const x = b.op("Gather", [table, ids]);
  model.graph.addOutput(gemm ? b.op("Gemm", [x, table], { transB: 1 }) : b.matmul(x, b.transpose(table, [1, 0])));
  return model;
}

describe("a table that Gather and a layer share", () => {
  const bytes = (m: Model) => [...m.graph.initializers].reduce((n, v) => n + v.data!.data.byteLength, 0);
  test.each(
    [true, false].flatMap((gemm) =>
      (
        [
          ["int4", "auto", true],
          ["int4", "auto", false],
          ["int8", "auto", true],
          ["int2", "auto", false],
          ["int4", "dq", true],
        ] as const
      ).map(([type, format, symmetric]) => ({ gemm, type, format, symmetric })),
    ),
  )("is stored once: %j", async ({ gemm, type, format, symmetric }) => {
    const model = tied(64, gemm);
    const { result } = await apply(model, { type, format, symmetric });
    const w = numbersOf([...model.graph.initializers][0]!.data!) as Float32Array;
    const floats = cloneModel(model);
    const [table] = [...floats.graph.initializers];
    floats.graph.setData(table!, tensor("float32", [50, 64], rounded(w, 50, 64, type, 32, symmetric)));
    const ids = tensor("int64", [4], [3, 0, 49, 17]);
    close(await run(result, ids), await run(floats, ids));
    const bits = { int8: 8, int4: 4, int2: 2 }[type];
    expect(bytes(result)).toBeLessThan((50 * 64 * bits) / 8 + 50 * 2 * 5 + 60);
  });

  test("rows that are no whole blocks are stored for each; untied and float tables as asked", async () => {
    const ids = tensor("int64", [4], [3, 0, 49, 17]);
    for (const embeddings of ["tied", "all"] as const) {
      const model = tied(40, false);
      const w = numbersOf([...model.graph.initializers][0]!.data!) as Float32Array;
      const { result } = await apply(model, { embeddings });
      const floats = cloneModel(model);
      floats.graph.setData([...floats.graph.initializers][0]!, tensor("float32", [50, 40], rounded(w, 50, 40, "int4", 32)));
      close(await run(result, ids), await run(floats, ids));
    }
    const { result, notes } = await apply(tied(64, false), { embeddings: "none" });
    expect(ops(result)).toEqual(["Gather", "MatMulNBits"]);
    expect(notes.join()).toMatch(/"table" is also kept in float, for t\/Gather/);
    const alone = modelOf((b) => b.op("Gather", [b.constant(normal([30, 32], 1), "e"), b.i64([1, 2, -1])]));
    expect(ops((await apply(alone, {})).result)).toEqual(["Gather"]);
    const all = (await apply(alone, { embeddings: "all", symmetric: false })).result;
    expect(ops(all)).toEqual(["GatherBlockQuantized"]);
    const x = normal([1, 64], 1);
    const e = rounded(numbersOf(normal([30, 32], 1)) as Float32Array, 30, 32, "int4", 32, false);
    close(await run(all, x), [...e.slice(32, 96), ...e.slice(29 * 32)]);
  });
});

test("weights in subgraphs, of the subgraph and of the graph around it", async () => {
  const model = newModel("outer", 17);
  const b = new Build(model.graph, 17, "o");
  const x = model.graph.input("x", "float32", [2, 64]);
  const outer = model.graph.initializer("outer/w", normal([64, 32], 1));
  const branch = (name: string, weight: Value | null) => {
    const g = new Graph(name, model.graph);
    const w = weight ?? g.initializer(`${name}/w`, normal([64, 32], 2));
    g.addOutput(g.append("MatMul", [x, w], { name: `${name}/MatMul` }).outputs[0]!);
    return g;
  };
  const cond = b.op("Greater", [b.op("ReduceSum", [x], { keepdims: 0 }), b.f32(0)]);
  model.graph.addOutput(b.op("If", [cond], { then_branch: branch("then", null), else_branch: branch("else", outer) }));
  model.graph.addOutput(b.matmul(x, outer));
  for (const format of ["nbits", "dq"] as const) {
    const { result } = await apply(model, { format });
    expect(ops(result).filter((op) => op === (format === "dq" ? "DequantizeLinear" : "MatMulNBits"))).toHaveLength(3);
    const floats = cloneModel(model);
    for (const g of allGraphs(floats.graph))
      for (const v of g.initializers)
        if (v.name.endsWith("/w"))
          g.setData(
            v,
            tensor(
              "float32",
              [64, 32],
              transposed(rounded(transposed(numbersOf(v.data!) as Float32Array, 64, 32), 32, 64, "int4", 32), 32, 64),
            ),
          );
    for (const sign of [1, -1]) {
      const values = normal([2, 64], 3).data as Uint8Array;
      const x = tensor(
        "float32",
        [2, 64],
        new Float32Array(values.buffer).map((v) => sign * Math.abs(v)),
      );
      close(await run(result, x), await run(floats, x));
    }
  }
});

test("weights in Constant nodes, or in external files", async () => {
  const w = normal([64, 16], 7);
  const inNode = modelOf((b, x) => b.matmul(x, b.op("Constant", [], { value: w })));
  const plain = modelOf((b, x) => b.matmul(x, b.constant(w, "w")));
  const x = normal([3, 64], 1);
  const want = await run((await apply(plain, {})).result, x);
  const { result } = await apply(inNode, {});
  expect(ops(result)).toEqual(["MatMulNBits"]);
  expect(await run(result, x)).toEqual(want);
  const folder = mkdtempSync(join(tmpdir(), "pith-"));
  try {
    save(plain, join(folder, "m.onnx"), { external: "always" });
    const loaded = load(join(folder, "m.onnx"));
    expect(loaded.externalFiles).toHaveLength(1);
    const { result } = await apply(loaded, {});
    save(result, join(folder, "out/m.onnx"));
    expect(await run(load(join(folder, "out/m.onnx")), x)).toEqual(want);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

describe("float16 models", () => {
  test.each(
    (["int4", "int8", "int2", "nf4", "binary"] as const).flatMap((type) =>
      (type === "nf4" ? (["nbits"] as const) : (["nbits", "dq"] as const)).map((format) => ({ type, format })),
    ),
  )("$type $format: scales in float16", async ({ type, format }) => {
    const w = tensor("float16", [64, 24], numbersOf(normal([64, 24], 9, 0.3)));
    const make = (w: Tensor) => {
      const model = newModel("half", 17);
      const b = new Build(model.graph, 17, "h");
      const x = model.graph.input("x", "float32", [3, 64]);
      const y = b.op("Cast", [b.matmul(b.op("Cast", [x], { to: 10 }), b.constant(w, "w"))], { to: 1 });
      model.graph.addOutput(y);
      return model;
    };
    const { result } = await apply(make(w), { type, format });
    const scales = [...result.graph.initializers].find((v) => v.name.endsWith(type === "nf4" ? "absmax" : "scales"))!;
    expect(scales.data!.dtype).toBe("float16");
    const x = normal([3, 64], 1);
    const [got, plain] = [await run(result, x), await run(make(w), x)];
    const back = transposed(rounded(transposed(numbersOf(w) as Float32Array, 64, 24), 24, 64, type, type === "nf4" ? 64 : 32), 24, 64);
    const want = await run(make(tensor("float16", [64, 24], back)), x);
    // Scales differ by a rounding to float16, and codes on the border with them.
    close(got, want, 0.02);
    if (type === "int8") close(got, plain, 0.02);
  });
});

describe("the opset is raised only where it must be, and what changed its form with it", () => {
  const withMean = (weights: readonly number[], op: "MatMul" | "Conv") =>
    modelOf(
      (b, x) => {
        const y = op === "Conv" ? b.op("Conv", [x, b.constant(normal(weights, 3), "w")]) : b.matmul(x, b.constant(normal(weights, 3), "w"));
        return b.graph.append("ReduceMean", [y], { attrs: { axes: [1], keepdims: 0 } }).outputs[0]!;
      },
      op === "Conv" ? [1, 8, 5, 5] : [2, 64],
      13,
    );

  test("MatMulNBits needs none", async () => {
    const { result } = await apply(withMean([64, 8], "MatMul"), {});
    expect([result.opsets.get(""), result.irVersion, result.opsets.get("com.microsoft")]).toEqual([13, 8, 1]);
  });

  test.each([
    ["MatMul", [64, 8], "int4", 21, 10],
    ["Conv", [8, 8, 3, 3], "int4", 21, 10],
    ["Conv", [8, 8, 3, 3], "int2", 25, 13],
  ] as const)("%s %s in %s: opset %i, IR %i, ReduceMean's axes an input", async (op, shape, type, opset, ir) => {
    const model = withMean(shape, op);
    const { result, notes } = await apply(model, { type, format: "dq" });
    expect([result.opsets.get(""), result.irVersion]).toEqual([opset, ir]);
    const mean = [...allNodes(result.graph)].find((n) => n.opType === "ReduceMean")!;
    expect(mean.attrs.has("axes")).toBe(false);
    expect([...numbersOf(constantOf(mean.inputs[1])!)]).toEqual([1]);
    expect(notes.join()).toMatch(/opset 13 → 2.*ReduceMean 18/);
    const x = normal(op === "Conv" ? [1, 8, 5, 5] : [2, 64], 1);
    expect((await run(result, x)).length).toBe((await run(model, x)).length);
  });

  test("an op in the way: Convs stay float and the rest goes on; format=dq says no", async () => {
    const model = modelOf(
      (b, x) => {
        const y = b.op("Conv", [x, b.constant(normal([8, 8, 1, 1], 3), "w")]);
        const z = b.matmul(b.op("Flatten", [y]), b.constant(normal([128, 8], 4), "v"));
        return b.op("Mystery", [z]);
      },
      [1, 8, 4, 4],
      13,
    );
    const { result, notes } = await apply(model, {});
    expect(ops(result)).toEqual(["Conv", "Flatten", "MatMulNBits", "Mystery"]);
    expect(notes.join("\n")).toMatch(/stay float: m\/Conv: needs DequantizeLinear of opset 21, and .*Mystery/);
    await expect(apply(model, { format: "dq" })).rejects.toThrow(/weightOnly: needs opset 21, the model has 13; .*Mystery/);
  });
});

test("what stays is said: small, or too far off", async () => {
  const model = modelOf((b, x) => {
    const small = b.matmul(x, b.constant(normal([64, 2], 1), "small"));
    // In each block one element is far from the others, which then become zeros.
    const values = Float32Array.from({ length: 64 * 16 }, (_, i) => (Math.floor(i / 16) % 32 === 0 ? 20 : 1));
    const rough = b.constant(tensor("float32", [64, 16], values), "rough");
    return b.op("Concat", [small, b.matmul(x, rough), b.matmul(x, b.constant(normal([64, 16], 2), "fine"))], { axis: 1 });
  });
  const { model: result, run: record } = await compress(model, [weightOnly()], { measure: null });
  expect(ops(result)).toEqual(["Concat", "MatMul", "MatMul", "MatMulNBits"]);
  const text = record.steps[0]!.notes.join("\n");
  expect(text).toMatch(/1 of 3 weights in int4/);
  expect(text).toMatch(/stay float: m\/MatMul_1: int4 would change its output by \d+ % \(more than 20 %\)/);
  expect(text).toMatch(/stay float: m\/MatMul: fewer than 256 weights \(smallest\)/);
});

test("errors are those of outputs where there is data", async () => {
  // Weights that 2 bits ruin, at inputs that are always zero.
  const w = normal([64, 16], 5);
  const values = (numbersOf(w) as Float32Array).map((v, i) => (i < 32 * 16 ? Math.sign(v) : v));
  const model = modelOf((b, x) => b.matmul(x, b.constant(tensor("float32", [64, 16], values), "w")));
  const x = random(2)
    .fillNormal(new Float32Array(20 * 64))
    .map((v, i) => (i % 64 < 32 ? v : 0));
  const calibration = fromArrays({ x: tensor("float32", [20, 64], x) });
  const params = { type: "ternary", maxError: 0.2 } as const;
  expect(ops((await apply(model, params, { calibration })).result)).toEqual(["MatMulNBits"]);
  const { result, notes } = await apply(model, params);
  expect(ops(result)).toEqual(["MatMul"]);
  expect(notes.join()).toMatch(/ternary would change its output by \d+ % \(more than 20 %\)/);
});

test("wrong settings are refused in one line", async () => {
  const model = modelOf((b, x) => b.matmul(x, b.constant(normal([64, 16], 1), "w")));
  for (const [params, message] of [
    [{ blockSize: 24 }, /blockSize must be 0 or a power of two from 16; got 24/],
    [{ blockSize: 512 }, /MatMulNBits takes blocks of 16, 32, 64, 128 or 256; give one of those, or format=dq; got 512/],
    [{ blockSize: 0, format: "nbits" }, /format=nbits takes blocks/],
    [{ type: "nf4", format: "dq" }, /nf4 has no DequantizeLinear/],
    [{ type: "fp4", blockSize: 0 }, /fp4 takes blocks/],
  ] as const)
    await expect(apply(model, params)).rejects.toThrow(message);
});

test("names are those of the runtime's own quantizer; the same input gives the same bytes", async () => {
  const model = modelOf((b, x) => b.matmul(x, b.graph.initializer("fc.weight", normal([64, 16], 1))));
  const { result } = await apply(model, { symmetric: false, accuracyLevel: 4 });
  const [node] = [...result.graph.nodes];
  expect(node!.name).toBe("m/MatMul_Q4");
  expect(node!.inputs.map((v) => v!.name)).toEqual(["x", "fc.weight_Q4", "fc.weight_scales", "fc.weight_zero_points"]);
  expect(node!.inputs.slice(1).map((v) => v!.data!.shape)).toEqual([[16, 2, 16], [32], [16]]);
  expect(Object.fromEntries([...node!.attrs].map(([k, a]) => [k, a.value]))).toEqual({
    K: 64,
    N: 16,
    bits: 4,
    block_size: 32,
    accuracy_level: 4,
  });
  const again = (await apply(model, { symmetric: false, accuracyLevel: 4 })).result;
  expect(Buffer.from(writeModel(again)).equals(Buffer.from(writeModel(result)))).toBe(true);
});

describe("ConvTranspose, LSTM and GRU through DequantizeLinear", () => {
  test.each([
    ["int4", 16, true],
    ["int8", 0, true],
    ["int2", 16, false],
  ] as const)("ConvTranspose in %s, blocks of %i", async (type, blockSize, symmetric) => {
    const shape = [20, 3, 2, 2];
    const w = normal(shape, 3);
    const model = (v: Tensor) => modelOf((b, x) => b.op("ConvTranspose", [x, b.constant(v, "w")], { group: 2 }), [1, 20, 4, 4]);
    const values = transposed(numbersOf(w) as Float32Array, 20, 12);
    const expected = transposed(rounded(values, 12, 20, type, blockSize || 20, symmetric), 12, 20);
    const { result } = await apply(model(w), { type, blockSize, symmetric });
    const x = normal([1, 20, 4, 4], 1);
    close(await run(result, x), await run(model(tensor("float32", shape, expected)), x));
    expect(ops(result)).toEqual(["ConvTranspose", "DequantizeLinear"]);
  });

  test.each(
    (["LSTM", "GRU"] as const).flatMap((op) =>
      (["int4", "int8", "binary"] as const).flatMap((type) => [16, 0].map((blockSize) => ({ op, type, blockSize }))),
    ),
  )("%j: both weights, measured by the states where those are all it gives", async ({ op, type, blockSize }) => {
    const gates = op === "LSTM" ? 4 : 3;
    const [wide, hidden] = [24, 20];
    const model = (map: (w: Tensor) => Tensor) =>
      modelOf(
        (b, x) => {
          const w = b.constant(map(normal([2, gates * hidden, wide], 4, 0.3)), "W");
          const r = b.constant(map(normal([2, gates * hidden, hidden], 5, 0.3)), "R");
          const attrs = { hidden_size: hidden, direction: "bidirectional" };
          return b.graph.append(op, [x, w, r], { attrs, outputs: ["", "states"] }).outputs[1]!;
        },
        [5, 2, wide],
      );
    const calibration = fromFeeds([1, 2].map((seed) => ({ x: normal([5, 2, wide], seed) })));
    const { result, notes } = await apply(
      model((w) => w),
      { type, blockSize },
      { calibration },
    );
    const x = normal([5, 2, wide], 1);
    const back = (w: Tensor) => {
      const columns = w.shape[2]!;
      const values = rounded(numbersOf(w) as Float32Array, 2 * gates * hidden, columns, type, blockSize || columns);
      return tensor("float32", w.shape, values);
    };
    close(await run(result, x), await run(model(back), x));
    expect(ops(result)).toEqual(["DequantizeLinear", "DequantizeLinear", op].sort());
    expect(notes.join()).toMatch(`2 of 2 weights in ${type} (2 ${op})`);
  });

  test("gates that are put in order at run time are so once", async () => {
    const model = (folded: boolean) =>
      modelOf(
        (b, x) => {
          const parts = [1, 2, 3].map((seed) => normal([1, 20, 24], seed));
          const joined = tensor("float32", [1, 60, 24], Float32Array.from(parts.flatMap((t) => [...numbersOf(t)])));
          const w = folded
            ? b.constant(joined, "W")
            : b.op(
                "Concat",
                parts.map((t, i) => b.constant(t, `part${i}`)),
                { axis: 1 },
              );
          return b.graph.append("GRU", [x, w, b.constant(normal([1, 60, 20], 5), "R")], { attrs: { hidden_size: 20 } }).outputs[0]!;
        },
        [5, 2, 24],
      );
    const x = normal([5, 2, 24], 1);
    const { result } = await apply(model(false), {});
    expect(await run(result, x)).toEqual(await run((await apply(model(true), {})).result, x));
    expect(ops(result)).toEqual(["DequantizeLinear", "DequantizeLinear", "GRU"]);
    expect([...result.graph.initializers].filter((v) => v.data!.dtype === "float32" && v.data!.data.byteLength > 2000)).toEqual([]);
  });
});
