/**
 * Optimal Brain Surgeon (Hassibi, Stork 1993) on arrays: the error E around a minimum is E + ½ δwᵀ·H·δw, so that deleting weights and moving
 * all others as the inverse Hessian says raises it least. H⁻¹ is [n, n] row-major; deleted weights have zero rows and columns in it.
 */
import { Fault } from "../../tensor/fault.ts";
import { inverse } from "../../tensor/linalg/dense.ts";

/**
 * (αI + (1/P)·Σ x·xᵀ)⁻¹ over the rows x of `rows` [·, n], one after the other (eq. 17): H⁻¹ ← H⁻¹ − H⁻¹x·xᵀH⁻¹ / (P + xᵀH⁻¹x), from α⁻¹I.
 * For the squared error ½(t − o)² x is ∂o/∂w, for each example and output. A loss with second derivative c of an output takes √c·∂o/∂w:
 * √(o(1 − o)) times the derivative of the logit for cross-entropy of a sigmoid, √p_c·∂(log p_c)/∂w for every class c of a softmax.
 * Errors: α not above 0, rows of another length.
 */
export function inverseByRecursion(rows: ArrayLike<number>, n: number, options: { alpha: number; p: number }): Float64Array<ArrayBuffer> {
  const { alpha, p } = options;
  if (!(alpha > 0)) throw new Fault("surgeon", `the recursion starts from the identity over alpha; alpha must be above 0, got ${alpha}`);
  const count = wholeRows(rows, n);
  const inv = new Float64Array(n * n);
  for (let i = 0; i < n; i++) inv[i * n + i] = 1 / alpha;
  const u = new Float64Array(n);
  for (let r = 0; r < count; r++) {
    let s = p;
    for (let i = 0; i < n; i++) {
      let sum = 0;
      for (let j = 0; j < n; j++) sum += inv[i * n + j]! * rows[r * n + j]!;
      u[i] = sum;
      s += sum * rows[r * n + i]!;
    }
    for (let i = 0; i < n; i++) {
      const f = u[i]! / s;
      for (let j = 0; j < n; j++) inv[i * n + j]! -= f * u[j]!;
    }
  }
  return inv;
}

/** The same by H itself and its Cholesky factor: faster for many weights, and exact where rows are many. */
export function inverseDirect(rows: ArrayLike<number>, n: number, options: { alpha: number; p: number }): Float64Array<ArrayBuffer> {
  const count = wholeRows(rows, n);
  const h = new Float64Array(n * n);
  for (let r = 0; r < count; r++)
    for (let i = 0; i < n; i++) {
      const f = rows[r * n + i]! / options.p;
      if (f) for (let j = 0; j <= i; j++) h[i * n + j]! += f * rows[r * n + j]!;
    }
  for (let i = 0; i < n; i++) h[i * n + i]! += options.alpha;
  return inverse(h, n);
}

function wholeRows(rows: ArrayLike<number>, n: number): number {
  const count = rows.length / n;
  if (!Number.isInteger(count)) throw new Fault("surgeon", `rows have ${n} elements; got ${rows.length}, which is not a multiple`);
  return count;
}

/** L_q = w_q² / (2·[H⁻¹]_qq): how much E rises if q is deleted (eq. 5); infinite where `keep` is 0. */
export function saliencies(w: ArrayLike<number>, inv: Float64Array, keep: Uint8Array): Float64Array<ArrayBuffer> {
  const n = w.length;
  return Float64Array.from({ length: n }, (_, q) => (keep[q] ? w[q]! ** 2 / (2 * inv[q * n + q]!) : Infinity));
}

/** The least salient of the weights kept; −1 where none is. */
export function leastSalient(w: ArrayLike<number>, inv: Float64Array, keep: Uint8Array): number {
  const n = w.length;
  let best = -1;
  let least = Infinity;
  for (let q = 0; q < n; q++) {
    if (!keep[q]) continue;
    const l = w[q]! ** 2 / inv[q * n + q]!;
    if (l < least || best < 0) [best, least] = [q, l];
  }
  return best;
}

/**
 * Deletes weight q, in place: δw = −(w_q / [H⁻¹]_qq)·H⁻¹e_q (eq. 5), after which w_q is 0, and H⁻¹ ← H⁻¹ − H⁻¹e_q·e_qᵀH⁻¹ / [H⁻¹]_qq, the inverse of
 * H without q, so that more can be deleted from the same Hessian. Returns L_q.
 */
export function excise(w: Float64Array, inv: Float64Array, keep: Uint8Array, q: number): number {
  const n = w.length;
  const d = inv[q * n + q]!;
  const saliency = w[q]! ** 2 / (2 * d);
  const row = inv.slice(q * n, (q + 1) * n);
  const step = w[q]! / d;
  for (let i = 0; i < n; i++) {
    const at = row[i]!;
    if (at === 0) continue;
    w[i]! -= step * at;
    const f = at / d;
    for (let j = 0, to = i * n; j < n; j++) inv[to + j]! -= f * row[j]!;
  }
  w[q] = 0;
  keep[q] = 0;
  for (let i = 0; i < n; i++) inv[i * n + q] = inv[q * n + i] = 0;
  return saliency;
}

/**
 * Deletes several weights at once, in place: ΔE = ½·wᵀM(MᵀH⁻¹M)⁻¹Mᵀw and δw = −H⁻¹M(MᵀH⁻¹M)⁻¹Mᵀw, where the columns of M pick the members.
 * What is left is the same as after deleting them one by one in any order. Returns ΔE. Errors: a member that is deleted already, or named twice.
 */
export function exciseGroup(w: Float64Array, inv: Float64Array, keep: Uint8Array, members: ArrayLike<number>): number {
  const n = w.length;
  const k = members.length;
  for (let a = 0; a < k; a++) {
    if (!keep[members[a]!]) throw new Fault("surgeon", `weight ${members[a]} is deleted already, or named twice`);
    keep[members[a]!] = 0;
  }
  const block = new Float64Array(k * k);
  for (let a = 0; a < k; a++) for (let b = 0; b < k; b++) block[a * k + b] = inv[members[a]! * n + members[b]!]!;
  const g = inverse(block, k);
  const columns = Array.from(members, (q) => inv.slice(q * n, (q + 1) * n));
  // (MᵀH⁻¹M)⁻¹Mᵀ times w, and times H⁻¹.
  const times = (x: (b: number) => number) => (a: number) => {
    let sum = 0;
    for (let b = 0; b < k; b++) sum += g[a * k + b]! * x(b);
    return sum;
  };
  const pull = Float64Array.from({ length: k }, (_, a) => times((b) => w[members[b]!]!)(a));
  let rise = 0;
  for (let a = 0; a < k; a++) rise += 0.5 * pull[a]! * w[members[a]!]!;
  for (let i = 0; i < n; i++) {
    let delta = 0;
    for (let a = 0; a < k; a++) delta += columns[a]![i]! * pull[a]!;
    w[i]! -= delta;
    for (let a = 0; a < k; a++) {
      const f = times((b) => columns[b]![i]!)(a);
      if (f) for (let j = 0; j < n; j++) inv[i * n + j]! -= f * columns[a]![j]!;
    }
  }
  for (const q of Array.from(members)) {
    w[q] = 0;
    for (let i = 0; i < n; i++) inv[i * n + q] = inv[q * n + i] = 0;
  }
  return rise;
}
