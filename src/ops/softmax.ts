/** Softmax and its logarithm, along one axis (opset 13 and later; upgrade() rewrites the older, flattening ones). */
import { shapeOf } from "./build.ts";
import type { Op } from "./op.ts";
import { axisOf, type Pointwise, stop, unary } from "./rule.ts";

const total = ({ b, node, x }: Pointwise, v: Pointwise["g"]) => b.sum(v, [axisOf(node.int("axis") ?? -1, shapeOf(x).length)], true);

/** dx = t − y·Σt with t = g·y. */
export const Softmax = unary((p) => {
  const t = p.b.mul(p.g, p.y);
  return p.b.sub(t, p.b.mul(p.y, total(p, t)));
});
/** dx = g − exp(y)·Σg. */
export const LogSoftmax = unary((p) => p.b.sub(p.g, p.b.mul(p.b.op("Exp", [p.y]), total(p, p.g))));

export const Hardmax: Op = stop;
