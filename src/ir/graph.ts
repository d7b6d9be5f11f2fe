/** The one representation everything works on: a Model holds a Graph of Nodes that pass Values. */
import type { DType } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** A known size, a symbol, or null: unknown. */
export type Dim = number | string | null;

/** Element type and shape of a tensor Value; `shape` null: the rank itself is unknown. */
export interface TensorType {
  readonly dtype: DType;
  readonly shape: readonly Dim[] | null;
}

/** Where a Value is read: as input `index` of a node, or as output `index` of a graph. */
export type Use = { readonly node: Node; readonly index: number } | { readonly graph: Graph; readonly index: number };

export type Attr =
  | { readonly type: "int" | "float"; readonly value: number; readonly source?: unknown }
  | { readonly type: "string"; readonly value: string; readonly source?: unknown }
  | { readonly type: "ints" | "floats"; readonly value: readonly number[]; readonly source?: unknown }
  | { readonly type: "strings"; readonly value: readonly string[]; readonly source?: unknown }
  | { readonly type: "tensor"; readonly value: Tensor; readonly source?: unknown }
  | { readonly type: "graph"; readonly value: Graph; readonly source?: unknown }
  | { readonly type: "graphs"; readonly value: readonly Graph[]; readonly source?: unknown }
  /** Anything pith does not look into (types, sparse tensors, references of functions): carried as it came. */
  | { readonly type: "opaque"; readonly value: null; readonly source: unknown };

/**
 * One value of a graph. `data` ⇒ an initializer; an initializer that is also a graph input is an overridable default.
 * Change `uses` only through {@link Node.setInput}, {@link Graph.setOutput} and {@link Value.replaceUses}.
 */
export class Value {
  readonly graph: Graph;
  readonly name: string;
  /** The node that computes it; null for inputs, initializers and values of no known origin. */
  producer: Node | null = null;
  readonly uses = new Set<Use>();
  data: Tensor | null = null;
  /** The ValueInfoProto it came from; null once the type was changed. */
  source: unknown;
  #type: TensorType | null;

  constructor(graph: Graph, name: string, type: TensorType | null) {
    this.graph = graph;
    this.name = name;
    this.#type = type;
  }

  get type(): TensorType | null {
    return this.#type;
  }
  set type(type: TensorType | null) {
    this.#type = type;
    this.source = null;
  }

  /** Its shape where every dimension is known, else null. */
  get shape(): readonly number[] | null {
    const s = this.#type?.shape;
    return s?.every((d) => typeof d === "number") ? (s as readonly number[]) : null;
  }

  /** Make every reader of this value read `by` instead (graph outputs included, unless `keepOutputs`). */
  replaceUses(by: Value, options: { keepOutputs?: boolean; except?: Node } = {}): void {
    for (const use of [...this.uses]) {
      if ("node" in use) {
        if (use.node !== options.except) use.node.setInput(use.index, by);
      } else if (!options.keepOutputs) use.graph.setOutput(use.index, by);
    }
  }
}

export class Node {
  readonly graph: Graph;
  readonly name: string;
  opType: string;
  /** "" is the default domain ("ai.onnx" is read as ""). */
  domain: string;
  readonly attrs: Map<string, Attr>;
  readonly outputs: (Value | null)[] = [];
  /** The NodeProto it came from. */
  source: unknown;
  readonly #inputs: (Value | null)[] = [];
  readonly #uses: (Use | null)[] = [];

  /** Use {@link Graph.append}. */
  constructor(graph: Graph, name: string, opType: string, domain: string, attrs: Map<string, Attr>) {
    this.graph = graph;
    this.name = name;
    this.opType = opType;
    this.domain = domain;
    this.attrs = attrs;
  }

  get inputs(): readonly (Value | null)[] {
    return this.#inputs;
  }

  /** Read `value` as input `index` (null: an omitted optional input). */
  setInput(index: number, value: Value | null): void {
    while (this.#inputs.length <= index) {
      this.#inputs.push(null);
      this.#uses.push(null);
    }
    const old = this.#uses[index];
    if (old) this.#inputs[index]!.uses.delete(old);
    const use = value ? { node: this as Node, index } : null;
    this.#inputs[index] = value;
    this.#uses[index] = use;
    if (use) value!.uses.add(use);
  }

  /** Drop the inputs from `count` on. */
  truncateInputs(count: number): void {
    for (let i = count; i < this.#inputs.length; i++) this.setInput(i, null);
    this.#inputs.length = Math.min(this.#inputs.length, count);
    this.#uses.length = this.#inputs.length;
  }

  int(name: string): number | undefined {
    const a = this.attrs.get(name);
    return a?.type === "int" ? a.value : undefined;
  }
  float(name: string): number | undefined {
    const a = this.attrs.get(name);
    return a?.type === "float" ? a.value : undefined;
  }
  ints(name: string): readonly number[] | undefined {
    const a = this.attrs.get(name);
    return a?.type === "ints" ? a.value : undefined;
  }
  string(name: string): string | undefined {
    const a = this.attrs.get(name);
    return a?.type === "string" ? a.value : undefined;
  }
  /** Graphs held by the attributes (If, Loop, Scan). */
  get subgraphs(): Graph[] {
    const out: Graph[] = [];
    for (const a of this.attrs.values()) {
      if (a.type === "graph") out.push(a.value);
      else if (a.type === "graphs") out.push(...a.value);
    }
    return out;
  }
}

/** Attribute values as one writes them: integers become `int`, other numbers need {@link float}. */
export type AttrInput = number | string | readonly number[] | Tensor | Graph | Attr | undefined;

/** A float attribute (a bare number is an int). */
export function float(value: number): Attr {
  return { type: "float", value };
}
/** A list-of-floats attribute (a bare list is ints). */
export function floats(value: readonly number[]): Attr {
  return { type: "floats", value };
}

function toAttr(name: string, v: Exclude<AttrInput, undefined>): Attr {
  if (typeof v === "number") {
    if (!Number.isInteger(v) && Number.isFinite(v)) throw new Fault(`attribute ${name}`, `a float must be written float(${v})`);
    return { type: "int", value: v };
  }
  if (typeof v === "string") return { type: "string", value: v };
  if (Array.isArray(v)) return { type: "ints", value: v as number[] };
  if (v instanceof Graph) return { type: "graph", value: v };
  if ("dtype" in v) return { type: "tensor", value: v as Tensor };
  return v as Attr;
}

export interface AppendOptions {
  readonly name?: string;
  readonly domain?: string;
  readonly attrs?: Readonly<Record<string, AttrInput>>;
  /** Number of outputs (default 1), or their names; "" omits one. New names are made unique. */
  readonly outputs?: number | readonly string[];
}

/**
 * A graph: values in, nodes, values out. Node order is free: the writer sorts topologically (and leaves a sorted graph as it is).
 * Subgraphs have a `parent` and share the `names` of their root.
 */
export class Graph {
  name: string;
  readonly parent: Graph | null;
  readonly inputs: Value[] = [];
  readonly initializers = new Set<Value>();
  readonly nodes = new Set<Node>();
  readonly names: Set<string>;
  /** Where to go on looking for a free name, by wish. */
  readonly #tried: Map<string, number>;
  /** The GraphProto it came from. */
  source: unknown;
  readonly #outputs: Value[] = [];
  readonly #outputUses: Use[] = [];

  constructor(name: string, parent: Graph | null = null) {
    this.name = name;
    this.parent = parent;
    this.names = parent ? parent.names : new Set();
    this.#tried = parent ? parent.#tried : new Map();
  }

  get outputs(): readonly Value[] {
    return this.#outputs;
  }

  /** A name that nothing in the model has yet; it is taken from now on. */
  fresh(wish: string): string {
    let name = wish;
    let i = this.#tried.get(wish) ?? 1;
    for (; this.names.has(name); i++) name = `${wish}_${i}`;
    this.#tried.set(wish, i);
    this.names.add(name);
    return name;
  }

  /** A new value with a unique name. */
  value(name: string, type: TensorType | null = null): Value {
    return new Value(this, this.fresh(name), type);
  }

  /** A new graph input. */
  input(name: string, dtype: DType, shape: readonly Dim[] | null): Value {
    const v = this.value(name, { dtype, shape });
    this.inputs.push(v);
    return v;
  }

  /** A new initializer. */
  initializer(name: string, data: Tensor): Value {
    const v = this.value(name, { dtype: data.dtype, shape: data.shape });
    v.data = data;
    this.initializers.add(v);
    return v;
  }

  /** Add a node; its outputs are new values. `node.outputs[0]!` is the first. */
  append(opType: string, inputs: readonly (Value | null)[], options: AppendOptions = {}): Node {
    const attrs = new Map<string, Attr>();
    for (const [k, v] of Object.entries(options.attrs ?? {})) if (v !== undefined) attrs.set(k, toAttr(k, v));
    const node = new Node(this, this.fresh(options.name ?? opType), opType, options.domain ?? "", attrs);
    inputs.forEach((v, i) => {
      node.setInput(i, v);
    });
    const outs = options.outputs ?? 1;
    const names = typeof outs === "number" ? Array.from({ length: outs }, (_, i) => `${node.name}${i ? `_out${i}` : "_out"}`) : outs;
    for (const n of names) this.addNodeOutput(node, n === "" ? null : this.value(n));
    this.nodes.add(node);
    return node;
  }

  /** Give `node` one more output (null: omitted). */
  addNodeOutput(node: Node, value: Value | null): void {
    if (value) value.producer = node;
    node.outputs.push(value);
  }

  /** Remove a node whose outputs nobody reads. Errors: an output that is still read. */
  remove(node: Node): void {
    for (const out of node.outputs) {
      if (out && out.uses.size > 0) throw new Fault(`node "${node.name || out.name}"`, `cannot be removed: "${out.name}" is still read`);
    }
    for (const sub of node.subgraphs) sub.detach();
    node.truncateInputs(0);
    for (const out of node.outputs) if (out) out.producer = null;
    this.nodes.delete(node);
  }

  /** Forget every use that this graph's nodes and outputs make (before the graph itself is dropped). */
  detach(): void {
    for (const n of this.nodes) {
      for (const sub of n.subgraphs) sub.detach();
      n.truncateInputs(0);
    }
    this.setOutputs([]);
  }

  /** Remove an initializer that nobody reads (also from the inputs, if it was an overridable default). */
  removeInitializer(value: Value): void {
    if (value.uses.size > 0) throw new Fault(`initializer "${value.name}"`, "cannot be removed: it is still read");
    this.initializers.delete(value);
    const i = this.inputs.indexOf(value);
    if (i >= 0) this.inputs.splice(i, 1);
  }

  /** Turn an initializer into a graph input (for training) or an input into an initializer: set or clear its data. */
  setData(value: Value, data: Tensor | null): void {
    value.data = data;
    if (data) {
      value.type = { dtype: data.dtype, shape: data.shape };
      this.initializers.add(value);
    } else this.initializers.delete(value);
  }

  addOutput(value: Value): void {
    this.setOutput(this.#outputs.length, value);
  }

  setOutput(index: number, value: Value): void {
    const old = this.#outputUses[index];
    if (old) this.#outputs[index]!.uses.delete(old);
    const use = { graph: this as Graph, index };
    this.#outputs[index] = value;
    this.#outputUses[index] = use;
    value.uses.add(use);
  }

  /** These outputs and no others. */
  setOutputs(values: readonly Value[]): void {
    while (this.#outputs.length) this.removeOutput(this.#outputs.length - 1);
    for (const v of values) this.addOutput(v);
  }

  removeOutput(index: number): void {
    const rest = this.#outputs.slice(index + 1);
    for (let i = index; i < this.#outputs.length; i++) this.#outputs[i]!.uses.delete(this.#outputUses[i]!);
    this.#outputs.length = index;
    this.#outputUses.length = index;
    for (const v of rest) this.addOutput(v);
  }
}

/** Makes `value` the first output of `node`, under its name and with all its readers; what computed it before does so no more, and can be removed. */
export function produce(node: Node, value: Value): void {
  const before = value.producer;
  if (before) before.outputs[before.outputs.indexOf(value)] = null;
  const old = node.outputs[0];
  if (old) old.producer = null;
  node.outputs[0] = value;
  value.producer = node;
}

/** A model: a graph, its opsets and what the file says about itself. */
export interface Model {
  graph: Graph;
  irVersion: number;
  /** Domain → version; "" is the default domain. */
  readonly opsets: Map<string, number>;
  readonly metadata: Map<string, string>;
  producer: string;
  /** Model-local functions, training info and whatever else the ModelProto holds, as they came. */
  source: unknown;
  /** Files that its external tensors came from, relative to `folder`; empty for a model in one piece. */
  readonly externalFiles: readonly string[];
  readonly folder: string | null;
}

/** An empty model; IR 8 and opset 17 unless told otherwise. */
export function newModel(name: string, opset = 17, irVersion = 8): Model {
  return {
    graph: new Graph(name),
    irVersion,
    opsets: new Map([["", opset]]),
    metadata: new Map(),
    producer: "pith",
    source: undefined,
    externalFiles: [],
    folder: null,
  };
}

/** A deep copy of the structure that shares tensor bytes, attributes and source messages; `map` takes old values to new ones. */
export function cloneModel(model: Model, map = new Map<Value, Value>()): Model {
  return {
    ...model,
    graph: cloneGraph(model.graph, null, map),
    opsets: new Map(model.opsets),
    metadata: new Map(model.metadata),
  };
}

/** Copy a graph; `map` takes old values to new ones and may hold outer-scope values beforehand. Names are kept as they are. */
export function cloneGraph(graph: Graph, parent: Graph | null, map: Map<Value, Value>): Graph {
  const copy = new Graph(graph.name, parent);
  if (!parent) for (const n of graph.names) copy.names.add(n);
  copy.source = graph.source;
  const copyOf = (v: Value): Value => {
    let c = map.get(v);
    if (!c) {
      if (v.graph !== graph) return v;
      c = new Value(copy, v.name, v.type);
      c.source = v.source;
      map.set(v, c);
    }
    return c;
  };
  for (const v of graph.inputs) copy.inputs.push(copyOf(v));
  for (const v of graph.initializers) {
    const c = copyOf(v);
    c.data = v.data;
    copy.initializers.add(c);
  }
  // Outputs first: a subgraph may read a value whose node stands later in the (unordered) set.
  for (const n of graph.nodes) for (const o of n.outputs) if (o) copyOf(o);
  for (const n of graph.nodes) {
    const attrs = new Map<string, Attr>();
    for (const [k, a] of n.attrs) {
      if (a.type === "graph") attrs.set(k, { ...a, value: cloneGraph(a.value, copy, map) });
      else if (a.type === "graphs") attrs.set(k, { ...a, value: a.value.map((g) => cloneGraph(g, copy, map)) });
      else attrs.set(k, a);
    }
    const c = new Node(copy, n.name, n.opType, n.domain, attrs);
    c.source = n.source;
    n.inputs.forEach((v, i) => {
      c.setInput(i, v && copyOf(v));
    });
    for (const o of n.outputs) copy.addNodeOutput(c, o && copyOf(o));
    copy.nodes.add(c);
  }
  for (const o of graph.outputs) copy.addOutput(copyOf(o));
  return copy;
}
