/** Tensors: a dtype, a shape and bytes that may be read only when needed. */
import { byteLengthOf, type DType, dtypes, encodeSmallFloat, intRange, roundEven, sizeOf, smallFloats } from "./dtype.ts";
import { Fault } from "./fault.ts";

/** Bytes that are read when asked for and not kept: a slice of a file. */
export interface LazyBytes {
  readonly byteLength: number;
  /** The bytes from `start` (default 0) to before `end` (default all). `into`: room for them, which a file fills and returns; others may ignore it. */
  read(start?: number, end?: number, into?: Uint8Array): Uint8Array;
  /** Where they are stored, if in a file. */
  readonly file?: { readonly path: string; readonly offset: number };
}

/**
 * An immutable tensor in ONNX's raw_data layout (row-major, little-endian; 2- and 4-bit elements packed, the first in the low bits).
 * Bytes are replaced, never written into. `source` is the message it was read from, kept so that it is written back unchanged.
 */
export interface Tensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: Uint8Array | LazyBytes;
  /** Elements of a string tensor (UTF-8); `data` is then empty. */
  readonly strings?: readonly Uint8Array[];
  readonly source?: unknown;
}

export type TypedArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

interface View {
  new (buffer: ArrayBufferLike, offset: number, length: number): TypedArray;
  readonly BYTES_PER_ELEMENT: number;
}

const views: Partial<Record<DType, View>> = {
  float32: Float32Array,
  float64: Float64Array,
  complex64: Float32Array,
  complex128: Float64Array,
  uint8: Uint8Array,
  int8: Int8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
};

/** The tensor's bytes, read now if they are lazy. */
export function bytesOf(t: Tensor): Uint8Array {
  return t.data instanceof Uint8Array ? t.data : t.data.read();
}

/** Fills `into` with the tensor's bytes from `start` on: for passes over large tensors in one reused buffer. */
export function readInto(t: Tensor, start: number, into: Uint8Array): void {
  const end = start + into.length;
  const got = t.data instanceof Uint8Array ? t.data.subarray(start, end) : t.data.read(start, end, into);
  if (got !== into) into.set(got);
}

/**
 * The tensor's elements as a typed array: a view where alignment allows, else a copy. float16 and bfloat16 give their bits
 * (Uint16Array); bool, float8 and packed types give bytes, complex ones pairs of real and imaginary part. Never write into the result: see {@link numbersOf} for a copy to change.
 */
export function valuesOf(t: Tensor): TypedArray {
  const View: View = views[t.dtype] ?? Uint8Array;
  let bytes = bytesOf(t);
  const width = View.BYTES_PER_ELEMENT;
  // Not bytes.slice(): a Node Buffer's slice is a view.
  if (bytes.byteOffset % width !== 0) bytes = new Uint8Array(bytes);
  return new View(bytes.buffer, bytes.byteOffset, bytes.byteLength / width);
}

/** The tensor's elements as numbers in a fresh Float32Array (Float64Array for float64, int32, uint32 and 64-bit integers). */
export function numbersOf(t: Tensor): Float32Array | Float64Array {
  const { bits, kind } = dtypes[t.dtype];
  if (kind === "s" || kind === "c") throw new Fault("tensor", `${t.dtype} elements are not numbers`);
  const n = sizeOf(t.shape);
  const wide = (bits >= 32 && t.dtype !== "float32") || bits === 64;
  const out = wide ? new Float64Array(n) : new Float32Array(n);
  const v = valuesOf(t);
  const floats = kind === "f" && bits <= 16 ? smallFloats(t.dtype) : null;
  if (bits < 8) {
    const per = 8 / bits;
    const mask = (1 << bits) - 1;
    for (let i = 0; i < n; i++) {
      const code = ((v[Math.floor(i / per)] as number) >> ((i % per) * bits)) & mask;
      out[i] = floats ? floats[code]! : kind === "i" && code >> (bits - 1) ? code - (1 << bits) : code;
    }
  } else if (floats) {
    for (let i = 0; i < n; i++) out[i] = floats[v[i] as number]!;
  } else if (bits === 64 && kind !== "f") {
    for (let i = 0; i < n; i++) out[i] = Number(v[i]);
  } else out.set(v as Float32Array);
  return out;
}

/** A float32 view (or copy, where the bytes are not aligned) of a float32 tensor; other numeric dtypes are converted. Read only. */
export function floatsOf(t: Tensor): Float32Array {
  if (t.dtype === "float32") return valuesOf(t) as Float32Array;
  return Float32Array.from(numbersOf(t));
}

/**
 * A tensor from numbers or bigints; a typed array of the dtype's own kind is used as it is, without a copy. Integers are rounded half to
 * even and saturated; floats are rounded to nearest even, float8 and float4 saturated (ONNX's Cast). Errors: a length that does not match
 * the shape; NaN for an integer type.
 */
export function tensor(dtype: DType, shape: readonly number[], values: ArrayLike<number> | ArrayLike<bigint>): Tensor {
  const n = sizeOf(shape);
  if (values.length !== n) throw new Fault("tensor", `shape [${shape}] needs ${n} values; got ${values.length}`);
  const { bits, kind } = dtypes[dtype];
  if (kind === "s" || kind === "c") throw new Fault("tensor", `cannot make ${dtype} elements from numbers`);
  const View = views[dtype];
  const coded = kind === "f" && bits <= 16;
  if (View && values instanceof View && !coded) return wrap(dtype, shape, values);
  const bytes = new Uint8Array(byteLengthOf(dtype, shape));
  const num = (i: number) => Number(values[i]);
  if (bits === 64 && kind !== "f") {
    const out = kind === "i" ? new BigInt64Array(bytes.buffer) : new BigUint64Array(bytes.buffer);
    const to = kind === "i" ? toInt64 : toUint64;
    for (let i = 0; i < n; i++) out[i] = to(values[i]!);
  } else if (dtype === "float32" || dtype === "float64") {
    const out = dtype === "float32" ? new Float32Array(bytes.buffer) : new Float64Array(bytes.buffer);
    for (let i = 0; i < n; i++) out[i] = num(i);
  } else if (kind === "b") {
    for (let i = 0; i < n; i++) bytes[i] = num(i) ? 1 : 0;
  } else {
    const [min, max] = coded ? [0, 0] : intRange(dtype);
    const code = (i: number) => (coded ? encodeSmallFloat(dtype, num(i)) : toInteger(num(i), min, max, dtype));
    if (bits < 8) {
      const per = 8 / bits;
      const mask = (1 << bits) - 1;
      for (let i = 0; i < n; i++) bytes[Math.floor(i / per)]! |= (code(i) & mask) << ((i % per) * bits);
    } else {
      const out = new (View ?? Uint8Array)(bytes.buffer, 0, n);
      for (let i = 0; i < n; i++) out[i] = code(i);
    }
  }
  return { dtype, shape: [...shape], data: bytes };
}

/** A tensor over a typed array's own memory, without a copy. */
export function wrap(dtype: DType, shape: readonly number[], values: ArrayBufferView): Tensor {
  return { dtype, shape: [...shape], data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
}

/** A tensor of strings. */
export function stringTensor(shape: readonly number[], values: readonly string[]): Tensor {
  if (values.length !== sizeOf(shape)) throw new Fault("tensor", `shape [${shape}] needs ${sizeOf(shape)} strings; got ${values.length}`);
  const encoder = new TextEncoder();
  return { dtype: "string", shape: [...shape], data: new Uint8Array(0), strings: values.map((s) => encoder.encode(s)) };
}

export function scalar(dtype: DType, value: number): Tensor {
  return tensor(dtype, [], [value]);
}

/** The elements as plain numbers; for shapes, axes and indices (an int64 beyond 2⁵³ loses its last digits: ONNX's "to the end" still is). */
export function integersOf(t: Tensor): number[] {
  return Array.from(numbersOf(t), (x) => x);
}

/** Same elements, another shape (a view). */
export function reshape(t: Tensor, shape: readonly number[]): Tensor {
  if (sizeOf(shape) !== sizeOf(t.shape)) throw new Fault("tensor", `cannot reshape [${t.shape}] to [${shape}]`);
  return { ...t, shape: [...shape], source: undefined };
}

function toInteger(x: number, min: number, max: number, dtype: DType): number {
  if (Number.isNaN(x)) throw new Fault("tensor", `NaN is no ${dtype}`);
  return Math.min(max, Math.max(min, roundEven(x)));
}

/** int64 of a number, rounded half to even and saturating (so that Infinity is ONNX's "to the end"). Errors: NaN. */
export function toInt64(x: number | bigint): bigint {
  return toBigInt(x, -(2n ** 63n), 2n ** 63n - 1n, "int64");
}

/** uint64 of a number, as {@link toInt64}. */
export function toUint64(x: number | bigint): bigint {
  return toBigInt(x, 0n, 2n ** 64n - 1n, "uint64");
}

function toBigInt(x: number | bigint, min: bigint, max: bigint, dtype: DType): bigint {
  if (Number.isNaN(x)) throw new Fault("tensor", `NaN is no ${dtype}`);
  if (x <= min) return min;
  if (x >= max) return max;
  return typeof x === "bigint" ? x : BigInt(roundEven(x));
}
