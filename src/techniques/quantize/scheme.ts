/** The arithmetic of affine quantization: x ≈ scale · (q − zeroPoint). Formulas as in ONNX Runtime's quantizer, so that scales agree with it to the bit. */
import { roundEven } from "../../tensor/dtype.ts";

export type Int8 = "uint8" | "int8";

export const intTypes = ["uint8", "int8", "uint16", "int16"] as const;

/** Types of codes. */
export type IntType = (typeof intTypes)[number];

/** Scale and zero point of one tensor. */
export interface Affine {
  readonly dtype: IntType;
  /** Exactly representable in float32. */
  readonly scale: number;
  readonly zeroPoint: number;
}

const bitsOf = (dtype: IntType) => (dtype.endsWith("16") ? 16 : 8);

/** Number of codes. */
export const levelsOf = (dtype: IntType): number => 2 ** bitsOf(dtype);

/**
 * Lowest and highest code. Symmetric signed codes leave out the lowest, so that both sides reach as far. `reduced`: one bit fewer, as ONNX
 * Runtime's reduce_range has it.
 */
export function codeRange(dtype: IntType, symmetric = false, reduced = false): [min: number, max: number] {
  const levels = levelsOf(dtype);
  if (dtype.startsWith("u")) return [0, reduced ? levels / 2 - 1 : levels - 1];
  if (reduced) return [-levels / 4, levels / 4];
  return [symmetric ? 1 - levels / 2 : -levels / 2, levels / 2 - 1];
}

/** A scale below the smallest normal float32 would underflow in the kernels: such a range is as good as empty. */
export const tiny = 1.1754943508222875e-38;

/**
 * Scale and zero point for a range of real numbers, which is first widened to hold 0 (so that padding and Relu stay exact).
 * Asymmetric: scale = (max − min)/(qmax − qmin), zeroPoint = round(qmin − min/scale).
 * Symmetric: max = −min = the larger magnitude; int8 then uses −127 … 127 with zero point 0, and uint8 the zero point 128, or 0 (with the
 * whole 0 … max) where nothing is negative. An empty range gives scale 1 and zero point 0, unless `atLeast` gives it a width: max is then
 * at least min + atLeast (ONNX Runtime's MinimumRealRange).
 */
export function affine(range: { readonly min: number; readonly max: number }, dtype: IntType, symmetric: boolean, atLeast = 0): Affine {
  let [min, max] = [Math.min(range.min, 0), Math.max(range.max, 0)];
  if (!Number.isFinite(min) || !Number.isFinite(max)) [min, max] = [0, 0];
  if (max - min < atLeast) max = Math.fround(min + atLeast);
  const unsigned = dtype.startsWith("u");
  const centred = symmetric && !(unsigned && min >= 0);
  if (centred) {
    max = Math.max(-min, max);
    min = -max;
  }
  const [qmin, qmax] = codeRange(dtype, symmetric);
  const scale = Math.fround(max - min) / (qmax - qmin);
  if (!(scale >= tiny)) return { dtype, scale: 1, zeroPoint: 0 };
  const zeroPoint = centred ? roundEven((qmin + qmax) / 2) : roundEven(qmin - min / scale);
  return { dtype, scale: Math.fround(scale), zeroPoint: zeroPoint + 0 };
}

/** The real numbers the lowest and the highest code stand for. */
export function representable(a: Affine): [min: number, max: number] {
  const [qmin, qmax] = codeRange(a.dtype);
  return [a.scale * (qmin - a.zeroPoint), a.scale * (qmax - a.zeroPoint)];
}

/** The scale at which a bias of magnitude `bias` still leaves half of the int32 range to the sum of products: scale of the weight, given that of the input. */
export function biasFloor(bias: number, inputScale: number): number {
  return Math.fround((Math.abs(bias) * 1.0001) / (inputScale * 2 ** 30));
}

/** An int32 bias with the scale of the products, sx·sw (by channel): code = round(b/(sx·sw)). */
export function quantizeBias(bias: Float32Array, inputScale: number, scales: Float32Array): { codes: Int32Array; scales: Float32Array } {
  const products = scales.map((s) => Math.fround(inputScale * s));
  const codes = Int32Array.from(bias, (b, i) =>
    Math.min(2 ** 31 - 1, Math.max(-(2 ** 31), roundEven(b / products[scales.length === 1 ? 0 : i]!))),
  );
  return { codes, scales: products };
}
