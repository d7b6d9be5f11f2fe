/** Every technique: an export's name is its registration. */
export { distill } from "./distill/distill.ts";
export { svd } from "./factorize/svd.ts";
export { lora } from "./lora/lora.ts";
export { depth } from "./prune/depth.ts";
export { magnitude } from "./prune/magnitude.ts";
export { randomPrune } from "./prune/randomPrune.ts";
export { binary } from "./quantize/binary.ts";
export { codebook } from "./quantize/codebook.ts";
export { equalize } from "./quantize/equalize.ts";
export { half } from "./quantize/half.ts";
export { int8 } from "./quantize/int8.ts";
export { integerOps } from "./quantize/integerOps.ts";
export { mixed } from "./quantize/mixed.ts";
export { qat } from "./quantize/qat.ts";
export { smoothquant } from "./quantize/smoothquant.ts";
export { weightOnly } from "./quantize/weightonly.ts";
