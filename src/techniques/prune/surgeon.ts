/**
 * Optimal Brain Surgeon (Hassibi, Stork 1993) on arrays: the error E around a minimum is E + ½ δwᵀ·H·δw, so that deleting weights and moving
 * all others as the inverse Hessian says raises it least. H⁻¹ is [n, n] row-major; deleted weights have zero rows and columns in it.
 */

/** The least salient of the weights kept by L_q = w_q² / (2·[H⁻¹]_qq), how much E rises if q is deleted (eq. 5); −1 where none is. */
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
