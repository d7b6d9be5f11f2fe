import { expect, test } from "vitest";
import { random } from "../../tensor/random.ts";
import { decodeFloats, encodeFloats, floatCode, levels } from "./floatcodes.ts";

test.each(["nf4", "fp4"] as const)("%s: every number takes its nearest level", (type) => {
  const table = levels[type];
  const r = random(3);
  for (let n = 0; n < 5000; n++) {
    const x = Math.fround(2 * r.uniform() - 1);
    const got = table[floatCode(type, x)]!;
    const best = Math.min(...table.map((l) => Math.abs(l - x)));
    // The bounds are given with seven digits.
    expect(Math.abs(got - x)).toBeLessThanOrEqual(best + 2e-7);
  }
  for (let code = 0; code < 16; code++) if (Math.abs(table[code]!) > 0) expect(floatCode(type, table[code]!)).toBe(code);
});

test("the first code of a byte stands in its high bits; a missing second is that of zero", () => {
  const { packed, absmax } = encodeFloats(Float32Array.of(-4, 4, 0, 2, 1), 4, "nf4");
  expect([...absmax]).toEqual([4, 1]);
  // −1 → 0, 1 → 15, 0 → 7, 0.5 → 12 (0.4407 is nearer than 0.5626).
  expect([...packed]).toEqual([0x0f, 0x7c, 0xf7]);
  expect([...encodeFloats(Float32Array.of(-12, 8, 0), 4, "fp4").packed]).toEqual([0xb2, 0x00]);
});

test("blocks of zeros are zeros; numbers that are none are refused", () => {
  for (const type of ["nf4", "fp4"] as const) {
    const w = new Float32Array(10);
    expect([...decodeFloats(encodeFloats(w, 4, type), 10, 4, type)].every((x) => x === 0)).toBe(true);
    expect(() => encodeFloats(Float32Array.of(1, Number.NaN), 4, type)).toThrow(/element 1 is NaN/);
  }
});
