/** Ops on quantized integers: a gradient through them is refused by name, where other integers stop it silently. */

import { MatMul } from "./linear.ts";
import type { Op } from "./op.ts";

const quantized: Op = { carries: true };
const product: Op = { carries: true, macs: MatMul.macs! };

export {
  product as MatMulInteger,
  product as QLinearMatMul,
  quantized as QuantizeLinear,
  quantized as DynamicQuantizeLinear,
  quantized as QLinearConv,
  quantized as ConvInteger,
};
