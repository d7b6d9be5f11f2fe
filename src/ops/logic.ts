/** Ops no gradient passes by nature: comparisons, shapes, draws. */

import { likeFirstAnew, unrelated } from "./axes.ts";
import type { Op } from "./op.ts";
import { stop, stopElementwise } from "./rule.ts";

export const Equal: Op = stopElementwise;
export const Less: Op = stopElementwise;
export const LessOrEqual: Op = stopElementwise;
export const Greater: Op = stopElementwise;
export const GreaterOrEqual: Op = stopElementwise;
export const And: Op = stopElementwise;
export const Or: Op = stopElementwise;
export const Xor: Op = stopElementwise;
export const Not: Op = stopElementwise;
export const IsNaN: Op = stopElementwise;
export const IsInf: Op = stopElementwise;
export const NonZero: Op = stop;
/** What is computed from sizes follows them, or is corrected where a size is no longer what a reader wants. */
export const Shape: Op = { stops: true, axes: unrelated };
export const Size: Op = { stops: true, axes: unrelated };
export const EyeLike: Op = stop;
export const RandomNormalLike: Op = { stops: true, axes: likeFirstAnew };
export const RandomUniformLike: Op = { stops: true, axes: likeFirstAnew };
export const Bernoulli: Op = { stops: true, axes: likeFirstAnew };
export const Multinomial: Op = stop;
