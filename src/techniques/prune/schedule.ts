/** How much is removed when. */

/**
 * Sparsity after `done` of `total` removals: `cubic` is s_f + (s_i − s_f)(1 − t)³ with s_i = 0 (Zhu & Gupta 2017, eq. 1), fast at first
 * and slow at the end; `iterative` removes the same fraction of what is left each time (Han 2015); `oneshot` all at once.
 */
export function scheduled(schedule: "oneshot" | "iterative" | "cubic", final: number, done: number, total: number): number {
  const t = total <= 0 ? 1 : Math.min(1, done / total);
  if (schedule === "cubic") return final * (1 - (1 - t) ** 3);
  if (schedule === "iterative") return 1 - (1 - final) ** t;
  return final;
}
