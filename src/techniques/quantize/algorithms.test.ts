// The pure algorithms beside their papers' formulas in numpy: hqq, awq, adaround, biascorrection, kmeans, grid.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { random } from "../../tensor/random.ts";
import { outputError, quadratic } from "../hessian.ts";
import { adaround, rectified, rectifiedInverse } from "./adaround.ts";
import { awqScales, roundOnClipped, scaledHessian } from "./awq.ts";
import { expectedCorrection, measuredCorrection } from "./biascorrection.ts";
import { type BlockCodes, type BlockScheme, dequantizeBlocks, gridOf, levelsOf, roundToNearest } from "./blocks.ts";
import { roundOnSearched } from "./grid.ts";
import { halfQuadratic, hqq } from "./hqq.ts";
import { kmeans } from "./kmeans.ts";

interface Fixture {
  readonly hqq: { readonly bits: 4; readonly weights: number[]; readonly zero: number; readonly error: number }[];
  readonly awq: (BlockScheme & {
    readonly rows: number;
    readonly columns: number;
    readonly weights: number[];
    readonly hessian: number[];
    readonly mean: number[];
    readonly losses: number[];
    readonly scales: number[];
  })[];
  readonly kmeans: { readonly k: number; readonly values: number[]; readonly weights: number[] | null; readonly centroids: number[] }[];
}
const fixture = JSON.parse(
  readFileSync(new URL("../../../test/reference/fixtures/weight_algorithms.json", import.meta.url), "utf8"),
) as Fixture;

const schemes: BlockScheme[] = [
  { bits: 4, groupSize: 32, symmetric: true },
  { bits: 4, groupSize: 32, symmetric: false },
  { bits: 3, groupSize: 32, symmetric: true },
  { bits: 3, groupSize: 64, symmetric: false },
  { bits: 2, groupSize: 16, symmetric: true },
  { bits: 2, groupSize: 16, symmetric: false },
  { bits: 8, groupSize: 64, symmetric: true },
  { bits: 2, groupSize: 32, symmetric: true, ternary: true },
];
const [rows, columns] = [12, 72];
const w = random(4).fillNormal(new Float32Array(rows * columns), 0.2);
/** Correlated inputs with channels of very different sizes. */
const inputs = (() => {
  const r = random(5);
  const n = 300;
  const raw = r.fillNormal(new Float64Array(n * columns));
  const size = Float64Array.from({ length: columns }, () => Math.exp(r.normal()));
  return Float64Array.from(raw, (x, i) => (x + 0.7 * (raw[i - 1] ?? 0)) * size[i % columns]!);
})();
const hessian = (() => {
  const h = new Float64Array(columns * columns);
  for (let at = 0; at < inputs.length; at += columns)
    for (let i = 0; i < columns; i++) for (let j = 0; j < columns; j++) h[i * columns + j]! += inputs[at + i]! * inputs[at + j]!;
  return h;
})();
const meanAbs = Float32Array.from({ length: columns }, (_, c) => {
  let sum = 0;
  for (let at = c; at < inputs.length; at += columns) sum += Math.abs(inputs[at]!);
  return (sum * columns) / inputs.length;
});
const weightError = (c: BlockCodes) => dequantizeBlocks(c).reduce((sum, x, i) => sum + (x - w[i]!) ** 2, 0);
const layerError = (c: BlockCodes) => outputError(w, dequantizeBlocks(c), rows, hessian);

test("the quadratic form is the squared error of the outputs", () => {
  const delta = random(6).fillNormal(new Float32Array(rows * columns));
  let sum = 0;
  for (let at = 0; at < inputs.length; at += columns)
    for (let r = 0; r < rows; r++) {
      let y = 0;
      for (let c = 0; c < columns; c++) y += delta[r * columns + c]! * inputs[at + c]!;
      sum += y * y;
    }
  expect(quadratic(hessian, columns).error(delta, rows) / sum).toBeCloseTo(1, 9);
});

test.each(fixture.hqq)("HQQ's zero point, $bits bits", ({ bits, weights, zero, error }) => {
  const scheme: BlockScheme = { bits, groupSize: weights.length, symmetric: false };
  const start = Float32Array.from(weights);
  const got = halfQuadratic(start, 0, start.length, gridOf(start, 0, start.length, scheme), levelsOf(scheme), "zero");
  expect(got.zero).toBeCloseTo(zero, 9);
  expect(got.error).toBeCloseTo(error, 10);
});

test.each(schemes)("HQQ and searched grids: never further from the weights than rounding to nearest, group by group; %o", (scheme) => {
  const plain = roundToNearest(w, rows, columns, scheme);
  for (const got of [hqq(w, rows, columns, scheme), roundOnSearched(w, rows, columns, scheme)]) {
    const [a, b] = [dequantizeBlocks(plain), dequantizeBlocks(got)];
    for (let r = 0; r < rows; r++)
      for (let from = 0; from < columns; from += scheme.groupSize) {
        let [before, after] = [0, 0];
        for (let i = r * columns + from; i < r * columns + Math.min(columns, from + scheme.groupSize); i++) {
          before += (a[i]! - w[i]!) ** 2;
          after += (b[i]! - w[i]!) ** 2;
        }
        expect(after).toBeLessThanOrEqual(before * (1 + 1e-6));
      }
    expect([...got.codes]).not.toEqual([...plain.codes]);
    expect(weightError(got)).toBeLessThan(0.99 * weightError(plain));
  }
});

test.each(fixture.awq)("AWQ's scales, $bits bits", (f) => {
  const got = awqScales(Float32Array.from(f.weights), f.rows, f.columns, Float32Array.from(f.mean), Float64Array.from(f.hessian), f);
  f.scales.forEach((s, i) => {
    expect(Math.abs(got[i]! / s - 1)).toBeLessThan(1e-5);
  });
});

test.each(schemes.slice(0, 6))("AWQ, its clipping and AdaRound bring the output nearer: %o", (scheme) => {
  const plain = layerError(roundToNearest(w, rows, columns, scheme));
  const s = awqScales(w, rows, columns, meanAbs, hessian, scheme);
  const scaled = w.map((x, i) => x * s[i % columns]!);
  const h = scaledHessian(hessian, s);
  const onScaled = (c: BlockCodes) => outputError(scaled, dequantizeBlocks(c), rows, h);
  const awq = onScaled(roundToNearest(scaled, rows, columns, scheme));
  expect(awq).toBeLessThan(plain);
  expect(onScaled(roundOnClipped(scaled, rows, columns, h, scheme))).toBeLessThan(awq);
  const learned = adaround(w, rows, columns, hessian, scheme, { steps: 150 });
  expect(layerError(learned)).toBeLessThan(0.9 * plain);
  expect([...learned.scales]).toEqual([...roundToNearest(w, rows, columns, scheme).scales]);
  expect(layerError(adaround(w, rows, columns, hessian, scheme, { steps: 150, search: true }))).toBeLessThan(0.9 * plain);
});

test("AdaRound's rectified sigmoid; it refuses one bit, and without inputs it leaves the nearest codes", () => {
  expect([rectified(-10), rectified(10)]).toEqual([0, 1]);
  expect(rectified(0)).toBeCloseTo(0.5, 12);
  for (const h of [0.001, 0.3, 0.9]) expect(rectified(rectifiedInverse(h))).toBeCloseTo(h, 12);
  expect(() => adaround(w, rows, columns, hessian, { bits: 1, groupSize: 8, symmetric: true })).toThrow("1 bit has no code between");
  const scheme = schemes[0]!;
  expect(adaround(w, rows, columns, new Float64Array(columns ** 2), scheme)).toEqual(roundToNearest(w, rows, columns, scheme));
});

test("bias correction gives back the mean output", () => {
  const approximation = dequantizeBlocks(roundToNearest(w, rows, columns, schemes[4]!));
  const n = inputs.length / columns;
  const mean = Float32Array.from({ length: columns }, (_, c) => {
    let sum = 0;
    for (let at = c; at < inputs.length; at += columns) sum += inputs[at]! + 1;
    return sum / n;
  });
  const outputs = (weights: Float32Array) =>
    Float32Array.from({ length: rows }, (_, r) => {
      let y = 0;
      for (let at = 0; at < inputs.length; at += columns)
        for (let c = 0; c < columns; c++) y += weights[r * columns + c]! * (inputs[at + c]! + 1);
      return y / n;
    });
  const measured = measuredCorrection(outputs(w), outputs(approximation));
  const expected = expectedCorrection(w, approximation, rows, mean);
  for (let r = 0; r < rows; r++) expect(expected[r]).toBeCloseTo(measured[r]!, 5);
  // A mean per channel serves all places of its kernel.
  const perChannel = expectedCorrection(w, approximation, rows, Float32Array.of(1, -2));
  const spread = Float32Array.from({ length: columns }, (_, c) => (c < columns / 2 ? 1 : -2));
  expect(perChannel).toEqual(expectedCorrection(w, approximation, rows, spread));
  expect(() => expectedCorrection(w, approximation, rows, new Float32Array(7))).toThrow("means of 72 columns or of a part");
  expect(() => measuredCorrection(new Float32Array(2), new Float32Array(3))).toThrow("means of 2 channels; got 3");
});

test.each(fixture.kmeans)("k-means, k = $k", ({ k, values, weights, centroids }) => {
  const got = kmeans(Float32Array.from(values), k, weights ? { weights } : {});
  centroids.forEach((c, i) => {
    expect(got.centroids[i]).toBeCloseTo(c, 6);
  });
  let error = 0;
  values.forEach((v, i) => {
    const nearest = Math.min(...got.centroids.map((c) => Math.abs(c - v)));
    expect(Math.abs(got.centroids[got.codes[i]!]! - v)).toBeCloseTo(nearest, 7);
    error += (weights?.[i] ?? 1) * nearest ** 2;
  });
  expect(got.error).toBeCloseTo(error, 6);
});

test("what k-means refuses", () => {
  expect(() => kmeans(new Float32Array(3), 1)).toThrow("k must be a whole number from 2 to 65536; got 1");
  expect(() => kmeans(new Float32Array(0), 2)).toThrow("there are no values");
  expect(() => kmeans(Float32Array.of(1, Infinity), 2)).toThrow("not all finite");
  expect(() => kmeans(Float32Array.of(1, 2), 2, { weights: [1] })).toThrow("2 values need 2 weights; got 1");
});
