/** LeNet-5 in Caffe's form, the one that compression papers use. */
import type { Model } from "../ir/graph.ts";
import { net } from "./net.ts";

export interface Lenet5Options {
  readonly seed?: number;
  /** Share of the 500 units before the last layer that training leaves out. */
  readonly dropout?: number;
}

/**
 * Input "x" float32 [batch, 1, 28, 28]; conv 20 at 5×5, max-pool 2×2, conv 50 at 5×5, max-pool 2×2, fc 500 with Relu, fc 10; output "logits"
 * [batch, 10]. 431,080 parameters (Han et al. 2015, table 1). As in Caffe the convolutions have no Relu.
 */
export function lenet5({ seed = 0, dropout = 0 }: Lenet5Options = {}): Model {
  const n = net("lenet5", seed);
  const pool = { kernel_shape: [2, 2], strides: [2, 2] };
  let x = n.model.graph.input("x", "float32", ["batch", 1, 28, 28]);
  x = n.op("pool1", "MaxPool", [n.conv("conv1", x, [1, 20], { kernel: 5 })], pool);
  x = n.op("pool2", "MaxPool", [n.conv("conv2", x, [20, 50], { kernel: 5 })], pool);
  x = n.relu("relu1", n.dense("fc1", n.op("flatten", "Flatten", [x]), [800, 500]));
  return n.done(n.dense("fc2", n.dropout("drop1", x, dropout), [500, 10], "glorot"), ["batch", 10]);
}
