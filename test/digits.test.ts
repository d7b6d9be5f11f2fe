import { expect, test } from "vitest";
import { digits } from "../examples/digits.ts";
import { batches } from "../src/data/batches.ts";
import { numbersOf } from "../src/tensor/tensor.ts";

test("the digits of the demo: a fixed split, bytes recovered, classes alike", () => {
  const { train, test } = digits();
  expect([train.length, test.length]).toEqual([8000, 2000]);
  const counts = new Array<number>(10).fill(0);
  let furthest = 0;
  for (const b of batches(test, { size: 500 })) {
    for (const v of numbersOf(b.labels!)) counts[v]!++;
    for (const v of numbersOf(b.x!)) furthest = Math.max(furthest, Math.abs(v * 255 - Math.round(v * 255)));
  }
  expect(furthest).toBeLessThan(1e-4);
  // A fifth of each digit's 1001, 1127, 991 … images.
  expect(counts).toEqual([200, 225, 198, 206, 196, 173, 203, 214, 189, 196]);
  expect(Array.from(test.take([0, 1]).x!.data as Uint8Array)).toEqual(Array.from(digits().test.take([0, 1]).x!.data as Uint8Array));
});
