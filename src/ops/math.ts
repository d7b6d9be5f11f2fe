/** Elementary functions. */

import { isFloat } from "../tensor/dtype.ts";
import { keepsZero, likeFirst, losesZero } from "./axes.ts";
import { dtypeOf } from "./build.ts";
import type { Op } from "./op.ts";
import { refused, unary } from "./rule.ts";

export const Abs = unary(keepsZero, ({ b, x, g }) => b.mul(g, b.op("Sign", [x])));
export const Exp = unary(losesZero, ({ b, y, g }) => b.mul(g, y));
export const Log = unary(losesZero, ({ b, x, g }) => b.div(g, x));
export const Sqrt = unary(keepsZero, ({ b, y, g, k }) => b.div(b.mul(g, k(0.5)), y));
export const Reciprocal = unary(losesZero, ({ b, y, g }) => b.neg(b.mul(g, b.mul(y, y))));
/** dx = g · 2/√π · exp(−x²). */
export const Erf = unary(keepsZero, ({ b, x, g, k }) => b.mul(g, b.mul(b.op("Exp", [b.neg(b.mul(x, x))]), k(2 / Math.sqrt(Math.PI)))));

export const Sin = unary(keepsZero, ({ b, x, g }) => b.mul(g, b.op("Cos", [x])));
export const Cos = unary(losesZero, ({ b, x, g }) => b.neg(b.mul(g, b.op("Sin", [x]))));
export const Tan = unary(keepsZero, ({ b, y, g, k }) => b.mul(g, b.add(b.mul(y, y), k(1))));
export const Asin = unary(keepsZero, ({ b, x, g, k }) => b.div(g, b.op("Sqrt", [b.sub(k(1), b.mul(x, x))])));
export const Acos = unary(losesZero, ({ b, x, g, k }) => b.neg(b.div(g, b.op("Sqrt", [b.sub(k(1), b.mul(x, x))]))));
export const Atan = unary(keepsZero, ({ b, x, g, k }) => b.div(g, b.add(b.mul(x, x), k(1))));
export const Sinh = unary(keepsZero, ({ b, x, g }) => b.mul(g, b.op("Cosh", [x])));
export const Cosh = unary(losesZero, ({ b, x, g }) => b.mul(g, b.op("Sinh", [x])));
export const Asinh = unary(keepsZero, ({ b, x, g, k }) => b.div(g, b.op("Sqrt", [b.add(b.mul(x, x), k(1))])));
export const Acosh = unary(losesZero, ({ b, x, g, k }) => b.div(g, b.op("Sqrt", [b.sub(b.mul(x, x), k(1))])));
export const Atanh = unary(keepsZero, ({ b, x, g, k }) => b.div(g, b.sub(k(1), b.mul(x, x))));

/** Between float types; a Cast to integers stops gradients, as its output has none. */
export const Cast: Op = unary(keepsZero, ({ b, node, x, g }) => {
  if (!isFloat(dtypeOf(x))) throw refused(node, `it makes floats of ${dtypeOf(x)}`);
  return b.cast(g, dtypeOf(x));
});
export const CastLike: Op = { ...Cast, axes: likeFirst };

export const Floor: Op = { stops: true, axes: keepsZero };
export const Ceil: Op = { stops: true, axes: keepsZero };
export const Round: Op = { stops: true, axes: keepsZero };
export const Sign: Op = { stops: true, axes: keepsZero };
