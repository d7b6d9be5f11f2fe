/** AWQ: weights that meet large inputs are scaled up before they are rounded, and their inputs down. */
import { Fault } from "../../tensor/fault.ts";
import { quadratic } from "../hessian.ts";
import {
  type BlockCodes,
  type BlockScheme,
  codeOf,
  dequantizeBlocks,
  emptyCodes,
  type Grid,
  gridOf,
  hasZeroPoints,
  levelsOf,
  roundToNearest,
} from "./blocks.ts";

/** Exponents that are tried, and rows that are enough to tell them apart. */
const points = 20;
const enough = 128;

/**
 * Lin et al. 2023, eq. 4, 5: per column s = mean|x|^r over √(max s · min s), with r in 0, 1/20 … 19/20 such that round(w·s)/s errs least
 * at the output, measured as tr(Δ·H·Δᵀ) (on at most 128 rows, evenly spaced). Several matrices that read the same input are one, their
 * rows together. Columns whose input is always 0 keep s = 1.
 */
export function awqScales(
  w: Float32Array,
  rows: number,
  columns: number,
  meanAbs: Float32Array,
  hessian: Float64Array,
  scheme: BlockScheme,
): Float32Array<ArrayBuffer> {
  if (meanAbs.length !== columns) throw new Fault("awq", `mean|x| of ${columns} columns is wanted; got ${meanAbs.length}`);
  const count = Math.min(rows, enough);
  const some = new Float32Array(count * columns);
  for (let r = 0; r < count; r++) {
    const from = Math.floor((r * rows) / count) * columns;
    some.set(w.subarray(from, from + columns), r * columns);
  }
  const q = quadratic(hessian, columns);
  let best = new Float32Array(columns).fill(1);
  let least = Infinity;
  for (let i = 0; i < points; i++) {
    const s = powers(meanAbs, i / points);
    const scaled = some.map((x, at) => x * s[at % columns]!);
    const delta = dequantizeBlocks(roundToNearest(scaled, count, columns, scheme));
    for (let at = 0; at < delta.length; at++) delta[at] = delta[at]! / s[at % columns]! - some[at]!;
    const error = q.error(delta, count);
    if (error < least) {
      least = error;
      best = s;
    }
  }
  return best;
}

/** x^r, its extremes as far above 1 as below; 1 where x is 0. */
function powers(x: Float32Array, r: number): Float32Array<ArrayBuffer> {
  const s = Float32Array.from(x, (v) => (v > 0 ? Math.max(v ** r, 1e-4) : 0));
  let [low, high] = [Infinity, 0];
  for (const v of s) {
    if (v > 0 && v < low) low = v;
    if (v > high) high = v;
  }
  const middle = Math.sqrt(low * high);
  return s.map((v) => (v > 0 ? v / middle : 1));
}

/** Shares of a group's range that are tried: down to a half; above 1 for the sign of a symmetric scale that has one code less. */
const shares = Array.from({ length: 16 }, (_, i) => 1.15 - 0.05 * i);

/**
 * AWQ's second search: every group's range shrunk by the factor (and given the sign, where the zero point is
 * fixed) with which its own part of the output errs least, Δ_g·H_gg·Δ_gᵀ. Rounds to nearest on the grids so found.
 */
export function roundOnClipped(w: Float32Array, rows: number, columns: number, hessian: Float64Array, scheme: BlockScheme): BlockCodes {
  const out = emptyCodes("awq", w, rows, columns, scheme);
  const levels = levelsOf(scheme);
  const { groupSize } = scheme;
  const groups = Math.ceil(columns / groupSize);
  const delta = new Float64Array(Math.min(groupSize, columns));
  // The range itself first: of equals it stays.
  const factors = [1, ...shares, ...(hasZeroPoints(scheme) ? [] : shares.map((x) => -x))];
  for (let g = 0; g < groups; g++) {
    const from = g * groupSize;
    const width = Math.min(groupSize, columns - from);
    const h = new Float64Array(width * width);
    for (let i = 0; i < width; i++) h.set(hessian.subarray((from + i) * columns + from, (from + i) * columns + from + width), i * width);
    const errorOn = (grid: Grid, start: number) => {
      for (let i = 0; i < width; i++) delta[i] = w[start + i]! - (codeOf(w[start + i]!, grid, levels) - grid.zero) * grid.scale;
      let sum = 0;
      for (let i = 0; i < width; i++) {
        const line = i * width;
        let s = 0.5 * h[line + i]! * delta[i]!;
        for (let j = 0; j < i; j++) s += h[line + j]! * delta[j]!;
        sum += 2 * delta[i]! * s;
      }
      return sum;
    };
    for (let r = 0; r < rows; r++) {
      const start = r * columns + from;
      const base = gridOf(w, start, start + width, scheme);
      let best = base;
      let least = Infinity;
      for (const factor of base.scale === 0 ? [] : factors) {
        const scale = Math.fround(base.scale * factor);
        if (Math.abs(scale) < 2 ** -126) continue;
        const error = errorOn({ scale, zero: base.zero }, start);
        if (error < least) {
          least = error;
          best = { scale, zero: base.zero };
        }
      }
      out.scales[r * groups + g] = best.scale;
      if (out.zeroPoints) out.zeroPoints[r * groups + g] = best.zero;
      for (let i = 0; i < width; i++) out.codes[start + i] = codeOf(w[start + i]!, best, levels);
    }
  }
  return out;
}

/** The Hessian of inputs divided by s: H_ij/(s_i·s_j). */
export function scaledHessian(hessian: Float64Array, s: Float32Array): Float64Array {
  const n = s.length;
  return hessian.map((h, i) => h / (s[Math.floor(i / n)]! * s[i % n]!));
}
