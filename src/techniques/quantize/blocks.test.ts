import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { random } from "../../tensor/random.ts";
import { type BlockScheme, codeOf, dequantizeBlocks, gridOf, levelsOf, roundToNearest } from "./blocks.ts";

interface Case {
  readonly rows: number;
  readonly columns: number;
  readonly groupSize: number;
  readonly values: number[];
  readonly results: { readonly name: string; readonly scales: number[]; readonly zeroPoints: number[]; readonly codes: number[] }[];
}
const cases = JSON.parse(readFileSync(new URL("../../../test/reference/fixtures/blocks.json", import.meta.url), "utf8")) as Case[];

const schemeOf = (name: string, groupSize: number): BlockScheme =>
  name === "ternary"
    ? { bits: 2, groupSize, symmetric: true, ternary: true }
    : { bits: Number(name[0]) as 4, groupSize, symmetric: name[1] !== "a" };

for (const c of cases) {
  test.each(c.results)(`$name: the codes of ONNX Runtime's quantizer, ${c.rows} × ${c.columns} by ${c.groupSize}`, (r) => {
    const w = Float32Array.from(c.values);
    const got = roundToNearest(w, c.rows, c.columns, schemeOf(r.name, c.groupSize));
    expect([...got.scales]).toEqual(r.scales);
    expect([...got.codes]).toEqual(r.codes);
    if (got.zeroPoints) expect([...got.zeroPoints]).toEqual(r.zeroPoints);
    else expect(new Set(r.zeroPoints)).toEqual(new Set([2 ** (got.bits - 1)]));
    const groups = Math.ceil(c.columns / c.groupSize);
    const back = dequantizeBlocks(got);
    r.codes.forEach((code, i) => {
      const g = Math.floor(i / c.columns) * groups + Math.floor((i % c.columns) / c.groupSize);
      expect(back[i]).toBe(Math.fround((code - r.zeroPoints[g]!) * r.scales[g]!));
    });
  });
}

test("codeOf and roundToNearest agree, save for ternary's threshold", () => {
  const w = random(3).fillNormal(new Float32Array(96));
  for (const [bits, symmetric] of [
    [1, true],
    [2, false],
    [3, true],
    [4, false],
    [8, true],
  ] as const) {
    const scheme: BlockScheme = { bits, groupSize: 96, symmetric };
    const grid = gridOf(w, 0, 96, scheme);
    expect([...w].map((x) => codeOf(x, grid, levelsOf(scheme)))).toEqual([...roundToNearest(w, 1, 96, scheme).codes]);
  }
});

test("what is no matrix, or no scheme, is refused", () => {
  const w = new Float32Array(8);
  const scheme: BlockScheme = { bits: 4, groupSize: 4, symmetric: true };
  expect(() => roundToNearest(w, 3, 3, scheme)).toThrow("a 3 × 3 matrix has 9 elements; got 8");
  expect(() => roundToNearest(w, 2, 4, { ...scheme, groupSize: 0 })).toThrow("groupSize must be a whole number above 0; got 0");
  expect(() => roundToNearest(w, 2, 4, { ...scheme, bits: 5 as 4 })).toThrow("bits must be 1, 2, 3, 4 or 8; got 5");
  expect(() => roundToNearest(w, 2, 4, { ...scheme, ternary: true })).toThrow("ternary codes have 2 bits; got 4");
  w[5] = Number.NaN;
  expect(() => roundToNearest(w, 2, 4, scheme)).toThrow("element 5 is NaN; finite numbers would be right");
});
