import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { affine, biasFloor, type Int8, quantizeBias, representable } from "./scheme.ts";
import { quantizeWeights } from "./weightcodes.ts";

// Made by test/reference/int8.py: ONNX Runtime's own formulas in numpy.
const reference = JSON.parse(readFileSync(new URL("../../../test/reference/fixtures/int8.json", import.meta.url), "utf8")) as {
  affine: { min: number; max: number; dtype: Int8; symmetric: boolean; result: [number, number] }[];
  weights: { shape: number[]; axis: number | null; reduceRange: boolean; values: number[]; scales: number[]; codes: number[] }[];
};

describe("scale and zero point", () => {
  test.each(reference.affine)("$dtype of $min … $max, symmetric $symmetric", ({ min, max, dtype, symmetric, result }) => {
    const a = affine({ min, max }, dtype, symmetric);
    if (dtype === "uint8" && symmetric && min >= 0) {
      // Here pith keeps all 255 steps for what is never negative; the reference spends half of them below zero.
      expect(a.zeroPoint).toBe(0);
      if (result[0] !== 1) expect(a.scale).toBe(Math.fround(Math.fround(max) / 255));
    } else {
      expect([a.scale, a.zeroPoint]).toEqual(result);
    }
    const [least, most] = representable(a);
    if (result[0] !== 1) {
      expect(least).toBeLessThanOrEqual(Math.min(min, 0) + a.scale / 2 + 1e-6 * Math.abs(min));
      expect(most).toBeGreaterThanOrEqual(Math.max(max, 0) - a.scale / 2 - 1e-6 * Math.abs(max));
    }
  });
  // Cases of ONNX Runtime's own test of compute_scale_zp.
  test.each([
    [-1, 2, "int8", true, 0, 2 / 127],
    [-1, 2, "uint8", true, 128, 4 / 255],
    [-1, 2, "uint8", false, 85, 3 / 255],
    [1, -1, "uint8", true, 0, 1],
    [1, -1, "int8", true, 0, 1],
    [-1.1754944e-39, 1.1754944e-39, "uint8", true, 0, 1],
    [-1.1754944e-39, 0, "uint8", false, 0, 1],
  ] as const)("%f … %f as %s, symmetric %s", (min, max, dtype, symmetric, zeroPoint, scale) => {
    expect(affine({ min, max }, dtype, symmetric)).toEqual({ dtype, zeroPoint, scale: Math.fround(scale) });
  });
  test("a least width", () => {
    const nothing = { min: 0, max: 0 };
    expect(affine(nothing, "uint8", false, 1e-4)).toEqual({ dtype: "uint8", zeroPoint: 0, scale: Math.fround(1e-4 / 255) });
    expect(affine(nothing, "int8", true, 1e-4)).toEqual({ dtype: "int8", zeroPoint: 0, scale: Math.fround(1e-4 / 127) });
  });
  test("a range nobody saw", () => {
    expect(affine({ min: Infinity, max: -Infinity }, "uint8", false)).toEqual({ dtype: "uint8", scale: 1, zeroPoint: 0 });
  });
});

describe("weights", () => {
  test.each(reference.weights)("$shape by axis $axis, reduceRange $reduceRange", ({ shape, axis, reduceRange, values, scales, codes }) => {
    const w = quantizeWeights(Float32Array.from(values), shape, { axis, dtype: "int8", symmetric: true, reduceRange });
    expect(Array.from(w.scales)).toEqual(scales);
    expect(Array.from(w.codes)).toEqual(codes);
    expect(w.error).toBeGreaterThan(0);
    expect(w.error).toBeLessThan(reduceRange ? 0.03 : 0.015);
  });
  test("a channel of zeros borrows a scale", () => {
    const w = quantizeWeights(new Float32Array([1, 0, -2, 0]), [2, 2], { axis: 1, dtype: "int8", symmetric: true, reduceRange: false });
    expect(Array.from(w.scales)).toEqual([Math.fround(4 / 254), Math.fround(4 / 254)]);
    expect(Array.from(w.codes)).toEqual([64, 0, -127, 0]);
  });
  test("a large bias widens the scale until it fits", () => {
    const tiny = new Float32Array([1e-6, 0.5]);
    const atLeast = (c: number) => biasFloor([40, 0.1][c]!, 0.01);
    const { scales } = quantizeWeights(tiny, [1, 2], { axis: 1, dtype: "int8", symmetric: true, reduceRange: false, atLeast });
    expect(scales[0]).toBeGreaterThan(Math.fround(1e-6 / 127));
    expect(scales[1]).toBe(Math.fround(1 / 254));
    const b = quantizeBias(new Float32Array([40, 0.1]), 0.01, scales);
    expect(b.codes[0]).toBeLessThan(2 ** 30);
    expect(b.codes[0]! * b.scales[0]!).toBeCloseTo(40, 4);
    expect(b.codes[1]! * b.scales[1]!).toBeCloseTo(0.1, 5);
  });
});
