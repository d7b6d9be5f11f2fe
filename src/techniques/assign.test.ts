import { expect, test } from "vitest";
import { random } from "../tensor/random.ts";
import { assign, moves, type Option } from "./assign.ts";

const total = (o: readonly Option[]) => ({ bytes: o.reduce((n, x) => n + x.bytes, 0), error: o.reduce((n, x) => n + x.error, 0) });

/** Every combination: what is right by definition. */
function* combinations(layers: readonly (readonly Option[])[]): Generator<Option[]> {
  const [first, ...rest] = layers;
  if (!first) return yield [];
  for (const o of first) for (const r of combinations(rest)) yield [o, ...r];
}

const drawn = (seed: number): Option[][] => {
  const r = random(seed, "assign");
  return Array.from({ length: 5 }, () => {
    const size = 100 + r.below(1000);
    const fragile = 10 ** (2 * r.normal());
    return [32, 8, 4, 2].map((bits) => ({
      bits,
      bytes: Math.round((size * bits) / 8),
      error: bits === 32 ? 0 : (fragile / 4 ** bits) * (1 + r.uniform()),
    }));
  });
};

test("the budget holds, and no assignment is far better; at the bytes of a point on the path none is better at all", () => {
  let exact = 0;
  for (let seed = 0; seed < 40; seed++) {
    const layers = drawn(seed);
    const most = total(layers.map((o) => o[0]!)).bytes;
    const budget = Math.round(most * (0.1 + 0.02 * seed));
    const chosen = total(assign(layers, budget)!);
    expect(chosen.bytes).toBeLessThanOrEqual(budget);
    const best = (bytes: number) => Math.min(...[...combinations(layers)].map(total).flatMap((t) => (t.bytes <= bytes ? [t.error] : [])));
    expect(chosen.error).toBeLessThanOrEqual(best(budget) * 4);
    if (chosen.error <= best(budget) * (1 + 1e-12)) exact++;
    const all = moves(layers);
    for (let n = 0; n <= all.length; n++) {
      const at = layers.map((o) => o[0]!);
      for (const m of all.slice(0, n)) at[m.layer] = m.to;
      expect(total(at).error).toBeLessThanOrEqual(best(total(at).bytes) * (1 + 1e-12));
    }
  }
  expect(exact).toBeGreaterThan(25);
});

test("prices rise along the moves, and a width that no line touches from below is on none", () => {
  const layer = [
    { bits: 32, bytes: 400, error: 0 },
    { bits: 8, bytes: 100, error: 1 },
    // 3 bits in containers of 4 take the bytes of 4, at more error.
    { bits: 3, bytes: 50, error: 40 },
    { bits: 4, bytes: 50, error: 10 },
    { bits: 2, bytes: 25, error: 100 },
  ];
  expect(moves([layer]).map((m) => m.to.bits)).toEqual([8, 4, 2]);
  const all = moves([layer, layer.map((o) => ({ ...o, error: o.error * 1000 }))]);
  expect(all.map((m) => m.price)).toEqual([...all.map((m) => m.price)].sort((a, b) => a - b));
  // The layer a thousand times as fragile moves only when the other has no cheaper move left.
  expect(all.map((m) => `${m.layer}:${m.to.bits}`)).toEqual(["0:8", "0:4", "1:8", "0:2", "1:4", "1:2"]);
});

test("what is left over is used, and what cannot be done is null", () => {
  const layers = [
    [
      { bits: 32, bytes: 100, error: 0 },
      { bits: 4, bytes: 10, error: 5 },
    ],
    [
      { bits: 32, bytes: 30, error: 0 },
      { bits: 4, bytes: 3, error: 1 },
    ],
  ];
  // The cheapest move saves 90 at 5; the rest is enough to take the small layer back.
  expect(assign(layers, 40)!.map((o) => o.bits)).toEqual([4, 32]);
  expect(assign(layers, 12)).toBeNull();
  expect(assign(layers, 1000)!.map((o) => o.bits)).toEqual([32, 32]);
  expect(assign([], 0)).toEqual([]);
});
