/** Which widths groups of coupled channels go to: step after step, the least loss for the most gain first. */
import type { Value } from "../../ir/graph.ts";
import type { Group } from "../../transform/groups.ts";
import type { Cost, Sizes } from "./groupcost.ts";

/** A group that may lose indices. */
export interface Candidate {
  readonly group: Group;
  /** By index, ≥ 0: what the net loses with it. Comparable between groups. */
  readonly importance: Float64Array;
  /** Sizes it may take are multiples of this … */
  readonly multiple: number;
  /** … and at least this. */
  readonly least: number;
}

/** One group gets smaller. */
export interface Narrowing {
  readonly group: Group;
  readonly from: number;
  readonly to: number;
  /** The whole cost afterwards. */
  readonly cost: number;
}

export interface DescentOptions {
  /** global: the least importance lost for the cost gained goes first; layer: all groups lose the same share. */
  readonly scope: "global" | "layer";
  /** Ends when the cost is this or less; the last step is no larger than that takes. Default: when nothing is left to remove. */
  readonly until?: number;
}

/** Steps of a group from its whole width to nothing, about. */
const stepsOfGroup = 128;

/**
 * A way down from the groups' sizes: each step takes one group to a smaller allowed size. With scope `global` the group with the least
 *
 *     Σ importance of what goes · (whole / what is left of the group's importance) / cost gained
 *
 * is next, so that a group that has lost much gives up the rest less readily; groups whose removal gains nothing stay. Equal ones go in
 * the given order.
 */
export function descent(candidates: readonly Candidate[], cost: Cost, { scope, until }: DescentOptions): Narrowing[] {
  const sizes = new Map(candidates.map((c) => [c.group, c.group.size]));
  const sums = new Map(candidates.map((c) => [c.group, cumulated(c.importance)]));
  const urgency = new Map<Group, Offer | null>();
  const offer = (c: Candidate): Offer | null => {
    const from = sizes.get(c.group)!;
    const to = below(c, from);
    if (to === null) return null;
    const gain = cost.gain(sizes, c.group, to);
    if (gain <= 0) return null;
    if (scope === "layer") return { to, gain, price: 1 - to / c.group.size };
    const sum = sums.get(c.group)!;
    const [whole, gone, then] = [sum[c.group.size]!, sum[c.group.size - from]!, sum[c.group.size - to]!];
    // Nothing is lost with what has no importance, and everything with all that has.
    const loss = then === gone ? 0 : then >= whole ? Infinity : ((then - gone) * whole) / (whole - then);
    return { to, gain, price: loss / gain };
  };
  const out: Narrowing[] = [];
  let total = cost.total(sizes);
  for (const c of candidates) urgency.set(c.group, offer(c));
  while (until === undefined || total > until) {
    let next: Candidate | null = null;
    let best: Offer | null = null;
    for (const c of candidates) {
      const o = urgency.get(c.group)!;
      if (o && (!best || o.price < best.price)) [next, best] = [c, o];
    }
    if (!next || !best) break;
    const { group } = next;
    const from = sizes.get(group)!;
    let { to, gain } = best;
    if (until !== undefined && total - gain < until) {
      for (let wider = allowed(next, from - 1); wider > to; wider = allowed(next, wider - 1)) {
        const enough = cost.gain(sizes, group, wider);
        if (total - enough <= until) {
          [to, gain] = [wider, enough];
          break;
        }
      }
    }
    sizes.set(group, to);
    total -= gain;
    out.push({ group, from, to, cost: total });
    for (const c of candidates) if (cost.share(c.group, group)) urgency.set(c.group, offer(c));
  }
  return out;
}

interface Offer {
  readonly to: number;
  readonly gain: number;
  readonly price: number;
}

/** The next size a group would go to, or null. */
function below(c: Candidate, size: number): number | null {
  const step = Math.max(1, Math.floor(c.group.size / stepsOfGroup));
  const to = Math.max(c.least, allowed(c, size - step));
  return to < size ? to : null;
}

/** The largest allowed size that is no more than `size`. */
function allowed({ multiple }: Candidate, size: number): number {
  return Math.floor(size / multiple) * multiple;
}

/** Sums of the k least important, k = 0 … n. */
function cumulated(importance: Float64Array): Float64Array {
  const out = new Float64Array(importance.length + 1);
  importance.toSorted().forEach((x, i) => {
    out[i + 1] = out[i]! + x;
  });
  return out;
}

/** The sizes after some steps. */
export function after(steps: readonly Narrowing[]): Map<Group, number> {
  return new Map(steps.map((s) => [s.group, s.to]));
}

/** For each group that gets smaller, 1 for the indices that stay: the most important ones; of equal ones the later. */
export function keepMost(candidates: readonly Candidate[], sizes: Sizes): Map<Group, Uint8Array> {
  const out = new Map<Group, Uint8Array>();
  for (const { group, importance } of candidates) {
    const to = sizes.get(group) ?? group.size;
    if (to === group.size) continue;
    const order = Array.from(importance.keys()).sort((a, b) => importance[a]! - importance[b]! || a - b);
    const keep = new Uint8Array(group.size).fill(1);
    for (const i of order.slice(0, group.size - to)) keep[i] = 0;
    out.set(group, keep);
  }
  return out;
}

/**
 * What a group's sizes are multiples of, so that the channel counts it stands for are multiples of `roundTo`: a group whose index stands
 * for several positions of an axis (a head, a place of an image) needs less. `roundTo` null: 16 along weights of Convs on images, whose
 * channels ONNX Runtime computes in blocks of 16, and 1 elsewhere.
 */
export function multipleOf(group: Group, roundTo: number | null): number {
  let out = 1;
  for (const { value, coordinate, role } of group.members) {
    if (role === "along") continue;
    const blocked = value.shape?.length === 4 && convolves(value);
    const wanted = roundTo ?? (blocked ? 16 : 1);
    const positions = coordinate.reduce((n, i) => n + (i >= 0 ? 1 : 0), 0) / group.size;
    out = Math.max(out, wanted / gcd(wanted, Math.round(positions)));
  }
  return out;
}

/** Whether a Conv reads it, dequantized perhaps. */
function convolves(value: Value): boolean {
  return [...value.uses].some(
    (u) =>
      "node" in u && (u.node.opType === "Conv" || (u.node.opType === "DequantizeLinear" && u.index === 0 && convolves(u.node.outputs[0]!))),
  );
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}

/** The least size of a group of `size`, which was `original` before: at least a multiple, and a share of 1 − maxRatio. A smaller group stays as it is. */
export function leastOf(size: number, original: number, multiple: number, maxRatio: number): number {
  const share = Math.ceil(original * (1 - maxRatio) - 1e-9);
  return Math.min(size, Math.max(1, Math.ceil(share / multiple)) * multiple);
}
