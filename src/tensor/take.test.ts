import { expect, test } from "vitest";
import { take } from "./take.ts";
import { numbersOf, stringTensor, tensor } from "./tensor.ts";

test("slices along any axis, in any order, repeated or in long runs", () => {
  const shape = [3, 40, 5];
  const values = Array.from({ length: 600 }, (_, i) => i);
  for (const dtype of ["float32", "int64", "uint8"] as const) {
    const x = tensor(dtype, shape, dtype === "uint8" ? values.map((v) => v % 256) : values);
    const all = numbersOf(x);
    for (const [axis, indices] of [
      [0, [2, 0, 0]],
      [1, [...Array.from({ length: 30 }, (_, i) => i + 5), 0, 39]],
      [2, [4, 1, 2]],
    ] as const) {
      const y = take(x, axis, indices);
      expect(y.shape).toEqual(shape.with(axis, indices.length));
      const wanted: number[] = [];
      const [a, b, c] = y.shape as [number, number, number];
      for (let i = 0; i < a; i++)
        for (let j = 0; j < b; j++)
          for (let k = 0; k < c; k++) {
            const at = [i, j, k].with(axis, indices[[i, j, k][axis]!]!) as [number, number, number];
            wanted.push(all[at[0] * 200 + at[1] * 5 + at[2]]!);
          }
      expect(Array.from(numbersOf(y))).toEqual(wanted);
    }
  }
});

test("packed integers, strings, and an axis that is not there", () => {
  expect(Array.from(numbersOf(take(tensor("int4", [2, 3], [1, -2, 3, -4, 5, -6]), 1, [2, 0])))).toEqual([3, 1, -6, -4]);
  expect(take(stringTensor([2, 2], ["a", "b", "c", "d"]), 1, [1]).strings!.map((s) => new TextDecoder().decode(s))).toEqual(["b", "d"]);
  expect(() => take(tensor("float32", [2], [1, 2]), 1, [0])).toThrow("take: [2] has no axis 1");
});
