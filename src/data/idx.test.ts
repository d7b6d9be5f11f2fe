import { gzipSync } from "fflate";
import { expect, test } from "vitest";
import { numbersOf, tensor } from "../tensor/tensor.ts";
import { readIdx, writeIdx } from "./idx.ts";

test("the example of the format's own page", () => {
  // magic 0x00000803, sizes 2, 1, 3, then unsigned bytes.
  const bytes = new Uint8Array([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3, 4, 5, 255]);
  const t = readIdx(bytes);
  expect([t.dtype, t.shape, ...numbersOf(t)]).toEqual(["uint8", [2, 1, 3], 1, 2, 3, 4, 5, 255]);
  expect(readIdx(gzipSync(bytes))).toEqual(t);
  expect(writeIdx(t)).toEqual(bytes);
});

test.each(["uint8", "int8", "int16", "int32", "float32", "float64"] as const)("%s is big-endian in the file and comes back", (dtype) => {
  const t = tensor(dtype, [3], [1, 2, 127]);
  const bytes = writeIdx(t);
  expect(bytes.at(-1)).toBe(dtype.startsWith("float") ? 0 : 127);
  expect(readIdx(bytes)).toEqual(t);
});

test("refusals", () => {
  expect(() => readIdx(new Uint8Array([0, 0, 8, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]))).toThrow(
    "more elements than any file holds",
  );
  expect(() => readIdx(new Uint8Array([0, 0, 8, 1, 0, 0, 0, 9, 1]))).toThrow("holds 1 bytes of data; uint8[9] takes 9");
  expect(() => readIdx(new Uint8Array([0, 0, 7, 1]))).toThrow("element type 0x07");
  expect(() => readIdx(new TextEncoder().encode("text"))).toThrow("is not an IDX file");
  expect(() => writeIdx(tensor("int64", [1], [1]))).toThrow("no element type int64");
});
