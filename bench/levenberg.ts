/** Levenberg-Marquardt: Gauss-Newton steps with as much damping as they need. Finds the minimum of small nets to the last digits. */
import { solve } from "../src/tensor/linalg/solve.ts";
import type { GaussNewton } from "../src/train/gaussnewton.ts";

export interface LevenbergOptions {
  /** c of the term c/2·‖w‖² that is minimized with the loss. Default 0. */
  readonly weightDecay?: number;
  /** Most steps. Default 100. */
  readonly steps?: number;
  /** Weights with 0 stay as they are. */
  readonly keep?: ArrayLike<number>;
  /** Done when a step lowers the objective by less than this share of it. Default 1e-7: what float32 gradients tell. */
  readonly tolerance?: number;
}

/**
 * Minimizes loss + c/2·‖w‖² from `start`: δ = −(H + (c + λ)I)⁻¹·(∂loss/∂w + c·w), taken where it lowers the objective; λ falls with every step
 * taken and rises with every one refused (Marquardt 1963). Returns the weights, the loss without the decay, and the steps taken.
 */
export async function levenberg(
  net: GaussNewton,
  start: ArrayLike<number>,
  options: LevenbergOptions = {},
): Promise<{ readonly w: Float64Array<ArrayBuffer>; readonly loss: number; readonly steps: number }> {
  const { weightDecay = 0, steps = 100, keep, tolerance = 1e-7 } = options;
  let w = Float64Array.from(start);
  const free = [...w.keys()].filter((i) => !keep || keep[i]);
  const m = free.length;
  const decay = (v: Float64Array) => free.reduce((s, i) => s + 0.5 * weightDecay * v[i]! ** 2, 0);
  let lambda = 1e-2;
  let taken = 0;
  let loss = Number.POSITIVE_INFINITY;
  while (taken < steps && m > 0) {
    const { hessian, gradient, loss: here } = await net.hessian(w);
    loss = here;
    const objective = loss + decay(w);
    const slope = free.map((i) => -gradient[i]! - weightDecay * w[i]!);
    let lower = 0;
    while (lower <= 0 && lambda < 1e8) {
      const a = new Float64Array(m * m);
      free.forEach((i, r) => {
        for (let c = 0; c < m; c++) a[r * m + c] = hessian[i * net.n + free[c]!]!;
        a[r * m + r]! += weightDecay + lambda;
      });
      const step = solve(a, m, slope, 1);
      const next = w.slice();
      free.forEach((i, r) => {
        next[i]! += step[r]!;
      });
      const there = await net.value(next);
      lower = objective - (there.loss + decay(next));
      if (lower > 0) {
        w = next;
        loss = there.loss;
        lambda = Math.max(1e-9, lambda / 5);
        taken++;
      } else lambda *= 4;
    }
    if (lower <= tolerance * objective) break;
  }
  return { w, loss, steps: taken };
}
