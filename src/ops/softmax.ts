/** Softmax and its logarithm, along one axis (opset 13 and later; upgrade() rewrites the older, flattening ones). */

import { alongAxes, at } from "./axes.ts";
import { shapeOf } from "./build.ts";
import type { Op } from "./op.ts";
import { axisOf, type Pointwise, unary } from "./rule.ts";

const total = ({ b, node, x }: Pointwise, v: Pointwise["g"]) => b.sum(v, [axisOf(node.int("axis") ?? -1, shapeOf(x).length)], true);

/** Before opset 13 all axes from `axis` (default 1) on count as one. */
const softened = alongAxes((t, ndim) => {
  if (t.opset >= 13) return [at(t.node.int("axis") ?? -1, ndim)];
  const from = at(t.node.int("axis") ?? 1, ndim);
  return Array.from({ length: ndim - from }, (_, i) => from + i);
}, "runs over it");

/** dx = t − y·Σt with t = g·y. */
export const Softmax = unary(softened, (p) => {
  const t = p.b.mul(p.g, p.y);
  return p.b.sub(t, p.b.mul(p.y, total(p, t)));
});
/** dx = g − exp(y)·Σg. */
export const LogSoftmax = unary(softened, (p) => p.b.sub(p.g, p.b.mul(p.b.op("Exp", [p.y]), total(p, p.g))));

export const Hardmax: Op = { stops: true, axes: softened };
