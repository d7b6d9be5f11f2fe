/** Codes as the runtime's operators read them, bit for bit. */
import { Fault } from "../../tensor/fault.ts";
import { type BlockCodes, groupsOf } from "./blocks.ts";

/** Widths that kernels exist for. */
export type Width = 2 | 4 | 8;

/**
 * A matrix [rows = output channels, columns = inputs] in blocks as com.microsoft's MatMulNBits holds it (its B, and for whole groups the
 * rows of GatherBlockQuantized in uint8): w ≈ (code − zero point)·scale.
 */
export interface PackedBlocks {
  readonly rows: number;
  readonly columns: number;
  readonly groupSize: number;
  readonly bits: Width;
  /** [rows, groups, groupSize·bits/8]: codes along the columns, the first in the low bits, zeros behind a short last group. */
  readonly packed: Uint8Array<ArrayBuffer>;
  /** [rows, groups]. */
  readonly scales: Float32Array<ArrayBuffer>;
  /** [rows, groups], one a byte; null: 2^(bits−1). */
  readonly zeroPoints: Uint8Array<ArrayBuffer> | null;
}

/** The width codes are stored in: 3 bits in 4, and 1 bit in 2. */
export function widthOf(bits: BlockCodes["bits"]): Width {
  return bits === 8 ? 8 : bits > 2 ? 4 : 2;
}

/** What is added to codes so that their implicit zero point is that of the width they are stored in. */
export function shiftOf(bits: BlockCodes["bits"], zeroPoints: unknown): number {
  return zeroPoints ? 0 : 2 ** (widthOf(bits) - 1) - 2 ** (bits - 1);
}

/** MatMulNBits' layout of codes. Errors: groups that are no power of two from 16. */
export function packBlocks(c: BlockCodes): PackedBlocks {
  const { rows, columns, groupSize, codes } = c;
  if (groupSize < 16 || groupSize & (groupSize - 1))
    throw new Fault("packing", `MatMulNBits takes blocks of 16, 32, 64, … columns; got ${groupSize}`);
  const bits = widthOf(c.bits);
  const shift = shiftOf(c.bits, c.zeroPoints);
  const per = 8 / bits;
  const rowBytes = (groupsOf(columns, groupSize) * groupSize) / per;
  const packed = new Uint8Array(rows * rowBytes);
  for (let r = 0; r < rows; r++) {
    for (let k = 0; k < columns; k++)
      packed[r * rowBytes + Math.floor(k / per)]! |= (codes[r * columns + k]! + shift) << ((k % per) * bits);
  }
  return { rows, columns, groupSize, bits, packed, scales: c.scales, zeroPoints: c.zeroPoints };
}

/** The codes of {@link packBlocks}, one a byte, in their stored width. */
export function unpackBlocks(p: PackedBlocks): BlockCodes {
  const { rows, columns, groupSize, bits, packed, scales, zeroPoints } = p;
  const per = 8 / bits;
  const mask = 2 ** bits - 1;
  const rowBytes = packed.length / rows;
  const codes = new Uint8Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    for (let k = 0; k < columns; k++) codes[r * columns + k] = (packed[r * rowBytes + Math.floor(k / per)]! >> ((k % per) * bits)) & mask;
  }
  return { rows, columns, groupSize, bits, codes, scales, zeroPoints };
}

/** Numbers of `bits` bits, rows of `columns`, each row packed for itself from the low bits: zero points of MatMulNBits and GatherBlockQuantized. */
export function packRows(values: Uint8Array, rows: number, columns: number, bits: Width): Uint8Array<ArrayBuffer> {
  const per = 8 / bits;
  const rowBytes = Math.ceil(columns / per);
  const out = new Uint8Array(rows * rowBytes);
  for (let r = 0; r < rows; r++) {
    for (let i = 0; i < columns; i++) out[r * rowBytes + Math.floor(i / per)]! |= values[r * columns + i]! << ((i % per) * bits);
  }
  return out;
}

/** Rows of GatherBlockQuantized in uint8, [rows, columns·bits/8]; null where a row is no whole number of bytes. */
export function gatherRows(p: PackedBlocks): Uint8Array<ArrayBuffer> | null {
  const { rows, columns, bits, packed } = p;
  const rowBytes = (columns * bits) / 8;
  if (!Number.isInteger(rowBytes)) return null;
  const wide = packed.length / rows;
  if (wide === rowBytes) return packed;
  const out = new Uint8Array(rows * rowBytes);
  for (let r = 0; r < rows; r++) out.set(packed.subarray(r * wide, r * wide + rowBytes), r * rowBytes);
  return out;
}

/** Where element (row, column) of a matrix lies in a tensor [outer, columns, inner], rows = outer·inner: a weight with its inputs on one axis. */
export interface Layout {
  readonly outer: number;
  readonly inner: number;
}

/** Elements of a matrix [rows, columns], in the order of a tensor [outer, columns, inner]. */
export function arranged<T extends Uint8Array | Float32Array>(values: T, columns: number, { outer, inner }: Layout): T {
  if (inner === 1) return values;
  const out = values.slice() as T;
  for (let o = 0, to = 0; o < outer; o++) {
    for (let k = 0; k < columns; k++) for (let i = 0; i < inner; i++) out[to++] = values[(o * inner + i) * columns + k]!;
  }
  return out;
}

/** Codes as the bytes of an ONNX tensor of 2-, 4- or 8-bit integers; signed ones are two's complements of code − 2^(bits−1). */
export function packElements(codes: Uint8Array, bits: Width, signed: boolean): Uint8Array<ArrayBuffer> {
  const per = 8 / bits;
  const flip = signed ? 2 ** (bits - 1) : 0;
  const out = new Uint8Array(Math.ceil(codes.length / per));
  for (let i = 0; i < codes.length; i++) out[Math.floor(i / per)]! |= (codes[i]! ^ flip) << ((i % per) * bits);
  return out;
}
