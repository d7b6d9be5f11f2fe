/** Parting a dataset in two. */
import { Fault } from "../tensor/fault.ts";
import { random } from "../tensor/random.ts";
import { numbersOf } from "../tensor/tensor.ts";
import { type Dataset, subset } from "./dataset.ts";

export interface SplitOptions {
  /** Share of the examples held out, 0 to 1; or `count`. */
  readonly fraction?: number;
  /** Number of examples held out. */
  readonly count?: number;
  readonly seed: number;
  /** Name of an array of one number per example (labels): each of its values is held out in proportion. */
  readonly stratify?: string;
}

/** Two datasets without a common example, both in the given one's order. The same seed gives the same split. */
export function split(data: Dataset, options: SplitOptions): { readonly train: Dataset; readonly held: Dataset } {
  const { fraction, count, seed, stratify } = options;
  if ((fraction === undefined) === (count === undefined)) throw new Fault("split", "takes exactly one of fraction and count");
  if (fraction !== undefined && !(fraction >= 0 && fraction <= 1))
    throw new Fault("split", `fraction must be from 0 to 1; got ${fraction}`);
  const total = count ?? Math.round(fraction! * data.length);
  if (!(Number.isInteger(total) && total >= 0 && total <= data.length))
    throw new Fault("split", `count must be a whole number from 0 to ${data.length}, the number of examples; got ${total}`);
  const r = random(seed, "split");
  const held = new Uint8Array(data.length);
  const hold = (members: readonly number[], n: number) => {
    for (const i of r.permutation(members.length).subarray(0, n)) held[members[i]!] = 1;
  };
  const all = Array.from(held.keys());
  if (stratify === undefined) hold(all, total);
  else {
    const classes = classesOf(data, stratify);
    // Largest remainders: the shares are whole numbers and sum to the total.
    const shares = classes.map((c) => (total * c.length) / data.length);
    const counts = shares.map(Math.floor);
    const rest = total - counts.reduce((a, b) => a + b, 0);
    const byRemainder = [...shares.keys()].sort((a, b) => shares[b]! - counts[b]! - (shares[a]! - counts[a]!) || a - b);
    for (const c of byRemainder.slice(0, rest)) counts[c]!++;
    classes.forEach((c, i) => {
      hold(c, counts[i]!);
    });
  }
  return {
    train: subset(
      data,
      all.filter((i) => !held[i]),
    ),
    held: subset(
      data,
      all.filter((i) => held[i]),
    ),
  };
}

/** The examples of each value of an array, by ascending value. */
function classesOf(data: Dataset, name: string): number[][] {
  if (!data.names.includes(name))
    throw new Fault("split", `the data has no array "${name}" to stratify by; it has ${data.names.join(", ")}`);
  const classes = new Map<number, number[]>();
  for (let at = 0; at < data.length; at += 1024) {
    const some = Array.from({ length: Math.min(1024, data.length - at) }, (_, i) => at + i);
    const labels = data.stackable ? numbersOf(data.take(some)[name]!) : some.map((i) => numbersOf(data.take([i])[name]!)[0]!);
    if (labels.length !== some.length) throw new Fault("split", `"${name}" must hold one number per example to stratify by`);
    some.forEach((i, k) => {
      const members = classes.get(labels[k]!);
      if (members) members.push(i);
      else classes.set(labels[k]!, [i]);
    });
  }
  return [...classes].sort(([a], [b]) => a - b).map(([, members]) => members);
}
