/** Weights as integer codes in blocks: a scale, and perhaps a zero point, for every group of columns of every row. */
import { Fault } from "../../tensor/fault.ts";

export interface BlockScheme {
  readonly bits: 1 | 2 | 3 | 4 | 8;
  /** Columns that a scale serves; the last group of a row may be shorter. */
  readonly groupSize: number;
  /** The zero point is the middle code, 2^(bits−1); otherwise each group has its own. 1 bit and ternary always are. */
  readonly symmetric: boolean;
  /** Only −scale, 0 and scale; `bits` is then 2. */
  readonly ternary?: boolean;
}

/** w ≈ (code − zero point)·scale, for a matrix of [rows = output channels, columns = inputs]. */
export interface BlockCodes {
  readonly rows: number;
  readonly columns: number;
  readonly groupSize: number;
  readonly bits: 1 | 2 | 3 | 4 | 8;
  /** One a byte, unsigned, row-major [rows, columns]. Below 2^bits, but 0 and 2 for 1 bit, and 1, 2, 3 for ternary: what stands between is the zero point. */
  readonly codes: Uint8Array<ArrayBuffer>;
  /** [rows, groups], groups = ⌈columns / groupSize⌉. */
  readonly scales: Float32Array<ArrayBuffer>;
  /** [rows, groups]; null: 2^(bits−1) everywhere. */
  readonly zeroPoints: Uint8Array<ArrayBuffer> | null;
}

/** The line that a group's codes lie on: w ≈ (code − zero)·scale. */
export interface Grid {
  /** A float32; may be negative; 0 for a group of zeros. */
  readonly scale: number;
  readonly zero: number;
}

/** The codes a scheme has: `low`, `low + step`, … `high`. */
export interface Levels {
  readonly low: number;
  readonly high: number;
  readonly step: number;
  /** The zero point of a symmetric scheme. */
  readonly zero: number;
}

export function levelsOf({ bits, ternary }: BlockScheme): Levels {
  const zero = 2 ** (bits - 1);
  if (ternary) return { low: 1, high: 3, step: 1, zero };
  return bits === 1 ? { low: 0, high: 2, step: 2, zero } : { low: 0, high: 2 ** bits - 1, step: 1, zero };
}

/** Whether a scheme stores a zero point for every group. */
export function hasZeroPoints(s: BlockScheme): boolean {
  return !s.symmetric && !s.ternary && s.bits > 1;
}

export function groupsOf(columns: number, groupSize: number): number {
  return Math.ceil(columns / groupSize);
}

/** Room for the codes of a matrix. Errors: a length that is not rows × columns, a scheme that does not exist. */
export function emptyCodes(where: string, w: ArrayLike<number>, rows: number, columns: number, scheme: BlockScheme): BlockCodes {
  const { bits, groupSize, ternary } = scheme;
  if (w.length !== rows * columns) throw new Fault(where, `a ${rows} × ${columns} matrix has ${rows * columns} elements; got ${w.length}`);
  if (![1, 2, 3, 4, 8].includes(bits)) throw new Fault(where, `bits must be 1, 2, 3, 4 or 8; got ${bits}`);
  if (!(Number.isInteger(groupSize) && groupSize > 0)) throw new Fault(where, `groupSize must be a whole number above 0; got ${groupSize}`);
  if (ternary && bits !== 2) throw new Fault(where, `ternary codes have 2 bits; got ${bits}`);
  const groups = groupsOf(columns, groupSize);
  const zeroPoints = hasZeroPoints(scheme) ? new Uint8Array(rows * groups) : null;
  return { rows, columns, groupSize, bits, codes: new Uint8Array(rows * columns), scales: new Float32Array(rows * groups), zeroPoints };
}

/**
 * The grid of a group w[start … end) whose ends are the group's own range. Symmetric: scale = m / −2^(bits−1) with m the signed element
 * of largest magnitude (of two equal ones the negative), so that m itself is code 0. Asymmetric: scale = (max − min)/(2^bits − 1) over a
 * range that holds 0, zero = round(−min/scale). In float32, as ONNX Runtime's quantizer for MatMulNBits computes them. 1 bit: scale =
 * mean|w| (Rastegari et al. 2016, eq. 6). Ternary: scale = mean of the |w| above 0.7·mean|w| (Li et al. 2016, eq. 5, 6).
 * Errors: an element that is not finite.
 */
export function gridOf(w: ArrayLike<number>, start: number, end: number, scheme: BlockScheme): Grid {
  const { bits } = scheme;
  const zero = 2 ** (bits - 1);
  if (bits === 1 || scheme.ternary) return { scale: meanScale(w, start, end, scheme.ternary === true), zero };
  let min = Infinity;
  let max = -Infinity;
  for (let i = start; i < end; i++) {
    const x = w[i]!;
    if (x - x !== 0) throw new Fault("weights", `element ${i} is ${x}; finite numbers would be right`);
    if (x < min) min = x;
    if (x > max) max = x;
  }
  if (scheme.symmetric) return { scale: normal((Math.abs(max) > Math.abs(min) ? max : min) / -zero), zero };
  if (min > 0) min = 0;
  if (max < 0) max = 0;
  const most = 2 ** bits - 1;
  const scale = normal(Math.fround(max - min) / most);
  return { scale, zero: scale === 0 ? 0 : clampRound(-Math.fround(min / scale), 0, most) };
}

/** A float32 with a finite reciprocal, or a zero of its sign. */
function normal(scale: number): number {
  return Math.abs(scale) >= 2 ** -126 ? Math.fround(scale) : scale * 0;
}

function meanScale(w: ArrayLike<number>, start: number, end: number, ternary: boolean): number {
  let sum = 0;
  for (let i = start; i < end; i++) sum += Math.abs(w[i]!);
  if (!(sum < Infinity)) throw new Fault("weights", `elements ${start} to ${end - 1} are not all finite numbers`);
  if (!ternary) return normal(sum / (end - start));
  const threshold = (0.7 * sum) / (end - start);
  let [above, n] = [0, 0];
  for (let i = start; i < end; i++) {
    const a = Math.abs(w[i]!);
    if (a > threshold) {
      above += a;
      n++;
    }
  }
  return n ? normal(above / n) : 0;
}

/** Rounded half away from zero, within [low, high]; for numbers above −0.5. */
function clampRound(x: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, Math.floor(x + 0.5)));
}

/** The nearest code of a number on a grid. The product is rounded to float32 twice, as the runtime's quantizer does. */
export function codeOf(x: number, grid: Grid, levels: Levels): number {
  const inverse = grid.scale === 0 ? 0 : Math.fround(1 / grid.scale);
  if (levels.step === 2) return x * inverse >= 0 ? levels.high : levels.low;
  return clampRound(Math.fround(Math.fround(x * inverse) + grid.zero), levels.low, levels.high);
}

/** Round to nearest: the numbers of ONNX Runtime's own quantizer, group by group. Ternary: 0 up to 0.7·mean|w|. Errors: elements that are not finite. */
export function roundToNearest(w: Float32Array, rows: number, columns: number, scheme: BlockScheme): BlockCodes {
  const out = emptyCodes("roundToNearest", w, rows, columns, scheme);
  const { codes, scales, zeroPoints } = out;
  const levels = levelsOf(scheme);
  const { low, high } = levels;
  let group = 0;
  for (let r = 0; r < rows; r++) {
    for (let from = 0; from < columns; from += scheme.groupSize, group++) {
      const start = r * columns + from;
      const end = r * columns + Math.min(columns, from + scheme.groupSize);
      const grid = gridOf(w, start, end, scheme);
      scales[group] = grid.scale;
      if (zeroPoints) zeroPoints[group] = grid.zero;
      if (scheme.ternary) {
        let sum = 0;
        for (let i = start; i < end; i++) sum += Math.abs(w[i]!);
        const threshold = (0.7 * sum) / (end - start);
        for (let i = start; i < end; i++) codes[i] = Math.abs(w[i]!) > threshold ? levels.zero + Math.sign(w[i]!) : levels.zero;
      } else if (scheme.bits === 1) for (let i = start; i < end; i++) codes[i] = w[i]! >= 0 ? high : low;
      else {
        const { zero } = grid;
        const inverse = grid.scale === 0 ? 0 : Math.fround(1 / grid.scale);
        for (let i = start; i < end; i++) {
          const q = Math.floor(Math.fround(Math.fround(w[i]! * inverse) + zero) + 0.5);
          codes[i] = q < low ? low : q > high ? high : q;
        }
      }
    }
  }
  return out;
}

/** (code − zero point)·scale, row-major [rows, columns]. */
export function dequantizeBlocks(c: BlockCodes): Float32Array<ArrayBuffer> {
  const { rows, columns, groupSize, codes, scales, zeroPoints } = c;
  const out = new Float32Array(rows * columns);
  const middle = 2 ** (c.bits - 1);
  let group = 0;
  for (let r = 0; r < rows; r++) {
    for (let from = 0; from < columns; from += groupSize, group++) {
      const scale = scales[group]!;
      const zero = zeroPoints ? zeroPoints[group]! : middle;
      const end = r * columns + Math.min(columns, from + groupSize);
      for (let i = r * columns + from; i < end; i++) out[i] = (codes[i]! - zero) * scale;
    }
  }
  return out;
}
