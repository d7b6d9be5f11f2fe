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

/** IEEE half bits of a number, round to nearest even, overflow to infinity. */
export function toHalf(x: number): number {
  f32[0] = x;
  const b = u32[0]!;
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

/** Bits of a small float with `eb` exponent and `mb` mantissa bits → number; `fn`/`uz` are ONNX's finite-only spellings. */
function decodeFloat(bits: number, eb: number, mb: number, bias: number, style: "ieee" | "fn" | "fnuz"): number {
  const sign = bits >>> (eb + mb) ? -1 : 1;
  const e = (bits >>> mb) & ((1 << eb) - 1);
  const m = bits & ((1 << mb) - 1);
  if (style === "fnuz" && e === 0 && m === 0 && sign < 0) return Number.NaN;
  if (style === "ieee" && e === (1 << eb) - 1) return m ? Number.NaN : sign * Infinity;
  if (style === "fn" && eb === 4 && e === 15 && m === 7) return Number.NaN;
  return sign * (e === 0 ? m * 2 ** (1 - bias - mb) : (1 + m / (1 << mb)) * 2 ** (e - bias));
}

/** The number a float code of at most 16 bits stands for. */
export function decodeSmallFloat(dtype: DType, bits: number): number {
  switch (dtype) {
    case "float16":
      return decodeFloat(bits, 5, 10, 15, "ieee");
    case "bfloat16":
      u32[0] = bits << 16;
      return f32[0]!;
    case "float8e4m3fn":
      return decodeFloat(bits, 4, 3, 7, "fn");
    case "float8e4m3fnuz":
      return decodeFloat(bits, 4, 3, 8, "fnuz");
    case "float8e5m2":
      return decodeFloat(bits, 5, 2, 15, "ieee");
    case "float8e5m2fnuz":
      return decodeFloat(bits, 5, 2, 16, "fnuz");
    case "float4e2m1":
      return decodeFloat(bits, 2, 1, 1, "fn");
    case "float8e8m0":
      return bits === 255 ? Number.NaN : 2 ** (bits - 127);
    default:
      throw new Fault("dtype", `${dtype} is not a small float`);
  }
}

/** bfloat16 bits of a number, round to nearest even. */
export function toBfloat16(x: number): number {
  f32[0] = x;
  const b = u32[0]!;
  if (Number.isNaN(x)) return 0x7fc0;
  return (b + 0x7fff + ((b >>> 16) & 1)) >>> 16;
}
