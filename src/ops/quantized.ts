/** Ops on quantized integers: a gradient through them is refused by name, where other integers stop it silently. */

import type { Node } from "../ir/graph.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { MatMul } from "./linear.ts";
import type { Op } from "./op.ts";

const quantized: Op = { carries: true };
const product: Op = { carries: true, macs: MatMul.macs! };
const convolution = (weight: number): Op => ({
  carries: true,
  macs(node: Node) {
    const [y, w] = [node.outputs[0]?.shape, node.inputs[weight]?.shape];
    return y && w ? sizeOf(y) * sizeOf(w.slice(1)) : null;
  },
});

export const QLinearConv = convolution(3);
export const ConvInteger = convolution(1);

export { product as MatMulInteger, product as QLinearMatMul, quantized as QuantizeLinear, quantized as DynamicQuantizeLinear };
