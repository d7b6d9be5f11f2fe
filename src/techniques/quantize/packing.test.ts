import { expect, test } from "vitest";
import type { BlockCodes } from "./blocks.ts";
import { arranged, gatherRows, packBlocks, packElements, packRows, unpackBlocks } from "./packing.ts";

const codesOf = (bits: BlockCodes["bits"], rows: number, columns: number, groupSize: number, zeroPoints = false): BlockCodes => {
  const groups = Math.ceil(columns / groupSize);
  return {
    rows,
    columns,
    groupSize,
    bits,
    codes: Uint8Array.from({ length: rows * columns }, (_, i) => (bits === 1 ? 2 * (i % 2) : (i * 7 + 3) % 2 ** bits)),
    scales: new Float32Array(rows * groups).fill(1),
    zeroPoints: zeroPoints ? new Uint8Array(rows * groups).map((_, i) => i % 2 ** bits) : null,
  };
};

test("4 bits: the first code in the low half; zeros behind the last column; a row begins its own block", () => {
  const { packed } = packBlocks({ ...codesOf(4, 2, 17, 16), codes: Uint8Array.from({ length: 34 }, (_, i) => i % 16) });
  expect(packed.length).toBe(2 * 2 * 8);
  expect([...packed.subarray(0, 10)]).toEqual([0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe, 0x00, 0]);
  expect([...packed.subarray(16, 18)]).toEqual([0x21, 0x43]);
});

test("2 and 8 bits; 3 bits ride in 4, and 1 in 2, with the zero point of those", () => {
  const of = (bits: BlockCodes["bits"], first: readonly number[]) =>
    packBlocks({ ...codesOf(bits, 1, 16, 16), codes: Uint8Array.from({ length: 16 }, (_, i) => first[i % first.length]!) });
  expect(of(2, [0, 1, 2, 3]).packed[0]).toBe(0b11100100);
  expect([...of(8, [200, 7]).packed.subarray(0, 3)]).toEqual([200, 7, 200]);
  expect(of(3, [0, 7]).packed[0]).toBe(0xb4);
  expect(of(1, [0, 2]).packed[0]).toBe(0b11011101);
  expect([of(3, [0]).bits, of(1, [0]).bits]).toEqual([4, 2]);
  // With zero points of their own the codes stay as they are.
  expect(packBlocks({ ...codesOf(3, 1, 16, 16, true), codes: new Uint8Array(16).fill(7) }).packed[0]).toBe(0x77);
});

test.each([2, 4, 8] as const)("%i bits unpacked again", (bits) => {
  for (const columns of [16, 40, 17]) {
    const c = codesOf(bits, 3, columns, 16, true);
    expect(unpackBlocks(packBlocks(c))).toEqual(c);
  }
});

test("blocks that no operator takes are refused", () => {
  for (const size of [8, 24]) expect(() => packBlocks(codesOf(4, 1, 64, size))).toThrow(/blocks of 16, 32, 64, … columns; got/);
});

test("zero points: each row from a new byte", () => {
  expect([...packRows(Uint8Array.of(1, 2, 3, 4, 5, 6), 2, 3, 4)]).toEqual([0x21, 0x03, 0x54, 0x06]);
  expect([...packRows(Uint8Array.of(1, 2, 3, 0, 1), 1, 5, 2)]).toEqual([0b00111001, 1]);
});

test("rows of a table lose what pads the last block, or have no form", () => {
  const p = packBlocks(codesOf(4, 2, 18, 16));
  expect([...gatherRows(p)!]).toEqual([...p.packed.subarray(0, 9), ...p.packed.subarray(16, 25)]);
  expect(gatherRows(packBlocks(codesOf(4, 2, 17, 16)))).toBeNull();
});

test("signed elements are two's complements; an order of axes", () => {
  expect([...packElements(Uint8Array.of(0, 8, 15), 4, true)]).toEqual([0x08, 0x07]);
  expect([...packElements(Uint8Array.of(0, 1, 2, 3, 2), 2, true)]).toEqual([0b01001110, 0]);
  expect([...packElements(Uint8Array.of(0, 255), 8, true)]).toEqual([128, 127]);
  // Rows (o, i), columns k → [o, k, i].
  expect([...arranged(Uint8Array.of(0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32), 3, { outer: 2, inner: 2 })]).toEqual([
    0, 10, 1, 11, 2, 12, 20, 30, 21, 31, 22, 32,
  ]);
});
