/** ONNX messages written by hand, for models that pith itself would never write. */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import * as onnx from "onnx-buf";

export type Init<S extends Parameters<typeof create>[0]> = MessageInitShape<S>;

export const attributeType = onnx.AttributeProto_AttributeType;

export function type(elemType: number, dims: readonly (number | string)[] | null): onnx.TypeProto {
  const dim = (dims ?? []).map((d) =>
    create(
      onnx.TensorShapeProto_DimensionSchema,
      typeof d === "number" ? { value: { case: "dimValue", value: BigInt(d) } } : { value: { case: "dimParam", value: d } },
    ),
  );
  const shape = dims ? { shape: create(onnx.TensorShapeProtoSchema, { dim }) } : {};
  return create(onnx.TypeProtoSchema, {
    value: { case: "tensorType", value: create(onnx.TypeProto_TensorSchema, { elemType, ...shape }) },
  });
}

export const info = (name: string, elemType = 1, dims: readonly (number | string)[] | null = [2]): onnx.ValueInfoProto =>
  create(onnx.ValueInfoProtoSchema, { name, type: type(elemType, dims) });

export const node = (opType: string, input: string[], output: string[], more: Init<typeof onnx.NodeProtoSchema> = {}): onnx.NodeProto =>
  create(onnx.NodeProtoSchema, { opType, input, output, ...more });

export const attr = (name: string, more: Init<typeof onnx.AttributeProtoSchema>): onnx.AttributeProto =>
  create(onnx.AttributeProtoSchema, { name, ...more });

export const graphAttr = (name: string, g: onnx.GraphProto): onnx.AttributeProto => attr(name, { type: attributeType.GRAPH, g });

export const tensor = (t: Init<typeof onnx.TensorProtoSchema>): onnx.TensorProto => create(onnx.TensorProtoSchema, t);

/** A tensor of float_data. */
export const floats = (name: string, dims: readonly number[], floatData: number[]): onnx.TensorProto =>
  create(onnx.TensorProtoSchema, { name, dims: dims.map(BigInt), dataType: 1, floatData });

export const raw = (name: string, dataType: number, dims: readonly number[], bytes: ArrayBufferView<ArrayBuffer>): onnx.TensorProto =>
  create(onnx.TensorProtoSchema, {
    name,
    dims: dims.map(BigInt),
    dataType,
    rawData: new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength),
  });

export const entry = (key: string, value: string): onnx.StringStringEntryProto => create(onnx.StringStringEntryProtoSchema, { key, value });

export const opset = (version: number, domain?: string): onnx.OperatorSetIdProto =>
  create(onnx.OperatorSetIdProtoSchema, { version: BigInt(version), ...(domain === undefined ? {} : { domain }) });

export const graph = (g: Init<typeof onnx.GraphProtoSchema>): onnx.GraphProto => create(onnx.GraphProtoSchema, { name: "g", ...g });

/** The bytes of a model of opset 17. */
export function model(g: Init<typeof onnx.GraphProtoSchema>, more: object = {}): Uint8Array<ArrayBuffer> {
  return toBinary(
    onnx.ModelProtoSchema,
    create(onnx.ModelProtoSchema, { irVersion: 8n, producerName: "hand", opsetImport: [opset(17)], graph: graph(g), ...more }),
  );
}
