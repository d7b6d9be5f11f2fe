import fc from "fast-check";
import { expect, test } from "vitest";
import { largestSmaller, lost, rankByEnergy, ranksByBudget, type Spectrum } from "./ranks.ts";

test("losses and energy of a spectrum known by hand", () => {
  const s = Float64Array.from([4, 2, 2, 1]); // squares 16, 4, 4, 1 of 25
  expect(Array.from(lost(s))).toEqual([1, 9 / 25, 5 / 25, 1 / 25, 0]);
  const ranks = [0.5, 0.64, 0.65, 0.8, 0.81, 0.96, 0.97, 1].map((e) => rankByEnergy(s, e));
  expect(ranks).toEqual([1, 1, 2, 2, 3, 3, 4, 4]);
  expect(rankByEnergy(s, 0)).toBe(1);
  expect(rankByEnergy(Float64Array.from([3, 0, 0]), 1)).toBe(1);
  expect(Array.from(lost(new Float64Array(2)))).toEqual([0, 0, 0]);
});

test("the largest rank with fewer parameters than the matrix", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 50 }), (rows, columns) => {
      const k = largestSmaller({ rows, columns, s: new Float64Array() });
      expect(k * (rows + columns)).toBeLessThan(rows * columns);
      expect((k + 1) * (rows + columns)).toBeGreaterThanOrEqual(rows * columns);
    }),
  );
});

const layer = fc
  .tuple(fc.integer({ min: 2, max: 9 }), fc.integer({ min: 2, max: 9 }))
  .chain(([rows, columns]) =>
    fc
      .array(fc.double({ min: 0.01, max: 10, noNaN: true }), { minLength: Math.min(rows, columns), maxLength: Math.min(rows, columns) })
      .map((s): Spectrum => ({ rows, columns, s: Float64Array.from(s.sort((a, b) => b - a)) })),
  );
const cost = (l: Spectrum, rank: number | null) => (rank === null ? l.rows * l.columns : rank * (l.rows + l.columns));
const error = (l: Spectrum, rank: number | null) => (rank === null ? 0 : lost(l.s)[rank]!);

/** The least error any choice of ranks has within `limit` parameters. */
function best(layers: readonly Spectrum[], limit: number): number {
  const [first, ...rest] = layers;
  if (!first) return 0;
  const ranks: (number | null)[] = [null, ...Array.from({ length: largestSmaller(first) }, (_, i) => i + 1)];
  return Math.min(...ranks.filter((r) => cost(first, r) <= limit).map((r) => error(first, r) + best(rest, limit - cost(first, r))));
}

test("ranks within a budget: never above it, and no other choice of as many parameters has less error", () => {
  fc.assert(
    fc.property(fc.array(layer, { minLength: 1, maxLength: 3 }), fc.double({ min: 0.1, max: 1, noNaN: true }), (layers, budget) => {
      const full = layers.reduce((n, l) => n + l.rows * l.columns, 0);
      const ranks = ranksByBudget(layers, budget);
      const total = (f: (l: Spectrum, r: number | null) => number) => layers.reduce((n, l, i) => n + f(l, ranks![i]!), 0);
      if (!ranks) {
        const least = layers.reduce((n, l) => n + Math.min(cost(l, null), l.rows + l.columns), 0);
        expect(least).toBeGreaterThan(budget * full);
        return;
      }
      expect(total(cost)).toBeLessThanOrEqual(budget * full);
      // Greedy along the hulls is optimal but for what the last layer could not fill: its gain bounds the distance.
      const gains = layers.map((l, i) => error(l, ranks[i]!));
      expect(total(error)).toBeLessThanOrEqual(best(layers, budget * full) + Math.max(...gains) + 1e-12);
    }),
    { numRuns: 300 },
  );
});

test("a budget goes where a parameter wins most", () => {
  const sharp: Spectrum = { rows: 10, columns: 10, s: Float64Array.from([10, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]) };
  const flat: Spectrum = { rows: 10, columns: 10, s: Float64Array.from({ length: 10 }, (_, i) => 5 - i / 10) };
  expect(ranksByBudget([sharp, flat], 0.6)).toEqual([1, null]);
  expect(ranksByBudget([sharp, flat], 0.5)).toEqual([1, 4]);
  expect(ranksByBudget([sharp, flat], 1)).toEqual([null, null]);
  expect(ranksByBudget([sharp, flat], 0.19)).toBeNull();
});
