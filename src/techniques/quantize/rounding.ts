/** Where a layer's codes come from: matrix + scheme → codes, by the algorithm chosen. */

import { elementsOf } from "../matrix.ts";
import type { WeightLayer } from "../weightlayers.ts";
import { type BlockCodes, type BlockScheme, codeOf, dequantizeBlocks, groupsOf, levelsOf, roundToNearest } from "./blocks.ts";
import { type PackedBlocks, packBlocks, unpackBlocks } from "./packing.ts";
import { isKernelScheme, roundToHalf, slabRounder } from "./slabs.ts";

/** Codes of one matrix, in one of two spellings or both. */
export interface Coded {
  readonly codes: BlockCodes | null;
  readonly blocks: PackedBlocks | null;
  /** ‖W − Ŵ‖ / ‖W‖. */
  readonly error: number;
}

export const codesIn = (c: Coded): BlockCodes => c.codes ?? unpackBlocks(c.blocks!);
export const blocksIn = (c: Coded): PackedBlocks => c.blocks ?? packBlocks(c.codes!);

/** The codes of a weight that `layers` (one or more, of one key) share. */
export type Rounding = (layers: readonly WeightLayer[], scheme: BlockScheme) => Coded;

/** Round to nearest: by the kernel and in slabs where blocks are MatMulNBits', else on the whole matrix. */
export function nearest(): Rounding {
  const round = slabRounder();
  return ([layer], scheme) => {
    const { matrix } = layer!;
    const { groupSize: size } = scheme;
    if (isKernelScheme(scheme) && size >= 16 && (size & (size - 1)) === 0) return { codes: null, ...round(matrix, scheme) };
    const w = elementsOf(matrix);
    const codes = roundToNearest(w, matrix.rows, matrix.columns, scheme);
    if (matrix.tensor.dtype === "float16") onHalfScales(w, codes, scheme);
    return coded(w, codes);
  };
}

/** Codes with the error they make of `w`, [rows, columns]. */
export function coded(w: Float32Array, codes: BlockCodes): Coded {
  const back = dequantizeBlocks(codes);
  let [wrong, all] = [0, 0];
  for (let i = 0; i < w.length; i++) {
    wrong += (w[i]! - back[i]!) ** 2;
    all += w[i]! ** 2;
  }
  return { codes, blocks: null, error: all > 0 ? Math.sqrt(wrong / all) : 0 };
}

/** Scales of a float16 layer as they will be stored, and the codes taken anew on them. */
export function onHalfScales(
  w: Float32Array,
  { rows, columns, groupSize, scales, zeroPoints, codes }: BlockCodes,
  scheme: BlockScheme,
): void {
  roundToHalf(scales);
  // The codes of 1 bit and of ternary weights do not hang on the scale.
  if (!isKernelScheme(scheme)) return;
  const levels = levelsOf(scheme);
  const groups = groupsOf(columns, groupSize);
  for (let i = 0; i < rows * columns; i++) {
    const group = Math.floor(i / columns) * groups + Math.floor((i % columns) / groupSize);
    codes[i] = codeOf(w[i]!, { scale: scales[group]!, zero: zeroPoints ? zeroPoints[group]! : levels.zero }, levels);
  }
}
