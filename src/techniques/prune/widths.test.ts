import fc from "fast-check";
import { expect, test } from "vitest";
import type { Group } from "../../transform/groups.ts";
import { channelTerms, costOf, type Sizes, type Term } from "./groupcost.ts";
import { after, type Candidate, descent, keepMost, leastOf, multipleOf } from "./widths.ts";

const group = (name: string, size: number): Group => ({ name, size, frozen: null, inexact: null, members: [] });

const candidate = (name: string, importance: readonly number[], more: Partial<Candidate> = {}): Candidate => ({
  group: group(name, importance.length),
  importance: Float64Array.from(importance),
  multiple: 1,
  least: 1,
  ...more,
});

/** A dense net of layers between the groups: Σ n_i · n_{i+1}. */
function chain(candidates: readonly Candidate[]) {
  const groups = candidates.map((c) => c.group);
  const n = (s: Sizes, g: Group) => s.get(g) ?? g.size;
  const terms = groups.slice(1).map((g, i): Term => ({ groups: new Set([groups[i]!, g]), of: (s) => n(s, groups[i]!) * n(s, g) }));
  return { cost: costOf(terms), whole: (s: Sizes) => groups.slice(1).reduce((a, g, i) => a + n(s, groups[i]!) * n(s, g), 0) };
}

const nets = fc.array(
  fc.record({
    importance: fc.array(fc.double({ min: 0, max: 4, noNaN: true }), { minLength: 1, maxLength: 40 }),
    multiple: fc.constantFrom(1, 2, 4, 16),
    maxRatio: fc.constantFrom(0.5, 0.9, 1),
  }),
  { minLength: 2, maxLength: 5 },
);

test("steps lead down to the wanted cost and no further than one channel's worth, in allowed sizes, and the costs told are true", () => {
  fc.assert(
    fc.property(
      nets,
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.constantFrom("global" as const, "layer" as const),
      (net, ratio, scope) => {
        const candidates = net.map(({ importance, multiple, maxRatio }, i) =>
          candidate(`g${i}`, importance, { multiple, least: leastOf(importance.length, importance.length, multiple, maxRatio) }),
        );
        const { cost, whole } = chain(candidates);
        const none = new Map();
        const until = whole(none) * (1 - ratio);
        const steps = descent(candidates, cost, { scope, until });
        steps.forEach((s, i) => {
          expect(s.cost).toBeCloseTo(whole(after(steps.slice(0, i + 1))), 6);
          expect(s.to).toBeLessThan(s.from);
          const c = candidates.find((o) => o.group === s.group)!;
          expect(s.to).toBeGreaterThanOrEqual(c.least);
          expect(s.to % c.multiple).toBe(0);
        });
        const end = after(steps);
        if (whole(end) > until) {
          // Out of reach: nothing is left to remove.
          for (const c of candidates) {
            const size = end.get(c.group) ?? c.group.size;
            expect(size === c.least || size < c.multiple * 2 || cost.gain(end, c.group, c.least) === 0).toBe(true);
          }
        } else if (steps.length) {
          const { group: g, to } = steps.at(-1)!;
          const c = candidates.find((o) => o.group === g)!;
          const back = Math.min(steps.at(-1)!.from, to + c.multiple);
          expect(whole(new Map(end).set(g, back))).toBeGreaterThan(until);
        }
      },
    ),
  );
});

test("the least important for the cost gained goes first, and a group that has lost much gives up the rest less readily", () => {
  const flat = candidate("flat", new Array(10).fill(1));
  const steep = candidate("steep", [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]);
  const cost = costOf(channelTerms([flat.group, steep.group]));
  const steps = descent([flat, steep], cost, { scope: "global", until: 10 });
  expect(steps.slice(0, 3).map((s) => s.group.name)).toEqual(["steep", "steep", "steep"]);
  // Alike from there on: 10 against 7 left, in turns by share.
  expect(after(steps)).toEqual(
    new Map([
      [steep.group, 4],
      [flat.group, 6],
    ]),
  );
  // What costs twice as much goes twice as readily.
  const dear = costOf([...channelTerms([flat.group]), ...channelTerms([flat.group]), ...channelTerms([steep.group])]);
  expect(descent([flat, candidate("b", new Array(10).fill(1))], dear, { scope: "global", until: 27 })[0]!.group).toBe(flat.group);
});

test("with scope layer all groups lose the same share", () => {
  const candidates = [candidate("a", new Array(20).fill(1)), candidate("b", new Array(40).fill(9)), candidate("c", new Array(8).fill(0))];
  const steps = descent(candidates, costOf(channelTerms(candidates.map((c) => c.group))), { scope: "layer", until: 34 });
  expect([...after(steps).values()].sort((a, b) => a - b)).toEqual([4, 10, 20]);
});

test("a group whose removal gains nothing stays", () => {
  const [a, b] = [candidate("a", [1, 1, 1]), candidate("b", [0, 0, 0])];
  expect(descent([a, b], costOf(channelTerms([a.group])), { scope: "global" }).map((s) => s.group.name)).toEqual(["a", "a"]);
});

test("the most important stay", () => {
  const c = candidate("a", [3, 0, 2, 0, 1]);
  expect([...keepMost([c], new Map([[c.group, 2]])).get(c.group)!]).toEqual([1, 0, 1, 0, 0]);
  expect([...keepMost([c], new Map([[c.group, 4]])).get(c.group)!]).toEqual([1, 0, 1, 1, 1]);
  expect(keepMost([c], new Map([[c.group, 5]])).size).toBe(0);
});

test("sizes round to what the channels round to", () => {
  const member = (shape: readonly number[], coordinate: readonly number[], axis = 0) => ({
    value: { shape, uses: new Set([{ node: { opType: shape.length > 2 ? "Conv" : "Gemm" }, index: 1 }]) } as never,
    axis,
    coordinate: Int32Array.from(coordinate),
    role: "out" as const,
  });
  const of = (size: number, ...members: ReturnType<typeof member>[]): Group => ({
    ...group("g", size),
    members: members as Group["members"],
  });
  const range = (n: number) => Array.from({ length: n }, (_, i) => i);
  expect(multipleOf(of(32, member([32, 3, 3, 3], range(32))), null)).toBe(16);
  expect(multipleOf(of(32, member([32, 3], range(32))), null)).toBe(1);
  expect(multipleOf(of(32, member([32, 3], range(32))), 8)).toBe(8);
  // Four heads of 16: each is 16 channels.
  expect(
    multipleOf(
      of(
        4,
        member(
          [64, 64],
          range(64).map((i) => i >> 4),
        ),
      ),
      16,
    ),
  ).toBe(1);
  expect(
    multipleOf(
      of(
        16,
        member(
          [64, 64],
          range(64).map((i) => i % 16),
        ),
      ),
      16,
    ),
  ).toBe(4);
  expect(leastOf(20, 20, 16, 1)).toBe(16);
  expect(leastOf(12, 12, 16, 1)).toBe(12);
  expect(leastOf(100, 100, 1, 0.9)).toBe(10);
  expect(leastOf(50, 100, 1, 0.6)).toBe(40);
  expect(leastOf(64, 64, 16, 0.5)).toBe(32);
});
