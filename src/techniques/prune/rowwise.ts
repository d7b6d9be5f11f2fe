/** Optimal Brain Surgeon layer by layer: the rows of a weight matrix by themselves, all with the Hessian of the layer's inputs. */
import { Fault } from "../../tensor/fault.ts";
import { inverse } from "../../tensor/linalg/dense.ts";
import { solve } from "../../tensor/linalg/solve.ts";
import { meanDiagonal } from "../hessian.ts";

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
  const h = hessian.slice();
  const mean = meanDiagonal(h, n, "obs");
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

/**
 * The order in which a row's weights go, and what each costs: {@link excise} again and again. What the deletions take off H⁻¹ [n, n] is a sum of
 * v·vᵀ, one for each, v the row of the inverse so far over the root of its pivot: a Cholesky factor that takes the least salient weight
 * next. Kept are the v and the diagonal; a row of the inverse is made when its weight goes: n³/6 multiply-adds.
 */
function takenApart(row: Float32Array, inv: Float64Array, cost: Float64Array): Int32Array {
  const n = row.length;
  const order = Int32Array.from(row.keys());
  const w = Float64Array.from(row);
  const diagonal = w.map((_, i) => inv[i * n + i]!);
  const v = new Float64Array(n * n);
  for (let s = 0; s < n; s++) {
    const q = least(w, diagonal, order, s);
    exchange(order, s, q);
    exchange(w, s, q);
    exchange(diagonal, s, q);
    for (let t = 0; t < s; t++) exchange(v, t * n + s, t * n + q);
    const now = v.subarray(s * n, (s + 1) * n);
    for (let j = s + 1, at = order[s]! * n; j < n; j++) now[j] = inv[at + order[j]!]!;
    subtract(now, v, n, s);
    cost[s] = w[s]! ** 2 / (2 * diagonal[s]!);
    const root = Math.sqrt(diagonal[s]!);
    for (let j = s + 1; j < n; j++) {
      const x = now[j]! / root;
      now[j] = x;
      w[j]! -= (w[s]! / root) * x;
      diagonal[j]! -= x * x;
    }
  }
  return order;
}

/** Of the weights from place `from` on the least salient; of equal ones the first in the row. */
function least(w: Float64Array, diagonal: Float64Array, order: Int32Array, from: number): number {
  let best = from;
  let low = Infinity;
  for (let i = from; i < w.length; i++) {
    const l = (w[i]! * w[i]!) / diagonal[i]!;
    if (l < low || (l === low && order[i]! < order[best]!)) [best, low] = [i, l];
  }
  return best;
}

function exchange(a: Float64Array | Int32Array, i: number, j: number): void {
  const x = a[i]!;
  a[i] = a[j]!;
  a[j] = x;
}

/** From `now`, right of place s: Σ_{t<s} v_ts·v_t. */
function subtract(now: Float64Array, v: Float64Array, n: number, s: number): void {
  let t = 0;
  for (; t + 4 <= s; t += 4) {
    const [a, b, c, d] = [t * n, (t + 1) * n, (t + 2) * n, (t + 3) * n];
    const [fa, fb, fc, fd] = [v[a + s]!, v[b + s]!, v[c + s]!, v[d + s]!];
    for (let j = s + 1; j < n; j++) now[j]! -= fa * v[a + j]! + fb * v[b + j]! + (fc * v[c + j]! + fd * v[d + j]!);
  }
  for (; t < s; t++) {
    const f = v[t * n + s]!;
    for (let j = s + 1; j < n; j++) now[j]! -= f * v[t * n + j]!;
  }
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
