/** Activation functions. */
import { dtypeOf } from "./build.ts";
import { unary } from "./rule.ts";

/** g where y > 0: the two casts are the fastest mask ONNX Runtime has. */
export const Relu = unary(({ b, y, g }) => b.mul(g, b.cast(b.cast(y, "bool"), dtypeOf(y))));
export const Sigmoid = unary(({ b, y, g, k }) => b.mul(g, b.mul(y, b.sub(k(1), y))));
export const Tanh = unary(({ b, y, g, k }) => b.mul(g, b.sub(k(1), b.mul(y, y))));
