/** Ops no gradient passes by nature: comparisons, shapes, draws. */
import type { Op } from "./op.ts";
import { stop } from "./rule.ts";

export const Equal: Op = stop;
export const Less: Op = stop;
export const LessOrEqual: Op = stop;
export const Greater: Op = stop;
export const GreaterOrEqual: Op = stop;
export const And: Op = stop;
export const Or: Op = stop;
export const Xor: Op = stop;
export const Not: Op = stop;
export const IsNaN: Op = stop;
export const IsInf: Op = stop;
export const NonZero: Op = stop;
export const Shape: Op = stop;
export const Size: Op = stop;
export const EyeLike: Op = stop;
export const RandomNormalLike: Op = stop;
export const RandomUniformLike: Op = stop;
export const Bernoulli: Op = stop;
export const Multinomial: Op = stop;
