/** How many numbers a model has learned, and how many of them are not zero. */
import type { Model, Node } from "../ir/graph.ts";
import { constantOf, type Stored, stored } from "../ir/walk.ts";
import { dtypes, sizeOf } from "../tensor/dtype.ts";
import { numbersOf, type Tensor } from "../tensor/tensor.ts";

/** Where ops of quantized models take integer weights, their zero points, and scales and zero points altogether (which are no parameters). */
const quantized: Readonly<Record<string, { readonly weight: number; readonly zeroPoint: number; readonly side: readonly number[] }>> = {
  DequantizeLinear: { weight: 0, zeroPoint: 2, side: [1, 2] },
  QuantizeLinear: { weight: 0, zeroPoint: -1, side: [1, 2] },
  DynamicQuantizeLinear: { weight: 0, zeroPoint: -1, side: [] },
  MatMulInteger: { weight: 1, zeroPoint: 3, side: [2, 3] },
  ConvInteger: { weight: 1, zeroPoint: 3, side: [2, 3] },
  QLinearConv: { weight: 3, zeroPoint: 5, side: [1, 2, 4, 5, 6, 7] },
  QLinearMatMul: { weight: 3, zeroPoint: 5, side: [1, 2, 4, 5, 6, 7] },
  DynamicQuantizeMatMul: { weight: 1, zeroPoint: 3, side: [2, 3] },
  MatMulIntegerToFloat: { weight: 1, zeroPoint: 5, side: [2, 3, 4, 5] },
  QGemm: { weight: 3, zeroPoint: 5, side: [1, 2, 4, 5, 7, 8] },
  MatMulNBits: { weight: 1, zeroPoint: 3, side: [2, 3, 4] },
};

/**
 * Parameters a stored tensor holds: its elements; for MatMulNBits, whose codes are packed in bytes, its weights. None for strings, booleans,
 * 64-bit integers (shapes, axes, indices) and scales and zero points of quantization.
 */
export function parametersOf(entry: Stored): number {
  const { tensor: t } = entry;
  const { kind, bits } = dtypes[t.dtype];
  if (!(kind === "f" || kind === "c" || ((kind === "i" || kind === "u") && bits < 64))) return 0;
  if (entry.readers.length && entry.readers.every((n) => quantized[n.opType]?.side.includes(inputOf(n, entry)))) return 0;
  const packed = packedBy(entry);
  return packed ? (packed.int("N") ?? 0) * (packed.int("K") ?? 0) : sizeOf(t.shape);
}

/** Parameters, and those of them that are not zero: for integer weights, whose code is not the zero point. */
export function countParameters(model: Model): { parameters: number; nonZero: number } {
  let parameters = 0;
  let nonZero = 0;
  for (const entry of stored(model.graph)) {
    const n = parametersOf(entry);
    parameters += n;
    if (n) nonZero += nonZeroOf(entry, n);
  }
  return { parameters, nonZero };
}

const inputOf = (n: Node, entry: Stored) => n.inputs.findIndex((v) => v?.name === entry.name);

function packedBy(entry: Stored): Node | undefined {
  return entry.readers.find((n) => n.opType === "MatMulNBits" && inputOf(n, entry) === 1);
}

function nonZeroOf(entry: Stored, elements: number): number {
  const { tensor: t } = entry;
  if (dtypes[t.dtype].kind === "c") return elements;
  const packed = packedBy(entry);
  if (packed) return nonZeroPacked(t, packed);
  const values = numbersOf(t);
  const reader = entry.readers.find((n) => quantized[n.opType]?.weight === inputOf(n, entry));
  const zero = reader && constantOf(reader.inputs[quantized[reader.opType]!.zeroPoint]);
  let count = 0;
  if (!zero) {
    for (let i = 0; i < values.length; i++) if (values[i] !== 0) count++;
    return count;
  }
  const zeros = numbersOf(zero);
  const at = zeroPointAt(t.shape, zero.shape, reader);
  for (let i = 0; i < values.length; i++) if (values[i] !== zeros[at(i)]) count++;
  return count;
}

/** Element index → index of its zero point: one for all, one for each index of an axis, or one for each block of an axis. */
function zeroPointAt(shape: readonly number[], zero: readonly number[], reader: Node): (i: number) => number {
  if (sizeOf(zero) === 1) return () => 0;
  // Integer products have their output channels last (MatMul) or first (Conv); DequantizeLinear says.
  const declared = reader.int("axis") ?? (reader.opType === "DequantizeLinear" ? 1 : reader.opType.includes("Conv") ? 0 : -1);
  const axis = declared < 0 ? declared + shape.length : declared;
  const inner = sizeOf(shape.slice(axis + 1));
  const k = shape[axis] ?? 1;
  if (zero.length < shape.length || shape.length === 1) return (i) => Math.floor(i / inner) % k;
  const blocks = zero[axis]!;
  const size = reader.int("block_size") || Math.ceil(k / blocks);
  return (i) => (Math.floor(i / (inner * k)) * blocks + Math.floor((Math.floor(i / inner) % k) / size)) * inner + (i % inner);
}

/** MatMulNBits: [N, blocks, bytes of a block] codes, lowest bits first; zero points packed alike by row, 2^(bits−1) where there are none. */
function nonZeroPacked(t: Tensor, node: Node): number {
  const bits = node.int("bits") ?? 4;
  const size = node.int("block_size") ?? 32;
  const [n, k] = [node.int("N") ?? 0, node.int("K") ?? 0];
  const blocks = Math.ceil(k / size);
  const codes = numbersOf(t);
  const zero = constantOf(node.inputs[3]);
  const zeros = zero && numbersOf(zero);
  const per = 8 / bits;
  const code = (from: ArrayLike<number>, row: number, perRow: number, i: number) =>
    (from[row * perRow + Math.floor(i / per)]! >> ((i % per) * bits)) & (2 ** bits - 1);
  const bytesPerRow = (blocks * size) / per;
  let count = 0;
  for (let row = 0; row < n; row++) {
    for (let i = 0; i < k; i++) {
      const block = Math.floor(i / size);
      const z = !zeros
        ? 2 ** (bits - 1)
        : zero.dtype === "uint8"
          ? code(zeros, row, Math.ceil(blocks / per), block)
          : zeros[row * blocks + block]!;
      if (code(codes, row, bytesPerRow, i) !== z) count++;
    }
  }
  return count;
}
