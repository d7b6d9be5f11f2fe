/** A Model to ModelProto bytes. What was not changed is the message it was read from; a model in which nothing changed is its own file, byte by byte. */
import { clone, create, type DescMessage, type MessageShape, toBinary } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  AttributeProtoSchema,
  type GraphProto,
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  type SparseTensorProto,
  StringStringEntryProtoSchema,
  AttributeProto_AttributeType as T,
  type TensorProto,
  TensorProto_DataLocation,
  TensorProtoSchema,
  type TensorShapeProto_Dimension,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from "onnx-buf";
import type { Attr, Graph, Model, Node, TensorType, Value } from "../ir/graph.ts";
import { sorted } from "../ir/walk.ts";
import { dtypes } from "../tensor/dtype.ts";
import { type LazyBytes, type Tensor, toInt64 } from "../tensor/tensor.ts";
import { domainOf, type ModelSource } from "./read.ts";
import { tensorHeader, writeTensor } from "./tensor.ts";

/** Pieces of a file in order; a lazy piece is read only when it is written. */
export type Pieces = (Uint8Array | LazyBytes)[];

/** Where the writer puts a tensor outside the main file; null keeps it inside. */
export type Externalize = (name: string, t: Tensor) => { location: string; offset: number; length: number } | null;

/** The model as bytes in one piece. For models of some size prefer {@link writePieces}, which copies no weights. */
export function writeModel(model: Model, options: { embed?: boolean } = {}): Uint8Array {
  const pieces = writePieces(model, options);
  if (pieces.length === 1 && pieces[0] instanceof Uint8Array) return pieces[0];
  const out = new Uint8Array(pieces.reduce((n, p) => n + p.byteLength, 0));
  let at = 0;
  for (const p of pieces) {
    out.set(p instanceof Uint8Array ? p : p.read(), at);
    at += p.byteLength;
  }
  return out;
}

/** True if the model still is, message for message, what it was read as. */
export function isUntouched(model: Model): boolean {
  const source = model.source as ModelSource | undefined;
  return source !== undefined && modelMessage(model, false) === source.message;
}

/** The model's file as pieces: its own bytes if it is untouched (and, with `embed`, has no external data), else weights inside but for what `externalize` places. */
export function writePieces(model: Model, options: { externalize?: Externalize; embed?: boolean } = {}): Pieces {
  if (isUntouched(model) && !(options.embed && model.externalFiles.length > 0)) return [(model.source as ModelSource).bytes];
  const externalize = options.externalize ?? (() => null);
  const message = modelMessage(model, true);
  const g = message.graph!;
  const inner: Pieces = [toBinary(GraphProtoSchema, shallow(GraphProtoSchema, g, { initializer: [] }))];
  const values = new Map([...model.graph.initializers].map((v) => [v.name, v]));
  for (const t of g.initializer) {
    const data = values.get(t.name)!.data!;
    const place = data.strings ? null : externalize(t.name, data);
    if (place) {
      const entries = Object.entries(place).map(([key, value]) => create(StringStringEntryProtoSchema, { key, value: String(value) }));
      inner.push(
        ...framed(5, [
          toBinary(
            TensorProtoSchema,
            shallow(TensorProtoSchema, tensorHeader(t.name, data), {
              dataLocation: TensorProto_DataLocation.EXTERNAL,
              externalData: entries,
              ...notes(t),
            }),
          ),
        ]),
      );
    } else if (!data.strings && (t.dataLocation === TensorProto_DataLocation.EXTERNAL || t.rawData.byteLength > 0 || pending.has(t))) {
      const header = shallow(TensorProtoSchema, tensorHeader(t.name, data), notes(t));
      inner.push(...framed(5, [toBinary(TensorProtoSchema, header), ...framed(9, [data.data])]));
    } else inner.push(...framed(5, [toBinary(TensorProtoSchema, t)]));
  }
  const shell = toBinary(ModelProtoSchema, withoutGraph(message));
  return [shell, ...framed(7, inner)];
}

function notes(t: TensorProto) {
  return { ...(t.docString ? { docString: t.docString } : {}), ...(t.metadataProps.length ? { metadataProps: t.metadataProps } : {}) };
}

/** A length-delimited field: tag, length, content. */
function framed(field: number, content: Pieces): Pieces {
  const length = content.reduce((n, p) => n + p.byteLength, 0);
  return [Uint8Array.from([...varint(field * 8 + 2), ...varint(length)]), ...content];
}

function varint(x: number): number[] {
  const out: number[] = [];
  while (x > 127) {
    out.push((x % 128) | 128);
    x = Math.floor(x / 128);
  }
  out.push(x);
  return out;
}

/** A message with the same fields (unknown ones too) but for some. */
function shallow<D extends DescMessage>(schema: D, m: MessageShape<D>, changes: object): MessageShape<D> {
  return Object.assign(create(schema), m, changes) as MessageShape<D>;
}

function withoutGraph(m: ModelProto): ModelProto {
  const copy = shallow(ModelProtoSchema, m, {});
  delete copy.graph;
  return copy;
}

/** Headers whose bytes are still in the Tensor: {@link writePieces} puts them behind. */
const pending = new WeakSet<TensorProto>();

/** The ModelProto; the very message it was read from if nothing changed. Big new tensors are headers without bytes. */
function modelMessage(model: Model, embed: boolean): ModelProto {
  const source = (model.source as ModelSource | undefined)?.message;
  const graph = graphMessage(model.graph, true, embed);
  const opsets = [...model.opsets].filter(
    ([d, v]) => !source?.opsetImport.some((o) => domainOf(o.domain) === d && Number(o.version) === v),
  );
  const metadata = source && sameMetadata(model, source);
  if (
    source &&
    source.graph === graph &&
    opsets.length === 0 &&
    new Set(source.opsetImport.map((o) => domainOf(o.domain))).size === model.opsets.size &&
    Number(source.irVersion) === model.irVersion &&
    metadata &&
    source.producerName === model.producer
  ) {
    return source;
  }
  return shallow(ModelProtoSchema, source ?? create(ModelProtoSchema), {
    graph,
    irVersion: BigInt(model.irVersion),
    producerName: model.producer,
    opsetImport: [...model.opsets].map(([domain, version]) => {
      const old = source?.opsetImport.find((o) => domainOf(o.domain) === domain);
      return old && Number(old.version) === version
        ? old
        : create(OperatorSetIdProtoSchema, { domain: old?.domain ?? domain, version: BigInt(version) });
    }),
    metadataProps: metadata
      ? source.metadataProps
      : [...model.metadata].map(([key, value]) => create(StringStringEntryProtoSchema, { key, value })),
  });
}

function sameMetadata(model: Model, source: ModelProto): boolean {
  return (
    model.metadata.size === new Set(source.metadataProps.map((p) => p.key)).size &&
    source.metadataProps.every((p) => model.metadata.get(p.key) === p.value)
  );
}

function graphMessage(graph: Graph, top: boolean, embed: boolean): GraphProto {
  const source = graph.source as GraphProto | undefined;
  const node = sorted(graph).map((n) => nodeMessage(n, embed));
  const initializer: TensorProto[] = [];
  const sparseInitializer: SparseTensorProto[] = [];
  for (const v of graph.initializers) {
    const t = v.data!;
    const from = t.source as TensorProto | SparseTensorProto | undefined;
    if (from?.$typeName === "onnx.SparseTensorProto" && from.values?.name === v.name) sparseInitializer.push(from);
    else if (top && from?.$typeName !== "onnx.TensorProto") {
      const header = tensorHeader(v.name, t);
      if (!t.strings) pending.add(header);
      initializer.push(header);
    } else initializer.push(writeTensor(v.name, t, embed && !top));
  }
  const input = graph.inputs.map(infoMessage);
  const output = graph.outputs.map((v, i) =>
    source?.output[i]?.name === v.name && v.source !== null ? source.output[i]! : infoMessage(v),
  );
  const produced = new Map<string, Value>();
  for (const n of graph.nodes) for (const o of n.outputs) if (o) produced.set(o.name, o);
  for (const v of graph.initializers) produced.set(v.name, v);
  // Kept as they came while their value lives and its type was not changed.
  const valueInfo = (source?.valueInfo ?? []).filter((i) => {
    const v = produced.get(i.name);
    return v ? v.source !== null : untouchedName(graph, source, i.name);
  });
  if (
    source &&
    same(node, source.node) &&
    same(initializer, source.initializer) &&
    same(sparseInitializer, source.sparseInitializer) &&
    same(input, source.input) &&
    same(output, source.output) &&
    same(valueInfo, source.valueInfo) &&
    source.name === graph.name
  ) {
    return source;
  }
  const shared = source ? shallow(GraphProtoSchema, source, {}) : create(GraphProtoSchema);
  return Object.assign(shared, { name: graph.name, node, initializer, sparseInitializer, input, output, valueInfo });
}

/** value_info of a name that nothing in the graph defines: keep it only while the nodes are the ones that were read. */
function untouchedName(graph: Graph, source: GraphProto | undefined, name: string): boolean {
  if (!source || source.node.length !== graph.nodes.size) return false;
  return !source.node.some((n) => n.output.includes(name));
}

function same(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((x, i) => x === b[i]);
}

function nodeMessage(n: Node, embed: boolean): NodeProto {
  const source = n.source as NodeProto | undefined;
  const input = n.inputs.map((v) => v?.name ?? "");
  const output = n.outputs.map((v) => v?.name ?? "");
  const attribute = [...n.attrs].map(([name, a]) => attrMessage(name, a, embed));
  if (
    source &&
    same(input, source.input) &&
    same(output, source.output) &&
    same(attribute, source.attribute) &&
    source.opType === n.opType &&
    domainOf(source.domain) === n.domain
  )
    return source;
  const message = source ? shallow(NodeProtoSchema, source, {}) : create(NodeProtoSchema);
  Object.assign(message, { input, output, attribute, opType: n.opType });
  if (n.name) message.name = n.name;
  if (n.domain || source?.domain) message.domain = n.domain;
  return message;
}

function attrMessage(name: string, a: Attr, embed: boolean): AttributeProto {
  const source = a.source as AttributeProto | undefined;
  if (a.type === "graph") {
    const g = graphMessage(a.value, false, embed);
    return source && source.g === g ? source : create(AttributeProtoSchema, { name, type: T.GRAPH, g });
  }
  if (a.type === "graphs") {
    const graphs = a.value.map((g) => graphMessage(g, false, embed));
    return source && same(graphs, source.graphs) ? source : create(AttributeProtoSchema, { name, type: T.GRAPHS, graphs });
  }
  if (a.type === "tensor" && source?.t && embed) {
    const t = writeTensor(source.t.name, a.value, embed);
    return t === source.t ? source : shallow(AttributeProtoSchema, source, { t });
  }
  if (source) return source.name === name ? source : Object.assign(clone(AttributeProtoSchema, source), { name });
  switch (a.type) {
    case "int":
      return create(AttributeProtoSchema, { name, type: T.INT, i: toInt64(a.value) });
    case "float":
      return create(AttributeProtoSchema, { name, type: T.FLOAT, f: a.value });
    case "string":
      return create(AttributeProtoSchema, { name, type: T.STRING, s: new TextEncoder().encode(a.value) });
    case "ints":
      return create(AttributeProtoSchema, { name, type: T.INTS, ints: a.value.map(toInt64) });
    case "floats":
      return create(AttributeProtoSchema, { name, type: T.FLOATS, floats: [...a.value] });
    case "strings":
      return create(AttributeProtoSchema, { name, type: T.STRINGS, strings: a.value.map((s) => new TextEncoder().encode(s)) });
    case "tensor":
      return create(AttributeProtoSchema, { name, type: T.TENSOR, t: writeTensor("", a.value, embed) });
    default:
      throw new Error(`attribute ${name}: an opaque attribute lost its message`);
  }
}

function infoMessage(v: Value): ValueInfoProto {
  if (v.source) return v.source as ValueInfoProto;
  return create(ValueInfoProtoSchema, v.type ? { name: v.name, type: typeMessage(v.type) } : { name: v.name });
}

function typeMessage(t: TensorType) {
  const tensorType = create(TypeProto_TensorSchema, { elemType: dtypes[t.dtype].code });
  if (t.shape) {
    tensorType.shape = create(TensorShapeProtoSchema, {
      dim: t.shape.map((d): TensorShapeProto_Dimension => {
        if (typeof d === "number") return create(TensorShapeProto_DimensionSchema, { value: { case: "dimValue", value: BigInt(d) } });
        if (d) return create(TensorShapeProto_DimensionSchema, { value: { case: "dimParam", value: d } });
        return create(TensorShapeProto_DimensionSchema);
      }),
    });
  }
  return create(TypeProtoSchema, { value: { case: "tensorType", value: tensorType } });
}
