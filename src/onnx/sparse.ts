/** Sparse tensors: the values that are not zero, and where they stand. Read, they are dense like any other; a tensor can be made to be written so. */
import { create } from "@bufbuild/protobuf";
import type { SparseTensorProto } from "onnx-buf";
import { byteLengthOf, type DType, dtypeOfCode, dtypes, sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { bytesOf, numbersOf, type Tensor, tensor } from "../tensor/tensor.ts";
import { limits } from "./limits.ts";
import { SparseTensorProtoSchema, TensorProtoSchema } from "./messages.ts";
import { byteLength, piecesOf } from "./pieces.ts";
import { type ExternalReader, isStill, readShape, readTensor, remember, tensorHeader } from "./tensor.ts";

/**
 * Element type of the indices: int64 is what ONNX asks for; narrow is the smallest signed one that holds them (int8, int16, int32), which
 * ONNX Runtime takes as well.
 */
export type SparseIndices = "int64" | "narrow";

/**
 * A sparse tensor, made dense when it is read. Errors: indices that do not match the values, lie outside the shape, or do not ascend, each
 * once, as ONNX asks for.
 */
export function readSparse(proto: SparseTensorProto, external: ExternalReader, where: string): Tensor {
  if (!proto.values || !proto.indices) throw new Fault(where, "is a sparse tensor without values or indices");
  const values = readTensor(proto.values, external, where);
  const { dtype } = values;
  const shape = readShape(proto.dims, where);
  const n = sizeOf(shape);
  const most = values.strings ? limits.sparseStrings : limits.sparseElements;
  if (n > most) throw new Fault(where, `claims ${n} elements; the limit for sparse tensors is ${most}`);
  const count = sizeOf(values.shape);
  const indices = readTensor(proto.indices, external, where);
  if (!/^u?int/.test(indices.dtype)) throw new Fault(where, `its indices must be int64; got ${indices.dtype}`);
  const places = placesOf(proto, shape, count, numbersOf(indices), where);
  if (values.strings) {
    const strings = new Array<Uint8Array>(n).fill(new Uint8Array(0));
    values.strings.forEach((s, i) => {
      strings[places[i]!] = s;
    });
    return remember(proto, { dtype, shape, data: values.data, strings });
  }
  const { bits } = dtypes[dtype];
  const length = byteLengthOf(dtype, shape);
  const read = (start = 0, end = length) => {
    const out = new Uint8Array(length);
    const from = bytesOf(values);
    for (let i = 0; i < count; i++) {
      const at = places[i]!;
      if (bits >= 8) out.set(from.subarray((i * bits) / 8, ((i + 1) * bits) / 8), (at * bits) / 8);
      else {
        const code = (from[Math.floor((i * bits) / 8)]! >> ((i * bits) % 8)) & ((1 << bits) - 1);
        out[Math.floor((at * bits) / 8)]! |= code << ((at * bits) % 8);
      }
    }
    return out.subarray(start, end);
  };
  return remember(proto, { dtype, shape, data: { byteLength: length, read } });
}

/** The place of each value among the elements, from indices [count] or coordinates [count, ndim]. */
function placesOf(proto: SparseTensorProto, shape: readonly number[], count: number, indices: ArrayLike<number>, where: string) {
  const coordinates = proto.indices!.dims.length === 2;
  const per = coordinates ? shape.length : 1;
  if (indices.length !== count * per) throw new Fault(where, `has ${indices.length} indices for ${count} values`);
  const bounds = coordinates ? shape : [sizeOf(shape)];
  const places = new Uint32Array(count);
  let before = -1;
  for (let i = 0; i < count; i++) {
    let at = 0;
    for (let d = 0; d < per; d++) {
      const x = indices[i * per + d]!;
      if (!(x >= 0 && x < bounds[d]!)) throw new Fault(where, `has the index ${x} where ${bounds[d]} is the size`);
      at = at * bounds[d]! + x;
    }
    if (at <= before) throw new Fault(where, `its indices must ascend, each once; got the place ${at} behind ${before}`);
    places[i] = before = at;
  }
  return places;
}

/** The element type of the indices where a tensor is written sparsely; null: it is written dense. */
export function sparseIndicesOf(t: Tensor): DType | null {
  const from = t.source as SparseTensorProto | undefined;
  if (from?.$typeName !== "onnx.SparseTensorProto" || !isStill(t, from)) return null;
  return dtypeOfCode(from.indices!.dataType) ?? null;
}

/**
 * The same tensor, to be written sparsely under `name`, with the bytes that the file's entry takes dense and sparse; null where that is not
 * smaller. Zeros are elements whose bits are all zero, so that −0 stays. Types below 8 bits have no sparse form that ONNX Runtime takes.
 */
export function sparsely(name: string, t: Tensor, indices: SparseIndices): { tensor: Tensor; dense: number; sparse: number } | null {
  const { bits, kind } = dtypes[t.dtype];
  if (t.strings || bits < 8 || kind === "c") return null;
  const width = bits / 8;
  const n = sizeOf(t.shape);
  const type = indices === "int64" ? "int64" : n <= 2 ** 7 ? "int8" : n <= 2 ** 15 ? "int16" : n <= 2 ** 31 ? "int32" : "int64";
  const most = Math.floor((n * width) / (width + dtypes[type].bits / 8));
  const from = bytesOf(t);
  const isZero = (at: number) => {
    for (let b = at * width, end = b + width; b < end; b++) if (from[b] !== 0) return false;
    return true;
  };
  let count = 0;
  for (let i = 0; i < n && count <= most; i++) if (!isZero(i)) count++;
  if (count > most || n > limits.sparseElements) return null;
  const places = new Float64Array(count);
  const values = new Uint8Array(count * width);
  for (let i = 0, k = 0; k < count; i++) {
    if (isZero(i)) continue;
    values.set(from.subarray(i * width, (i + 1) * width), k * width);
    places[k++] = i;
  }
  const message = (name: string, t: Tensor) => Object.assign(tensorHeader(name, t, null), { rawData: bytesOf(t) });
  const proto = create(SparseTensorProtoSchema, {
    dims: t.shape.map((d) => BigInt(d)),
    values: message(name, { dtype: t.dtype, shape: [count], data: values }),
    indices: message("", tensor(type, [count], places)),
  });
  const header = tensorHeader(name, t, null);
  const dense = byteLength(piecesOf(TensorProtoSchema, header, new Map([[header, t.data]])));
  const sparse = byteLength(piecesOf(SparseTensorProtoSchema, proto, new Map()));
  return sparse < dense ? { tensor: remember(proto, t), dense, sparse } : null;
}
