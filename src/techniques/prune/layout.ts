/** A stored weight as the matrix [rows = outputs, columns = inputs] that patterns are about. */
import { sizeOf } from "../../tensor/dtype.ts";
import { reshape, type Tensor, tensor, valuesOf } from "../../tensor/tensor.ts";
import { transpose } from "../../tensor/transpose.ts";
import { type Weight, weightSeenBy } from "../../transform/weights.ts";

export interface Layout {
  readonly rows: number;
  readonly columns: number;
  /** Where in the stored weight each element of the matrix lies, row-major; null: in the same place. */
  readonly order: Int32Array | null;
}

/**
 * The layout as the weight's first reader sees it, Transpose, Reshape and such between included. Inputs of a Conv are channels × window, in
 * the stored order; of a ConvTranspose the rows are output channels × window; a batch of matrices has its rows one matrix after the other.
 * null: what lies between depends on what is only known at run time.
 */
export function layoutOf({ value, uses }: Weight): Layout | null {
  const use = uses[0]!;
  const { shape } = value.data!;
  const n = sizeOf(shape);
  const places: Tensor = tensor(
    "int32",
    shape,
    Int32Array.from({ length: n }, (_, i) => i),
  );
  const seen = weightSeenBy({ ...use, through: use.through.filter((t) => t.opType !== "Cast") }, { data: places });
  if (!seen || sizeOf(seen.shape) !== n) return null;
  const ndim = seen.shape.length;
  if (ndim < 2) return { rows: 1, columns: n, order: null };
  const { node } = use;
  let matrix: Tensor;
  if (node.opType === "ConvTranspose") matrix = transpose(reshape(seen, [seen.shape[0]!, n / seen.shape[0]!]));
  else if (node.opType === "Conv") matrix = reshape(seen, [seen.shape[0]!, n / seen.shape[0]!]);
  else {
    // What a MatMul reads is [… inputs, outputs], a Gemm with transB [outputs, inputs].
    const perm = [...seen.shape.keys()];
    const turned = node.int("transB") ? seen : transpose(seen, [...perm.slice(0, -2), ndim - 1, ndim - 2]);
    matrix = reshape(turned, [n / turned.shape.at(-1)!, turned.shape.at(-1)!]);
  }
  const order = valuesOf(matrix) as Int32Array;
  return { rows: matrix.shape[0]!, columns: matrix.shape[1]!, order: order.every((at, i) => at === i) ? null : order };
}

/** From the stored layout to the matrix. */
export function gathered<A extends Float32Array | Uint8Array>(stored: A, { order }: Layout): A {
  return order ? (stored.map((_, i) => stored[order[i]!]!) as A) : stored;
}

/** From the matrix to the stored layout. */
export function scattered<A extends Float32Array | Uint8Array>(matrix: A, { order }: Layout): A {
  if (!order) return matrix;
  const out = matrix.slice() as A;
  order.forEach((at, i) => {
    out[at] = matrix[i]!;
  });
  return out;
}
