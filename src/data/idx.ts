/** The IDX format of the MNIST files (LeCun, Cortes, Burges), plain or gzipped. */
import { byteLengthOf, type DType, dtypes } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { bytesOf, type Tensor } from "../tensor/tensor.ts";
import { limits } from "./limits.ts";
import { swapBytes } from "./swap.ts";
import { gunzip, isGzip } from "./zip.ts";

const codes: Readonly<Record<number, DType>> = { 8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64" };

/** The array in an IDX file. Errors: not IDX, an unknown element type, a length that is not what its header says. */
export function readIdx(bytes: Uint8Array, where = "idx"): Tensor {
  const b = isGzip(bytes) ? gunzip(bytes, where) : bytes;
  const dtype = codes[b[2] ?? 0];
  if (b.length < 4 || b[0] !== 0 || b[1] !== 0) throw new Fault(where, "is not an IDX file (its first two bytes are not zero)");
  if (!dtype) throw new Fault(where, `has element type 0x${b[2]!.toString(16).padStart(2, "0")}; 0x08, 09, 0b, 0c, 0d and 0e are known`);
  const ndim = b[3]!;
  if (ndim > limits.dims) throw new Fault(where, `claims ${ndim} dimensions; the limit is ${limits.dims}`);
  const start = 4 + 4 * ndim;
  if (b.length < start) throw new Fault(where, "ends inside its header");
  const view = new DataView(b.buffer, b.byteOffset, b.byteLength);
  const shape = Array.from({ length: ndim }, (_, i) => view.getUint32(4 + 4 * i));
  if (!Number.isSafeInteger(shape.reduce((n, d) => n * Math.max(d, 1), 8)))
    throw new Fault(where, `claims the shape [${shape}], more elements than any file holds`);
  const need = byteLengthOf(dtype, shape);
  if (b.length - start !== need) throw new Fault(where, `holds ${b.length - start} bytes of data; ${dtype}[${shape}] takes ${need}`);
  const data = b.subarray(start);
  const width = dtypes[dtype].bits / 8;
  return { dtype, shape, data: width > 1 ? swapBytes(data, width) : data };
}

/** An IDX file. Errors: an element type the format lacks, or more than 255 dimensions. */
export function writeIdx(t: Tensor): Uint8Array<ArrayBuffer> {
  const code = Object.entries(codes).find(([, d]) => d === t.dtype)?.[0];
  if (!code) throw new Fault("idx", `has no element type ${t.dtype}; ${Object.values(codes).join(", ")} would be right`);
  if (t.shape.length > limits.dims) throw new Fault("idx", `takes at most ${limits.dims} dimensions; got ${t.shape.length}`);
  const start = 4 + 4 * t.shape.length;
  const data = bytesOf(t);
  const out = new Uint8Array(start + data.length);
  out[2] = Number(code);
  out[3] = t.shape.length;
  const view = new DataView(out.buffer);
  t.shape.forEach((d, i) => {
    view.setUint32(4 + 4 * i, d);
  });
  const width = dtypes[t.dtype].bits / 8;
  out.set(width > 1 ? swapBytes(data, width) : data, start);
  return out;
}
