/** The ways in which channels are coupled (after Torch-Pruning's list), as small nets: which groups they make, and the law of removal on each. */
import { expect, test } from "vitest";
import { sampleFeeds } from "../../src/runtime/shapes.ts";
import { removed, say } from "./law.ts";
import { scenarios } from "./nets.ts";

/** Float32 sums of some ten terms in another order. */
const rounding = 2e-6;

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
