/** Reaching a speed-up by measurement: which of a family of ever smaller nets is fast enough, and which widths nearby are faster. */

import type { Group } from "../../transform/groups.ts";
import type { Sizes } from "./groupcost.ts";
import { type Candidate, multipleOf } from "./widths.ts";

/** A measured speed-up over the original, with its 95 % interval. */
export interface Speedup {
  readonly value: number;
  readonly interval: readonly [number, number];
}

export interface Reached {
  /** Which net, 0: the original. */
  readonly net: number;
  readonly speedup: Speedup;
  /** Whether a thorough measurement gave the target. */
  readonly met: boolean;
}

/** Looking, a net counts as fast enough at this many times the target: most of those then pass the thorough measurement. */
const margin = 1.03;
/** Measurements while looking, and thorough ones. */
const [looks, trials] = [8, 5];

/**
 * Looks among the nets 1 … `count`, each smaller than the one before, for the first that is `target` times as fast: by bisection (speed
 * falls with size, if not strictly), from the guess on. What is found must hold in a thorough measurement; else smaller nets are tried, a
 * little at a time. Where none holds, the fastest one measured is returned, not `met`.
 */
export async function reach(
  count: number,
  target: number,
  guess: number,
  time: (net: number, thorough: boolean) => Promise<Speedup>,
): Promise<Reached | null> {
  if (count < 1) return null;
  let best: Reached | null = null;
  const measured = async (net: number, thorough: boolean): Promise<Reached> => {
    const speedup = await time(net, thorough);
    const result = { net, speedup, met: thorough && speedup.value >= target };
    if (!best || speedup.value > best.speedup.value) best = result;
    return result;
  };
  // lo is too slow; hi is fast enough, or the last one.
  let [lo, hi] = [0, count];
  const close = Math.max(1, Math.round(count / 64));
  for (let look = 0, at = guess; look < looks && hi - lo > close; look++, at = Math.round((lo + hi) / 2)) {
    const net = Math.min(hi - 1, Math.max(lo + 1, at));
    const { speedup } = await measured(net, false);
    if (speedup.value >= target * margin) hi = net;
    else lo = net;
  }
  for (let trial = 0, net = hi; trial < trials; trial++) {
    const result = await measured(net, true);
    if (result.met) return result;
    if (net === count) break;
    net = Math.min(count, net + Math.max(1, Math.round(count / 32)));
  }
  return best;
}

/**
 * Widths near `sizes` that a machine may like better: of every group that got smaller, the nearest and the next lower multiple of 8, 16
 * and 32 channels.
 */
export function nearby(
  candidates: readonly Candidate[],
  sizes: Sizes,
): { readonly multiple: number; readonly sizes: Map<Group, number> }[] {
  const key = (s: Sizes) => candidates.map(({ group }) => s.get(group) ?? group.size).join();
  const seen = new Set([key(sizes)]);
  const out: { multiple: number; sizes: Map<Group, number> }[] = [];
  for (const multiple of [32, 16, 8]) {
    for (const round of [Math.round, Math.floor, Math.ceil]) {
      const near = new Map<Group, number>();
      for (const [group, size] of sizes) {
        const m = multipleOf(group, multiple);
        near.set(group, Math.min(group.size, Math.max(m, round(size / m) * m)));
      }
      if (seen.has(key(near)) || candidates.every(({ group }) => (near.get(group) ?? group.size) === group.size)) continue;
      seen.add(key(near));
      out.push({ multiple, sizes: near });
    }
  }
  return out;
}
