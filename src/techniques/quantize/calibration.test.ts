import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { averageRange, type Histogram, histogram, minMax, percentile } from "../../runtime/observers.ts";
import { random } from "../../tensor/random.ts";
import { tensor } from "../../tensor/tensor.ts";
import { methods, rangeOf } from "./calibration.ts";
import { divergence, entropyRange } from "./entropy.ts";
import { affine, representable } from "./scheme.ts";
import { squaredError, squaredErrorRange } from "./squarederror.ts";

// Made by test/reference/calibration.py: the algorithm of TensorRT and ONNX Runtime in numpy.
const reference = JSON.parse(readFileSync(new URL("../../../test/reference/fixtures/calibration.json", import.meta.url), "utf8")) as {
  name: string;
  counts: number[];
  divergences: { from: number; to: number; levels: number; result: number }[];
}[];

const normal = (n: number, seed = 1) => random(seed, "calibration").fillNormal(new Float32Array(n));
const of = (values: ArrayLike<number>, parts = 1): Histogram => {
  const o = histogram({ bins: 4096 });
  let s = o.init([]);
  const size = Math.ceil(values.length / parts);
  const all = Array.from(values);
  for (let i = 0; i < parts; i++) {
    const part = all.slice(i * size, (i + 1) * size);
    s = o.update(s, tensor("float32", [part.length], part), [part.length]);
  }
  return s;
};
const tailed = () => {
  const x = normal(40_000);
  for (let i = 0; i < 3; i++) x[i * 9970] = 25 + i / 10;
  return x;
};
const samples: Record<string, Float32Array> = {
  normal: normal(40_000),
  tailed: tailed(),
  relu: tailed().map((x) => Math.max(0, x)),
  negative: tailed().map((x) => -Math.abs(x)),
};

/** Mean squared error of the elements themselves. */
function trueError(x: Float32Array, range: { min: number; max: number }, symmetric: boolean): number {
  const a = affine(range, symmetric ? "int8" : "uint8", symmetric);
  const [least, most] = representable(a);
  let sum = 0;
  for (const v of x) sum += (Math.min(most, Math.max(least, a.scale * Math.round(v / a.scale))) - v) ** 2;
  return sum / x.length;
}

describe("entropy", () => {
  test.each(reference)("the divergences of $name", ({ counts, divergences }) => {
    for (const d of divergences) {
      const got = divergence(counts, d.from, d.to, d.levels);
      expect(Math.abs(got - d.result)).toBeLessThan(1e-9 * Math.max(1, d.result));
    }
  });
  test.each(Object.entries(samples))("never more than min-max loses, and less where there are outliers: %s", (name, x) => {
    const h = of(x);
    const r = entropyRange(h, 256);
    expect(r.min).toBeGreaterThanOrEqual(h.min);
    expect(r.max).toBeLessThanOrEqual(h.max);
    const width = 2 ** h.exponent;
    const lost = (min: number, max: number) =>
      divergence(h.counts, Math.floor(min / width) - h.start, Math.ceil(max / width) - h.start, 256);
    expect(lost(r.min, r.max)).toBeLessThanOrEqual(lost(h.min, h.max) + 1e-9);
    if (name !== "normal") {
      expect(r.max - r.min).toBeLessThan(0.8 * (h.max - h.min));
      expect(lost(r.min, r.max)).toBeLessThan(0.9 * lost(h.min, h.max));
    }
  });
  test("16 bits have nothing to gain", () => {
    const h = of(samples.tailed!);
    expect(entropyRange(h, 65536)).toEqual({ min: h.min, max: h.max, n: h.n });
  });
});

describe("least squared error", () => {
  test.each(Object.entries(samples))("the histogram foretells the elements' own: %s", (_, x) => {
    const h = of(x);
    for (const range of [h, { min: h.min / 2, max: h.max / 2 }, { min: h.min / 5, max: h.max / 5 }]) {
      for (const symmetric of [false, true]) {
        const [told, real] = [squaredError(h, range, symmetric ? "int8" : "uint8", symmetric), trueError(x, range, symmetric)];
        expect(Math.abs(told / real - 1)).toBeLessThan(0.05);
      }
    }
  });
  test.each(Object.entries(samples))("no range of a grid is better by more than 3 %: %s", (_, x) => {
    const few = x.filter((_, i) => i % 4 === 0 || Math.abs(x[i]!) > 6);
    for (const symmetric of [false, true]) {
      const found = trueError(few, squaredErrorRange(of(few), symmetric ? "int8" : "uint8", symmetric), symmetric);
      const h = of(few);
      for (let i = 1; i <= 16; i++)
        for (let j = 1; j <= 16; j++)
          expect(found).toBeLessThan(1.03 * trueError(few, { min: (h.min * i) / 16, max: (h.max * j) / 16 }, symmetric));
    }
  });
  test("coarser codes clip more", () => {
    const h = of(samples.tailed!);
    const [fine, coarse] = [squaredErrorRange(h, "uint16", false), squaredErrorRange(h, "uint8", false)];
    expect(fine.max).toBeGreaterThan(0.9 * h.max);
    expect(coarse.max).toBeLessThan(fine.max);
  });
});

describe("any order, any cut of the data", () => {
  test.each(["entropy", "mse", "percentile"] as const)("%s", (calibration) => {
    const o = { calibration, percentile: 99.9, activationType: "uint8", symmetric: false } as const;
    const x = tailed();
    expect(rangeOf(of(x, 7), o)).toEqual(rangeOf(of(Float32Array.from(x).reverse(), 3), o));
    expect(rangeOf(of(x), o)).not.toEqual({ min: of(x).min, max: of(x).max, n: x.length });
  });
  test("a constant, and nothing", () => {
    for (const calibration of methods) {
      const o = { calibration, percentile: 99.9, activationType: "uint8", symmetric: false } as const;
      expect(rangeOf(of([3, 3, 3]), o)).toEqual({ min: 3, max: 3, n: 3 });
      expect(rangeOf(histogram().init([]), o).n).toBe(0);
    }
  });
  test("percentiles against the sorted elements", () => {
    const x = samples.tailed!;
    const sorted = Float32Array.from(x).sort();
    for (const q of [0.001, 0.01, 0.5, 0.99, 0.9995])
      expect(Math.abs(percentile(of(x), q) - sorted[Math.floor(q * x.length)]!)).toBeLessThan(0.05);
  });
});

describe("averages of ranges", () => {
  // [min, max] of each example, as in the tests of ONNX Runtime's calibrator.
  const examples = [
    [-9, 1],
    [2, 12],
    [-4, 7],
    [6, -3],
    [0, 3],
  ].map((x) => tensor("float32", [1, 2], x));
  const over = <S>(o: { init: (s: readonly number[]) => S; update: (s: S, x: (typeof examples)[number], shape: readonly number[]) => S }) =>
    examples.reduce((s, x) => o.update(s, x, x.shape), o.init([1, 2]));
  test("moving", () => {
    let [min, max] = [-9, 1];
    for (const [a, b] of [
      [2, 12],
      [-4, 7],
      [-3, 6],
      [0, 3],
    ] as const)
      [min, max] = [min + 0.01 * (a - min), max + 0.01 * (b - max)];
    expect(over(averageRange({ constant: 0.01 }))).toMatchObject({ min, max, n: 10 });
  });
  test("mean", () => {
    const r = over(averageRange());
    expect(r.min).toBeCloseTo((-9 + 2 - 4 - 3 + 0) / 5, 12);
    expect(r.max).toBeCloseTo((1 + 12 + 7 + 6 + 3) / 5, 12);
    expect(over(minMax)).toMatchObject({ min: -9, max: 12 });
  });
});
