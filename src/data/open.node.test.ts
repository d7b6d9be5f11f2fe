import { existsSync, mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "fflate";
import { expect, test } from "vitest";
import { numbersOf, tensor } from "../tensor/tensor.ts";
import type { Dataset } from "./dataset.ts";
import { writeIdx } from "./idx.ts";
import { writeNpy } from "./npy.ts";
import { writeNpz } from "./npz.ts";
import { openData } from "./open.node.ts";

const folder = mkdtempSync(join(tmpdir(), "pith-"));
const put = (name: string, bytes: Uint8Array) => {
  writeFileSync(join(folder, name), bytes);
  return join(folder, name);
};
const x = tensor("uint8", [2, 2, 2], [1, 2, 3, 4, 5, 6, 7, 8]);
const y = tensor("uint8", [2], [3, 9]);

test("npz, with the labels' name told", async () => {
  const path = put("a.npz", writeNpz({ image: x, y }));
  expect((await openData(path)).names).toEqual(["image", "y"]);
  const d = await openData(path, { labels: "y" });
  expect(d.names).toEqual(["image", "labels"]);
  expect([d.length, d.take([1]).labels!.dtype, ...numbersOf(d.take([1]).labels!)]).toEqual([2, "int64", 9]);
  await expect(openData(path, { labels: "z" })).rejects.toThrow('a.npz: has no array "z" for labels; it has image, y');
  const uneven = put("b.npz", writeNpz({ x, y: tensor("uint8", [3], [1, 2, 3]) }));
  await expect(openData(uneven)).rejects.toThrow('b.npz: data: array "y" has 3 examples; "x" has 2');
});

test("npy", async () => {
  expect((await openData(put("a.npy", writeNpy(x)), { input: "image" })).names).toEqual(["image"]);
});

test("IDX files, alone and in a folder, with the labels beside", async () => {
  mkdirSync(join(folder, "mnist"));
  for (const part of ["train", "t10k"]) {
    put(`mnist/${part}-images-idx3-ubyte.gz`, gzipSync(writeIdx(x)));
    put(`mnist/${part}-labels-idx1-ubyte`, writeIdx(part === "train" ? y : tensor("uint8", [2], [0, 1])));
  }
  const labels = (d: Dataset) => Array.from(numbersOf(d.take([0, 1]).labels!));
  expect(labels(await openData(join(folder, "mnist")))).toEqual([3, 9]);
  expect(labels(await openData(join(folder, "mnist"), { part: "test" }))).toEqual([0, 1]);
  const d = await openData(join(folder, "mnist/t10k-images-idx3-ubyte.gz"));
  expect([d.names, d.take([0]).x!.shape, labels(d)]).toEqual([
    ["x", "labels"],
    [1, 2, 2],
    [0, 1],
  ]);
});

test("what cannot be opened is told in one line", async () => {
  await expect(openData(join(folder, "none.npz"))).rejects.toThrow("none.npz: no such file or folder");
  await expect(openData(put("a.csv", new Uint8Array(3)))).rejects.toThrow("a.csv: is no data file known here");
  await expect(openData(put("c.npz", new Uint8Array(30)))).rejects.toThrow("c.npz: is not a zip archive");
  await expect(openData(mkdtempSync(join(tmpdir(), "pith-")))).rejects.toThrow("holds no train-images-idx3-ubyte(.gz)");
});

const mnist = process.env.MNIST_DIR ?? join(import.meta.dirname, "../../../shared/data/mnist");
test.skipIf(!existsSync(mnist))("the real MNIST (set MNIST_DIR where it is elsewhere)", async () => {
  const train = await openData(mnist);
  const test = await openData(mnist, { part: "test" });
  expect([train.length, test.length]).toEqual([60_000, 10_000]);
  const first = train.take([0]);
  expect(first.x!.shape).toEqual([1, 28, 28]);
  // The first training digit is a 5, the first test digit a 7.
  expect([numbersOf(first.labels!)[0], numbersOf(test.take([0]).labels!)[0]]).toEqual([5, 7]);
});
