/** The ways in which channels are coupled (after Torch-Pruning's list), as small nets: which groups they make, and the law of removal on each. */
import { expect, test } from "vitest";
import { sampleFeeds } from "../../src/runtime/shapes.ts";
import type { Group } from "../../src/transform/groups.ts";
import { removed } from "./law.ts";
import { scenarios } from "./nets.ts";

/** Float32 sums of some ten terms in another order. */
const rounding = 2e-6;

/** "name size: other members", vectors without their only axis. */
const say = (g: Group) => {
  const names = g.members.map(({ value, axis }) => (value.data!.shape.length === 1 ? value.name : `${value.name}[${axis}]`));
  const own = g.name.replace(/\.\d+$/, "");
  return `${g.name} ${g.size}: ${names.filter((n) => n !== own).join(" ")}`;
};

test.for(Object.keys(scenarios))("%s", async (name) => {
  const { model: make, free } = scenarios[name]!;
  const model = make();
  const shape: Record<string, number[]> = model.graph.inputs[0]!.type!.shape!.length === 3 ? { x: [2, 5, 5] } : {};
  const feeds = sampleFeeds(model, { batch: 2, shape });
  for (const seed of [0, 1]) {
    const { found, keep, difference } = await removed(model, feeds, seed);
    const open = found.groups.filter((g) => !g.frozen);
    expect(open.map(say)).toEqual(free);
    expect(open.filter((g) => g.inexact)).toEqual([]);
    expect(keep.size).toBe(free.length);
    expect(difference).toBeLessThan(rounding);
  }
});
