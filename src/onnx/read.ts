/** ModelProto bytes to a Model. */
import { fromBinary } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  type GraphProto,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  AttributeProto_AttributeType as T,
  type ValueInfoProto,
} from "onnx-buf";
import { type Attr, type Dim, Graph, type Model, Node, type TensorType, Value } from "../ir/graph.ts";
import { dtypeOfCode } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { limits } from "./limits.ts";
import { type ExternalReader, readSparse, readTensor } from "./tensor.ts";

/** What a Model keeps of the file it came from: the message and the exact bytes, so that an untouched model is written back as it was. */
export interface ModelSource {
  readonly message: ModelProto;
  readonly bytes: Uint8Array;
}

export interface ReadOptions {
  /** What to call the model in messages. */
  readonly name?: string;
  /** How to reach external tensor data; without it a model with external data is refused. */
  readonly external?: ExternalReader;
  readonly folder?: string | null;
}

const decoder = new TextDecoder();

/** Reads an ONNX file. The result looks into `bytes` (no copy): do not change them afterwards. Errors: not ONNX, or claims beyond {@link limits}. */
export function readModel(bytes: Uint8Array, options: ReadOptions = {}): Model {
  const where = options.name ?? "model";
  let message: ModelProto;
  try {
    message = fromBinary(ModelProtoSchema, bytes as Uint8Array<ArrayBuffer>);
  } catch (e) {
    throw new Fault(
      where,
      `is not a readable ONNX file (${e instanceof RangeError ? "nested too deeply or cut short" : (e as Error).message})`,
      { cause: e },
    );
  }
  if (!message.graph) throw new Fault(where, "holds no graph; an ONNX model file was expected");
  const files = new Set<string>();
  const external: ExternalReader = (location, offset, length) => {
    if (!options.external) throw new Error(`needs the external file "${location}", but only the model's bytes were given`);
    files.add(location);
    return options.external(location, offset, length);
  };
  const scope: Scope = { values: new Map(), outer: null };
  const names = new Set<string>();
  for (const f of message.functions) {
    names.add(f.name);
    for (const n of f.node) for (const name of [n.name, ...n.input, ...n.output]) names.add(name);
  }
  const graph = readGraph(message.graph, null, scope, external, where, names, 0);
  return {
    graph,
    irVersion: Number(message.irVersion),
    opsets: new Map(message.opsetImport.map((o) => [domainOf(o.domain), Number(o.version)])),
    metadata: new Map(message.metadataProps.map((p) => [p.key, p.value])),
    producer: message.producerName,
    source: { message, bytes } satisfies ModelSource,
    externalFiles: [...files],
    folder: options.folder ?? null,
  };
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

function readGraph(
  p: GraphProto,
  parent: Graph | null,
  scope: Scope,
  external: ExternalReader,
  where: string,
  names: Set<string>,
  depth: number,
): Graph {
  if (depth > limits.subgraphDepth) throw new Fault(where, `nests subgraphs deeper than ${limits.subgraphDepth}`);
  const graph = new Graph(p.name, parent);
  graph.source = p;
  const root = graph.names;
  if (!parent) for (const n of names) root.add(n);
  const own = scope.values;
  const define = (name: string): Value => {
    root.add(name);
    let v = own.get(name);
    if (!v) {
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
    const v = define(info.name);
    describe(v, info);
    graph.inputs.push(v);
  }
  for (const t of p.initializer) {
    const v = define(t.name);
    v.data = readTensor(t, external, `${where}: tensor "${t.name}"`);
    if (!v.type) {
      v.type = { dtype: v.data.dtype, shape: v.data.shape };
      v.source = undefined;
    }
    graph.initializers.add(v);
  }
  for (const t of p.sparseInitializer) {
    const name = t.values?.name ?? "";
    const v = define(name);
    v.data = readSparse(t, external, `${where}: tensor "${name}"`);
    if (!v.type) {
      v.type = { dtype: v.data.dtype, shape: v.data.shape };
      v.source = undefined;
    }
    graph.initializers.add(v);
  }
  // All outputs are known before any input is looked up, so that order does not matter and inner names hide outer ones.
  for (const n of p.node) for (const o of n.output) if (o) define(o);
  for (const info of [...p.valueInfo, ...p.output]) {
    const v = own.get(info.name);
    if (v && !v.source) describe(v, info);
  }
  const resolve = (name: string): Value => {
    const v = lookup(scope, name);
    if (v) return v;
    // Nothing defines it: keep the name; check() and ONNX Runtime will say so.
    return define(name);
  };
  for (const n of p.node) graph.nodes.add(readNode(n, graph, scope, resolve, external, where, names, depth));
  for (const info of p.output) graph.addOutput(resolve(info.name));
  return graph;
}

function readNode(
  p: NodeProto,
  graph: Graph,
  scope: Scope,
  resolve: (n: string) => Value,
  external: ExternalReader,
  where: string,
  names: Set<string>,
  depth: number,
): Node {
  const attrs = new Map<string, Attr>();
  for (const a of p.attribute) {
    attrs.set(
      a.name,
      readAttr(
        a,
        (g) => readGraph(g, graph, { values: new Map(), outer: scope }, external, where, names, depth + 1),
        external,
        `${where}: node "${p.name || p.output[0]}"`,
      ),
    );
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

function readAttr(a: AttributeProto, graph: (g: GraphProto) => Graph, external: ExternalReader, where: string): Attr {
  if (a.refAttrName) return { type: "opaque", value: null, source: a };
  // IR below 2 leaves `type` out; the field that is set tells.
  const type =
    a.type ||
    (a.t
      ? T.TENSOR
      : a.g
        ? T.GRAPH
        : a.ints.length
          ? T.INTS
          : a.floats.length
            ? T.FLOATS
            : a.strings.length
              ? T.STRINGS
              : a.s.length
                ? T.STRING
                : a.f
                  ? T.FLOAT
                  : T.INT);
  switch (type) {
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
    case T.TENSOR:
      return a.t
        ? { type: "tensor", value: readTensor(a.t, external, `${where}: attribute "${a.name}"`), source: a }
        : { type: "opaque", value: null, source: a };
    case T.GRAPH:
      return a.g ? { type: "graph", value: graph(a.g), source: a } : { type: "opaque", value: null, source: a };
    case T.GRAPHS:
      return { type: "graphs", value: a.graphs.map(graph), source: a };
    default:
      return { type: "opaque", value: null, source: a };
  }
}

function readType(info: ValueInfoProto): TensorType | null {
  const t = info.type?.value;
  if (t?.case !== "tensorType") return null;
  const dtype = dtypeOfCode(t.value.elemType);
  if (!dtype) return null;
  const dims = t.value.shape?.dim;
  return {
    dtype,
    shape: dims
      ? dims.map(
          (d): Dim =>
            d.value.case === "dimValue" ? Number(d.value.value) : d.value.case === "dimParam" && d.value.value ? d.value.value : null,
        )
      : null,
  };
}
