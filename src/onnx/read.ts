/** ModelProto bytes to a Model. */
import { create, fromBinary } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  type FunctionProto,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  AttributeProto_AttributeType as T,
  type TensorShapeProto_Dimension,
  type ValueInfoProto,
} from "onnx-buf";
import { type Attr, type Dim, Graph, type Model, Node, type TensorType, Value } from "../ir/graph.ts";
import { dtypeOfCode } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { GraphProtoSchema, ModelProtoSchema, ValueInfoProtoSchema } from "./messages.ts";
import { readSparse } from "./sparse.ts";
import { type ExternalReader, readTensor } from "./tensor.ts";
import { scan } from "./wire.ts";

/** What a Model keeps of the file it came from: the message and the exact bytes, so that an untouched model is written back as it was. */
export interface ModelSource {
  readonly message: ModelProto;
  /** null: the message is no longer the file's. */
  readonly bytes: Uint8Array | null;
}

export interface ReadOptions {
  /** What to call the model in messages. */
  readonly name?: string;
  /** How to reach external tensor data; without it a model with external data is refused. */
  readonly external?: ExternalReader;
  readonly folder?: string | null;
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Reads an ONNX file. The result looks into `file` (no copy): do not change them afterwards. Errors: not ONNX, or claims beyond what `limits.ts` allows. */
export function readModel(file: Uint8Array, options: ReadOptions = {}): Model {
  const where = options.name ?? "model";
  // A Node Buffer's slice() is a view: whoever copies a tensor that way would write into the file's bytes.
  const bytes = new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
  let message: ModelProto;
  try {
    scan(ModelProtoSchema, bytes);
    message = fromBinary(ModelProtoSchema, bytes as Uint8Array<ArrayBuffer>);
  } catch (e) {
    throw new Fault(where, `is not a readable ONNX file: ${(e as Error).message}`, { cause: e });
  }
  if (!message.graph) throw new Fault(where, "holds no graph; an ONNX model file was expected");
  const files = new Set<string>();
  const external: ExternalReader = (location, offset, length) => {
    if (!options.external) throw new Error(`needs the external file "${location}", but only the model's bytes were given`);
    files.add(location);
    return options.external(location, offset, length);
  };
  const graph = readGraph(message.graph, null, { values: new Map(), outer: null }, { external, where });
  for (const name of otherNames(message)) graph.names.add(name);
  return {
    graph,
    irVersion: Number(message.irVersion),
    opsets: opsetsOf(message),
    metadata: metadataOf(message),
    producer: message.producerName,
    source: { message, bytes } satisfies ModelSource,
    externalFiles: [...files],
    folder: options.folder ?? null,
  };
}

/** The model-local functions. */
export function functionsOf(model: Model): readonly FunctionProto[] {
  return (model.source as ModelSource | undefined)?.message.functions ?? [];
}

/** Takes the model-local functions out of what is kept of the file. */
export function dropFunctions(model: Model): void {
  const { message } = model.source as ModelSource;
  const rest = Object.assign(create(ModelProtoSchema), message, { functions: [] });
  model.source = { message: rest, bytes: null } satisfies ModelSource;
}

/** How a function's parts are read: its tensors cannot be in external files. */
const inFunction = (f: FunctionProto): Reading => ({
  where: `function "${f.name}"`,
  external(location) {
    throw new Error(`a function's tensor is in the external file "${location}"; only a graph's may be`);
  },
});

/** A function's body as a graph of its own; attributes that refer to the caller's are opaque. Errors: tensors in external files. */
export function readFunction(f: FunctionProto): Graph {
  const infos = (names: readonly string[]) => names.map((name) => create(ValueInfoProtoSchema, { name }));
  const proto = create(GraphProtoSchema, { name: f.name, input: infos(f.input), output: infos(f.output), node: f.node });
  return readGraph(proto, null, { values: new Map(), outer: null }, inFunction(f));
}

/** The values that a function's attributes have where the caller gives none. */
export function readDefaults(f: FunctionProto): Map<string, Attr> {
  const reading = inFunction(f);
  const graph = (g: GraphProto) => readGraph(g, null, { values: new Map(), outer: null }, reading);
  return new Map(f.attributeProto.map((a) => [a.name, readAttr(a, graph, reading.external, reading.where)]));
}

/** Names that functions and training graphs use: new ones must not collide with them. */
function* otherNames(message: ModelProto): Generator<string> {
  for (const f of message.functions) {
    yield f.name;
    yield* namesIn(f.node);
  }
  for (const t of message.trainingInfo) {
    for (const g of [t.initialization, t.algorithm]) {
      if (!g) continue;
      for (const x of [...g.input, ...g.initializer]) yield x.name;
      yield* namesIn(g.node);
    }
  }
}

function* namesIn(nodes: readonly NodeProto[]): Generator<string> {
  for (const n of nodes) {
    yield n.name;
    yield* n.input;
    yield* n.output;
    for (const a of n.attribute) for (const g of a.g ? [a.g, ...a.graphs] : a.graphs) yield* namesIn(g.node);
  }
}

/** Domain → version. Before IR 3 there were no imports: the default domain at its first version. */
export function opsetsOf(message: ModelProto): Map<string, number> {
  if (message.opsetImport.length === 0 && message.irVersion < 3n) return new Map([["", 1]]);
  return new Map(message.opsetImport.map((o) => [domainOf(o.domain), Number(o.version)]));
}

export function metadataOf(message: ModelProto): Map<string, string> {
  return new Map(message.metadataProps.map((p) => [p.key, p.value]));
}

/** "ai.onnx" and "" are the same domain. */
export function domainOf(domain: string): string {
  return domain === "ai.onnx" ? "" : domain;
}

interface Scope {
  readonly values: Map<string, Value>;
  readonly outer: Scope | null;
}

function lookup(scope: Scope | null, name: string): Value | undefined {
  for (let s = scope; s; s = s.outer) {
    const v = s.values.get(name);
    if (v) return v;
  }
  return undefined;
}

/** How to reach external data, and what to call the model in messages. */
interface Reading {
  readonly external: ExternalReader;
  readonly where: string;
}

function readGraph(p: GraphProto, parent: Graph | null, scope: Scope, reading: Reading): Graph {
  const graph = new Graph(p.name, parent);
  graph.source = p;
  const own = scope.values;
  const define = (name: string): Value => {
    let v = own.get(name);
    if (!v) {
      graph.names.add(name);
      v = new Value(graph, name, null);
      own.set(name, v);
    }
    return v;
  };
  const describe = (v: Value, info: ValueInfoProto) => {
    v.type = readType(info);
    v.source = info;
  };
  for (const info of p.input) {
    const known = own.has(info.name);
    const v = define(info.name);
    describe(v, info);
    if (!known) graph.inputs.push(v);
  }
  const store = (name: string, data: Tensor) => {
    const v = define(name);
    v.data = data;
    if (!v.type) {
      const info = v.source;
      v.type = { dtype: data.dtype, shape: data.shape };
      v.source = info;
    }
    graph.initializers.add(v);
  };
  const at = (name: string) => `${reading.where}: tensor "${name}"`;
  for (const t of p.initializer) store(t.name, readTensor(t, reading.external, at(t.name)));
  for (const t of p.sparseInitializer) {
    const name = t.values?.name ?? "";
    store(name, readSparse(t, reading.external, at(name)));
  }
  // All outputs are known before any input is looked up, so that order does not matter and inner names hide outer ones.
  for (const n of p.node) for (const o of n.output) if (o) define(o);
  for (const info of [...p.valueInfo, ...p.output]) {
    const v = own.get(info.name);
    if (v && !v.source) describe(v, info);
  }
  // What nothing defines keeps its name; check() and ONNX Runtime will say so.
  const resolve = (name: string): Value => lookup(scope, name) ?? define(name);
  for (const n of p.node) graph.nodes.add(readNode(n, graph, scope, resolve, reading));
  for (const info of p.output) graph.addOutput(resolve(info.name));
  return graph;
}

function readNode(p: NodeProto, graph: Graph, scope: Scope, resolve: (n: string) => Value, reading: Reading): Node {
  const attrs = new Map<string, Attr>();
  const where = `${reading.where}: node "${p.name || (p.output[0] ?? p.opType)}"`;
  for (const a of p.attribute) {
    const subgraph = (g: GraphProto) => readGraph(g, graph, { values: new Map(), outer: scope }, reading);
    attrs.set(a.name, readAttr(a, subgraph, reading.external, where));
  }
  const node = new Node(graph, p.name, p.opType, domainOf(p.domain), attrs);
  node.source = p;
  graph.names.add(p.name);
  p.input.forEach((name, i) => {
    node.setInput(i, name ? resolve(name) : null);
  });
  for (const name of p.output) graph.addNodeOutput(node, name ? resolve(name) : null);
  return node;
}

/** An attribute. What pith does not look into (references of functions, types, lists of tensors, nothing at all) stays opaque. */
function readAttr(a: AttributeProto, graph: (g: GraphProto) => Graph, external: ExternalReader, where: string): Attr {
  const type = typeOf(a);
  const at = `${where}: attribute "${a.name}"`;
  if (type === T.TENSOR && a.t?.dataType) return { type: "tensor", value: readTensor(a.t, external, at), source: a };
  if (type === T.SPARSE_TENSOR && a.sparseTensor) return { type: "tensor", value: readSparse(a.sparseTensor, external, at), source: a };
  if (type === T.GRAPH && a.g) return { type: "graph", value: graph(a.g), source: a };
  if (type === T.GRAPHS) return { type: "graphs", value: a.graphs.map(graph), source: a };
  return readPlain(a) ?? { type: "opaque", value: null, source: a };
}

/** An attribute of numbers or strings; null for any other. */
export function readPlain(a: AttributeProto): Attr | null {
  switch (typeOf(a)) {
    case T.INT:
      return { type: "int", value: Number(a.i), source: a };
    case T.FLOAT:
      return { type: "float", value: a.f, source: a };
    case T.STRING:
      return { type: "string", value: decoder.decode(a.s), source: a };
    case T.INTS:
      return { type: "ints", value: a.ints.map(Number), source: a };
    case T.FLOATS:
      return { type: "floats", value: a.floats, source: a };
    case T.STRINGS:
      return { type: "strings", value: a.strings.map((s) => decoder.decode(s)), source: a };
    default:
      return null;
  }
}

/** The attribute's type; IR 1 left it out, and the field that is set tells. */
function typeOf(a: AttributeProto): T {
  if (a.refAttrName) return T.UNDEFINED;
  if (a.type) return a.type;
  const set = (field: keyof AttributeProto) => Object.hasOwn(a, field);
  if (a.t) return T.TENSOR;
  if (a.g) return T.GRAPH;
  if (a.ints.length) return T.INTS;
  if (a.floats.length) return T.FLOATS;
  if (a.strings.length) return T.STRINGS;
  if (a.graphs.length) return T.GRAPHS;
  if (set("s")) return T.STRING;
  if (set("f")) return T.FLOAT;
  return set("i") ? T.INT : T.UNDEFINED;
}

function readType(info: ValueInfoProto): TensorType | null {
  const t = info.type?.value;
  if (t?.case !== "tensorType") return null;
  const dtype = dtypeOfCode(t.value.elemType);
  if (!dtype) return null;
  const dim = (d: TensorShapeProto_Dimension): Dim => {
    if (d.value.case === "dimValue") return d.value.value >= 0n ? Number(d.value.value) : null;
    return (d.value.case === "dimParam" && d.value.value) || null;
  };
  return { dtype, shape: t.value.shape?.dim.map(dim) ?? null };
}
