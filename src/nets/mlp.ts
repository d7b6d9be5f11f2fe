/** Multi-layer perceptrons. */
import type { Model } from "../ir/graph.ts";
import { Fault } from "../tensor/fault.ts";
import { net } from "./net.ts";

export interface MlpOptions {
  /** Units of the input, of each hidden layer and of the output: [784, 300, 100, 10]. */
  readonly sizes: readonly number[];
  readonly seed?: number;
  /** Share of each hidden layer's units, and of the inputs, that training leaves out (a Dropout node: nothing in inference). */
  readonly dropout?: number;
  readonly inputDropout?: number;
  /** BatchNormalization bn1, bn2 … behind every layer, the last one too, in the place of biases: train it with `batchStatistics`. */
  readonly batchNorm?: boolean;
}

/** Input "x" float32 [batch, in]; Relu after every hidden layer; output "logits" [batch, out]. Layers are named fc1, fc2 … */
export function mlp({ sizes, seed = 0, dropout = 0, inputDropout = 0, batchNorm = false }: MlpOptions): Model {
  const last = sizes.length - 1;
  if (last < 1 || sizes.some((s) => !(Number.isInteger(s) && s >= 1)))
    throw new Fault("mlp", `sizes must be two or more whole numbers of units; got [${sizes}]`);
  const n = net("mlp", seed);
  let x = n.model.graph.input("x", "float32", ["batch", sizes[0]!]);
  x = n.dropout("drop0", x, inputDropout);
  for (let i = 1; i <= last; i++) {
    x = n.dense(`fc${i}`, x, [sizes[i - 1]!, sizes[i]!], i < last ? "he" : "glorot", !batchNorm);
    if (batchNorm) x = n.batchNorm(`bn${i}`, x, sizes[i]!);
    if (i < last) x = n.dropout(`drop${i}`, n.relu(`relu${i}`, x), dropout);
  }
  return n.done(x, ["batch", sizes[last]!]);
}

/** LeNet-300-100 (LeCun et al. 1998): 266,610 parameters on 28×28 digits. */
export function lenet300(options: Omit<MlpOptions, "sizes"> = {}): Model {
  return mlp({ ...options, sizes: [784, 300, 100, 10] });
}
