/** A stored weight as a matrix [rows = output channels, columns = inputs], read in slabs. */
import { smallFloats } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { readInto, type Tensor } from "../tensor/tensor.ts";

export interface WeightMatrix {
  /** float32 or float16, of rows·columns elements. */
  readonly tensor: Tensor;
  /** Stored as [columns, rows]: the B of a MatMul. */
  readonly turned: boolean;
  readonly rows: number;
  readonly columns: number;
}

/** Fills `into` with elements `start` to start + into.length of the stored tensor. `room`: bytes to read float16 into. */
export function readElements({ dtype, ...t }: Tensor, start: number, into: Float32Array, room: (bytes: number) => Uint8Array): void {
  if (dtype === "float32") {
    readInto({ dtype, ...t }, start * 4, new Uint8Array(into.buffer, into.byteOffset, into.byteLength));
    return;
  }
  const table = smallFloats(dtype);
  if (!table) throw new Fault("weights", `elements of type ${dtype} are not read; float32 or float16 would be right`);
  const bytes = room(into.length * 2);
  readInto({ dtype, ...t }, start * 2, bytes);
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, into.length);
  for (let i = 0; i < into.length; i++) into[i] = table[halves[i]!]!;
}

/** Elements read at a time. */
const slab = 1 << 22;
/** Side of the squares that a turned matrix is turned back by. */
const tile = 32;

/** All elements as float32, row-major [rows, columns]: a copy. */
export function elementsOf({ tensor, turned, rows, columns }: WeightMatrix): Float32Array<ArrayBuffer> {
  const out = new Float32Array(rows * columns);
  if (!turned) {
    readElements(tensor, 0, out, (bytes) => new Uint8Array(bytes));
    return out;
  }
  const deep = Math.min(columns, Math.max(1, Math.floor(slab / rows)));
  const buffer = new Float32Array(deep * rows);
  const halves = new Uint8Array(tensor.dtype === "float32" ? 0 : 2 * buffer.length);
  for (let from = 0; from < columns; from += deep) {
    const n = Math.min(deep, columns - from);
    readElements(tensor, from * rows, buffer.subarray(0, n * rows), (bytes) => halves.subarray(0, bytes));
    for (let r0 = 0; r0 < rows; r0 += tile) {
      const r1 = Math.min(rows, r0 + tile);
      for (let k0 = 0; k0 < n; k0 += tile) {
        const k1 = Math.min(n, k0 + tile);
        for (let r = r0; r < r1; r++) for (let k = k0; k < k1; k++) out[r * columns + from + k] = buffer[k * rows + r]!;
      }
    }
  }
  return out;
}
