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

/** Many times the target that are aimed at: a later measurement should say the target too. */
const aim = 1.012;
/** What is found may be this many times as fast as the target, and the lower end of its interval at least this. */
const [most, sure] = [1.025, 0.988];
/** Measurements at most. */
const measurements = 24;
/** Standard deviations of a logarithm: what two measurements of one net differ by whatever their intervals, and neighbours from a line. */
const [repeat, rough] = [0.01, 0.007];
/** Logarithms of predicted speed-ups closer than this are the same place; what is tried next to a net is that far from it. */
const step = 0.004;

/** What is known of one net: the logarithm of its speed-up and its variance, from all its measurements. */
interface Known {
  readonly net: number;
  readonly at: number;
  readonly log: number;
  readonly variance: number;
  readonly measured: number;
}

/**
 * Looks among the nets 1 … `predicted.length`, each smaller than the one before, for the least narrowed one that is `target` times as fast.
 * `predicted`: how many times as fast each should be, growing; the truth may be anything that grows about so, with bumps, and each
 * measurement is noisy. The next net is where a line through all measurements, those near the target first, says a little more than the
 * target; each is measured as often as it takes to tell (`thorough` from the second time on), all its measurements count, and none alone
 * rules anything out. Where none holds, the one surest to be near the target is returned, `met` if at least its value is the target.
 */
export async function reach(
  predicted: readonly number[],
  target: number,
  time: (net: number, thorough: boolean) => Promise<Speedup>,
): Promise<Reached | null> {
  const count = predicted.length;
  if (count < 1) return null;
  const [least, goal] = [Math.log(target), Math.log(target * aim)];
  const at = (net: number) => (net === 0 ? 0 : Math.log(predicted[net - 1]!));
  const known = new Map<number, Known>();
  const enough = (k: Known) => k.measured > 2 && k.log >= least && k.log - z * Math.sqrt(k.variance) >= Math.log(target * sure);
  const tooSlow = (k: Known) =>
    k.log < least && (k.log + z * Math.sqrt(k.variance) < least || (k.measured > 2 && k.variance < repeat ** 2));
  for (let n = 0; n < measurements; n++) {
    const list = [...known.values()];
    const hi = list.filter(enough).reduce((a, k) => Math.min(a, k.net), count + 1);
    const lo = list.filter((k) => k.net < hi && tooSlow(k)).reduce((a, k) => Math.max(a, k.net), 0);
    if (hi <= count && (known.get(hi)!.log <= Math.log(target * most) || hi - lo <= 1)) break;
    const wanted = crossing(list, goal);
    // The first net that should do, at least a little from those that are settled.
    const low = Math.min(at(lo) + step, at(Math.min(count, hi - 1)));
    const high = hi > count ? Infinity : at(hi) - step;
    let net = lo + 1;
    while (net < Math.min(count, hi - 1) && at(net) < Math.max(low, Math.min(high, wanted))) net++;
    if (net > count) {
      // All are too slow, it seems: what else is fast?
      net = middle(list.map((k) => k.net));
      if (n >= measurements / 2 || net < 1) break;
    } else {
      const [same] = list
        .filter((k) => k.net > lo && k.net < hi && Math.abs(k.at - at(net)) < step)
        .sort((a, b) => Math.abs(a.at - at(net)) - Math.abs(b.at - at(net)));
      net = same?.net ?? net;
    }
    const before = known.get(net);
    known.set(net, pooled(before, net, at(net), await time(net, before !== undefined)));
  }
  // The surest that is there; of equal ones the least narrowed.
  const low = (k: Known) => Math.min(Math.log(target * sure), k.log - z * Math.sqrt(k.variance));
  const met = (k: Known) => k.log >= least;
  const [best] = [...known.values()].sort((a, b) => Number(met(b)) - Number(met(a)) || low(b) - low(a) || a.net - b.net);
  return { net: best!.net, speedup: told(best!), met: met(best!) };
}

/** 97.5 % quantile of the standard normal distribution. */
const z = 1.96;

/** A speed-up and its interval. */
function told({ log, variance }: Known): Speedup {
  const half = z * Math.sqrt(variance);
  return { value: Math.exp(log), interval: [Math.exp(log - half), Math.exp(log + half)] };
}

/** Measurements of one net weigh by their precision. */
function pooled(before: Known | undefined, net: number, at: number, { value, interval }: Speedup): Known {
  const deviation = Math.log(interval[1] / interval[0]) / (2 * z);
  const now = { net, at, log: Math.log(value), variance: deviation ** 2 + repeat ** 2, measured: 1 };
  if (!before) return now;
  const variance = 1 / (1 / before.variance + 1 / now.variance);
  return { ...now, log: variance * (before.log / before.variance + now.log / now.variance), variance, measured: before.measured + 1 };
}

/**
 * Where a line through what is known reaches the goal: least squares, weighed by precision and by closeness to the goal; its slope is drawn
 * to that of the line from the original (0, 0), which is all one measurement gives.
 */
function crossing(known: readonly Known[], goal: number): number {
  if (known.length === 0) return goal;
  const weights = known.map((k) => 1 / ((k.variance + rough ** 2) * (1 + ((k.log - goal) / 0.05) ** 2)));
  const sum = (f: (k: Known) => number) => known.reduce((s, k, i) => s + weights[i]! * f(k), 0);
  const total = sum(() => 1);
  const [x, y] = [sum((k) => k.at) / total, sum((k) => k.log) / total];
  const chord = Math.max(x > 0 ? y / x : 1, 0.1);
  const prior = 1 / (chord / 2) ** 2;
  const slope = (prior * chord + sum((k) => (k.at - x) * (k.log - y))) / (prior + sum((k) => (k.at - x) ** 2));
  return x + (goal - y) / Math.max(slope, chord / 4);
}

/** The middle of the widest gap between nets, the original among them. */
function middle(nets: readonly number[]): number {
  const sorted = [0, ...nets].sort((a, b) => a - b);
  let [from, to] = [0, 0];
  for (let i = 1; i < sorted.length; i++) if (sorted[i]! - sorted[i - 1]! > to - from) [from, to] = [sorted[i - 1]!, sorted[i]!];
  return to - from > 1 ? Math.round((from + to) / 2) : 0;
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
