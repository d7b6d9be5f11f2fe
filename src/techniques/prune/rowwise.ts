/** Optimal Brain Surgeon layer by layer: the rows of a weight matrix by themselves, all with the Hessian of the layer's inputs. */
import { Fault } from "../../tensor/fault.ts";
import { inverse } from "../../tensor/linalg/dense.ts";
import { solve } from "../../tensor/linalg/solve.ts";
import { excise, leastSalient } from "./surgeon.ts";

export interface Rows {
  readonly weights: Float32Array<ArrayBuffer>;
  /** 1 stays, 0 is gone. */
  readonly keep: Uint8Array<ArrayBuffer>;
}

/**
 * Deletes `count` weights of w [rows, columns] so that the layer's outputs on its inputs change least, and lets the others make up for them: with H = Σ xᵀx a row's
 * error is Δ·H·Δᵀ, which no other row touches (Dong et al. 2017). Each row is taken apart greedily to its end; of all steps the cheapest are taken,
 * in each row's own order (Frantar, Singh, Alistarh 2022, section 4, ExactOBS). `damp` is added to H's diagonal, as a share of its mean; weights
 * of inputs that are always 0 cost nothing and go first. Time grows with rows·columns³.
 * Errors: a Hessian of the wrong size or not finite.
 */
export function surgeonRows(w: Float32Array, rows: number, columns: number, hessian: Float64Array, count: number, damp = 0.01): Rows {
  const n = columns;
  if (hessian.length !== n * n) throw new Fault("obs", `a Hessian for ${n} columns has ${n * n} elements; got ${hessian.length}`);
  if (!hessian.every(Number.isFinite)) throw new Fault("obs", "the Hessian is not finite");
  const h = hessian.slice();
  let trace = 0;
  for (let i = 0; i < n; i++) trace += h[i * n + i]!;
  const mean = trace / n || 1;
  const unused = Uint8Array.from({ length: n }, (_, i) => (h[i * n + i]! > 0 ? 0 : 1));
  for (let i = 0; i < n; i++) h[i * n + i]! += unused[i] ? mean : damp * mean;
  const inv = inverse(h, n);
  const weights = w.slice();
  for (let at = 0; at < weights.length; at++) if (unused[at % n]) weights[at] = 0;
  const orders: Int32Array[] = [];
  const costs = new Float64Array(rows * n);
  for (let r = 0; r < rows; r++) {
    const cost = costs.subarray(r * n, (r + 1) * n);
    orders.push(takenApart(weights.subarray(r * n, (r + 1) * n), inv, cost));
    // A step can cost less than the one before it, which must come first.
    for (let i = 1; i < n; i++) cost[i] = Math.max(cost[i]!, cost[i - 1]!);
  }
  const cheapest = Array.from(costs.keys()).sort((a, b) => costs[a]! - costs[b]! || a - b);
  const keep = new Uint8Array(rows * n).fill(1);
  for (const step of cheapest.slice(0, count)) {
    const r = Math.floor(step / n);
    keep[r * n + orders[r]![step % n]!] = 0;
  }
  for (let r = 0; r < rows; r++) refit(weights.subarray(r * n, (r + 1) * n), h, keep.subarray(r * n, (r + 1) * n));
  return { weights, keep };
}

/** The order in which a row's weights go, and what each costs. */
function takenApart(row: Float32Array, full: Float64Array, cost: Float64Array): Int32Array {
  const order = new Int32Array(row.length);
  let index = Int32Array.from(row.keys());
  let w = Float64Array.from(row);
  let keep = new Uint8Array(row.length).fill(1);
  let inv = full.slice();
  let left = row.length;
  for (let step = 0; step < row.length; step++) {
    const q = leastSalient(w, inv, keep);
    order[step] = index[q]!;
    cost[step] = excise(w, inv, keep, q);
    left--;
    // What is gone need not be gone over again.
    if (left >= 8 && left < 0.75 * w.length) {
      const stay = [...keep.keys()].filter((i) => keep[i]);
      const n = w.length;
      const [small, v] = [new Float64Array(left * left), new Float64Array(left)];
      stay.forEach((i, a) => {
        v[a] = w[i]!;
        stay.forEach((j, b) => {
          small[a * left + b] = inv[i * n + j]!;
        });
      });
      index = Int32Array.from(stay, (i) => index[i]!);
      [w, inv, keep] = [v, small, new Uint8Array(left).fill(1)];
    }
  }
  return order;
}

/** Moves what is kept (K) for what is gone (M), in place: w_K + H_KK⁻¹·H_KM·w_M. */
function refit(row: Float32Array, h: Float64Array, keep: Uint8Array): void {
  const n = row.length;
  const stay = [...keep.keys()].filter((i) => keep[i]);
  const gone = [...keep.keys()].filter((i) => !keep[i]);
  if (stay.length && gone.some((m) => row[m] !== 0)) {
    const k = stay.length;
    const a = new Float64Array(k * k);
    const b = new Float64Array(k);
    stay.forEach((i, r) => {
      stay.forEach((j, c) => {
        a[r * k + c] = h[i * n + j]!;
      });
      for (const m of gone) b[r]! += h[i * n + m]! * row[m]!;
    });
    const move = solve(a, k, b, 1);
    stay.forEach((i, r) => {
      row[i]! += move[r]!;
    });
  }
  for (const m of gone) row[m] = 0;
}
