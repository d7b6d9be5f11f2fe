/** HQQ: grids for a norm that forgives outliers, without data. */
import { type BlockCodes, type BlockScheme, emptyCodes, type Grid, gridOf, hasZeroPoints, type Levels, levelsOf } from "./blocks.ts";

export interface HqqOptions {
  /** The norm's exponent. Default 0.7. */
  readonly p?: number;
  /** The penalty's first weight, and what it grows by every time. Default 10 and 1.01. */
  readonly beta?: number;
  readonly kappa?: number;
  readonly iterations?: number;
}

/** Where a half-quadratic iteration stands. */
export interface HalfQuadratic {
  readonly zero: number;
  readonly scale: number;
  /** Mean |w − ŵ| on that grid. */
  readonly error: number;
}

/**
 * Badri and Shaji 2023 ("Half-quadratic quantization"): minimizes ‖w − ŵ‖_p over a group w[start … end) by turns: codes by rounding, the
 * outliers e = shrink(w − ŵ, β) with shrink(x) = sign(x)·max(0, |x| − |x|^(p−1)/β), then the zero point mean(q − (w − e)/scale), or
 * where that is fixed the scale Σ(w − e)·q/Σq². Stops when mean |w − ŵ| does not fall any more. `visit` gets the grid of every turn,
 * whose zero point is no whole number.
 */
export function halfQuadratic(
  w: ArrayLike<number>,
  start: number,
  end: number,
  from: { readonly scale: number; readonly zero: number },
  levels: Levels,
  free: "zero" | "scale",
  options: HqqOptions = {},
  visit?: (at: HalfQuadratic) => void,
): HalfQuadratic {
  const { p = 0.7, kappa = 1.01, iterations = 20 } = options;
  let beta = options.beta ?? 10;
  let { scale, zero } = from;
  let best: HalfQuadratic = { scale, zero, error: Infinity };
  const n = end - start;
  const { low, high } = levels;
  for (let turn = 0; turn < iterations; turn++) {
    let [sum, shift, wq, qq] = [0, 0, 0, 0];
    for (let i = start; i < end; i++) {
      const x = w[i]!;
      let q = Math.floor(x / scale + zero + 0.5);
      q = q < low ? low : q > high ? high : q;
      const d = x - (q - zero) * scale;
      const a = Math.abs(d);
      sum += a;
      const kept = a > 0 ? Math.max(0, a - a ** (p - 1) / beta) : 0;
      const target = x - Math.sign(d) * kept;
      shift += q - target / scale;
      wq += target * (q - zero);
      qq += (q - zero) ** 2;
    }
    const error = sum / n;
    if (!(error < best.error)) break;
    best = { scale, zero, error };
    visit?.(best);
    if (free === "zero") zero = shift / n;
    else if (qq > 0 && wq !== 0) scale = wq / qq;
    else break;
    beta *= kappa;
  }
  return best;
}

/** Shares of the range from which the iteration starts. */
const shares = [1, 0.9, 0.8];

/**
 * Codes on the grids of {@link halfQuadratic}, with whole zero points (or fixed ones) and the best scale for the codes they give. Of all
 * grids on the way, the group's own range first, each group takes the one with the least Σ(w − ŵ)²: never more than round to nearest's.
 */
export function hqq(w: Float32Array, rows: number, columns: number, scheme: BlockScheme, options: HqqOptions = {}): BlockCodes {
  const out = emptyCodes("hqq", w, rows, columns, scheme);
  const levels = levelsOf(scheme);
  const moves = hasZeroPoints(scheme);
  const { low, high, step } = levels;
  const codeAt = (x: number, inverse: number, zero: number) => {
    if (step === 2) return x * inverse >= 0 ? high : low;
    const q = Math.floor(Math.fround(Math.fround(x * inverse) + zero) + 0.5);
    return q < low ? low : q > high ? high : q;
  };
  let group = 0;
  for (let r = 0; r < rows; r++) {
    for (let column = 0; column < columns; column += scheme.groupSize, group++) {
      const start = r * columns + column;
      const end = r * columns + Math.min(columns, column + scheme.groupSize);
      const base = gridOf(w, start, end, scheme);
      let best = base;
      let least = Infinity;
      // The scale that suits the codes last looked at.
      let fitted = 0;
      const look = (grid: Grid) => {
        const inverse = Math.fround(1 / grid.scale);
        let [sum, wq, qq] = [0, 0, 0];
        for (let i = start; i < end; i++) {
          const d = codeAt(w[i]!, inverse, grid.zero) - grid.zero;
          sum += (w[i]! - d * grid.scale) ** 2;
          wq += w[i]! * d;
          qq += d * d;
        }
        fitted = qq > 0 ? Math.fround(wq / qq) : 0;
        if (sum < least) {
          least = sum;
          best = grid;
        }
      };
      const usable = (s: number) => Math.abs(s) >= 2 ** -126 && Math.abs(s) < Infinity;
      if (base.scale !== 0) {
        look(base);
        for (const share of shares) {
          for (const sign of moves ? [1] : [1, -1]) {
            const from = { scale: Math.fround(base.scale * share * sign), zero: base.zero };
            if (!usable(from.scale)) continue;
            halfQuadratic(w, start, end, from, levels, moves ? "zero" : "scale", options, (at) => {
              const zero = Math.min(high, Math.max(low, Math.round(at.zero)));
              const scale = Math.fround(at.scale);
              if (!usable(scale)) return;
              look({ scale, zero });
              if (usable(fitted)) look({ scale: fitted, zero });
            });
          }
        }
      }
      out.scales[group] = best.scale;
      if (out.zeroPoints) out.zeroPoints[group] = best.zero;
      const inverse = best.scale === 0 ? 0 : Math.fround(1 / best.scale);
      for (let i = start; i < end; i++) out.codes[i] = codeAt(w[i]!, inverse, best.zero);
    }
  }
  return out;
}
