/** The arithmetic of affine quantization: x ≈ scale · (q − zeroPoint). Formulas as in ONNX Runtime's quantizer, so that scales agree with it to the bit. */
import { roundEven } from "../../tensor/dtype.ts";

export type Int8 = "uint8" | "int8";

/** Types of codes. */
export type IntType = Int8 | "uint16" | "int16";

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

/** Lowest and highest code; symmetric signed codes leave out the lowest, so that both sides reach as far. */
export function codesOf(dtype: IntType, symmetric = false): [min: number, max: number] {
  const levels = levelsOf(dtype);
  if (dtype.startsWith("u")) return [0, levels - 1];
  return [symmetric ? 1 - levels / 2 : -levels / 2, levels / 2 - 1];
}

/** Lowest and highest code of symmetric int8 weights. Seven bits where pairs of products would overflow 16 bits (AVX2 without VNNI). */
export function weightCodes(reduceRange: boolean): [min: number, max: number] {
  return reduceRange ? [-64, 64] : [-127, 127];
}

/** A scale below the smallest normal float32 would underflow in the kernels: such a range is as good as empty. */
const tiny = 1.1754943508222875e-38;

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
  const [qmin, qmax] = codesOf(dtype, symmetric);
  const scale = Math.fround(max - min) / (qmax - qmin);
  if (!(scale >= tiny)) return { dtype, scale: 1, zeroPoint: 0 };
  const zeroPoint = centred ? roundEven((qmin + qmax) / 2) : roundEven(qmin - min / scale);
  return { dtype, scale: Math.fround(scale), zeroPoint: zeroPoint + 0 };
}

/** The real numbers the lowest and the highest code stand for. */
export function representable(a: Affine): [min: number, max: number] {
  const [qmin, qmax] = codesOf(a.dtype);
  return [a.scale * (qmin - a.zeroPoint), a.scale * (qmax - a.zeroPoint)];
}

/** Symmetric int8 codes of a weight. */
export interface WeightCodes {
  readonly codes: Int8Array;
  /** One per channel of the axis, or a single one. */
  readonly scales: Float32Array;
  /** ‖W − Ŵ‖ / ‖W‖. */
  readonly error: number;
}

export interface WeightScheme {
  /** The axis of the output channels for a scale each; null: one scale for all. */
  readonly axis: number | null;
  readonly reduceRange: boolean;
  /** Smallest scale allowed, by channel: what keeps an int32 bias in range. */
  readonly atLeast?: (channel: number) => number;
}

/**
 * Quantizes weights symmetrically: scale = max|w|/127 (by channel), code = round(w/scale). A channel of zeros takes the largest scale of
 * the others, so that its bias keeps its resolution.
 */
export function quantizeWeights(values: Float32Array, shape: readonly number[], scheme: WeightScheme): WeightCodes {
  const { axis } = scheme;
  const [qmin, qmax] = weightCodes(scheme.reduceRange);
  const channels = axis === null ? 1 : shape[axis]!;
  const inner = axis === null ? values.length : shape.slice(axis + 1).reduce((a, d) => a * d, 1);
  const scales = new Float32Array(channels);
  for (let i = 0, at = 0; at < values.length; i++) {
    const c = i % channels;
    let most = scales[c]!;
    for (const end = at + inner; at < end; at++) most = Math.max(most, Math.abs(values[at]!));
    scales[c] = most;
  }
  let widest = 0;
  for (let c = 0; c < channels; c++) {
    const scale = Math.fround(2 * scales[c]!) / (qmax - qmin);
    scales[c] = scale >= tiny ? scale : 0;
    widest = Math.max(widest, scales[c]!);
  }
  for (let c = 0; c < channels; c++) scales[c] = Math.max(scales[c] || widest || 1, scheme.atLeast?.(c) ?? 0);
  const codes = new Int8Array(values.length);
  let [wrong, all] = [0, 0];
  for (let i = 0, at = 0; at < values.length; i++) {
    const scale = scales[i % channels]!;
    for (const end = at + inner; at < end; at++) {
      const w = values[at]!;
      const q = Math.min(qmax, Math.max(qmin, roundEven(Math.fround(w / scale))));
      codes[at] = q;
      wrong += (w - q * scale) ** 2;
      all += w * w;
    }
  }
  return { codes, scales, error: all > 0 ? Math.sqrt(wrong / all) : 0 };
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
