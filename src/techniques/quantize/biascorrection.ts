/** Bias correction: rounding shifts the mean of a layer's outputs; its bias takes that back. */
import { Fault } from "../../tensor/fault.ts";

/**
 * What to add to the bias: (w − ŵ)·E[x] by row, for weights [rows, columns] and the mean input of each column (Nagel et al. 2019, section
 * 4.2). A Conv has a column for every input channel and place of the kernel, and a mean for every channel: `mean` then has fewer
 * elements, each of which serves columns/mean.length columns in a row.
 */
export function expectedCorrection(w: Float32Array, approximation: Float32Array, rows: number, mean: Float32Array): Float32Array {
  const columns = w.length / rows;
  const each = columns / mean.length;
  if (approximation.length !== w.length || !Number.isInteger(each))
    throw new Fault("bias correction", `means of ${columns} columns or of a part of them are wanted; got ${mean.length}`);
  return Float32Array.from({ length: rows }, (_, r) => {
    let sum = 0;
    for (let c = 0, at = r * columns; c < columns; c++, at++) sum += (w[at]! - approximation[at]!) * mean[Math.floor(c / each)]!;
    return sum;
  });
}

/** What to add to the bias: E[y] − E[ŷ] by channel, the mean outputs measured on the same data before and after. */
export function measuredCorrection(before: Float32Array, after: Float32Array): Float32Array {
  if (before.length !== after.length) throw new Fault("bias correction", `means of ${before.length} channels; got ${after.length}`);
  return before.map((y, i) => y - after[i]!);
}
