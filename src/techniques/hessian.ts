/** The error of a layer's output as a quadratic form: for inputs with H = Σ xᵀx, weights that are off by Δ err by tr(Δ·H·Δᵀ) = Σ ‖Δx‖². */
import { Fault } from "../tensor/fault.ts";
import { type Dense, dense, type Matrix, udu } from "../tensor/linalg/dense.ts";

/** Rows of weights at a time. */
const most = 256;

/** A Hessian [n, n] laid out for products with many rows. */
export interface Quadratic {
  readonly n: number;
  /** tr(Δ·H·Δᵀ) for Δ [rows, n] row-major; `each` gets Δ·H row by row: half of the gradient. */
  error(delta: ArrayLike<number>, rows: number, each?: (row: number, product: Float64Array) => void): number;
}

export function quadratic(hessian: Float64Array, n: number): Quadratic {
  if (hessian.length !== n * n) throw new Fault("hessian", `for ${n} columns there are ${n * n} elements; got ${hessian.length}`);
  const space: Dense = dense(n * n + 2 * most * n);
  const h = space.matrix(n, n);
  h.data.set(hessian);
  const d: Matrix = space.matrix(most, n);
  const p: Matrix = space.matrix(most, n);
  return {
    n,
    error(delta, rows, each) {
      let sum = 0;
      for (let from = 0; from < rows; from += most) {
        const count = Math.min(most, rows - from);
        for (let i = 0; i < count * n; i++) d.data[i] = delta[from * n + i]!;
        p.data.fill(0, 0, count * n);
        space.multiply({ of: p, rows: count }, { of: d, rows: count }, { of: h });
        for (let i = 0; i < count * n; i++) sum += d.data[i]! * p.data[i]!;
        if (each) for (let r = 0; r < count; r++) each(from + r, p.data.subarray(r * n, (r + 1) * n));
      }
      return sum;
    },
  };
}

/** The mean of the diagonal of a Hessian [n, n]; 1 where it is zero. Errors: not finite, as of `where`. */
export function meanDiagonal(hessian: ArrayLike<number>, n: number, where: string): number {
  let trace = 0;
  for (let i = 0; i < n; i++) trace += hessian[i * n + i]!;
  if (!(trace < Infinity)) throw new Fault(where, "the Hessian is not finite");
  return trace / n || 1;
}

/** {@link udu} of H + share·mean·I: the share is `damp`, raised tenfold (from 1e-4 at least) as often as that is not positive definite. */
export function dampedFactors(space: Dense, u: Matrix, h: Float64Array, mean: number, damp: number): Float64Array {
  for (let share = damp; ; share = Math.max(share, 1e-4) * 10) {
    try {
      return udu(space, u, h, share * mean);
    } catch (e) {
      if (share > 10) throw e;
    }
  }
}

/** tr(Δ·H·Δᵀ) with Δ = ŵ − w, both [rows, columns]. */
export function outputError(w: Float32Array, approximation: Float32Array, rows: number, hessian: Float64Array): number {
  return quadratic(hessian, w.length / rows).error(
    approximation.map((x, i) => x - w[i]!),
    rows,
  );
}
