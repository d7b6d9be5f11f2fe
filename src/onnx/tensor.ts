/** TensorProto to Tensor and back. */
import { create } from "@bufbuild/protobuf";
import { type SparseTensorProto, type TensorProto, TensorProto_DataLocation } from "onnx-buf";
import { byteLengthOf, type DType, dtypeOfCode, dtypes, sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import type { LazyBytes, Tensor } from "../tensor/tensor.ts";
import { limits } from "./limits.ts";
import { TensorProtoSchema, trulyUnknown, typedData, typedFields } from "./messages.ts";
import { countVarints, eachVarint } from "./wire.ts";

/** Gives bytes of an external file. Errors: a path that leaves the model's folder, a file that is missing or too short. */
export type ExternalReader = (location: string, offset: number, length: number) => Uint8Array | LazyBytes;

/** What each message was read as, so that the writer knows whether a tensor still is the one of its message. */
const readAs = new WeakMap<TensorProto | SparseTensorProto, Tensor>();

/** True if the tensor has the element type, shape and bytes that `proto` was read as. */
export function isStill(t: Tensor, proto: TensorProto | SparseTensorProto): boolean {
  const was = readAs.get(proto);
  return (
    was !== undefined &&
    was.dtype === t.dtype &&
    was.data === t.data &&
    was.strings === t.strings &&
    was.shape.length === t.shape.length &&
    was.shape.every((d, i) => d === t.shape[i])
  );
}

/** The tensor, from now on known to be what `proto` says. */
export function remember(proto: TensorProto | SparseTensorProto, t: Tensor): Tensor {
  const out = { ...t, source: proto };
  readAs.set(proto, out);
  return out;
}

/** A tensor over the message's own bytes. Errors: an unknown element type, bytes that do not fit the shape, external data out of reach. */
export function readTensor(proto: TensorProto, external: ExternalReader, where: string): Tensor {
  const dtype = dtypeOfCode(proto.dataType);
  if (!dtype) throw new Fault(where, `element type ${proto.dataType} is unknown; ONNX defines 1 to 26`);
  const shape = readShape(proto.dims, where);
  if (dtype === "string") {
    if (proto.stringData.length !== sizeOf(shape))
      throw new Fault(where, `holds ${proto.stringData.length} strings; its shape [${shape}] needs ${sizeOf(shape)}`);
    return remember(proto, { dtype, shape, data: new Uint8Array(0), strings: proto.stringData });
  }
  const need = byteLengthOf(dtype, shape);
  let data: Uint8Array | LazyBytes;
  if (proto.dataLocation === TensorProto_DataLocation.EXTERNAL) data = readExternal(proto, external, need, where);
  else if (proto.rawData.byteLength > 0 || need === 0) data = proto.rawData;
  else data = readTyped(proto, dtype, need, where);
  if (data.byteLength !== need) throw new Fault(where, `holds ${data.byteLength} bytes; ${dtype}[${shape}] takes ${need}`);
  return remember(proto, { dtype, shape, data });
}

/** Errors: sizes that are negative, or more than any file holds. */
export function readShape(dims: readonly bigint[], where: string): number[] {
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
  const entry = (key: string) => proto.externalData.findLast((e) => e.key === key)?.value;
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

/** Typed fields of more bytes than this are decoded when they are read, not when the model is loaded. */
const lazyFrom = 1 << 16;

/** The typed fields (float_data, int32_data …) as raw_data bytes: fixed-size ones are the field itself, varints are decoded. */
function readTyped(proto: TensorProto, dtype: DType, need: number, where: string): Uint8Array | LazyBytes {
  const { bits, kind } = dtypes[dtype];
  const wide = kind === "f" || kind === "c";
  if (wide && bits >= 32) {
    const field = dtype === "float32" || dtype === "complex64" ? typedFields.float : typedFields.double;
    return typedData(proto, field) ?? new Uint8Array(0);
  }
  const field = bits === 64 && kind === "i" ? typedFields.int64 : kind === "u" && bits >= 32 ? typedFields.uint64 : typedFields.int32;
  const packed = typedData(proto, field) ?? new Uint8Array(0);
  // An entry holds one element, or one byte of packed elements.
  const width = Math.max(1, bits / 8);
  const have = countVarints(packed);
  if (have === null) throw new Fault(where, "holds a number that is cut off or too long");
  if (have * width !== need) throw new Fault(where, `holds ${have} values; its shape needs ${need / width}`);
  const decode = () => {
    const words = new (width === 1 ? Uint8Array : width === 2 ? Uint16Array : Uint32Array)(need / Math.min(width, 4));
    eachVarint(packed, (i, low, high) => {
      if (width < 8) words[i] = low;
      else {
        words[2 * i] = low;
        words[2 * i + 1] = high;
      }
    });
    return new Uint8Array(words.buffer);
  };
  return need <= lazyFrom ? decode() : { byteLength: need, read: (start = 0, end = need) => decode().subarray(start, end) };
}

/** A TensorProto that says everything but the bytes; notes and unknown fields are taken over from `from`. */
export function tensorHeader(name: string, t: Tensor, from: TensorProto | null): TensorProto {
  const p = create(TensorProtoSchema, { dims: t.shape.map((d) => BigInt(d)), dataType: dtypes[t.dtype].code });
  if (name) p.name = name;
  if (t.strings) p.stringData = t.strings.map((s) => new Uint8Array(s));
  if (from?.docString) p.docString = from.docString;
  if (from?.metadataProps.length) p.metadataProps = from.metadataProps;
  const unknown = from && trulyUnknown(from);
  if (unknown?.length) p.$unknown = unknown;
  return p;
}
