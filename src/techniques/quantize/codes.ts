/** 8-bit codes of weights with a zero point, signed or not: the arithmetic of ONNX Runtime's own quantizer, so that codes agree with it. */
import { roundEven } from "../../tensor/dtype.ts";
import type { Int8 } from "./scheme.ts";

export interface Codes {
  readonly codes: Int8Array | Uint8Array;
  /** One per channel of the axis, or a single one. */
  readonly scales: Float32Array;
  readonly zeroPoints: Int8Array | Uint8Array;
  /** ‖W − Ŵ‖ / ‖W‖. */
  readonly error: number;
}

export interface CodesOptions {
  readonly dtype: Int8;
  /** The axis of the channels; null: one scale for all. */
  readonly axis: number | null;
  /** Seven bits, for CPUs whose 16-bit sums of products overflow. */
  readonly reduceRange: boolean;
  /** uint8 centred on 128, so that all channels have one zero point (for kernels that take one). */
  readonly centred?: boolean;
}

/**
 * int8: symmetric, scale = max|w|/127, zero point 0. uint8: scale = (max − min)/255 over a range that holds 0, zero point = round(−min/scale).
 * A range of zeros takes the scale 1. code = clip(round(w/scale) + zeroPoint).
 */
export function codesOf(w: Float32Array, shape: readonly number[], { dtype, axis, reduceRange, centred = false }: CodesOptions): Codes {
  const channels = axis === null ? 1 : shape[axis]!;
  const inner = axis === null ? w.length : shape.slice(axis + 1).reduce((a, d) => a * d, 1);
  const low = new Float32Array(channels);
  const high = new Float32Array(channels);
  for (let i = 0, at = 0; at < w.length; i++) {
    const c = i % channels;
    let [min, max] = [low[c]!, high[c]!];
    for (const end = at + inner; at < end; at++) {
      const x = w[at]!;
      if (x < min) min = x;
      else if (x > max) max = x;
    }
    low[c] = min;
    high[c] = max;
  }
  const signed = dtype === "int8";
  const symmetric = signed || centred;
  const half = reduceRange ? 64 : signed ? 127 : 128;
  const [qmin, qmax] = signed ? [-half, half] : [0, reduceRange ? 127 : 255];
  const zero = signed ? 0 : half;
  const scales = new Float32Array(channels);
  const zeroPoints = signed ? new Int8Array(channels) : new Uint8Array(channels);
  for (let c = 0; c < channels; c++) {
    const most = Math.max(-low[c]!, high[c]!);
    const range = symmetric ? 2 * most : high[c]! - low[c]!;
    const scale = Math.fround(range) / (signed ? 2 * half : symmetric ? 2 * (half - 1) : qmax - qmin);
    scales[c] = scale > 1.2e-38 ? scale : 1;
    zeroPoints[c] = symmetric ? zero : roundEven(qmin - low[c]! / scales[c]!);
  }
  const codes = signed ? new Int8Array(w.length) : new Uint8Array(w.length);
  let [wrong, all] = [0, 0];
  for (let i = 0, at = 0; at < w.length; i++) {
    const scale = scales[i % channels]!;
    const z = zeroPoints[i % channels]!;
    for (const end = at + inner; at < end; at++) {
      const x = w[at]!;
      const q = Math.min(qmax, Math.max(qmin, roundEven(Math.fround(x / scale)) + z));
      codes[at] = q;
      wrong += (x - (q - z) * scale) ** 2;
      all += x * x;
    }
  }
  return { codes, scales, zeroPoints, error: all > 0 ? Math.sqrt(wrong / all) : 0 };
}
