/** The law of removal: with the weights of some channels set to zero, taking those channels out leaves the outputs as they are. */
import type { Batch } from "../../src/data/dataset.ts";
import { check } from "../../src/ir/check.ts";
import { cloneModel, type Model, type Value } from "../../src/ir/graph.ts";
import { open } from "../../src/runtime/session.ts";
import { dtypes } from "../../src/tensor/dtype.ts";
import { random } from "../../src/tensor/random.ts";
import { numbersOf, tensor } from "../../src/tensor/tensor.ts";
import { findGroups, type Group } from "../../src/transform/groups.ts";
import { removeChannels } from "../../src/transform/remove.ts";

/** A mask that drops about a third of a group's channels, at least one, and keeps one. */
export function randomMask(group: Group, seed: number): Uint8Array {
  const order = random(seed, group.name).permutation(group.size);
  const mask = new Uint8Array(group.size).fill(1);
  for (const i of order.subarray(0, Math.max(1, Math.min(group.size - 1, Math.round(group.size / 3))))) mask[i] = 0;
  return mask;
}

/** Sets every float of the members to zero where the mask drops it. */
export function zeroChannels(keep: ReadonlyMap<Group, Uint8Array>): void {
  const values = new Map<Value, Float32Array | Float64Array>();
  for (const [group, mask] of keep)
    for (const { value, axis, coordinate } of group.members) {
      const t = value.data!;
      if (dtypes[t.dtype].kind !== "f") continue;
      const x = values.get(value) ?? numbersOf(t);
      values.set(value, x);
      const inner = t.shape.slice(axis + 1).reduce((a, b) => a * b, 1);
      for (let i = 0; i < x.length; i++) {
        const c = coordinate[Math.floor(i / inner) % t.shape[axis]!]!;
        if (c >= 0 && !mask[c]) x[i] = 0;
      }
    }
  for (const [v, x] of values) v.graph.setData(v, tensor(v.data!.dtype, v.data!.shape, x));
}

/** The largest difference of two models' outputs, relative to the largest output. */
export async function difference(a: Model, b: Model, feeds: Batch): Promise<number> {
  const outputs = [];
  for (const m of [a, b]) {
    const s = await open(m, { threads: 1, optimization: "disabled" });
    outputs.push(await s.run(feeds));
    await s.release();
  }
  const [p, q] = outputs as [Batch, Batch];
  let [worst, largest] = [0, 1e-30];
  for (const name of Object.keys(p)) {
    if (p[name]!.dtype === "bool" || p[name]!.dtype === "string") continue;
    const [x, y] = [numbersOf(p[name]!), numbersOf(q[name]!)];
    if (x.length !== y.length) return Number.POSITIVE_INFINITY;
    for (let i = 0; i < x.length; i++) {
      if (x[i] === y[i]) continue;
      worst = Math.max(worst, Math.abs(x[i]! - y[i]!));
      largest = Math.max(largest, Math.abs(x[i]!));
    }
    if (x.some((v, i) => Number.isNaN(v) !== Number.isNaN(y[i]!))) return Number.NaN;
  }
  return worst / largest;
}

/**
 * Zeroes and removes random channels of the groups that `which` picks (of those that are free), all at once. Returns the relative difference of the
 * outputs, and both models.
 */
export async function removed(model: Model, feeds: Batch, seed: number, which: (g: Group) => boolean = (g) => g.inexact === null) {
  const zeroed = cloneModel(model);
  const found = await findGroups(zeroed, feeds, { threads: 1 });
  const keep = new Map(found.groups.filter((g) => !g.frozen && which(g)).map((g) => [g, randomMask(g, seed)]));
  zeroChannels(keep);
  const before = cloneModel(zeroed);
  await removeChannels(zeroed, found, keep, { threads: 1 });
  check(zeroed);
  return { found, keep, before, after: zeroed, difference: await difference(before, zeroed, feeds) };
}

/** "name size: other members", vectors without their only axis. */
export const say = (g: Group) => {
  const names = g.members.map(({ value, axis }) => (value.data!.shape.length === 1 ? value.name : `${value.name}[${axis}]`));
  const own = g.name.replace(/\.\d+$/, "");
  return `${g.name} ${g.size}: ${names.filter((n) => n !== own).join(" ")}`;
};
