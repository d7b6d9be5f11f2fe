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
  const runs = <A extends { subarray(from: number, to: number): A }>(from: A, set: (part: A, at: number) => void, width: number) => {
    let at = 0;
    for (let o = 0; o < outer; o++)
      for (let i = 0; i < indices.length; i++, at += width) {
        const start = (o * size + indices[i]!) * width;
        set(from.subarray(start, start + width), at);
      }
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
    const from = numbersOf(t) as Float32Array;
    const to = new Float32Array(sizeOf(shape));
    runs(from, (part, at) => to.set(part, at), inner);
    return tensor(t.dtype, shape, to);
  }
  const width = (inner * bits) / 8;
  const data = new Uint8Array((sizeOf(shape) * bits) / 8);
  runs(bytesOf(t), (part, at) => data.set(part, at), width);
  return { dtype: t.dtype, shape, data };
}
