import fc from "fast-check";
import { expect, test } from "vitest";
import { numbersOf, tensor } from "../tensor/tensor.ts";
import { batches, order } from "./batches.ts";
import { type Dataset, fromArrays, fromFeeds } from "./dataset.ts";
import { layout, meanStd, preprocess, preprocessing, reshape, scale } from "./preprocess.ts";
import { split } from "./split.ts";

const digits = (n: number) =>
  fromArrays({
    x: tensor(
      "uint8",
      [n, 2],
      Array.from({ length: 2 * n }, (_, i) => i % 256),
    ),
    labels: tensor(
      "int64",
      [n],
      Array.from({ length: n }, (_, i) => i % 3),
    ),
  });
const firsts = (data: Dataset, seed?: number, epoch?: number, size = 4) =>
  [...batches(data, { size, ...(seed === undefined ? {} : { seed }), ...(epoch === undefined ? {} : { epoch }) })].flatMap((b) =>
    Array.from(numbersOf(b.x!)).filter((_, i) => i % 2 === 0),
  );
const ids = (data: Dataset) => (data.length ? firsts(data).map((v) => v / 2) : []);

test("batches cover every example once, in order without a seed", () => {
  expect(firsts(digits(10))).toEqual([0, 2, 4, 6, 8, 10, 12, 14, 16, 18]);
  const sizes = (dropLast: boolean) => [...batches(digits(10), { size: 4, dropLast })].map((b) => b.x!.shape[0]);
  expect(sizes(false)).toEqual([4, 4, 2]);
  expect(sizes(true)).toEqual([4, 4]);
  expect(() => [...batches(digits(3), { size: 0 })]).toThrow("at least 1; got 0");
});

test("a seed shuffles, anew each epoch, and the batch size does not matter", () => {
  const a = firsts(digits(10), 1);
  expect(a).not.toEqual(firsts(digits(10)));
  expect([...a].sort((x, y) => x - y)).toEqual(firsts(digits(10)));
  expect(firsts(digits(10), 1)).toEqual(a);
  expect(firsts(digits(10), 1, 0, 3)).toEqual(a);
  expect(firsts(digits(10), 1, 1)).not.toEqual(a);
  expect(firsts(digits(10), 2)).not.toEqual(a);
  expect(Array.from(order(4))).toEqual([0, 1, 2, 3]);
});

test("feeds of their own shapes come one by one", () => {
  const feeds = fromFeeds([{ x: tensor("float32", [1, 2], [1, 2]) }, { x: tensor("float32", [1, 3], [3, 4, 5]) }]);
  expect([...batches(feeds, { size: 1 })].map((b) => b.x!.shape)).toEqual([
    [1, 2],
    [1, 3],
  ]);
  expect(() => [...batches(feeds, { size: 2 })]).toThrow("taken one at a time");
});

test("a split parts all examples, the same way each time", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 60 }), fc.double({ min: 0, max: 1, noNaN: true }), fc.boolean(), (n, fraction, stratify) => {
      const options = { fraction, seed: 5, ...(stratify ? { stratify: "labels" } : {}) };
      const { train, held } = split(digits(n), options);
      expect(held.length).toBe(Math.round(fraction * n));
      expect([...ids(train), ...ids(held)].sort((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i));
      expect(ids(held)).toEqual(ids(split(digits(n), options).held));
    }),
    { numRuns: 60 },
  );
  expect(ids(split(digits(60), { count: 9, seed: 1 }).held)).not.toEqual(ids(split(digits(60), { count: 9, seed: 2 }).held));
});

test("a stratified split holds out each class in proportion", () => {
  const n = 100;
  const labels = Array.from({ length: n }, (_, i) => (i < 70 ? 7 : i < 95 ? 2 : 4));
  const data = fromArrays({ x: tensor("float32", [n, 1], labels), y: tensor("uint8", [n], labels) });
  const { held } = split(data, { count: 10, seed: 3, stratify: "y" });
  const counts: Record<number, number> = {};
  for (const v of numbersOf(held.take(Array.from({ length: 10 }, (_, i) => i)).y!)) counts[v] = (counts[v] ?? 0) + 1;
  // Shares 7, 2.5 and 0.5 of ten: the remainder 0.5 goes to the smaller value first.
  expect(counts).toEqual({ 7: 7, 2: 3 });
  expect(() => split(data, { count: 10, seed: 3, stratify: "z" })).toThrow('no array "z" to stratify by; it has x, y');
  expect(() => split(data, { count: 10, seed: 3, fraction: 0.1 })).toThrow("exactly one of fraction and count");
  expect(() => split(data, { count: 101, seed: 3 })).toThrow("from 0 to 100");
});

const image = fromArrays({
  image: tensor("uint8", [2, 2, 1, 3], [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 255]),
  labels: tensor("int64", [2], [0, 1]),
});
const all = (data: Dataset) => data.take([0, 1]);

test("scale, meanStd and cast", () => {
  const scaled = all(scale({ by: 255 }).apply(image));
  expect(scaled.image!.dtype).toBe("float32");
  expect(numbersOf(scaled.image!).at(-1)).toBe(1);
  expect(scaled.labels!.dtype).toBe("int64");
  const steps = ["meanStd:mean=1/2/3,std=1/2/4,axis=3", "cast:to=int8"];
  expect(Array.from(numbersOf(all(preprocess(image, steps)).image!))).toEqual([-1, 0, 0, 2, 1, 0, 9, 4, 2, 12, 6, 63]);
  expect(() => all(meanStd({ mean: [1, 2], axis: 3 }).apply(image))).toThrow("mean needs 1 number or 3");
});

test("layout goes there and back, reshape keeps the elements", () => {
  const there = layout({ to: "nchw" }).apply(image);
  expect(all(there).image!.shape).toEqual([2, 3, 2, 1]);
  expect(Array.from(numbersOf(all(there).image!))).toEqual([0, 3, 1, 4, 2, 5, 10, 13, 11, 14, 12, 255]);
  expect(all(layout({ to: "nhwc" }).apply(there))).toEqual(all(image));
  expect(all(preprocess(image, [reshape({ to: "6" })])).image!.shape).toEqual([2, 6]);
  expect(all(preprocess(image, ["reshape:to=3x2x1,of=image"])).image!.shape).toEqual([2, 3, 2, 1]);
});

test("a preprocessing from text, and what is wrong with one", () => {
  expect(preprocessing("scale:by=255").params).toEqual({ of: "", by: 255 });
  expect(preprocessing("scale").params).toEqual({ of: "", by: 255 });
  expect(() => preprocessing("scales:by=2")).toThrow('unknown name "scales"; there are scale, meanStd, layout, cast, reshape');
  expect(() => preprocessing("scale:of=x,to=2")).toThrow('scale: unknown parameter "to"; it takes of, by');
  expect(() => preprocessing("scale:2")).toThrow('scale: "2" is not name=value');
  expect(() => preprocessing("meanStd:mean=1//2")).toThrow("mean must be numbers with / between them");
  expect(() => preprocess(image, ["scale:of=y"])).toThrow('the data has no array "y"; it has image, labels');
});
