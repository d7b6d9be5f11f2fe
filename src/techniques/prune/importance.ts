/** From importance to masks: which entries are the least important ones. */

export type Scope = "global" | "layer";

/**
 * Masks that remove the `sparsity` fraction of entries with the lowest scores: of all entries together (global), or of each layer's own.
 * Scores are ≥ 0, one array per layer. Exact: ⌊sparsity · n⌉ entries go; among equal scores the earlier ones go first.
 */
export function lowest(scores: readonly Float32Array[], sparsity: number, scope: Scope): Uint8Array[] {
  if (scope === "layer") return scores.map((s) => mark([s], Math.round(sparsity * s.length))[0]!);
  return mark(scores, Math.round(sparsity * scores.reduce((n, s) => n + s.length, 0)));
}

/** Masks with the `count` lowest of all scores at 0. The bits of floats ≥ 0 order as they do, so the threshold is a radix selection in two passes. */
function mark(scores: readonly Float32Array[], count: number): Uint8Array[] {
  const bits = scores.map((s) => new Uint32Array(s.buffer, s.byteOffset, s.length));
  const pick = (key: (x: number) => number, rank: number) => {
    const counts = new Uint32Array(65536);
    for (const b of bits) {
      for (let i = 0; i < b.length; i++) {
        const k = key(b[i]!);
        if (k >= 0) counts[k]!++;
      }
    }
    let bin = 0;
    let before = 0;
    while (bin < 65535 && before + counts[bin]! <= rank) before += counts[bin++]!;
    return { bin, before };
  };
  const high = pick((x) => x >>> 16, count);
  const low = pick((x) => (x >>> 16 === high.bin ? x & 0xffff : -1), count - high.before);
  const threshold = ((high.bin << 16) | low.bin) >>> 0;
  let ties = count - high.before - low.before;
  return bits.map((b) => {
    const keep = new Uint8Array(b.length);
    for (let i = 0; i < b.length; i++) keep[i] = b[i]! < threshold || (b[i] === threshold && ties-- > 0) ? 0 : 1;
    return keep;
  });
}

/**
 * Sparsity after `done` of `total` pruning events: `cubic` is s_f + (s_i − s_f)(1 − t)³ with s_i = 0 (Zhu & Gupta 2017, eq. 1), fast at first
 * and slow at the end; `iterative` removes the same fraction of what is left each time (Han 2015).
 */
export function scheduled(schedule: "oneshot" | "iterative" | "cubic", final: number, done: number, total: number): number {
  const t = total <= 0 ? 1 : Math.min(1, done / total);
  if (schedule === "cubic") return final * (1 - (1 - t) ** 3);
  if (schedule === "iterative") return 1 - (1 - final) ** t;
  return final;
}
