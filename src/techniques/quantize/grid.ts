/** Better grids than a group's own range: narrower ones that round the rare large weights more and the many others less. */
import { type BlockCodes, type BlockScheme, codeOf, emptyCodes, type Grid, gridOf, hasZeroPoints, levelsOf } from "./blocks.ts";

/** Shares of the range that are tried, beside the range itself. Above 1: the opposite sign of a symmetric scale has one code less. */
const shares = Array.from({ length: 24 }, (_, i) => 1.15 - 0.03 * i);

/**
 * The grid with the least Σ importance·(w − ŵ)² over a group w[start … end) that a search finds: the range times 24 factors (both signs
 * where the zero point is fixed), then the best scale for the codes so found (least squares), as long as that helps. Never worse than
 * {@link gridOf}'s. `importance` is by column, that of w[start] at `column`; without it all count alike.
 */
export function searchGrid(
  w: ArrayLike<number>,
  start: number,
  end: number,
  scheme: BlockScheme,
  importance: ArrayLike<number> | null = null,
  column = 0,
): Grid {
  const levels = levelsOf(scheme);
  const { low, high, step } = levels;
  const base = gridOf(w, start, end, scheme);
  if (base.scale === 0) return base;
  let best = base;
  let least = Infinity;
  // What the last grid tried would make of its scale, its codes given.
  let fitted = 0;
  const look = (scale: number, zero: number) => {
    const inverse = Math.fround(1 / scale);
    let [sum, wq, qq] = [0, 0, 0];
    for (let i = start; i < end; i++) {
      const x = w[i]!;
      let q: number;
      if (step === 2) q = x * inverse >= 0 ? high : low;
      else {
        q = Math.floor(Math.fround(Math.fround(x * inverse) + zero) + 0.5);
        q = q < low ? low : q > high ? high : q;
      }
      const d = q - zero;
      const e = x - d * scale;
      const h = importance ? importance[column + i - start]! : 1;
      sum += h * e * e;
      wq += h * x * d;
      qq += h * d * d;
    }
    fitted = qq > 0 ? Math.fround(wq / qq) : 0;
    if (sum < least) {
      least = sum;
      best = { scale, zero };
      return true;
    }
    return false;
  };
  const usable = (s: number) => Math.abs(s) >= 2 ** -126 && Math.abs(s) < Infinity;
  look(base.scale, base.zero);
  let bestFit = fitted;
  const signs = hasZeroPoints(scheme) ? [1] : [1, -1];
  for (const sign of signs) {
    for (const share of shares) {
      const scale = Math.fround(base.scale * share * sign);
      if (usable(scale) && look(scale, base.zero)) bestFit = fitted;
    }
  }
  if (hasZeroPoints(scheme)) {
    const { scale, zero } = best;
    for (const z of [zero - 1, zero + 1]) if (z >= low && z <= high && look(scale, z)) bestFit = fitted;
  }
  for (let i = 0; i < 4 && usable(bestFit) && look(bestFit, best.zero); i++) bestFit = fitted;
  return best;
}

/** Round to nearest on searched grids. */
export function roundOnSearched(
  w: Float32Array,
  rows: number,
  columns: number,
  scheme: BlockScheme,
  importance: ArrayLike<number> | null = null,
): BlockCodes {
  const out = emptyCodes("roundOnSearched", w, rows, columns, scheme);
  const levels = levelsOf(scheme);
  let group = 0;
  for (let r = 0; r < rows; r++) {
    for (let from = 0; from < columns; from += scheme.groupSize, group++) {
      const start = r * columns + from;
      const end = r * columns + Math.min(columns, from + scheme.groupSize);
      const grid = searchGrid(w, start, end, scheme, importance, from);
      out.scales[group] = grid.scale;
      if (out.zeroPoints) out.zeroPoints[group] = grid.zero;
      for (let i = start; i < end; i++) out.codes[i] = codeOf(w[i]!, grid, levels);
    }
  }
  return out;
}
