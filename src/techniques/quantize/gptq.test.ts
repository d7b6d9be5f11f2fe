import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { random } from "../../tensor/random.ts";
import { outputError } from "../hessian.ts";
import { type BlockScheme, dequantizeBlocks, roundToNearest } from "./blocks.ts";
import { gptq } from "./gptq.ts";

interface Run {
  readonly bits: 4;
  readonly symmetric: boolean;
  readonly groupSize: number;
  readonly order: "given" | "activation";
  readonly codes: number[];
  readonly scales: number[];
  readonly zeroPoints: number[];
}
const fixture = JSON.parse(readFileSync(new URL("../../../test/reference/fixtures/gptq.json", import.meta.url), "utf8")) as {
  readonly rows: number;
  readonly columns: number;
  readonly weights: number[];
  readonly hessian: number[];
  readonly runs: Run[];
};
const { rows, columns } = fixture;
const w = Float32Array.from(fixture.weights);
const hessian = Float64Array.from(fixture.hessian);

for (const blockSize of [128, 32]) {
  test.each(
    fixture.runs,
  )(`the codes of the paper's algorithm: $bits bits, groups of $groupSize, $order order, symmetric $symmetric; blocks of ${blockSize}`, (run) => {
    const got = gptq(w, rows, columns, hessian, run, { blockSize, order: run.order });
    expect([...got.codes]).toEqual(run.codes);
    // Scales of updated weights: one rounding of float32 apart.
    run.scales.forEach((s, i) => {
      expect(Math.abs(got.scales[i]! / s - 1)).toBeLessThan(3e-7);
    });
    expect(got.zeroPoints ? [...got.zeroPoints] : [2 ** (run.bits - 1)]).toEqual(got.zeroPoints ? run.zeroPoints : [run.zeroPoints[0]]);
  });
}

const errorOf = (c: ReturnType<typeof gptq>) => outputError(w, dequantizeBlocks(c), rows, hessian);

test.each([
  { bits: 4, symmetric: true },
  { bits: 4, symmetric: false },
  { bits: 3, symmetric: true },
  { bits: 2, symmetric: false },
  { bits: 2, symmetric: true, ternary: true },
  { bits: 1, symmetric: true },
] as const)("codes are not those of rounding to nearest, and the output is nearer: %o", (s) => {
  const scheme: BlockScheme = { ...s, groupSize: 16 };
  const plain = roundToNearest(w, rows, columns, scheme);
  // Few levels leave little to make up with.
  const share = s.bits === 1 || "ternary" in s ? 0.95 : 0.85;
  const before = share * errorOf(plain);
  for (const order of ["given", "activation"] as const) {
    const got = gptq(w, rows, columns, hessian, scheme, { order });
    expect([...got.codes]).not.toEqual([...plain.codes]);
    expect(errorOf(got)).toBeLessThan(before);
    expect(errorOf(gptq(w, rows, columns, hessian, scheme, { order, search: true }))).toBeLessThan(before);
  }
});

test("inputs that are never used, or too few to tell: no error, and what is not used is rounded to nearest", () => {
  const n = 24;
  const x = random(1).fillNormal(new Float64Array(3 * n));
  for (let i = 0; i < 3; i++) x[i * n + 5] = 0;
  const h = new Float64Array(n * n);
  for (let r = 0; r < 3; r++) for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) h[i * n + j]! += x[r * n + i]! * x[r * n + j]!;
  const some = random(2).fillNormal(new Float32Array(4 * n));
  const scheme: BlockScheme = { bits: 4, groupSize: n, symmetric: true };
  const got = gptq(some, 4, n, h, scheme);
  const plain = roundToNearest(some, 4, n, scheme);
  for (let r = 0; r < 4; r++) expect(got.codes[r * n + 5]).toBe(plain.codes[r * n + 5]);
  expect([...gptq(some, 4, n, h, scheme, { damp: 0 }).codes]).toHaveLength(4 * n);
  // No data at all: to nearest.
  expect([...gptq(some, 4, n, new Float64Array(n * n), scheme).codes]).toEqual([...plain.codes]);
  expect(() => gptq(some, 4, n, new Float64Array(n), scheme)).toThrow("a Hessian for 24 columns has 576 elements; got 24");
  expect(() => gptq(some, 4, n, h.fill(Number.NaN), scheme)).toThrow("the Hessian is not finite");
});
