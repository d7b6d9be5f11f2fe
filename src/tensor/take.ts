/** Positions of an axis, picked by number. */
import { dtypes, sizeOf } from "./dtype.ts";
import { Fault } from "./fault.ts";
import { bytesOf, numbersOf, type Tensor, tensor } from "./tensor.ts";

/** The slices of `t` at `indices` (which may repeat) along `axis`, in that order. */
export function take(t: Tensor, axis: number, indices: ArrayLike<number>): Tensor {
  const size = t.shape[axis];
  if (size === undefined) throw new Fault("take", `[${t.shape}] has no axis ${axis}`);
  const shape = t.shape.map((d, i) => (i === axis ? indices.length : d));
  const outer = sizeOf(t.shape.slice(0, axis));
  const inner = sizeOf(t.shape.slice(axis + 1));
  const spans = spansOf(indices);
  const copy = <A extends Uint8Array | Float32Array>(from: A, to: A, width: number): A => {
    let at = 0;
    for (let o = 0; o < outer; o++)
      for (const [first, count] of spans) {
        const start = (o * size + first) * width;
        const length = count * width;
        // A call costs more than a few elements do.
        if (length < 64) for (let i = 0; i < length; i++) to[at + i] = from[start + i]!;
        else to.set(from.subarray(start, start + length), at);
        at += length;
      }
    return to;
  };
  if (t.strings) {
    const strings = Array.from({ length: sizeOf(shape) }, (_, at) => {
      const [row, k] = [Math.floor(at / inner), at % inner];
      const o = Math.floor(row / indices.length);
      return t.strings![(o * size + indices[row % indices.length]!) * inner + k]!;
    });
    return { dtype: t.dtype, shape, data: new Uint8Array(0), strings };
  }
  const { bits } = dtypes[t.dtype];
  if (bits < 8) {
    return tensor(t.dtype, shape, copy(numbersOf(t) as Float32Array, new Float32Array(sizeOf(shape)), inner));
  }
  const data = copy(bytesOf(t), new Uint8Array((sizeOf(shape) * bits) / 8), (inner * bits) / 8);
  return { dtype: t.dtype, shape, data };
}

/** Indices as runs of neighbours: [first, how many]. */
function spansOf(indices: ArrayLike<number>): [number, number][] {
  const out: [number, number][] = [];
  for (let i = 0; i < indices.length; i++) {
    const last = out.at(-1);
    if (last && last[0] + last[1] === indices[i]) last[1]++;
    else out.push([indices[i]!, 1]);
  }
  return out;
}
