/** Constants: lifted out of nodes, and computed where nothing but constants goes in. */
import { cloneModel, type Graph, type Model, type Node, newModel, type Value } from "../ir/graph.ts";
import { allGraphs, constantOf, removeDead, sorted } from "../ir/walk.ts";
import { open, type SessionOptions } from "../runtime/session.ts";
import { unreachable } from "../runtime/shapes.ts";
import { numbersOf, type Tensor, tensor } from "../tensor/tensor.ts";
import { raiseIrVersion } from "./weights.ts";

/** Makes `value` an initializer of its graph in place of the node output it is. Its name stays. */
function becomeInitializer(value: Value, data: Tensor): void {
  const node = value.producer!;
  node.outputs[node.outputs.indexOf(value)] = null;
  value.producer = null;
  value.graph.setData(value, data);
  if (node.outputs.every((o) => o === null)) value.graph.remove(node);
}

/**
 * Turns Constant nodes into initializers of the same name, subgraphs included, so that weights stored in them are found. Returns how many.
 * Left alone: those that are a subgraph's output (runtimes want a node there). The IR version becomes at least 4.
 */
export function liftConstants(model: Model): number {
  let lifted = 0;
  for (const g of allGraphs(model.graph)) {
    for (const n of [...g.nodes]) {
      const value = n.outputs[0];
      const data = n.opType === "Constant" ? constantOf(value) : null;
      if (!value || !data || (g.parent && g.outputs.includes(value))) continue;
      becomeInitializer(value, data);
      lifted++;
    }
  }
  if (lifted) raiseIrVersion(model, 4);
  return lifted;
}

export interface FoldOptions extends Pick<SessionOptions, "threads"> {
  /** Take known shapes as constants too (Shape and Size of values with a concrete shape): specialises the model to them. Default false. */
  readonly shapes?: boolean;
  /** Initializers that are no constants, because they are going to change. */
  readonly variables?: ReadonlySet<Value>;
  /** Also fold what stores a weight a second time because the unfolded one is still read: tied weights part. Default false. */
  readonly split?: boolean;
}

/** Drawn anew each run, or storage that folding would blow up: what DequantizeLinear gives is four times as large. */
const kept = /^(Random|Bernoulli|Multinomial|Dropout|Sequence|SplitToSequence|Optional|DequantizeLinear$)/;
/** Bytes that may be stored once more, or that a computed constant may take whatever it comes from. */
const small = 4096;

/**
 * Computes what depends on constants alone, by ONNX Runtime in one session, and stores it as initializers; returns those. They keep their
 * names. Weights that are read in more than one way stay one tensor (see `split`), equal computations become one, an overridable
 * default is no constant, and nothing is stored that is larger than all it is computed from (and than 4 KiB).
 */
export async function fold(model: Model, options: FoldOptions = {}): Promise<Value[]> {
  const { graph } = model;
  if (options.shapes) foldShapes(graph);
  const sources = constantsOf(model, options.variables ?? new Set());
  mergeEqual(graph, sources);
  const outputs = new Set(graph.outputs);
  const constantNode = (n: Node) => n.outputs.some((o) => o && sources.has(o));
  const wanted = [...sources.keys()].filter(
    (v) =>
      v.producer &&
      v.producer.opType !== "Constant" &&
      !outputs.has(v) &&
      [...v.uses].some((u) => !("node" in u) || u.node.graph !== graph || !constantNode(u.node)),
  );
  const chosen = new Set(wanted);
  if (!options.split) leaveTied(chosen, sources, wanted, graph, constantNode);
  if (chosen.size === 0) return [];
  const results = await evaluate(model, [...chosen], options);
  const folded: Value[] = [];
  for (const [v, data] of results) {
    const from = [...sources.get(v)!].reduce((n, s) => n + bytes(s), 0);
    if (data.data.byteLength > Math.max(small, from)) continue;
    becomeInitializer(v, data);
    folded.push(v);
  }
  if (folded.length) raiseIrVersion(model, 4);
  removeDead(graph);
  return folded;
}

const bytes = (v: Value) => constantOf(v)?.data.byteLength ?? 0;

/** Constant values of the top graph, each with the stored tensors it is computed from. */
function constantsOf(model: Model, variables: ReadonlySet<Value>): Map<Value, ReadonlySet<Value>> {
  const { graph } = model;
  const hidden = unreachable(model);
  const inputs = new Set(graph.inputs);
  const sources = new Map<Value, ReadonlySet<Value>>();
  for (const v of graph.initializers) if (!inputs.has(v) && !variables.has(v)) sources.set(v, new Set([v]));
  for (const n of sorted(graph)) {
    if (n.opType === "Constant" && n.domain === "") {
      const v = n.outputs[0];
      if (v && constantOf(v)) sources.set(v, new Set([v]));
      continue;
    }
    if ((n.domain !== "" && n.domain !== "com.microsoft") || kept.test(n.opType) || n.subgraphs.length > 0) continue;
    const read = n.inputs.filter((v) => v !== null);
    if (read.length === 0 || !read.every((v) => sources.has(v)) || n.outputs.some((o) => o && hidden.has(o))) continue;
    const from = new Set(read.flatMap((v) => [...sources.get(v)!]));
    for (const o of n.outputs) if (o) sources.set(o, from);
  }
  return sources;
}

/** Constant nodes of the same op, attributes and inputs become one, so that what was tied stays tied. */
function mergeEqual(graph: Graph, sources: Map<Value, ReadonlySet<Value>>): void {
  const first = new Map<string, Node>();
  for (const n of sorted(graph)) {
    if (n.opType === "Constant" || n.inputs.length === 0 || !n.outputs.some((o) => o && sources.has(o))) continue;
    const attrs = [...n.attrs].sort(([a], [b]) => (a < b ? -1 : 1));
    if (attrs.some(([, a]) => a.type === "tensor" || a.type === "opaque")) continue;
    const key = JSON.stringify([n.domain, n.opType, n.inputs.map((v) => v?.name ?? ""), attrs.map(([k, a]) => [k, a.type, a.value])]);
    const same = first.get(key);
    if (!same || n.outputs.some((o, i) => o && (!same.outputs[i] || graph.outputs.includes(o)))) {
      first.set(key, same ?? n);
      continue;
    }
    n.outputs.forEach((o, i) => {
      o?.replaceUses(same.outputs[i]!);
      if (o) sources.delete(o);
    });
    graph.remove(n);
  }
}

/** Takes out of `chosen` what is computed from a tensor that stays in the model beside it. */
function leaveTied(
  chosen: Set<Value>,
  sources: ReadonlyMap<Value, ReadonlySet<Value>>,
  wanted: readonly Value[],
  graph: Graph,
  constantNode: (n: Node) => boolean,
): void {
  const outputs = new Set([...wanted, ...graph.outputs]);
  const readOutside = (v: Value) => [...v.uses].some((u) => !("node" in u) || u.node.graph !== graph || !constantNode(u.node));
  for (let before = -1; before !== chosen.size; ) {
    before = chosen.size;
    // Stored tensors that are still there after folding: read directly, or by what stays computed.
    const alive = new Set<Value>();
    for (const [v, from] of sources) {
      if (!v.producer || v.producer.opType === "Constant" ? readOutside(v) : outputs.has(v) && !chosen.has(v))
        for (const s of from) alive.add(s);
    }
    for (const v of chosen) if ([...sources.get(v)!].some((s) => alive.has(s) && bytes(s) > small)) chosen.delete(v);
  }
}

async function evaluate(model: Model, values: readonly Value[], options: FoldOptions): Promise<Map<Value, Tensor>> {
  const map = new Map<Value, Value>();
  const probe = cloneModel(model, map);
  const g = probe.graph;
  g.setOutputs(values.map((v) => map.get(v)!));
  removeDead(g);
  g.inputs.length = 0;
  const session = await open(probe, { ...(options.threads ? { threads: options.threads } : {}), spinning: false });
  try {
    const readable = new Set(session.outputs.filter((o) => o.dtype && !/^u?int4$/.test(o.dtype)).map((o) => o.name));
    const wanted = values.filter((v) => readable.has(v.name));
    const results = await session.run(
      {},
      wanted.map((v) => v.name),
    );
    return new Map(wanted.map((v) => [v, results[v.name]!]));
  } finally {
    await session.release();
  }
}

/** Shape and Size of values whose shape is known become initializers. */
function foldShapes(graph: Graph): void {
  for (const n of [...graph.nodes]) {
    const shape = n.domain === "" ? n.inputs[0]?.shape : null;
    const out = n.outputs[0];
    if (!shape || !out || graph.outputs.includes(out)) continue;
    if (n.opType === "Shape") {
      const dims = shape.slice(n.int("start") ?? 0, n.int("end") ?? shape.length);
      becomeInitializer(out, tensor("int64", [dims.length], dims));
    } else if (n.opType === "Size") becomeInitializer(out, tensor("int64", [], [shape.reduce((a, d) => a * d, 1)]));
  }
}

/**
 * Computes single values, in subgraphs too, that depend on constants alone (weights that an exporter reorders at run time), and stores
 * each beside the largest constant it comes from, once for all equal computations. Values that depend on anything else stay as they are.
 */
export async function foldValues(model: Model, values: Iterable<Value>, options: Pick<SessionOptions, "threads"> = {}): Promise<void> {
  const probe = { ...newModel("fold"), opsets: new Map(model.opsets), irVersion: model.irVersion };
  const copies = new Map<Value, Source | null>();
  const equal = new Map<string, Value>();
  const copy = (v: Value): Source | null => {
    const known = copies.get(v);
    if (known !== undefined) return known;
    const made = constantSource(v) ?? computed(v);
    copies.set(v, made);
    return made;
  };
  const constantSource = (v: Value): Source | null => {
    const data = v.graph.inputs.includes(v) ? null : constantOf(v);
    if (!data) return null;
    const few = data.data.byteLength <= 64 ? `${data.dtype}[${data.shape}]${numbersOf(data)}` : `${v.graph.name}/${v.name}`;
    return { value: probe.graph.initializer(v.name, data), key: few, largest: v, bytes: data.data.byteLength };
  };
  const computed = (v: Value): Source | null => {
    const n = v.producer;
    if (!n || (n.domain !== "" && n.domain !== "com.microsoft") || kept.test(n.opType) || n.subgraphs.length || !n.inputs.some(Boolean))
      return null;
    const inputs = n.inputs.map((i) => i && copy(i));
    if (n.inputs.some((i, k) => i && !inputs[k])) return null;
    const attrs = [...n.attrs].sort(([a], [b]) => (a < b ? -1 : 1));
    if (attrs.some(([, a]) => a.type === "tensor" || a.type === "opaque")) return null;
    const largest = inputs.reduce((a, b) => (b && (!a || b.bytes > a.bytes) ? b : a), null)!;
    const at = n.outputs.indexOf(v);
    const key = `${n.opType}:${at}${JSON.stringify(attrs.map(([k, a]) => [k, a.value]))}(${inputs.map((i) => i?.key ?? "").join()})`;
    let value = equal.get(key);
    if (!value) {
      const made = probe.graph.append(
        n.opType,
        inputs.map((i) => i?.value ?? null),
        { domain: n.domain, attrs: Object.fromEntries(attrs), outputs: n.outputs.map((o) => o?.name ?? "") },
      );
      value = made.outputs[at]!;
      equal.set(key, value);
    }
    return { value, key, largest: largest.largest, bytes: largest.bytes };
  };
  const wanted = [...new Set(values)].flatMap((v) => {
    const source = constantOf(v) ? null : copy(v);
    return source ? [{ v, source }] : [];
  });
  if (wanted.length === 0) return;
  for (const value of new Set(wanted.map((w) => w.source.value))) probe.graph.addOutput(value);
  removeDead(probe.graph);
  const session = await open(probe, { ...options, spinning: false });
  try {
    const results = await session.run({});
    const stored = new Map<Value, Value>();
    for (const { v, source } of wanted) {
      const to = stored.get(source.value) ?? source.largest.graph.initializer(`${v.name}/folded`, results[source.value.name]!);
      stored.set(source.value, to);
      v.replaceUses(to);
    }
  } finally {
    await session.release();
  }
  for (const g of allGraphs(model.graph)) removeDead(g);
}

/** A constant in the graph that computes it, what it is computed from as text, and the largest tensor among that. */
interface Source {
  readonly value: Value;
  readonly key: string;
  readonly largest: Value;
  readonly bytes: number;
}
