/** Facts that are no row of a table: limits, accuracies and speeds of one runtime. */
import { type Model, newModel } from "../../src/ir/graph.ts";
import { sparseIndicesOf } from "../../src/onnx/sparse.ts";
import { Build } from "../../src/ops/build.ts";
import { type DType, dtypes } from "../../src/tensor/dtype.ts";
import { random } from "../../src/tensor/random.ts";
import { numbersOf, type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { sparsify } from "../../src/transform/sparse.ts";
import type { Engine } from "../probe.ts";

type Feeds = Readonly<Record<string, Tensor>>;
interface Case {
  readonly model: Model;
  readonly feeds: Feeds;
}

const normals = (shape: readonly number[], seed: number, scale = 1) =>
  tensor(
    "float32",
    shape,
    random(seed, "facts")
      .fillNormal(new Float32Array(shape.reduce((a, d) => a * d, 1)))
      .map((v) => v * scale),
  );

function made(
  opset: number,
  ir: number,
  shape: readonly number[],
  build: (b: Build, x: ReturnType<Build["f32"]>) => ReturnType<Build["f32"]>,
): Case {
  const model = newModel("fact", opset, ir);
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", shape);
  model.graph.addOutput(build(b, x));
  return { model, feeds: { x: normals(shape, 1) } };
}

/** The fastest run of each, in milliseconds, in alternating blocks: whatever else the machine does makes runs slower only. */
async function race(engine: Engine, cases: readonly (Case & { options?: Record<string, unknown> })[]): Promise<number[]> {
  const opened = [];
  for (const c of cases) opened.push(await engine.timed(c.model, c.feeds, c.options));
  const best = cases.map(() => Number.POSITIVE_INFINITY);
  for (let round = 0; round < 25; round++)
    for (const [i, s] of opened.entries()) {
      for (let k = 0; k < 2; k++) await s.run();
      const start = performance.now();
      while (performance.now() - start < 40) {
        const from = performance.now();
        await s.run();
        best[i] = Math.min(best[i]!, performance.now() - from);
      }
    }
  for (const s of opened) await s.end();
  return best;
}

/** A Conv whose input and weights went through 8-bit codes, as QDQ. */
function convolution(kind: "float" | "static" | "dynamic" | "float16", a: DType, channels: number, size: number, depthwise = false): Case {
  const shape = [1, channels, size, size];
  const group = depthwise ? channels : 1;
  const w = [channels, channels / group, 3, 3];
  const count = w.reduce((p, d) => p * d, 1);
  const attrs = { pads: [1, 1, 1, 1], group };
  return made(17, 8, shape, (b, x) => {
    const init = (t: Tensor) => b.graph.initializer("w", t);
    const scalar = (t: DType, v: number) => init(tensor(t, [], [v]));
    const codes = Array.from({ length: count }, (_, i) => ((i * 37) % 200) - 100);
    if (kind === "float") return b.op("Conv", [x, init(normals(w, 2))], attrs);
    if (kind === "float16") {
      const half = tensor("float16", w, numbersOf(normals(w, 2)));
      return b.cast(b.op("Conv", [b.cast(x, "float16"), init(half)], attrs), "float32");
    }
    if (kind === "dynamic") {
      const q = b.node("DynamicQuantizeLinear", [x], {}, 3).outputs;
      const y = b.op("ConvInteger", [q[0]!, init(tensor("int8", w, codes)), q[2]!, scalar("int8", 0)], attrs);
      return b.mul(b.cast(y, "float32"), b.mul(q[1]!, b.f32(0.01)));
    }
    const zero = scalar(a, a === "uint8" ? 128 : 0);
    const round = (v: typeof x) => {
      const s = scalar("float32", 0.05);
      return b.op("DequantizeLinear", [b.op("QuantizeLinear", [v, s, zero]), s, zero]);
    };
    const weights = b.op("DequantizeLinear", [init(tensor("int8", w, codes)), scalar("float32", 0.01), scalar("int8", 0)]);
    return round(b.op("Conv", [round(x), weights], attrs));
  });
}

function matmul(kind: "float32" | "float16" | "nbits", rows: number, level = 0): Case {
  const [k, n] = [512, 512];
  return made(17, 8, [rows, k], (b, x) => {
    const w = normals([k, n], 2);
    if (kind === "float32") return b.matmul(x, b.graph.initializer("w", w));
    if (kind === "float16") {
      const half = tensor("float16", [k, n], numbersOf(w));
      return b.cast(b.matmul(b.cast(x, "float16"), b.graph.initializer("w", half)), "float32");
    }
    const codes = tensor(
      "uint8",
      [n, k / 32, 16],
      Array.from({ length: (n * k) / 2 }, (_, i) => (i * 89) % 256),
    );
    const scales = tensor("float32", [(n * k) / 32], new Float32Array((n * k) / 32).fill(0.1));
    const attrs = { K: k, N: n, bits: 4, block_size: 32, ...(level ? { accuracy_level: level } : {}) };
    return b.op("MatMulNBits", [x, b.graph.initializer("w", codes), b.graph.initializer("s", scales)], attrs, "com.microsoft");
  });
}

/** A product with weights that DequantizeLinear takes out of blocks, at the runtime's default settings, against its unfused self. */
async function blockedError(engine: Engine, type: DType): Promise<number | null> {
  const [k, n] = [256, 16];
  const opset = /int2/.test(type) ? 25 : 21;
  const c = made(opset, opset > 21 ? 13 : 10, [4, k], (b, x) => {
    const bits = dtypes[type].bits;
    const low = type.startsWith("u") ? 0 : -(2 ** (bits - 1));
    const codes = tensor(
      type,
      [k, n],
      Array.from({ length: k * n }, (_, i) => low + ((i * 7) % 2 ** bits)),
    );
    const scales = tensor(
      "float32",
      [k / 32, n],
      Array.from({ length: (k / 32) * n }, (_, i) => 0.05 + (i % 5) / 50),
    );
    const w = b.op("DequantizeLinear", [b.graph.initializer("w", codes), b.graph.initializer("s", scales)], { axis: 0, block_size: 32 });
    return b.matmul(x, w);
  });
  try {
    const [plain, fused] = [await engine.run(c.model, c.feeds), await engine.run(c.model, c.feeds, { graphOptimizationLevel: "all" })];
    const [want, got] = [numbersOf(plain), numbersOf(fused)];
    return Math.max(...want.map((v, i) => Math.abs(v - got[i]!))) / Math.max(...want.map(Math.abs));
  } catch {
    return null;
  }
}

async function loads(engine: Engine, opset: number, ir: number): Promise<boolean> {
  const { model, feeds } = made(opset, ir, [2], (b, x) => b.op("Abs", [x]));
  try {
    await engine.run(model, feeds);
    return true;
  } catch {
    return false;
  }
}

/** Largest number in `from … to` that `ok` says yes to. */
async function largest(from: number, to: number, ok: (n: number) => Promise<boolean>): Promise<number> {
  let best = 0;
  for (let n = from; n <= to; n++) if (await ok(n)) best = n;
  return best;
}

/** 1: the type can be an input, and an output. */
async function passes(engine: Engine, type: DType): Promise<number> {
  const model = newModel("io", 21, 10);
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", [2]);
  model.graph.addOutput(b.cast(x, type));
  try {
    await engine.timed(model, {}, {}).then((s) => s.end());
    return 1;
  } catch {
    return 0;
  }
}

/** 255·127 + 255·127 does not fit 16 bits: kernels without VNNI cut it. */
async function saturates(engine: Engine): Promise<number> {
  const { model, feeds } = made(17, 8, [4, 64], (b, x) => {
    const q = b.cast(x, "uint8");
    const w = b.graph.initializer("w", tensor("int8", [64, 16], new Array(64 * 16).fill(127)));
    return b.cast(b.op("MatMulInteger", [q, w]), "float32");
  });
  const y = numbersOf(await engine.run(model, { ...feeds, x: tensor("float32", [4, 64], new Array(256).fill(255)) }));
  return y.every((v) => v === 64 * 255 * 127) ? 0 : 1;
}

/** Which element types of a sparse initializer's indices it takes, and adds right. */
export async function sparse(engine: Engine): Promise<Record<string, number>> {
  const facts: Record<string, number> = {};
  for (const [type, n] of [
    ["int8", 100],
    ["int16", 1000],
    ["int32", 40_000],
    ["int64", 100],
  ] as const) {
    const values = Array.from({ length: n }, (_, i) => (i % 10 === 9 ? i : 0));
    const { model, feeds } = made(17, 8, [n], (b, x) => b.add(x, b.graph.initializer("w", tensor("float32", [n], values))));
    sparsify(model, { indices: type === "int64" ? "int64" : "narrow" });
    const written = sparseIndicesOf([...model.graph.initializers][0]!.data!);
    if (written !== type) throw new Error(`indices are ${written}, not ${type}`);
    const want = numbersOf(feeds.x!).map((v, i) => Math.fround(v + values[i]!));
    const got = await engine.run(model, feeds).then(numbersOf, () => []);
    facts[`sparse/${type}`] = want.every((v, i) => v === got[i]) ? 1 : 0;
  }
  return facts;
}

/**
 * Limits ("opset", "ir"), what passes in and out ("io/bfloat16": 1), sparse initializers by their indices ("sparse/int8": 1), relative errors of fused forms ("blocked/int4"), and times relative
 * to what they are compared with ("time/…": above 1 is slower).
 */
export async function factsOf(engine: Engine): Promise<Record<string, number>> {
  const facts: Record<string, number> = {};
  facts.opset = await largest(7, 30, (n) => loads(engine, n, 10));
  facts.ir = await largest(3, 20, (n) => loads(engine, 13, n));
  facts.saturates = await saturates(engine);
  for (const type of ["bfloat16", "float8e4m3fn", "float8e5m2", "int4", "uint4", "int2", "uint2"] as const)
    facts[`io/${type}`] = await passes(engine, type);
  Object.assign(facts, await sparse(engine));
  for (const type of ["int4", "uint4", "int2", "uint2", "int8", "uint8"] as const) {
    const e = await blockedError(engine, type);
    if (e !== null) facts[`blocked/${type}`] = e;
  }
  const ratio = async (name: string, slow: Case, fast: Case) => {
    const [a, b] = await race(engine, [slow, fast]);
    facts[`time/${name}`] = a! / b!;
  };
  await ratio("uint8 Conv / float32 Conv", convolution("static", "uint8", 64, 14), convolution("float", "uint8", 64, 14));
  await ratio("int8 Conv / uint8 Conv", convolution("static", "int8", 64, 14), convolution("static", "uint8", 64, 14));
  await ratio("dynamic Conv / float32 Conv", convolution("dynamic", "uint8", 64, 14), convolution("float", "uint8", 64, 14));
  await ratio(
    "uint8 depthwise Conv / float32 depthwise Conv",
    convolution("static", "uint8", 96, 14, true),
    convolution("float", "uint8", 96, 14, true),
  );
  await ratio("float16 Conv / float32 Conv", convolution("float16", "uint8", 64, 14), convolution("float", "uint8", 64, 14));
  await ratio("float16 MatMul / float32 MatMul", matmul("float16", 32), matmul("float32", 32));
  for (const rows of [1, 32]) {
    await ratio(`4-bit MatMulNBits of ${rows} rows / float32 MatMul`, nbits(rows, 0), matmul("float32", rows));
    await ratio(`4-bit MatMulNBits of ${rows} rows at level 4 / float32 MatMul`, nbits(rows, 4), matmul("float32", rows));
  }
  return facts;
}

function nbits(rows: number, level: number): Case {
  const c = matmul("nbits", rows, level);
  c.model.opsets.set("com.microsoft", 1);
  return c;
}
