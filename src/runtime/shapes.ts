/** Shapes from the engine: static inference fails on real models, so the model runs once on a sample and the shapes are read off. */
import { type Batch, fromFeeds } from "../data/dataset.ts";
import { cloneModel, type Graph, type Model, type Value } from "../ir/graph.ts";
import { constantOf, sorted } from "../ir/walk.ts";
import { opOf } from "../ops/index.ts";
import { type DType, dtypeOfCode, dtypes, sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { random } from "../tensor/random.ts";
import { integersOf, numbersOf, type Tensor, tensor } from "../tensor/tensor.ts";
import { type Observer, observe } from "./observe.ts";
import { open, type SessionOptions } from "./session.ts";

/** Element types that ONNX Runtime's JavaScript binding opens no session for when an output has them (a limit of 1.30). */
const unopened: ReadonlySet<DType> = new Set(
  (Object.keys(dtypes) as DType[]).filter((d) => /^(complex|bfloat16|float8|float4|uint2|int2)/.test(d)),
);
/** Element types whose metadata it gives but whose data it must not be asked for: fetching them ends the process. */
const unfetched: ReadonlySet<DType> = new Set<DType>(["int4", "uint4"]);

/** Ops whose output's element type is not its input's. */
const changesType = new Set(
  "Cast CastLike DequantizeLinear Shape Size Equal Less Greater LessOrEqual GreaterOrEqual IsNaN IsInf ArgMax ArgMin NonZero".split(" "),
);

/**
 * A clone of `model` in which every Value of the top graph has a type with a concrete shape, taken from one run on `feeds`; so have, in the
 * branches of an If that were taken, the values of ops whose multiply-accumulates are counted (with `inside` all values; those of other branches
 * have none). Left as they were: other values of subgraphs, sequences and optionals, and values of element types the runtime cannot hand out
 * (bfloat16, float8; int4 gets a shape only where it is static). Errors: what the runtime says, with the open input shapes.
 * @param copies filled with the clone's value for each of the model's
 */
export async function observeShapes(
  model: Model,
  feeds: Batch,
  options: Pick<SessionOptions, "threads"> & { readonly inside?: boolean } = {},
  copies = new Map<Value, Value>(),
): Promise<Model> {
  const out = cloneModel(model, copies);
  for (const v of out.graph.inputs) {
    const fed = feeds[v.name];
    if (fed) v.type = { dtype: fed.dtype, shape: fed.shape };
  }
  for (const v of out.graph.initializers) v.type = { dtype: v.data!.dtype, shape: v.data!.shape };
  const hidden = unreachable(out);
  const values = new Map<string, Value>();
  for (const n of out.graph.nodes) for (const v of n.outputs) if (v && !hidden.has(v)) values.set(v.name, v);
  if (values.size === 0) return out;

  // What the file says of inner values may be stale: the probe has no shapes but the runtime's.
  const probe = cloneModel(out);
  const { graph } = probe;
  const inner = [...graph.nodes].flatMap((n) => n.outputs.filter((v): v is Value => !!v && values.has(v.name)));
  for (const v of inner) if (v.type) v.type = { dtype: v.type.dtype, shape: null };
  graph.setOutputs(inner);
  const opened = () =>
    hinting(model, feeds, () =>
      open(probe, { ...options, optimization: "disabled", spinning: false, config: { "session.disable_prepacking": "1" } }),
    );
  const wanted = new Map<string, DType>();
  const typed = await opened();
  for (const { name, dtype, shape } of typed.outputs) {
    if (!dtype) continue;
    // An unknown rank is reported as [] too, like a scalar.
    const known = shape.length > 0 && shape.every((d) => typeof d === "number");
    if (known) values.get(name)!.type = { dtype, shape: shape.slice() };
    if (!known && !unfetched.has(dtype)) wanted.set(name, dtype);
  }
  await typed.release();
  if (wanted.size > 0) {
    // The values themselves need not be held, nor handed over.
    graph.setOutputs([]);
    if (!probe.opsets.has("")) probe.opsets.set("", 13);
    const asked = inner.flatMap((v) => {
      if (!wanted.has(v.name)) return [];
      const size = graph.append("Shape", [v], { name: `${v.name}/shape` }).outputs[0]!;
      graph.addOutput(size);
      return [[v.name, size.name] as const];
    });
    const session = await opened();
    try {
      const results = await hinting(model, feeds, () => session.run(feeds));
      for (const [name, size] of asked) values.get(name)!.type = { dtype: wanted.get(name)!, shape: integersOf(results[size]!) };
    } finally {
      await session.release();
    }
  }
  await lookInside(model, copies, feeds, options);
  return out;
}

/** The tensor itself. */
const last: Observer<Tensor | null> = { init: () => null, update: (_, x) => x };

/**
 * Gives the copies of values in the branches of Ifs the shapes they took, or none: all with `inside`, else those that products, convolutions and
 * their like read and write. The model itself is run, with its open shapes: with concrete ones the runtime finds fault with branches that are not for them.
 */
async function lookInside(
  model: Model,
  copies: ReadonlyMap<Value, Value>,
  feeds: Batch,
  { threads, inside }: Pick<SessionOptions, "threads"> & { readonly inside?: boolean },
): Promise<void> {
  const branches = new Set<Graph>();
  const enter = (graph: Graph) => {
    for (const n of graph.nodes)
      if (n.opType === "If" && n.domain === "")
        for (const g of n.subgraphs) {
          branches.add(g);
          enter(g);
        }
  };
  enter(model.graph);
  const values = new Set<Value>();
  for (const g of branches)
    for (const n of g.nodes)
      if (inside || opOf(n)?.macs) for (const v of [...n.inputs, ...n.outputs]) if (v?.producer && branches.has(v.graph)) values.add(v);
  if (values.size === 0) return;
  for (const v of values) if (v.type) copies.get(v)!.type = { dtype: v.type.dtype, shape: null };
  // Sizes are integers whatever the value is; one more behind them, for a list of none would not be seen.
  const probes = new Map<Value, Value>();
  const probe = cloneModel(model, probes);
  const end = probe.graph.initializer("end", tensor("int64", [1], [0]));
  const sizes = new Map<Value, Value>();
  for (const v of values) {
    const { graph } = probes.get(v)!;
    const shape = graph.append("Shape", [probes.get(v)!]).outputs[0]!;
    const ended = graph.append("Concat", [shape, end], { attrs: { axis: 0 } }).outputs[0]!;
    ended.type = { dtype: "int64", shape: null };
    sizes.set(ended, v);
  }
  try {
    const seen = await observe(probe, sizes.keys(), fromFeeds([feeds]), last, { threads, optimization: "disabled" });
    for (const [size, t] of seen) {
      const v = sizes.get(size)!;
      if (t) copies.get(v)!.type = { dtype: v.type?.dtype ?? "float32", shape: integersOf(t).slice(0, -1) };
    }
  } catch (e) {
    // An If that cannot be looked into costs no more than a figure.
    if (!(e instanceof Fault)) throw e;
  }
}

/** Values that have, or may have, an element type that keeps a session from opening. */
export function unreachable(model: Model): Set<Value> {
  const out = new Set<Value>();
  const bad = (v: Value | null) => {
    if (!v) return false;
    const dtype = constantOf(v)?.dtype ?? v.type?.dtype;
    return dtype ? unopened.has(dtype) : out.has(v);
  };
  for (const n of sorted(model.graph)) {
    const made = ["to", "dtype", "output_dtype"].some((a) => unopened.has(dtypeOfCode(n.int(a) ?? 0) ?? "float32"));
    const passed = n.opType === "CastLike" ? bad(n.inputs[1] ?? null) : !changesType.has(n.opType) && n.inputs.some(bad);
    for (const v of n.outputs) if (v && (made || passed || bad(v))) out.add(v);
  }
  return out;
}

async function hinting<T>(model: Model, feeds: Batch, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (e) {
    const open = model.graph.inputs.filter((v) => !v.data && !v.shape);
    if (!(e instanceof Fault) || open.length === 0) throw e;
    const first = open[0]!;
    const tried = open.map((v) => `${v.name} ${declared(v)} as [${feeds[v.name]?.shape ?? ""}]`).join(", ");
    throw new Fault(
      "shapes",
      `the model does not run with ${tried}: ${e.message.replace(/^session: /, "")}; give a shape it takes, e.g. --shape ${first.name}=${example(first)}`,
      { cause: e },
    );
  }
}

const declared = (v: Value) => (v.type?.shape ? `[${v.type.shape.map((d) => d ?? "?").join(",")}]` : "(rank unknown)");
const example = (v: Value) => v.type?.shape?.map((d, i) => (typeof d === "number" ? d : i === 0 ? 1 : 32)).join("x") ?? "1x3x224x224";

export interface SampleOptions {
  /** Shapes by input name, where the model leaves them open. A symbol takes the size it has there in every input. */
  readonly shape?: Readonly<Record<string, readonly number[]>>;
  /** Size of first dimensions that are open and not given by `shape`. Default 1. */
  readonly batch?: number;
  readonly seed?: number;
}

/**
 * Random feeds a model plausibly takes: floats from the standard normal distribution, integers 0 or 1 (valid as ids, masks and
 * segments alike; a single one that the model compares with a constant is that constant; 1 where the name says mask), bytes 0 … 255, strings "a"; open dimensions are 1 unless `shape` or `batch` says otherwise.
 * Errors: a shape for no input, or one that contradicts the model; an input of unknown rank without a shape; an input that is no tensor.
 */
export function sampleFeeds(model: Model, options: SampleOptions = {}): Record<string, Tensor> {
  const inputs = model.graph.inputs.filter((v) => !v.data);
  const given = options.shape ?? {};
  const symbols = new Map<string, number>();
  for (const [name, shape] of Object.entries(given)) {
    const v = inputs.find((i) => i.name === name);
    const written = `--shape ${name}=${shape.join("x")}`;
    if (!v) throw new Fault(written, `the model has no input "${name}"; it takes ${inputs.map((i) => i.name).join(", ") || "none"}`);
    const dims = v.type?.shape;
    if (!dims) continue;
    if (dims.length !== shape.length || dims.some((d, i) => typeof d === "number" && d !== shape[i]))
      throw new Fault(written, `the model declares ${declared(v)}`);
    dims.forEach((d, i) => {
      if (typeof d !== "string") return;
      if ((symbols.get(d) ?? shape[i]) !== shape[i])
        throw new Fault(written, `gives "${d}" the size ${shape[i]}; another input gives it ${symbols.get(d)}`);
      symbols.set(d, shape[i]!);
    });
  }
  const batch = options.batch ?? 1;
  for (const v of inputs) {
    const first = v.type?.shape?.[0];
    if (typeof first === "string" && !symbols.has(first)) symbols.set(first, batch);
  }
  const feeds: Record<string, Tensor> = {};
  for (const v of inputs) {
    if (!v.type) throw new Fault(`input "${v.name}"`, "is not a tensor; only tensors can be made up");
    const shape =
      given[v.name] ?? v.type.shape?.map((d, i) => (typeof d === "number" ? d : (measured(d, symbols) ?? (i === 0 ? batch : 1))));
    if (!shape) throw new Fault(`input "${v.name}"`, `its rank is unknown; give a shape, e.g. --shape ${v.name}=${example(v)}`);
    const known = expected(v, shape) ?? (isMask(v) ? tensor(v.type.dtype, shape, new Array<number>(sizeOf(shape)).fill(1)) : null);
    feeds[v.name] = known ?? sample(v.type.dtype, shape, random(options.seed ?? 0, v.name));
  }
  return feeds;
}

/** A mask says with integers what counts: everything, here. */
const isMask = (v: Value) => /mask/i.test(v.name) && /^(u?int|bool)/.test(v.type!.dtype);

/** The size a symbol has: known, or the sum of others ("past_sequence_length + sequence_length", as exporters of decoders write it); null: open. */
function measured(symbol: string | null, symbols: ReadonlyMap<string, number>): number | null {
  if (symbol === null) return null;
  const known = symbols.get(symbol);
  if (known !== undefined) return known;
  const sum = symbol === "total_sequence_length" ? "past_sequence_length + sequence_length" : symbol;
  const parts = sum.split("+").map((p) => p.trim());
  return parts.length > 1 ? parts.reduce((n, p) => n + (/^\d+$/.test(p) ? Number(p) : (symbols.get(p) ?? 1)), 0) : null;
}

/** A single integer that the model compares with a constant (a sampling rate, a mode): that constant. */
function expected(v: Value, shape: readonly number[]): Tensor | null {
  if (sizeOf(shape) !== 1 || !/int/.test(v.type!.dtype)) return null;
  for (const use of v.uses) {
    if (!("node" in use) || use.node.opType !== "Equal") continue;
    const constant = constantOf(use.node.inputs[1 - use.index]);
    if (constant && sizeOf(constant.shape) === 1) return tensor(v.type!.dtype, shape, numbersOf(constant));
  }
  return null;
}

function sample(dtype: DType, shape: readonly number[], r: ReturnType<typeof random>): Tensor {
  const n = sizeOf(shape);
  if (dtype === "string")
    return { dtype, shape, data: new Uint8Array(0), strings: Array.from({ length: n }, () => new TextEncoder().encode("a")) };
  const { kind } = dtypes[dtype];
  if (kind === "f") return tensor(dtype, shape, r.fillNormal(new Float32Array(n)));
  const below = dtype === "uint8" ? 256 : 2;
  return tensor(
    dtype,
    shape,
    Array.from({ length: n }, () => r.below(below)),
  );
}
