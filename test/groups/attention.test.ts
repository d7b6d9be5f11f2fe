/** Fused attention: which groups its heads make, and the law of removal, against ONNX Runtime. */
import { expect, test } from "vitest";
import { sampleFeeds } from "../../src/runtime/shapes.ts";
import { fused } from "./attention.ts";
import { removed, say } from "./law.ts";

/** Float32 sums of some ten terms, and exponentials, in another order. */
const rounding = 3e-6;

test.for(Object.keys(fused))("%s", async (name) => {
  const { model: make, free, frozen = [], shape = { x: [2, 5, 5] } } = fused[name]!;
  for (const seed of [0, 1, 2]) {
    const model = make();
    const feeds = sampleFeeds(model, { shape, batch: shape.ids?.[0] ?? 2 });
    const { found, keep, difference } = await removed(model, feeds, seed);
    const open = found.groups.filter((g) => !g.frozen);
    expect(open.map(say)).toEqual(free);
    const shut = found.groups.filter((g) => g.frozen).map((g) => `${g.name}: ${g.frozen!.replace(/ "[^"]*" /, " ")}`);
    expect(shut).toEqual(expect.arrayContaining([...frozen]));
    expect(keep.size).toBe(open.filter((g) => !g.inexact).length);
    expect(keep.size).toBeGreaterThan(0);
    expect(difference).toBeLessThan(rounding);
  }
});
