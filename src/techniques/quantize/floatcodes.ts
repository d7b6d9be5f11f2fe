/** NF4 and FP4: 4-bit codes of unevenly spaced levels times the largest magnitude of a block, as com.microsoft's MatMulBnb4 holds them. */
import { Fault } from "../../tensor/fault.ts";

export type FloatCode = "nf4" | "fp4";

/** MatMulBnb4's quant_type. */
export const quantType: Readonly<Record<FloatCode, number>> = { fp4: 0, nf4: 1 };

/** Level of each code. NF4: Dettmers et al. 2023, appendix E; FP4: sign, 2 bits of exponent, 1 of mantissa, over 12. */
export const levels: Readonly<Record<FloatCode, Float32Array>> = {
  nf4: Float32Array.of(
    -1,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1,
  ),
  fp4: Float32Array.from(
    [0, 0.0625, 8, 12, 4, 6, 2, 3].flatMap((x) => [x / 12]).concat([0, 0.0625, 8, 12, 4, 6, 2, 3].map((x) => -x / 12)),
  ),
};

/** NF4: code i + 1 begins above the i-th bound. */
const nf4Bounds = Float32Array.of(
  -0.8480964004993439,
  -0.6106329262256622,
  -0.4599952697753906,
  -0.33967943489551544,
  -0.23460740596055984,
  -0.13791173323988914,
  -0.045525018125772476,
  0.03979014977812767,
  0.1202552504837513,
  0.2035212516784668,
  0.2920137718319893,
  0.3893125355243683,
  0.5016634166240692,
  0.6427869200706482,
  0.8614784181118011,
);
/** FP4: magnitudes above the i-th bound take the i + 1st of these codes. */
const fp4Bounds = Float32Array.of(0.00260417, 0.0859375, 0.20833333, 0.29166667, 0.4166667, 0.583333, 0.8333333);
const fp4Codes = [0b000, 0b001, 0b110, 0b111, 0b100, 0b101, 0b010, 0b011];

function above(bounds: Float32Array, x: number): number {
  let low = 0;
  let high = bounds.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x > bounds[middle]!) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The code of x in [−1, 1], at the bounds of ONNX Runtime's quantizer (its blockwise_quant_block_bnb4.h). */
export function floatCode(type: FloatCode, x: number): number {
  if (type === "nf4") return above(nf4Bounds, x);
  return fp4Codes[above(fp4Bounds, Math.abs(x))]! + (x < 0 ? 8 : 0);
}

export interface FloatBlocks {
  /** ⌈n/2⌉ bytes, the first code of a byte in the HIGH bits. */
  readonly packed: Uint8Array<ArrayBuffer>;
  /** Largest magnitude of each block, [⌈n/blockSize⌉]. */
  readonly absmax: Float32Array<ArrayBuffer>;
}

/** Codes of numbers in blocks of `blockSize` (even), whatever rows they are of. Errors: elements that are not finite. */
export function encodeFloats(w: Float32Array, blockSize: number, type: FloatCode): FloatBlocks {
  const packed = new Uint8Array(Math.ceil(w.length / 2));
  const absmax = new Float32Array(Math.ceil(w.length / blockSize));
  for (let b = 0; b < absmax.length; b++) {
    const end = Math.min(w.length, (b + 1) * blockSize);
    let most = 0;
    for (let i = b * blockSize; i < end; i++) {
      const a = Math.abs(w[i]!);
      if (!(a < Infinity)) throw new Fault("weights", `element ${i} is ${w[i]}; finite numbers would be right`);
      if (a > most) most = a;
    }
    absmax[b] = most;
    const inverse = most ? Math.fround(1 / most) : 0;
    for (let i = b * blockSize; i < end; i += 2) {
      const high = floatCode(type, Math.fround(w[i]! * inverse));
      const low = floatCode(type, i + 1 < end ? Math.fround(w[i + 1]! * inverse) : 0);
      packed[i / 2] = (high << 4) | low;
    }
  }
  return { packed, absmax };
}

/** The `n` numbers that {@link encodeFloats} stands for. */
export function decodeFloats({ packed, absmax }: FloatBlocks, n: number, blockSize: number, type: FloatCode): Float32Array<ArrayBuffer> {
  const table = levels[type];
  const out = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    const code = (packed[i >> 1]! >> (i % 2 ? 0 : 4)) & 15;
    out[i] = table[code]! * absmax[Math.floor(i / blockSize)]!;
  }
  return out;
}
