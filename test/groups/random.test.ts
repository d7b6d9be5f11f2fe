/** Random nets of the pieces that couple channels: whatever groups are found, zeroed channels can be taken out. */
import { expect, test } from "vitest";
import type { Model, Value } from "../../src/ir/graph.ts";
import { sampleFeeds } from "../../src/runtime/shapes.ts";
import { random } from "../../src/tensor/random.ts";
import { removed } from "./law.ts";
import { pieces } from "./nets.ts";

/** Some of the values made so far, joined, cut, added and convolved at random. */
function randomNet(seed: number): Model {
  const p = pieces(seed);
  const r = random(seed, "net");
  const below = (n: number) => r.below(n);
  let made: { v: Value; c: number }[] = [{ v: p.conv3("stem", p.image(3, 4), [3, 6]), c: 6 }];
  for (let i = 0; i < 7; i++) {
    const { v, c } = made[below(made.length)]!;
    const same = made.filter((m) => m.c === c);
    const other = made[below(made.length)]!;
    const steps: (() => { v: Value; c: number })[] = [
      () => ({ v: p.conv3(`c${i}`, p.next("Relu", [v]), [c, 4]), c: 4 }),
      () => ({ v: p.conv3(`r${i}`, v, [c, c]), c }),
      () => ({ v: p.conv3(`d${i}`, v, [c, c], c), c }),
      () => ({ v: c % 2 ? v : p.conv3(`g${i}`, v, [c, 6], 2), c: c % 2 ? c : 6 }),
      () => ({ v: p.norm(`n${i}`, v, c), c }),
      () => ({ v: p.next("Add", [v, same[below(same.length)]!.v]), c }),
      () => ({ v: p.next("Concat", [v, other.v], { axis: 1 }), c: c + other.c }),
      () => {
        const cut = 1 + below(c - 1);
        return { v: p.next("Slice", [v, p.ints(0), p.ints(cut), p.ints(1)]), c: cut };
      },
      () => {
        if (c % 2) return { v, c };
        const apart = p.next("Reshape", [v, p.ints(0, 2, c / 2, 4, 4)]);
        return { v: p.next("Reshape", [p.next("Transpose", [apart], { perm: [0, 2, 1, 3, 4] }), p.ints(0, c, 4, 4)]), c };
      },
    ];
    made = [...made, steps[below(steps.length)]!()].filter((m) => m.c > 1 && m.c < 40);
  }
  const last = made.slice(-3);
  const all = p.next(
    "Concat",
    last.map((m) => m.v),
    { axis: 1 },
  );
  return p.classify(
    all,
    last.reduce((n, m) => n + m.c, 0),
  );
}

test.for(Array.from({ length: 16 }, (_, i) => i))("net %i", async (seed) => {
  const model = randomNet(seed);
  const { found, keep, difference } = await removed(model, sampleFeeds(model, { batch: 2 }), seed);
  expect(found.groups.filter((g) => !g.frozen && g.inexact)).toEqual([]);
  expect(keep.size).toBeGreaterThan(0);
  expect(difference).toBeLessThan(5e-6);
});
