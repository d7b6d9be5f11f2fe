import fc from "fast-check";
import { expect, test } from "vitest";
import { byteLengthOf, type DType } from "../tensor/dtype.ts";
import { numbersOf, type Tensor, tensor } from "../tensor/tensor.ts";
import { readSafetensors, writeSafetensors } from "./safetensors.ts";

function file(header: unknown, data = 0): Uint8Array {
  const text = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const out = new Uint8Array(8 + text.length + data);
  new DataView(out.buffer).setBigUint64(0, BigInt(text.length), true);
  out.set(text, 8);
  return out;
}
const f32 = (shape: number[], from: number, to: number) => ({ dtype: "F32", shape, data_offsets: [from, to] });

// Bytes of the reference implementation's own test (safetensors, tensor.rs, test_serialization), a 1×2×3 F32 tensor from 0 to 5.
test("serializes as the reference implementation does", () => {
  const want = [
    64, 0, 0, 0, 0, 0, 0, 0, 123, 34, 97, 116, 116, 110, 46, 48, 34, 58, 123, 34, 100, 116, 121, 112, 101, 34, 58, 34, 70, 51, 50, 34, 44,
    34, 115, 104, 97, 112, 101, 34, 58, 91, 49, 44, 50, 44, 51, 93, 44, 34, 100, 97, 116, 97, 95, 111, 102, 102, 115, 101, 116, 115, 34, 58,
    91, 48, 44, 50, 52, 93, 125, 125, 0, 0, 0, 0, 0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 64, 64, 0, 0, 128, 64, 0, 0, 160, 64,
  ];
  expect(Array.from(writeSafetensors({ "attn.0": tensor("float32", [1, 2, 3], [0, 1, 2, 3, 4, 5]) }))).toEqual(want);
});

const dtypes = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "float8e4m3fn"] as const;
const anyTensor = fc.tuple(fc.constantFrom(...dtypes), fc.array(fc.nat(4), { maxLength: 4 })).chain(([dtype, shape]) => {
  const n = byteLengthOf(dtype, shape);
  return fc.uint8Array({ minLength: n, maxLength: n }).map((data): Tensor => ({ dtype: dtype as DType, shape, data }));
});

test("written and read again, whatever the order given", () => {
  const names = fc.string({ maxLength: 10 }).filter((n) => n !== "__metadata__");
  fc.assert(
    fc.property(fc.uniqueArray(fc.tuple(names, anyTensor), { selector: ([n]) => n }), (entries) => {
      const bytes = writeSafetensors(new Map(entries), { format: "pt", a: "é" });
      const back = readSafetensors(bytes);
      expect([...back.tensors].sort(byName)).toEqual([...entries].sort(byName));
      expect(Object.fromEntries(back.metadata)).toEqual({ format: "pt", a: "é" });
      expect(writeSafetensors(new Map(entries.reverse()), { a: "é", format: "pt" })).toEqual(bytes);
      // Wide elements first: each tensor starts at a multiple of its element's width.
      for (const [, t] of back.tensors) expect((t.data as Uint8Array).byteOffset % byteLengthOf(t.dtype, [1])).toBe(0);
    }),
    { numRuns: 40 },
  );
});
const byName = ([a]: [string, Tensor], [b]: [string, Tensor]) => (a < b ? -1 : 1);

test("reads what another writer leaves unsorted and unaligned", () => {
  const bytes = file({ b: { dtype: "U8", shape: [1], data_offsets: [0, 1] }, a: f32([1], 1, 5) }, 5);
  bytes.set([9, 0, 0, 128, 63], bytes.length - 5);
  const { tensors } = readSafetensors(bytes);
  expect([...tensors.keys()]).toEqual(["b", "a"]);
  expect([...numbersOf(tensors.get("a")!)]).toEqual([1]);
});

test.each([
  ["a header of 2^63 bytes", new Uint8Array([0, 0, 0, 0, 0, 0, 0, 128, 123, 125]), "the limit is 100000000"],
  ["a header longer than the file", new Uint8Array([99, 0, 0, 0, 0, 0, 0, 0, 123, 125]), "but the file ends after 2"],
  ["no JSON", file("{hello"), "not JSON"],
  ["an array", file([]), "not a JSON object"],
  ["white space first (the reference refuses it)", file(" {}"), "not a JSON object"],
  ["deep nesting", file(`{"a":${"[".repeat(100_000)}`), "not JSON"],
  ["an unknown dtype", file({ a: { ...f32([1], 0, 4), dtype: "F128" } }, 4), 'has dtype "F128"'],
  ["a dtype of Object's", file({ a: { ...f32([1], 0, 4), dtype: "constructor" } }, 4), 'has dtype "constructor"'],
  ["overlap", file({ a: f32([2], 0, 8), b: f32([1], 4, 8) }, 8), "starts at byte 4, where 8 would be right"],
  ["a gap", file({ a: f32([1], 0, 4), b: f32([1], 8, 12) }, 12), "starts at byte 8, where 4 would be right"],
  ["bytes left over", file({ a: f32([1], 0, 4) }, 8), "holds 8 bytes of tensors; its header describes 4"],
  ["offsets past the end", file({ a: f32([1000], 0, 4000) }, 4), "claims bytes 0 to 4000 of 4"],
  ["offsets unlike the shape", file({ a: f32([3], 0, 4) }, 4), "float32[3] takes 12"],
  ["offsets backwards", file({ a: f32([1], 4, 0) }, 4), "claims bytes 4 to 0"],
  ["a fractional size", file({ a: f32([0.5], 0, 2) }, 2), "no proper shape"],
  ["a negative size", file({ a: f32([-1], 0, 4) }, 4), "no proper shape"],
  ["sizes beyond counting", file({ a: f32([2 ** 40, 2 ** 40, 0], 0, 0) }), "claims the shape"],
  ["metadata that is not text", file({ __metadata__: { a: 1 } }), "__metadata__ that is not text"],
])("refuses %s", (_, bytes, message) => {
  expect(() => readSafetensors(bytes)).toThrow(message);
});
