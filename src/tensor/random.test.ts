import { expect, test } from "vitest";
import { philox, random } from "./random.ts";

// Known answers of Philox4x32-10 from the paper's Random123 library (kat_vectors): counter, key, words.
test.each([
  [
    [0, 0, 0, 0],
    [0, 0],
    [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  ],
  [
    [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    [0xffffffff, 0xffffffff],
    [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  ],
  [
    [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    [0xa4093822, 0x299f31d0],
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  ],
])("Philox4x32-10 of counter %j, key %j", (c, k, words) => {
  const out = new Uint32Array(4);
  philox(c[0]!, c[1]!, c[2]!, c[3]!, k[0]!, k[1]!, out);
  expect(Array.from(out)).toEqual(words);
});

test("the first words of seed 0, stream 0 are the zero block's", () => {
  const r = random(0);
  expect([r.uint32(), r.uint32(), r.uint32(), r.uint32()]).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
});

test("a position is the whole state", () => {
  const draw = (r: ReturnType<typeof random>) => [r.uniform(), r.normal(), r.below(10), ...r.permutation(7), r.normal()];
  const a = random(7, "batches");
  for (let i = 0; i < 1001; i++) a.uniform();
  const at = a.at;
  const want = draw(a);
  const b = random(7, "batches");
  b.at = at;
  expect(draw(b)).toEqual(want);
  a.at = at;
  expect(draw(a)).toEqual(want);
});

test("seeds and streams differ from one another", () => {
  const firsts = [
    random(1),
    random(2),
    random(-1),
    random(2 ** 32),
    random(1, 1),
    random(1, 2 ** 32),
    random(1, "a"),
    random(1, "b"),
    random(1, ""),
  ];
  expect(new Set(firsts.map((r) => `${r.uint32()},${r.uint32()}`)).size).toBe(firsts.length);
  expect(() => random(0.5)).toThrow("a seed must be a whole number; got 0.5");
});

test("moments of uniform and normal numbers", () => {
  const n = 200_000;
  const u = random(3).fillUniform(new Float64Array(n));
  const z = random(3).fillNormal(new Float64Array(n));
  const mean = (x: Float64Array, p: number) => x.reduce((s, v) => s + v ** p, 0) / n;
  // Five standard errors of each moment.
  const near = (got: number, want: number, deviation: number) => expect(Math.abs(got - want)).toBeLessThan((5 * deviation) / Math.sqrt(n));
  near(mean(u, 1), 1 / 2, Math.sqrt(1 / 12));
  near(mean(u, 2), 1 / 3, Math.sqrt(4 / 45));
  near(mean(z, 1), 0, 1);
  near(mean(z, 2), 1, Math.sqrt(2));
  near(mean(z, 3), 0, Math.sqrt(15));
  near(mean(z, 4), 3, Math.sqrt(96));
  let lag = 0;
  for (let i = 1; i < n; i++) lag += z[i]! * z[i - 1]!;
  near(lag / n, 0, 1);
});

test("below has no bias and its bounds", () => {
  const r = random(4);
  const counts = new Array<number>(6).fill(0);
  for (let i = 0; i < 60_000; i++) counts[r.below(6)]!++;
  // χ² with 5 degrees of freedom: 99.99 % lie under 25.7.
  expect(counts.reduce((s, c) => s + (c - 10_000) ** 2 / 10_000, 0)).toBeLessThan(25.7);
  // 3·2³⁰ would favour a third of the numbers two to one if words were reduced by a plain modulus.
  let low = 0;
  for (let i = 0; i < 30_000; i++) if (r.below(3 * 2 ** 30) < 2 ** 30) low++;
  expect(Math.abs(low - 10_000)).toBeLessThan(5 * Math.sqrt((30_000 * 2) / 9));
  expect(r.below(1)).toBe(0);
  expect(r.below(2 ** 32)).toBeGreaterThanOrEqual(0);
  expect(() => r.below(0)).toThrow("from 1 to 2^32; got 0");
});

test("a permutation holds every index once, each at each place equally often", () => {
  expect(Array.from(random(5).permutation(1000)).sort((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
  const r = random(6);
  const counts = new Map<string, number>();
  for (let i = 0; i < 24_000; i++) {
    const key = r.permutation(4).join("");
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  expect(counts.size).toBe(24);
  // χ² with 23 degrees of freedom: 99.99 % lie under 59.
  expect([...counts.values()].reduce((s, c) => s + (c - 1000) ** 2 / 1000, 0)).toBeLessThan(59);
});
