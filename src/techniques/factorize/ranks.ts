/** How many singular values to keep. */

/** What is known of a layer's weight matrix when its rank is chosen. */
export interface Spectrum {
  readonly rows: number;
  readonly columns: number;
  /** Its singular values, descending. */
  readonly s: Float64Array;
}

/** The rank at which two factors have as many parameters as the matrix, rounded down to the last one with fewer. */
export function largestSmaller({ rows, columns }: Spectrum): number {
  return Math.ceil((rows * columns) / (rows + columns)) - 1;
}

/** What rank k leaves out, for every k from 0: Σ_{i>k} s_i² / Σ s_i² = ‖W − W_k‖² / ‖W‖², Frobenius norm (Eckart, Young 1936). */
export function lost(s: Float64Array): Float64Array {
  const out = new Float64Array(s.length + 1);
  // From the smallest up, so that nothing is lost to rounding and the full rank loses 0 exactly.
  for (let k = s.length - 1; k >= 0; k--) out[k] = out[k + 1]! + s[k]! * s[k]!;
  const total = out[0]!;
  return out.map((tail) => (total > 0 ? tail / total : 0));
}

/** The smallest rank, at least 1, that keeps this fraction of the squared singular values: Σ_{i≤k} s_i² ≥ energy · Σ s_i². */
export function rankByEnergy(s: Float64Array, energy: number): number {
  const tails = lost(s);
  for (let k = 1; k < s.length; k++) if (energy < 1 ? 1 - tails[k]! >= energy : tails[k] === 0) return k;
  return s.length;
}

/**
 * A rank for each layer (null: the layer stays whole) with at most budget · Σ rows·columns parameters in all and the least sum of squared
 * relative errors: what a parameter more wins is taken where it wins most, along the upper hull of each layer's (parameters, energy) points,
 * the whole matrix being the last of them. Null if not even rank 1 everywhere fits.
 */
export function ranksByBudget(layers: readonly Spectrum[], budget: number): (number | null)[] | null {
  const limit = budget * layers.reduce((n, l) => n + l.rows * l.columns, 0);
  const points = layers.map((l) => {
    const tails = lost(l.s);
    const out: Point[] = [];
    for (let k = 1; k <= largestSmaller(l); k++) out.push({ rank: k, cost: k * (l.rows + l.columns), energy: 1 - tails[k]! });
    out.push({ rank: null, cost: l.rows * l.columns, energy: 1 });
    return out;
  });
  const chosen = points.map((p) => p[0]!);
  let used = chosen.reduce((n, p) => n + p.cost, 0);
  if (used > limit) return null;
  const moves = points
    .flatMap((p, layer) => hull(p).flatMap((to, i, h) => (i ? [{ layer, from: h[i - 1]!, to }] : [])))
    .sort((a, b) => slope(b.from, b.to) - slope(a.from, a.to) || a.layer - b.layer);
  const closed = new Set<number>();
  for (const { layer, from, to } of moves) {
    if (closed.has(layer)) continue;
    // Where a whole move does not fit, the highest rank on the way that does; the layer is then done.
    const fits = (p: Point) => p.cost <= to.cost && p.cost - from.cost + used <= limit;
    const best = fits(to) ? to : (points[layer]!.filter(fits).at(-1) ?? from);
    if (best !== to) closed.add(layer);
    used += best.cost - from.cost;
    chosen[layer] = best;
  }
  return chosen.map((p) => p.rank);
}

interface Point {
  readonly rank: number | null;
  readonly cost: number;
  readonly energy: number;
}

const slope = (a: Point, b: Point) => (b.energy - a.energy) / (b.cost - a.cost);

/** The points on the upper hull, by ascending cost. */
function hull(points: readonly Point[]): Point[] {
  const out: Point[] = [];
  for (const p of points) {
    while (out.length >= 2 && slope(out.at(-2)!, out.at(-1)!) <= slope(out.at(-1)!, p)) out.pop();
    out.push(p);
  }
  return out;
}
