/** What is added to a layer's weights so that its outputs come nearer to what they should be: least squares with a ridge. */
import { dense, inverse } from "../../tensor/linalg/dense.ts";

/** Sums over rows x of a layer's inputs (their last element 1 where it has a bias) and r of what its outputs lack. */
export interface Sums {
  /** Σ xᵀx, [columns, columns]. */
  readonly gram: Float64Array;
  /** Σ xᵀr, [columns, rows]. */
  readonly cross: Float64Array;
}

export interface Correction {
  /** To be added to the weights (and, as the last column, the bias): [rows, columns]. */
  readonly delta: Float64Array<ArrayBuffer>;
  /** By how much Σ‖r‖² falls on the held-out rows: ≥ 0. */
  readonly gain: number;
}

/**
 * Δ = argmin Σ ‖r − Δx‖² + λ‖Δ‖² over the rows of `fit` (He et al. 2017, eq. 1 with the channels chosen, and a ridge towards Δ = 0, the weights
 * as they are): Δᵀ = (Σxᵀx + λI)⁻¹ Σxᵀr, where λ is `damp` times the mean square of the inputs; the bias has no ridge. Then each output's Δ is
 * shortened to what serves best on the rows of `held`: to nothing, where it does not serve there at all.
 * @param bias whether the last column is one
 */
export function corrected(
  fit: Sums,
  held: Sums,
  { rows, columns, bias, damp }: { readonly rows: number; readonly columns: number; readonly bias: boolean; readonly damp: number },
): Correction {
  const weights = bias ? columns - 1 : columns;
  const ridged = fit.gram.slice();
  let trace = 0;
  for (let k = 0; k < weights; k++) trace += ridged[k * columns + k]!;
  const mean = trace / weights || 1;
  let solved: Float64Array<ArrayBuffer> | null = null;
  for (let share = damp; !solved; share *= 10) {
    for (let k = 0; k < weights; k++) ridged[k * columns + k] = fit.gram[k * columns + k]! + share * mean;
    if (bias) ridged[columns * columns - 1] = fit.gram[columns * columns - 1]! * (1 + 1e-12) || 1;
    try {
      solved = inverse(ridged, columns);
    } catch (e) {
      if (share > 10) throw e;
    }
  }
  const space = dense(columns * columns + 3 * columns * rows);
  const a = space.matrix(columns, columns);
  const [b, d, p] = [space.matrix(columns, rows), space.matrix(columns, rows), space.matrix(columns, rows)];
  a.data.set(solved);
  b.data.set(fit.cross);
  space.multiply({ of: d }, { of: a }, { of: b });
  a.data.set(held.gram);
  space.multiply({ of: p }, { of: a }, { of: d });
  const delta = new Float64Array(rows * columns);
  let gain = 0;
  for (let r = 0; r < rows; r++) {
    let [along, square] = [0, 0];
    for (let k = 0; k < columns; k++) {
      along += d.data[k * rows + r]! * held.cross[k * rows + r]!;
      square += d.data[k * rows + r]! * p.data[k * rows + r]!;
    }
    const step = square > 0 ? Math.min(1, Math.max(0, along / square)) : 0;
    gain += 2 * step * along - step * step * square;
    for (let k = 0; k < columns; k++) delta[r * columns + k] = step * d.data[k * rows + r]!;
  }
  return { delta, gain };
}
