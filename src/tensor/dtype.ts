/** ONNX element types: their codes (TensorProto.DataType), widths in bits, and conversions to and from numbers. */
import { Fault } from "./fault.ts";

interface DTypeInfo {
  /** TensorProto.DataType. */
  readonly code: number;
  /** Bits an element takes in raw_data; 2- and 4-bit elements are packed, the first in the low bits. 0: no fixed width. */
  readonly bits: number;
  /** f: floating point, i/u: signed/unsigned integer, b: bool, c: complex, s: string. */
  readonly kind: "f" | "i" | "u" | "b" | "c" | "s";
}

export const dtypes = {
  float32: { code: 1, bits: 32, kind: "f" },
  uint8: { code: 2, bits: 8, kind: "u" },
  int8: { code: 3, bits: 8, kind: "i" },
  uint16: { code: 4, bits: 16, kind: "u" },
  int16: { code: 5, bits: 16, kind: "i" },
  int32: { code: 6, bits: 32, kind: "i" },
  int64: { code: 7, bits: 64, kind: "i" },
  string: { code: 8, bits: 0, kind: "s" },
  bool: { code: 9, bits: 8, kind: "b" },
  float16: { code: 10, bits: 16, kind: "f" },
  float64: { code: 11, bits: 64, kind: "f" },
  uint32: { code: 12, bits: 32, kind: "u" },
  uint64: { code: 13, bits: 64, kind: "u" },
  complex64: { code: 14, bits: 64, kind: "c" },
  complex128: { code: 15, bits: 128, kind: "c" },
  bfloat16: { code: 16, bits: 16, kind: "f" },
  float8e4m3fn: { code: 17, bits: 8, kind: "f" },
  float8e4m3fnuz: { code: 18, bits: 8, kind: "f" },
  float8e5m2: { code: 19, bits: 8, kind: "f" },
  float8e5m2fnuz: { code: 20, bits: 8, kind: "f" },
  uint4: { code: 21, bits: 4, kind: "u" },
  int4: { code: 22, bits: 4, kind: "i" },
  float4e2m1: { code: 23, bits: 4, kind: "f" },
  float8e8m0: { code: 24, bits: 8, kind: "f" },
  uint2: { code: 25, bits: 2, kind: "u" },
  int2: { code: 26, bits: 2, kind: "i" },
} as const satisfies Record<string, DTypeInfo>;

export type DType = keyof typeof dtypes;

const byCode = new Map<number, DType>(Object.entries(dtypes).map(([name, d]) => [d.code, name as DType]));

/** The dtype of a TensorProto.DataType code, or null for one this version does not know. */
export function dtypeOfCode(code: number): DType | null {
  return byCode.get(code) ?? null;
}

export function isFloat(dtype: DType): boolean {
  return dtypes[dtype].kind === "f";
}

/** Number of elements of a shape: the product of its dimensions. */
export function sizeOf(shape: readonly number[]): number {
  let n = 1;
  for (const d of shape) n *= d;
  return n;
}

/** Bytes that `shape` elements of `dtype` take in raw_data (packed types rounded up to a whole byte). */
export function byteLengthOf(dtype: DType, shape: readonly number[]): number {
  if (dtype === "string") throw new Fault("tensor", "string tensors have no fixed byte length");
  const n = sizeOf(shape);
  if (!Number.isSafeInteger(n * 16)) throw new Fault("tensor", `shape [${shape}] has too many elements`);
  return Math.ceil((n * dtypes[dtype].bits) / 8);
}

/** Inclusive range of an integer dtype of up to 32 bits. */
export function intRange(dtype: DType): [min: number, max: number] {
  const { bits, kind } = dtypes[dtype];
  if (kind === "u") return [0, 2 ** bits - 1];
  if (kind === "i") return [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1];
  if (kind === "b") return [0, 1];
  throw new Fault("dtype", `${dtype} is not an integer type`);
}

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

/** float32 bits of a number rounded to odd: whatever is cut off stays visible in the last bit, so that a second rounding is exact. */
function oddBits(x: number): number {
  f32[0] = x;
  const near = f32[0]!;
  let b = u32[0]!;
  if (near !== x && !Number.isNaN(x)) {
    if (Math.abs(near) > Math.abs(x)) b--;
    b |= 1;
  }
  return b >>> 0;
}

/** IEEE half bits of a number, round to nearest even, overflow to infinity. */
export function toHalf(x: number): number {
  const b = oddBits(x);
  const sign = (b >>> 16) & 0x8000;
  const e = (b >>> 23) & 0xff;
  let m = b & 0x7fffff;
  if (e === 0xff) return sign | (m ? 0x7e00 : 0x7c00);
  const he = e - 112;
  if (he >= 31) return sign | 0x7c00;
  if (he <= 0) {
    if (he < -10) return sign;
    m |= 0x800000;
    const shift = 14 - he;
    const half = m >>> shift;
    const rest = m & ((1 << shift) - 1);
    const mid = 1 << (shift - 1);
    return sign | (rest > mid || (rest === mid && half & 1) ? half + 1 : half);
  }
  const half = (he << 10) | (m >>> 13);
  const rest = m & 0x1fff;
  return sign | (rest > 0x1000 || (rest === 0x1000 && half & 1) ? half + 1 : half);
}

/** bfloat16 bits of a number, round to nearest even, overflow to infinity. */
export function toBfloat16(x: number): number {
  if (Number.isNaN(x)) return 0x7fc0;
  const b = oddBits(x);
  return (b + 0x7fff + ((b >>> 16) & 1)) >>> 16;
}

interface SmallFloat {
  readonly exponent: number;
  readonly mantissa: number;
  readonly bias: number;
  /** Code of the largest finite number: what conversions saturate to. */
  readonly max: number;
  /** Code of NaN; null: the type has none, and NaN becomes its largest number (as ONNX's Cast does). */
  readonly nan: number | null;
  /** Code of infinity, null where there is none. */
  readonly infinity: number | null;
}

/** Layouts of the small floats, as ONNX's notes on float8 and float4 give them; "uz": the code of −0 is NaN. */
const layouts: Partial<Record<DType, SmallFloat>> = {
  float16: { exponent: 5, mantissa: 10, bias: 15, max: 0x7bff, nan: 0x7e00, infinity: 0x7c00 },
  float8e4m3fn: { exponent: 4, mantissa: 3, bias: 7, max: 0x7e, nan: 0x7f, infinity: null },
  float8e4m3fnuz: { exponent: 4, mantissa: 3, bias: 8, max: 0x7f, nan: 0x80, infinity: null },
  float8e5m2: { exponent: 5, mantissa: 2, bias: 15, max: 0x7b, nan: 0x7f, infinity: 0x7c },
  float8e5m2fnuz: { exponent: 5, mantissa: 2, bias: 16, max: 0x7f, nan: 0x80, infinity: null },
  float4e2m1: { exponent: 2, mantissa: 1, bias: 1, max: 0x7, nan: null, infinity: null },
};

/**
 * Code of the float8 or float4 number nearest to `x`, ties to even, saturating at the largest finite number (infinities too): ONNX's Cast
 * with its defaults. float8e8m0, which holds positive powers of two only, rounds up (Cast's default `round_mode`); whatever is not positive becomes its least.
 */
export function encodeSmallFloat(dtype: DType, x: number): number {
  if (dtype === "float16") return toHalf(x);
  if (dtype === "bfloat16") return toBfloat16(x);
  if (dtype === "float8e8m0") {
    if (Number.isNaN(x)) return 255;
    if (x <= 2 ** -127) return 0;
    const e = exponentOf(x);
    return Math.min(254, e + (x > 2 ** e ? 1 : 0) + 127);
  }
  const l = layouts[dtype];
  if (!l) throw new Fault("dtype", `${dtype} is not a small float`);
  const negative = 1 << (l.exponent + l.mantissa);
  if (Number.isNaN(x)) return l.nan ?? l.max;
  const sign = x < 0 || Object.is(x, -0) ? negative : 0;
  const a = Math.abs(x);
  const least = 1 - l.bias;
  const e = a === 0 ? least : Math.max(exponentOf(a), least);
  // The hidden bit of a normal number carries into the exponent, and so does rounding up.
  const code = e > 128 ? l.max : Math.min(l.max, (e - least) * (1 << l.mantissa) + roundEven(a * 2 ** (l.mantissa - e)));
  // −0 where its code means NaN.
  return code === 0 && l.nan === negative ? 0 : sign | code;
}

/** ⌊log₂ x⌋ of a positive number, exactly. */
function exponentOf(x: number): number {
  let e = Math.floor(Math.log2(x));
  if (2 ** e > x) e--;
  else if (2 ** (e + 1) <= x) e++;
  return e;
}

/** The number a float code of at most 16 bits stands for. */
export function decodeSmallFloat(dtype: DType, bits: number): number {
  if (dtype === "bfloat16") {
    u32[0] = bits << 16;
    return f32[0]!;
  }
  if (dtype === "float8e8m0") return bits === 255 ? Number.NaN : 2 ** (bits - 127);
  const l = layouts[dtype];
  if (!l) throw new Fault("dtype", `${dtype} is not a small float`);
  const negative = 1 << (l.exponent + l.mantissa);
  const code = bits & (negative - 1);
  const sign = bits & negative ? -1 : 1;
  if (bits === l.nan || code > Math.max(l.max, l.infinity ?? 0)) return Number.NaN;
  if (code === l.infinity) return sign * Infinity;
  const e = code >>> l.mantissa;
  const m = code & ((1 << l.mantissa) - 1);
  return sign * (e === 0 ? m * 2 ** (1 - l.bias - l.mantissa) : (1 + m / (1 << l.mantissa)) * 2 ** (e - l.bias));
}

const tables = new Map<DType, Float32Array>();

/** The numbers of all codes of a small float, computed once. */
export function smallFloats(dtype: DType): Float32Array {
  let table = tables.get(dtype);
  if (!table)
    tables.set(dtype, (table = Float32Array.from({ length: 2 ** dtypes[dtype].bits }, (_, code) => decodeSmallFloat(dtype, code))));
  return table;
}

/** Round half to even, as ONNX's QuantizeLinear and Round do. */
export function roundEven(x: number): number {
  const r = Math.round(x);
  return r - x === 0.5 && r % 2 !== 0 ? r - 1 : r;
}
