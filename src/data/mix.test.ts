import { expect, test } from "vitest";
import { numbersOf, tensor } from "../tensor/tensor.ts";
import { fromArrays, fromFeeds } from "./dataset.ts";
import { mixed } from "./mix.ts";

const n = 40;
const all = Array.from({ length: n }, (_, i) => i);
// Every element tells its example and place; ids are beyond what a float32 holds.
const of = (size: number, base = 0) => Array.from({ length: n * size }, (_, i) => base + 1000 * Math.floor(i / size) + (i % size));
const big = 2 ** 40;
const data = fromArrays({
  ids: tensor("int64", [n, 6], of(6, big)),
  mask: tensor("uint8", [n, 1, 6], new Array(6 * n).fill(1)),
  image: tensor("float32", [n, 2, 5, 3], of(30)),
  flag: tensor("float32", [n, 1], of(1)),
  labels: tensor("int64", [n], all),
});
const names = ["ids", "mask", "image", "flag"];

/** Of each example of the batch, the example that each place along the axis is from, where one such tells it. */
function origins(values: ArrayLike<number>, [outer, extent, inner]: readonly [number, number, number], base = 0): number[][] {
  const size = outer * extent * inner;
  return all.map((i) =>
    Array.from({ length: extent }, (_, at) => {
      const from = new Set<number>();
      for (let o = 0; o < outer; o++)
        for (let k = 0; k < inner; k++) {
          const place = (o * extent + at) * inner + k;
          const whole = values[i * size + place]! - base - place;
          expect(whole % 1000).toBe(0);
          from.add(whole / 1000);
        }
      expect(from.size).toBe(1);
      return [...from][0]!;
    }),
  );
}

test("each example begins as its own and ends as its partner's, cut at any place along the longest axis", () => {
  const batch = mixed(data, names, 3, 1).take(all);
  for (const name of data.names) {
    expect(batch[name]!.shape).toEqual(data.take(all)[name]!.shape);
    expect(batch[name]!.dtype).toBe(data.take(all)[name]!.dtype);
  }
  const ids = origins(numbersOf(batch.ids!), [1, 6, 1], big);
  const rows = origins(numbersOf(batch.image!), [2, 5, 3]);
  const cuts = new Set<number>();
  const partners = new Set<number>();
  all.forEach((i) => {
    for (const parts of [ids[i]!, rows[i]!]) {
      const partner = parts.at(-1)!;
      const cut = partner === i ? 0 : parts.indexOf(partner);
      expect(parts).toEqual(parts.map((_, at) => (at < cut ? i : partner)));
      expect(partner === i || cut > 0).toBe(true);
    }
    expect(rows[i]!.at(-1)).toBe(ids[i]!.at(-1));
    cuts.add(ids[i]!.indexOf(ids[i]!.at(-1)!));
    partners.add(ids[i]!.at(-1)!);
  });
  expect([...cuts].filter((c) => c > 0).sort()).toEqual([1, 2, 3, 4, 5]);
  expect(partners.size).toBeGreaterThan(n / 3);
  for (const own of ["flag", "labels", "mask"]) expect(numbersOf(batch[own]!)).toEqual(numbersOf(data.take(all)[own]!));
});

test("what an example is follows from seed, pass and its number alone", () => {
  const ids = (seed: number, pass: number, indices = all) => Array.from(numbersOf(mixed(data, names, seed, pass).take(indices).ids!));
  const whole = ids(3, 1);
  expect(ids(3, 1)).toEqual(whole);
  expect(ids(3, 1, [7, 2])).toEqual([...whole.slice(42, 48), ...whole.slice(12, 18)]);
  expect(ids(3, 2)).not.toEqual(whole);
  expect(ids(4, 1)).not.toEqual(whole);
});

test("whole feeds stay as they are, and an array that is not there is named", () => {
  const feeds = fromFeeds([{ x: tensor("float32", [1, 2], [1, 2]) }, { x: tensor("float32", [1, 3], [1, 2, 3]) }]);
  expect(mixed(feeds, ["x"], 0)).toBe(feeds);
  expect(() => mixed(data, ["tokens"], 0)).toThrow('mix: the data has no array "tokens"; it has ids, mask');
});
