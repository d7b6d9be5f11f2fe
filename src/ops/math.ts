/** Elementary functions. */
import { dtypeOf } from "./build.ts";
import { unary } from "./rule.ts";

export const Exp = unary(({ b, y, g }) => b.mul(g, y));
export const Log = unary(({ b, x, g }) => b.div(g, x));
export const Cast = unary(({ b, x, g }) => b.cast(g, dtypeOf(x)));
