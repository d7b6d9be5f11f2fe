/** A Model to ModelProto bytes. What was not changed is the message it was read from; a model in which nothing changed is its own file, byte by byte. */
import { create, type DescMessage, type Message, type MessageShape } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type SparseTensorProto,
  AttributeProto_AttributeType as T,
  type TensorProto,
  TensorProto_DataLocation,
  type TensorShapeProto_Dimension,
  type ValueInfoProto,
} from "onnx-buf";
import type { Attr, Dim, Graph, Model, Node, TensorType, Value } from "../ir/graph.ts";
import { sorted } from "../ir/walk.ts";
import { dtypes } from "../tensor/dtype.ts";
import { type Tensor, toInt64 } from "../tensor/tensor.ts";
import {
  AttributeProtoSchema,
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  StringStringEntryProtoSchema,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  ValueInfoProtoSchema,
} from "./messages.ts";
import { joined, type Pieces, piecesOf, type RawData } from "./pieces.ts";
import { domainOf, type ModelSource, metadataOf, opsetsOf, readPlain } from "./read.ts";
import { isStill, tensorHeader } from "./tensor.ts";

/** Where the writer puts an initializer outside the main file; null keeps it inside. */
export type Place = (t: Tensor) => { readonly location: string; readonly offset: number; readonly length: number } | null;

export interface WriteOptions {
  readonly place?: Place;
  /** Tensors from external files go inside even where nothing was changed (a changed model's always do, but for what `place` places). */
  readonly embed?: boolean;
}

/** The model as bytes in one piece. For models of some size prefer {@link writePieces}, which copies no weights. Errors: more than a file can hold. */
export function writeModel(model: Model, options: WriteOptions = {}): Uint8Array {
  return joined(writePieces(model, options));
}

/** True if the model still is, message for message, what it was read as. */
export function isUntouched(model: Model): boolean {
  const source = model.source as ModelSource | undefined;
  return source?.bytes != null && modelMessage(model, { asRead: true, place: null, raw: new Map() }) === source.message;
}

/** The model's file as pieces: its own bytes if it is untouched (and nothing is to be placed or embedded), else small pieces around its tensors' own bytes. */
export function writePieces(model: Model, options: WriteOptions = {}): Pieces {
  const { place = null, embed = false } = options;
  if (!place && !(embed && model.externalFiles.length > 0) && isUntouched(model)) return [(model.source as ModelSource).bytes!];
  const raw: RawData = new Map();
  return piecesOf(ModelProtoSchema, modelMessage(model, { asRead: false, place, raw }), raw);
}

interface Writing {
  /** Node order and external references as they came, to see if anything changed; else nodes are sorted and references resolved. */
  readonly asRead: boolean;
  readonly place: Place | null;
  /** Bytes of tensors whose messages are headers only. */
  readonly raw: RawData;
}

/** A message with the same fields (unknown ones too) but for some. */
function changed<D extends DescMessage>(schema: D, m: MessageShape<D> | undefined, changes: object): MessageShape<D> {
  return Object.assign(create(schema), m, changes) as MessageShape<D>;
}

function same(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((x, i) => x === b[i]);
}

/** Of items with the same name only the last, at the place of the first: what a reader keeps of them. */
function distinct<M extends Message>(items: readonly M[], nameOf: (m: M) => string): M[] {
  return [...new Map(items.map((m) => [nameOf(m), m])).values()];
}

function sameMap<V>(a: ReadonlyMap<string, V>, b: ReadonlyMap<string, V>): boolean {
  return a.size === b.size && [...a].every(([k, v]) => b.get(k) === v);
}

/** The ModelProto; the very message it was read from if nothing changed. */
function modelMessage(model: Model, w: Writing): ModelProto {
  const source = (model.source as ModelSource | undefined)?.message;
  const graph = graphMessage(model.graph, w);
  const opsets = source && opsetsOf(source);
  const metadata = source && metadataOf(source);
  const keepOpsets = opsets && sameMap(opsets, model.opsets);
  const keepMetadata = metadata && sameMap(metadata, model.metadata);
  if (
    source &&
    source.graph === graph &&
    keepOpsets &&
    keepMetadata &&
    Number(source.irVersion) === model.irVersion &&
    source.producerName === model.producer
  ) {
    return source;
  }
  const message = changed(ModelProtoSchema, source, { graph, irVersion: BigInt(model.irVersion) });
  if (model.producer || source?.producerName) message.producerName = model.producer;
  if (!keepOpsets)
    message.opsetImport = [...model.opsets].flatMap(([domain, version]) => {
      const old = source?.opsetImport.filter((o) => domainOf(o.domain) === domain) ?? [];
      if (old.length && opsets!.get(domain) === version) return old;
      return [changed(OperatorSetIdProtoSchema, old[0], { domain: old[0]?.domain ?? domain, version: BigInt(version) })];
    });
  if (!keepMetadata)
    message.metadataProps = [...model.metadata].map(
      ([key, value]) =>
        source?.metadataProps.findLast((p) => p.key === key && p.value === value) ?? create(StringStringEntryProtoSchema, { key, value }),
    );
  return message;
}

function graphMessage(graph: Graph, w: Writing): GraphProto {
  const source = graph.source as GraphProto | undefined;
  const node = (w.asRead ? [...graph.nodes] : sorted(graph)).map((n) => nodeMessage(n, w));
  const initializer: TensorProto[] = [];
  const sparseInitializer: SparseTensorProto[] = [];
  for (const v of graph.initializers) {
    const t = v.data!;
    const from = t.source as TensorProto | SparseTensorProto | undefined;
    if (from?.$typeName === "onnx.SparseTensorProto" && (from.values?.name ?? "") === v.name && isStill(t, from))
      sparseInitializer.push(from);
    else initializer.push(tensorMessage(v.name, t, w, w.place));
  }
  const input = graph.inputs.map(infoMessage);
  const output = graph.outputs.map((v, i) => {
    const was = source?.output[i];
    return was?.name === v.name && v.source !== null ? was : infoMessage(v);
  });
  const valueInfo = source ? keptInfos(graph, source) : [];
  if (
    source &&
    source.name === graph.name &&
    same(node, source.node) &&
    same(
      initializer,
      distinct(source.initializer, (t) => t.name),
    ) &&
    same(
      sparseInitializer,
      distinct(source.sparseInitializer, (t) => t.values?.name ?? ""),
    ) &&
    same(
      input,
      distinct(source.input, (i) => i.name),
    ) &&
    same(output, source.output) &&
    same(valueInfo, source.valueInfo)
  ) {
    return source;
  }
  return changed(GraphProtoSchema, source, { name: graph.name, node, initializer, sparseInitializer, input, output, valueInfo });
}

/** The value_info entries that still hold: their value lives and its type was not changed, or they never spoke of a value of this graph. */
function keptInfos(graph: Graph, source: GraphProto): ValueInfoProto[] {
  if (!source.valueInfo.length) return [];
  const values = new Map<string, Value>();
  for (const v of [...graph.inputs, ...graph.initializers]) values.set(v.name, v);
  for (const n of graph.nodes) for (const o of n.outputs) if (o) values.set(o.name, o);
  const gone = new Set<string>();
  for (const t of [...source.initializer, ...source.sparseInitializer.flatMap((s) => s.values ?? [])]) gone.add(t.name);
  for (const n of source.node) for (const name of n.output) gone.add(name);
  for (const name of values.keys()) gone.delete(name);
  return source.valueInfo.filter((i) => values.get(i.name)?.source !== null && !gone.has(i.name));
}

function nodeMessage(n: Node, w: Writing): NodeProto {
  if (n.domain === "pith" && (n.opType === "StraightThrough" || n.opType === "Noise") && n.outputs[0]) {
    // Both give their second input, but in training (ops/pith.ts), which no file holds.
    return create(NodeProtoSchema, { name: n.name, opType: "Identity", input: [n.inputs[1]!.name], output: [n.outputs[0].name] });
  }
  const source = n.source as NodeProto | undefined;
  const input = n.inputs.map((v) => v?.name ?? "");
  const output = n.outputs.map((v) => v?.name ?? "");
  const attribute = [...n.attrs].map(([name, a]) => attrMessage(name, a, w));
  if (
    source &&
    same(input, source.input) &&
    same(output, source.output) &&
    same(
      attribute,
      distinct(source.attribute, (a) => a.name),
    ) &&
    source.opType === n.opType &&
    domainOf(source.domain) === n.domain
  )
    return source;
  const message = changed(NodeProtoSchema, source, { input, output, attribute, opType: n.opType });
  if (n.name) message.name = n.name;
  if (domainOf(message.domain) !== n.domain) message.domain = n.domain;
  return message;
}

const T_ = { int: T.INT, float: T.FLOAT, string: T.STRING, ints: T.INTS, floats: T.FLOATS, strings: T.STRINGS } as const;

function attrMessage(name: string, a: Attr, w: Writing): AttributeProto {
  const source = a.source as AttributeProto | undefined;
  const message = (old: AttributeProto | undefined, changes: object) => changed(AttributeProtoSchema, old, { name, ...changes });
  switch (a.type) {
    case "graph": {
      const g = graphMessage(a.value, w);
      return source?.name === name && source.g === g ? source : message(source, { type: T.GRAPH, g });
    }
    case "graphs": {
      const graphs = a.value.map((g) => graphMessage(g, w));
      return source?.name === name && same(graphs, source.graphs) ? source : message(source, { type: T.GRAPHS, graphs });
    }
    case "tensor": {
      if (source?.sparseTensor && isStill(a.value, source.sparseTensor)) return source.name === name ? source : message(source, {});
      const old = source?.sparseTensor ? undefined : source;
      const t = tensorMessage(old?.t?.name ?? "", a.value, w, null);
      return old?.name === name && old.t === t ? old : message(old, { type: T.TENSOR, t });
    }
    case "opaque":
      if (!source) throw new Error(`attribute ${name}: an opaque attribute lost its message`);
      return source.name === name ? source : message(source, {});
    default:
      if (source && source.name === name && isSame(a, readPlain(source))) return source;
      return message(undefined, { type: T_[a.type], ...plainFields(a), ...(source?.docString ? { docString: source.docString } : {}) });
  }
}

type PlainAttr = Extract<Attr, { type: keyof typeof T_ }>;

function isSame(a: PlainAttr, b: Attr | null): boolean {
  if (a.type !== b?.type) return false;
  return Array.isArray(a.value)
    ? a.value.length === (b.value as unknown[]).length && a.value.every((x, i) => Object.is(x, (b.value as unknown[])[i]))
    : Object.is(a.value, b.value);
}

const encoder = new TextEncoder();

function plainFields(a: PlainAttr): object {
  switch (a.type) {
    case "int":
      return { i: toInt64(a.value) };
    case "float":
      return { f: a.value };
    case "string":
      return { s: encoder.encode(a.value) };
    case "ints":
      return { ints: a.value.map(toInt64) };
    case "floats":
      return { floats: [...a.value] };
    case "strings":
      return { strings: a.value.map((s) => encoder.encode(s)) };
  }
}

/** A TensorProto: the one it was read from where that still says the same, else a header whose bytes are in `w.raw` or outside. */
function tensorMessage(name: string, t: Tensor, w: Writing, place: Place | null): TensorProto {
  const from = t.source as TensorProto | SparseTensorProto | undefined;
  const source = from?.$typeName === "onnx.TensorProto" && isStill(t, from) ? from : null;
  const external = source?.dataLocation === TensorProto_DataLocation.EXTERNAL;
  const placed = t.strings ? null : place?.(t);
  if (source && !placed && (!external || w.asRead)) return source.name === name ? source : changed(TensorProtoSchema, source, { name });
  const header = tensorHeader(name, t, source);
  if (placed) {
    header.dataLocation = TensorProto_DataLocation.EXTERNAL;
    header.externalData = Object.entries(placed).map(([key, value]) => create(StringStringEntryProtoSchema, { key, value: String(value) }));
  } else if (!t.strings) w.raw.set(header, t.data);
  return header;
}

function infoMessage(v: Value): ValueInfoProto {
  if (v.source) return v.source as ValueInfoProto;
  return create(ValueInfoProtoSchema, v.type ? { name: v.name, type: typeMessage(v.type) } : { name: v.name });
}

function typeMessage(t: TensorType) {
  const tensorType = create(TypeProto_TensorSchema, { elemType: dtypes[t.dtype].code });
  if (t.shape) tensorType.shape = create(TensorShapeProtoSchema, { dim: t.shape.map(dimMessage) });
  return create(TypeProtoSchema, { value: { case: "tensorType", value: tensorType } });
}

function dimMessage(d: Dim): TensorShapeProto_Dimension {
  if (typeof d === "number") return create(TensorShapeProto_DimensionSchema, { value: { case: "dimValue", value: BigInt(d) } });
  if (d) return create(TensorShapeProto_DimensionSchema, { value: { case: "dimParam", value: d } });
  return create(TensorShapeProto_DimensionSchema);
}
