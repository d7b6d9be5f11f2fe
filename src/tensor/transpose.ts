/** Axes permuted, in memory. */
import { dtypes } from "./dtype.ts";
import { Fault } from "./fault.ts";
import { type Tensor, type TypedArray, valuesOf, wrap } from "./tensor.ts";

/** The tensor with its axes in the order of `perm` (default: reversed), as ONNX's Transpose. Errors: elements smaller than a byte, or strings. */
export function transpose(t: Tensor, perm: readonly number[] = t.shape.map((_, i) => t.shape.length - 1 - i)): Tensor {
  if (t.strings || dtypes[t.dtype].bits < 8 || dtypes[t.dtype].kind === "c")
    throw new Fault("transpose", `elements of type ${t.dtype} cannot be permuted`);
  const from = valuesOf(t);
  const shape = perm.map((p) => t.shape[p]!);
  const strides = perm.map((p) => t.shape.slice(p + 1).reduce((a, d) => a * d, 1));
  const to = new (from.constructor as new (n: number) => TypedArray)(from.length);
  const index = new Array<number>(shape.length).fill(0);
  const last = shape.length - 1;
  for (let at = 0, start = 0; at < to.length; ) {
    const [n, stride] = last < 0 ? [1, 0] : [shape[last]!, strides[last]!];
    for (let i = 0; i < n; i++) to[at++] = from[start + i * stride]!;
    let axis = last - 1;
    for (; axis >= 0; axis--) {
      start += strides[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      start -= index[axis]! * strides[axis]!;
      index[axis] = 0;
    }
    if (axis < 0) break;
  }
  return wrap(t.dtype, shape, to);
}
