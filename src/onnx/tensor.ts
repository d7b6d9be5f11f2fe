/** TensorProto and SparseTensorProto to Tensor and back. */
import { create } from "@bufbuild/protobuf";
import { type SparseTensorProto, type TensorProto, TensorProto_DataLocation, TensorProtoSchema } from "onnx-buf";
import { byteLengthOf, type DType, dtypeOfCode, dtypes, sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { bytesOf, integersOf, type LazyBytes, type Tensor } from "../tensor/tensor.ts";
import { limits } from "./limits.ts";

/** Gives the bytes of an external file: `length` −1 means to its end. Throws a Fault for a path that leaves the model's folder. */
export type ExternalReader = (location: string, offset: number, length: number) => Uint8Array | LazyBytes;

export function readTensor(proto: TensorProto, external: ExternalReader, where: string): Tensor {
  const dtype = dtypeOfCode(proto.dataType);
  if (!dtype) throw new Fault(where, `element type ${proto.dataType} is unknown; ONNX defines 1 to 26`);
  const shape = readShape(proto.dims, where);
  if (dtype === "string") {
    if (proto.stringData.length !== sizeOf(shape))
      throw new Fault(where, `holds ${proto.stringData.length} strings; its shape [${shape}] needs ${sizeOf(shape)}`);
    return { dtype, shape, data: new Uint8Array(0), strings: proto.stringData, source: proto };
  }
  const need = byteLengthOf(dtype, shape);
  let data: Uint8Array | LazyBytes;
  if (proto.dataLocation === TensorProto_DataLocation.EXTERNAL) data = readExternal(proto, external, need, where);
  else if (proto.rawData.byteLength > 0 || need === 0) data = proto.rawData;
  else data = packFields(proto, dtype, sizeOf(shape), where);
  if (data.byteLength !== need) throw new Fault(where, `holds ${data.byteLength} bytes; ${dtype}[${shape}] takes ${need}`);
  return { dtype, shape, data, source: proto };
}

function readShape(dims: readonly bigint[], where: string): number[] {
  if (dims.length > limits.dims) throw new Fault(where, `claims ${dims.length} dimensions; the limit is ${limits.dims}`);
  const shape = dims.map(Number);
  let n = 1;
  for (const d of shape) {
    if (!(d >= 0)) throw new Fault(where, `has a negative dimension in [${shape}]`);
    n *= Math.max(d, 1);
  }
  if (!Number.isSafeInteger(n * 16)) throw new Fault(where, `claims the shape [${shape}], more elements than any file holds`);
  return shape;
}

function readExternal(proto: TensorProto, external: ExternalReader, need: number, where: string): Uint8Array | LazyBytes {
  const entry = (key: string) => proto.externalData.find((e) => e.key === key)?.value;
  const location = entry("location");
  if (!location) throw new Fault(where, "is external but names no location");
  const number = (key: string, fallback: number) => {
    const s = entry(key);
    if (s === undefined || s === "") return fallback;
    const x = Number(s);
    if (!Number.isSafeInteger(x) || x < 0) throw new Fault(where, `its external ${key} is no size; got "${s}"`);
    return x;
  };
  const length = number("length", need);
  if (length !== need) throw new Fault(where, `its external length is ${length} bytes; its shape takes ${need}`);
  try {
    return external(location, number("offset", 0), length);
  } catch (e) {
    throw new Fault(where, e instanceof Error ? e.message : String(e), { cause: e });
  }
}

/** The typed fields (float_data, int32_data …) as raw_data bytes. */
function packFields(proto: TensorProto, dtype: DType, n: number, where: string): Uint8Array {
  const { bits, kind } = dtypes[dtype];
  const complete = (have: number, needed: number) => {
    if (have !== needed) throw new Fault(where, `holds ${have} values; its shape needs ${needed}`);
  };
  if (dtype === "float32" || dtype === "complex64") {
    complete(proto.floatData.length, kind === "c" ? 2 * n : n);
    return bytes(Float32Array.from(proto.floatData));
  }
  if (dtype === "float64" || dtype === "complex128") {
    complete(proto.doubleData.length, kind === "c" ? 2 * n : n);
    return bytes(Float64Array.from(proto.doubleData));
  }
  if (dtype === "int64") {
    complete(proto.int64Data.length, n);
    return bytes(BigInt64Array.from(proto.int64Data));
  }
  if (dtype === "uint64") {
    complete(proto.uint64Data.length, n);
    return bytes(BigUint64Array.from(proto.uint64Data));
  }
  if (dtype === "uint32") {
    complete(proto.uint64Data.length, n);
    return bytes(Uint32Array.from(proto.uint64Data, Number));
  }
  const v = proto.int32Data;
  // Packed types keep one packed byte per entry; two entries per 4-bit byte was never written.
  complete(v.length, bits < 8 ? Math.ceil((n * bits) / 8) : n);
  if (bits === 32) return bytes(Int32Array.from(v));
  if (bits === 16) return bytes(Uint16Array.from(v));
  return Uint8Array.from(v);
}

function bytes(a: ArrayBufferView): Uint8Array {
  return new Uint8Array(a.buffer, a.byteOffset, a.byteLength);
}

/** A sparse initializer made dense. Errors: indices out of order of magnitude with the shape, or out of range. */
export function readSparse(proto: SparseTensorProto, external: ExternalReader, where: string): Tensor {
  if (!proto.values || !proto.indices) throw new Fault(where, "is a sparse tensor without values or indices");
  const values = readTensor(proto.values, external, where);
  const indices = integersOf(readTensor(proto.indices, external, where));
  const shape = readShape(proto.dims, where);
  const n = sizeOf(shape);
  if (n > limits.sparseElements) throw new Fault(where, `claims ${n} elements; the limit for sparse tensors is ${limits.sparseElements}`);
  const width = dtypes[values.dtype].bits / 8;
  if (!Number.isInteger(width) || width === 0) throw new Fault(where, `sparse ${values.dtype} tensors are not supported`);
  const count = sizeOf(values.shape);
  const coordinates = proto.indices.dims.length === 2;
  if (indices.length !== count * (coordinates ? shape.length : 1))
    throw new Fault(where, `has ${indices.length} indices for ${count} values`);
  let dense: Uint8Array | null = null;
  const read = () => {
    if (dense) return dense;
    const out = new Uint8Array(n * width);
    const from = bytesOf(values);
    for (let i = 0; i < count; i++) {
      let at = 0;
      if (coordinates) for (let d = 0; d < shape.length; d++) at = at * shape[d]! + indices[i * shape.length + d]!;
      else at = indices[i]!;
      if (!(at >= 0 && at < n)) throw new Fault(where, `has an index ${at} outside its ${n} elements`);
      out.set(from.subarray(i * width, (i + 1) * width), at * width);
    }
    dense = out;
    return out;
  };
  return { dtype: values.dtype, shape, data: { byteLength: n * width, read }, source: proto };
}

/** A TensorProto that says everything but the bytes. */
export function tensorHeader(name: string, t: Tensor): TensorProto {
  const init = { dims: t.shape.map((d) => BigInt(d)), dataType: dtypes[t.dtype].code };
  const p = create(TensorProtoSchema, name ? { ...init, name } : init);
  if (t.strings) p.stringData = t.strings.map((s) => new Uint8Array(s));
  return p;
}

/** A whole TensorProto; the message the tensor came from where it still is the same tensor under the same name (unless `embed` asks for external bytes inside). */
export function writeTensor(name: string, t: Tensor, embed: boolean): TensorProto {
  const source = t.source as TensorProto | undefined;
  if (source?.$typeName === "onnx.TensorProto") {
    const external = source.dataLocation === TensorProto_DataLocation.EXTERNAL;
    if (source.name === name && !(external && embed)) return source;
    if (!external) return Object.assign(create(TensorProtoSchema), source, { name });
  }
  const p = tensorHeader(name, t);
  if (!t.strings) p.rawData = bytesOf(t) as Uint8Array<ArrayBuffer>;
  return p;
}
