/**
 * ONNX's protobuf messages, with one difference to onnx-buf's: a tensor's typed data fields (float_data, int32_data …) are not parsed into
 * lists of numbers, at ten times their size, but stay as they stand in the file, among the message's unknown fields: see {@link typedData}.
 * Written again they are the same bytes.
 */
import { clone, createFileRegistry, type DescMessage, type Message } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import * as onnx from "onnx-buf";

/** Numbers of TensorProto's typed data fields. */
export const typedFields = { float: 4, int32: 5, int64: 7, double: 10, uint64: 11 } as const;
const isTyped = new Set<number>(Object.values(typedFields));

const file = clone(FileDescriptorProtoSchema, onnx.file_onnx.proto);
const tensorType = file.messageType.find((m) => m.name === "TensorProto")!;
tensorType.field = tensorType.field.filter((f) => !isTyped.has(f.number!));
const registry = createFileRegistry(file, () => undefined);

const schema = <S extends DescMessage>(original: S) => registry.getMessage(original.typeName) as S;

export const ModelProtoSchema = schema(onnx.ModelProtoSchema);
export const GraphProtoSchema = schema(onnx.GraphProtoSchema);
export const NodeProtoSchema = schema(onnx.NodeProtoSchema);
export const AttributeProtoSchema = schema(onnx.AttributeProtoSchema);
export const SparseTensorProtoSchema = schema(onnx.SparseTensorProtoSchema);
export const TensorProtoSchema = schema(onnx.TensorProtoSchema);
export const ValueInfoProtoSchema = schema(onnx.ValueInfoProtoSchema);
export const TypeProtoSchema = schema(onnx.TypeProtoSchema);
export const TypeProto_TensorSchema = schema(onnx.TypeProto_TensorSchema);
export const TensorShapeProtoSchema = schema(onnx.TensorShapeProtoSchema);
export const TensorShapeProto_DimensionSchema = schema(onnx.TensorShapeProto_DimensionSchema);
export const OperatorSetIdProtoSchema = schema(onnx.OperatorSetIdProtoSchema);
export const StringStringEntryProtoSchema = schema(onnx.StringStringEntryProtoSchema);

/** A typed data field of a tensor: the elements' bytes one after the other, as a packed field holds them; null if there are none. */
export function typedData(tensor: Message, field: number): Uint8Array | null {
  const parts = (tensor.$unknown ?? []).filter((u) => u.no === field).map((u) => (u.wireType === 2 ? withoutLength(u.data) : u.data));
  if (parts.length <= 1) return parts[0] ?? null;
  const out = new Uint8Array(parts.reduce((n, p) => n + p.byteLength, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.byteLength;
  }
  return out;
}

/** A tensor message's unknown fields but for its data. */
export function trulyUnknown(tensor: Message): Message["$unknown"] {
  return tensor.$unknown?.filter((u) => !isTyped.has(u.no));
}

function withoutLength(data: Uint8Array): Uint8Array {
  let at = 0;
  while (data[at++]! & 128);
  return data.subarray(at);
}
