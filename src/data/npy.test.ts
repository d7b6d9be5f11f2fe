import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { byteLengthOf, type DType } from "../tensor/dtype.ts";
import { bytesOf, numbersOf } from "../tensor/tensor.ts";
import { readNpy, writeNpy } from "./npy.ts";
import { readNpz, writeNpz } from "./npz.ts";
import { writeZip } from "./zip.ts";

const fixtures = join(import.meta.dirname, "../../test/reference/fixtures");
const expected: Record<string, { dtype: DType; shape: number[]; values: number[] }> = JSON.parse(
  readFileSync(join(fixtures, "arrays.json"), "utf8"),
);

test.each(["arrays.npz", "packed.npz"])("%s: every type, byte order and memory order as NumPy wrote it", (file) => {
  const arrays = readNpz(readFileSync(join(fixtures, file)));
  expect(Object.keys(arrays)).toEqual(Object.keys(expected));
  for (const [name, t] of Object.entries(arrays)) {
    const want = expected[name]!;
    expect([name, t.dtype, t.shape]).toEqual([name, want.dtype, want.shape]);
    const bytes = bytesOf(t);
    const values = t.dtype === "complex128" ? new Float64Array(bytes.slice().buffer) : numbersOf(t);
    expect(Array.from(values), name).toEqual(want.values);
  }
});

test.each([2, 3])("version %i", (v) => {
  expect(Array.from(numbersOf(readNpy(readFileSync(join(fixtures, `v${v}.npy`)))))).toEqual([0, 1, 2, 3, 4, 5]);
});

test("files are byte for byte NumPy's own", () => {
  const arrays = readNpz(readFileSync(join(fixtures, "arrays.npz")));
  const file = readFileSync(join(fixtures, "arrays.npz"));
  // C-ordered little-endian members stand in NumPy's file as they are; the others come back in that form.
  for (const name of ["i1le", "b1le", "u4le", "i8le", "f2le", "f4le", "f8le", "scalar", "vector", "empty"])
    expect(file.includes(Buffer.from(writeNpy(arrays[name]!))), name).toBe(true);
});

const dtypes = [
  "float32",
  "float64",
  "float16",
  "int8",
  "uint8",
  "int16",
  "uint16",
  "int32",
  "uint32",
  "int64",
  "uint64",
  "bool",
  "complex64",
] as const;
const anyTensor = fc
  .tuple(fc.constantFrom(...dtypes), fc.array(fc.nat(4), { maxLength: 5 }))
  .chain(([dtype, shape]) =>
    fc
      .uint8Array({ minLength: byteLengthOf(dtype, shape), maxLength: byteLengthOf(dtype, shape) })
      .map((data) => ({ dtype: dtype as DType, shape, data: data as Uint8Array })),
  );

test("written and read again", () => {
  fc.assert(
    fc.property(anyTensor, (t) => {
      expect(readNpy(writeNpy(t))).toEqual(t);
    }),
  );
  const names = fc.string({ minLength: 1, maxLength: 8 }).filter((n) => !n.endsWith("/") && n !== "__proto__" && !/^\d+$/.test(n));
  fc.assert(
    fc.property(fc.dictionary(names, anyTensor, { noNullPrototype: true }), fc.boolean(), (arrays, compress) => {
      const bytes = writeNpz(arrays, { compress });
      expect(readNpz(bytes)).toEqual(arrays);
      expect(writeNpz(arrays, { compress })).toEqual(bytes);
    }),
    { numRuns: 40 },
  );
});

function npy(header: string, data: Uint8Array = new Uint8Array(0), version = 1) {
  const text = new TextEncoder().encode(header);
  const length =
    version === 1 ? [text.length & 255, text.length >> 8] : [text.length & 255, (text.length >> 8) & 255, text.length >> 16, 0];
  return new Uint8Array([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, version, 0, ...length, ...text, ...data]);
}
const described = (descr: string, shape: string) => npy(`{'descr': ${descr}, 'fortran_order': False, 'shape': ${shape}, }\n`);

test.each([
  ["a shape without data", described("'<f4'", "(1000000000, 1000)"), "holds 0 bytes of data; float32[1000000000,1000] takes 4000000000000"],
  ["a shape beyond all files", described("'<f4'", "(99999999999999999999, 9)"), "more elements than any file holds"],
  ["a large axis beside an empty one", described("'<f4'", "(0, 9007199254740991)"), "more elements than any file holds"],
  ["too many dimensions", described("'<f4'", `(${"1, ".repeat(65)})`), "claims 65 dimensions; the limit is 64"],
  ["a negative size", described("'<f4'", "(-1,)"), "no array description"],
  ["objects", described("'|O'", "(1,)"), "Python objects"],
  ["text", described("'<U3'", "(1,)"), "elements of type <U3"],
  ["records", described("[('a', '<f4')]", "(1,)"), "records of several fields"],
  ["a key too many", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (), 'x': True}"), "no array description"],
  ["code", npy("{'descr': __import__('os'), 'fortran_order': False, 'shape': ()}"), "no array description"],
  [
    "a header of 16 MB that is not there",
    new Uint8Array([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 2, 0, 255, 255, 255, 0]),
    "claims a header of 16777215 bytes",
  ],
  ["version 9", npy("{}", undefined, 9), "is .npy version 9"],
  ["text instead", new TextEncoder().encode("hello, this is no array"), "is not an .npy file"],
])("refuses %s", (_, bytes, message) => {
  expect(() => readNpy(bytes)).toThrow(message);
});

test("refuses what the format lacks", () => {
  expect(() => writeNpy({ dtype: "bfloat16", shape: [1], data: new Uint8Array(2) })).toThrow("no element type bfloat16");
  expect(() => readNpz(writeZip([["notes.txt", new Uint8Array(3)]]))).toThrow('holds "notes.txt"; only .npy members would be right');
});
