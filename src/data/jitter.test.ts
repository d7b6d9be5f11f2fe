import { expect, test } from "vitest";
import { numbersOf, tensor } from "../tensor/tensor.ts";
import { fromArrays } from "./dataset.ts";
import { jitter } from "./jitter.ts";

const images = fromArrays({
  x: tensor(
    "float32",
    [3, 2, 3, 4],
    Float32Array.from({ length: 72 }, (_, i) => i + 1),
  ),
  labels: tensor("int64", [3], [0, 1, 2]),
});

test("every image is moved as a whole, by every offset up to the bound, and what comes in is 0", () => {
  const moved = jitter(images, { by: 1, times: 50, size: [3, 4], seed: 3 });
  expect(moved.length).toBe(150);
  const batch = moved.take(Array.from({ length: 150 }, (_, i) => i));
  const [from, to] = [numbersOf(images.take([0, 1, 2]).x!), numbersOf(batch.x!)];
  expect(numbersOf(batch.labels!)).toEqual(Float64Array.from({ length: 150 }, (_, i) => i % 3));
  const seen = new Set<string>();
  for (let i = 0; i < 150; i++) {
    // The offset that explains the first plane must explain both.
    const fits = [-1, 0, 1].flatMap((down) =>
      [-1, 0, 1].flatMap((right) => {
        for (let p = 0; p < 2; p++)
          for (let y = 0; y < 3; y++)
            for (let x = 0; x < 4; x++) {
              const [sy, sx] = [y - down, x - right];
              const want = sy >= 0 && sy < 3 && sx >= 0 && sx < 4 ? from[((i % 3) * 2 + p) * 12 + sy * 4 + sx]! : 0;
              if (to[(i * 2 + p) * 12 + y * 4 + x] !== want) return [];
            }
        return [`${down},${right}`];
      }),
    );
    expect(fits).toHaveLength(1);
    seen.add(fits[0]!);
  }
  expect(seen.size).toBe(9);
});

test("the same index gives the same image; none moves by 0", () => {
  const moved = jitter(images, { by: 1, times: 4, size: [3, 4], seed: 3 });
  expect(moved.take([7, 2])).toEqual(moved.take([7, 2]));
  expect(numbersOf(jitter(images, { by: 0, times: 2, size: [3, 4] }).take([4]).x!)).toEqual(numbersOf(images.take([1]).x!));
  expect(() => jitter(images, { by: 1, times: 2, size: [5, 5] }).take([0])).toThrow('jitter: "x" has examples of [2,3,4]');
  expect(() => jitter(images, { by: 1, times: 2, size: [3, 4], of: "y" })).toThrow('the data has no array "y"');
});
