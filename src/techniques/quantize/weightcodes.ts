/** Integer codes of weights: w ≈ scale · (code − zeroPoint), by channel or with one scale; the numbers of ONNX Runtime's quantizer. */
import { roundEven } from "../../tensor/dtype.ts";
import { codeRange, type IntType, tiny } from "./scheme.ts";

export type CodeArray = Int8Array | Uint8Array | Int16Array | Uint16Array;

export interface WeightCodes {
  readonly codes: CodeArray;
  /** One per channel of the axis, or a single one. */
  readonly scales: Float32Array;
  /** As many. */
  readonly zeroPoints: Int32Array;
  /** ‖W − Ŵ‖ / ‖W‖. */
  readonly error: number;
}

export interface WeightScheme {
  /** The axis of the output channels for a scale each; null: one scale for all. */
  readonly axis: number | null;
  readonly dtype: IntType;
  /** Codes centred on the zero point, which is 0, or the middle for unsigned types. */
  readonly symmetric: boolean;
  /** Asymmetric: one zero point for all channels, the mean of their own; kernels of Conv take no other. */
  readonly oneZero?: boolean;
  /** One bit fewer: see {@link codeRange}. */
  readonly reduceRange: boolean;
  /** Smallest scale allowed, by channel: what keeps an int32 bias in range. */
  readonly atLeast?: (channel: number) => number;
}

const arrays = { int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array };

/**
 * Quantizes weights (by channel): symmetric with scale = 2·max|w|/(qmax − qmin), asymmetric with scale = (max − min)/(qmax − qmin) over a
 * range that holds 0 and zeroPoint = round(qmin − min/scale); code = clip(round(w/scale) + zeroPoint). A channel of zeros takes the largest
 * scale of the others, so that its bias keeps its resolution.
 */
export function quantizeWeights(values: Float32Array, shape: readonly number[], scheme: WeightScheme): WeightCodes {
  const { axis, dtype, symmetric } = scheme;
  const [qmin, qmax] = codeRange(dtype, symmetric, scheme.reduceRange);
  const channels = axis === null ? 1 : shape[axis]!;
  const inner = axis === null ? values.length : shape.slice(axis + 1).reduce((a, d) => a * d, 1);
  const low = new Float32Array(channels);
  const high = new Float32Array(channels);
  for (let i = 0, at = 0; at < values.length; i++) {
    const c = i % channels;
    let [min, max] = [low[c]!, high[c]!];
    for (const end = at + inner; at < end; at++) {
      const w = values[at]!;
      if (w < min) min = w;
      else if (w > max) max = w;
    }
    [low[c], high[c]] = [min, max];
  }
  const { scales, zeroPoints } = grids(low, high, [qmin, qmax], scheme);
  let widest = 0;
  for (let c = 0; c < channels; c++) {
    if (!(scales[c]! >= tiny)) scales[c] = 0;
    widest = Math.max(widest, scales[c]!);
  }
  for (let c = 0; c < channels; c++) scales[c] = Math.max(scales[c] || widest || 1, scheme.atLeast?.(c) ?? 0);
  const codes = new arrays[dtype](values.length);
  let [wrong, all] = [0, 0];
  for (let i = 0, at = 0; at < values.length; i++) {
    const c = i % channels;
    const scale = scales[c]!;
    const zero = zeroPoints[c]!;
    for (const end = at + inner; at < end; at++) {
      const w = values[at]!;
      const q = Math.min(qmax, Math.max(qmin, roundEven(Math.fround(w / scale)) + zero));
      codes[at] = q;
      wrong += (w - (q - zero) * scale) ** 2;
      all += w * w;
    }
  }
  return { codes, scales, zeroPoints, error: all > 0 ? Math.sqrt(wrong / all) : 0 };
}

/** Scales and zero points of channels whose elements lie in [low, high], which hold 0. */
function grids(low: Float32Array, high: Float32Array, [qmin, qmax]: readonly [number, number], { symmetric, oneZero }: WeightScheme) {
  const channels = low.length;
  const scales = new Float32Array(channels);
  const zeroPoints = new Int32Array(channels);
  if (symmetric) {
    for (let c = 0; c < channels; c++) scales[c] = Math.fround(2 * Math.max(-low[c]!, high[c]!)) / (qmax - qmin);
    zeroPoints.fill(roundEven((qmin + qmax) / 2));
    return { scales, zeroPoints };
  }
  let [sum, filled] = [0, 0];
  for (let c = 0; c < channels; c++) {
    const scale = Math.fround(high[c]! - low[c]!) / (qmax - qmin);
    if (!(scale >= tiny)) continue;
    scales[c] = scale;
    zeroPoints[c] = roundEven(qmin - low[c]! / scale);
    sum += qmin - low[c]! / scale;
    filled++;
  }
  if (oneZero && filled > 1) {
    // Both ends are kept off the outermost codes, where a channel on the other side of 0 would have no steps left.
    const zero = Math.min(qmax - 1, Math.max(qmin + 1, roundEven(sum / filled)));
    zeroPoints.fill(zero);
    for (let c = 0; c < channels; c++) scales[c] = Math.max(-low[c]! / (zero - qmin), high[c]! / (qmax - zero));
  }
  return { scales, zeroPoints };
}
