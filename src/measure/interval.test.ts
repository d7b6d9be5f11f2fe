import { expect, test } from "vitest";
import { random } from "../tensor/random.ts";
import { pairedProportions, positiveRatio, quantile, quantileInterval, ratio, wilson } from "./interval.ts";

test("Wilson: published values", () => {
  // Newcombe 1998, Statistics in Medicine 17, table I, method 3.
  for (const [k, n, low, high] of [
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
    [1, 29, 0.0061, 0.1718],
  ] as const) {
    expect(wilson(k, n)[0]).toBeCloseTo(low, 4);
    expect(wilson(k, n)[1]).toBeCloseTo(high, 4);
  }
  expect(wilson(20, 20)[1]).toBe(1);
  expect(wilson(0, 0)).toEqual([0, 1]);
});

test("paired proportions: the formula by hand, and symmetry", () => {
  // b = 8.5, c = 20.5, N = 102: −12/102 ± 1.96·√(29 − 144/102)/102.
  const { value, interval } = pairedProportions(8, 20, 100);
  expect(value).toBe(-0.12);
  expect(interval[0]).toBeCloseTo(-12 / 102 - (1.959964 * Math.sqrt(29 - 144 / 102)) / 102, 6);
  expect(
    pairedProportions(20, 8, 100)
      .interval.map((x) => -x)
      .reverse(),
  ).toEqual([...interval]);
  const same = pairedProportions(0, 0, 1000).interval;
  expect(same[0]).toBeLessThan(0);
  expect(same[1]).toBeGreaterThan(0);
});

test("coverage: about 95 of 100 intervals hold the truth", () => {
  const r = random(11);
  const trials = 2000;
  let means = 0;
  let ratios = 0;
  let proportions = 0;
  let medians = 0;
  let tails = 0;
  for (let t = 0; t < trials; t++) {
    const weights = Array.from({ length: 60 }, () => 1 + r.below(9));
    const values = weights.map((w) => w * 0.3 + r.normal() * 0.2);
    const i = ratio(values, weights).interval!;
    if (i[0] <= 0.3 && 0.3 <= i[1]) ratios++;
    const xs = Array.from({ length: 101 }, () => r.normal()).sort((a, b) => a - b);
    const m = ratio(xs, null).interval!;
    if (m[0] <= 0 && 0 <= m[1]) means++;
    const med = quantileInterval(xs, 0.5);
    if (med[0] <= 0 && 0 <= med[1]) medians++;
    const p95 = quantileInterval(xs, 0.95);
    if (p95[0] <= 1.6448536 && 1.6448536 <= p95[1]) tails++;
    let gained = 0;
    let lost = 0;
    for (let k = 0; k < 200; k++) {
      const u = r.uniform();
      if (u < 0.1) gained++;
      else if (u < 0.14) lost++;
    }
    const d = pairedProportions(gained, lost, 200).interval;
    if (d[0] <= 0.06 && 0.06 <= d[1]) proportions++;
  }
  // Three standard errors of a count at 95 % are 29 of 2000; order statistics are conservative, never less.
  for (const [name, n, most] of [
    ["mean", means, 0.965],
    ["ratio", ratios, 0.965],
    ["paired", proportions, 0.965],
    ["median", medians, 0.98],
    ["p95", tails, 0.985],
  ] as const) {
    expect(n / trials, name).toBeGreaterThan(0.93);
    expect(n / trials, name).toBeLessThan(most);
  }
});

test("ratios of counts: never below 0, wider upwards, and about 95 of 100 hold the truth", () => {
  const few = positiveRatio([0, 0, 1, 0, 0, 0], [9, 11, 10, 12, 8, 10]);
  expect(ratio([0, 0, 1, 0, 0, 0], [9, 11, 10, 12, 8, 10]).interval![0]).toBeLessThan(0);
  expect(few.interval![0]).toBeGreaterThan(0);
  expect(few.interval![1] - few.value).toBeGreaterThan(few.value - few.interval![0]);
  // Both ends solve (R − ρ)² = z²σ²ρ/R.
  const half = ratio([0, 0, 1, 0, 0, 0], [9, 11, 10, 12, 8, 10]).interval![1] - few.value;
  for (const end of few.interval!) expect((few.value - end) ** 2).toBeCloseTo((half ** 2 * end) / few.value, 12);
  expect(positiveRatio([0, 0, 0], [10, 20, 30]).interval).toEqual([0, expect.closeTo(1.959964 ** 2 / 60, 6)]);
  expect(positiveRatio([1], null).interval).toBeNull();
  const r = random(12);
  let held = 0;
  for (let t = 0; t < 2000; t++) {
    const weights = Array.from({ length: 40 }, () => 5 + r.below(20));
    const values = weights.map((w) => Array.from({ length: w }, () => Number(r.uniform() < 0.03)).reduce((a, b) => a + b, 0));
    const [low, high] = positiveRatio(values, weights).interval!;
    if (low <= 0.03 && 0.03 <= high) held++;
  }
  expect(held / 2000).toBeGreaterThan(0.93);
  expect(held / 2000).toBeLessThan(0.97);
});

test("order statistics: ranks by hand", () => {
  const up = (n: number) => Array.from({ length: n }, (_, i) => i + 1);
  // P(Bin(6, ½) ≤ 0) = 1/64, P(Bin(10, ½) ≤ 1) = 11/1024 and P(Bin(20, ½) ≤ 5) = 2.07 % are below 2.5 %; one more of each is not.
  expect(quantileInterval(up(6), 0.5)).toEqual([1, 6]);
  expect(quantileInterval(up(10), 0.5)).toEqual([2, 9]);
  expect(quantileInterval(up(20), 0.5)).toEqual([6, 15]);
  expect(quantileInterval(up(5), 0.5)).toEqual([1, 5]);
  expect(quantileInterval([7], 0.5)).toEqual([7, 7]);
  expect(quantileInterval(up(30), 0.99)[1]).toBe(30);
  expect(quantile([1, 2, 3, 4], 0.5)).toBe(2.5);
  expect(quantile([1, 2, 3, 4], 0.95)).toBeCloseTo(3.85, 10);
});
