/** pith's own ops. They exist in training graphs only: whatever is written or run holds a plain node that computes the same. */
import { dtypes } from "../tensor/dtype.ts";
import { dtypeOf, same, shapeOf } from "./build.ts";
import type { Op } from "./op.ts";
import { input, refused, stop } from "./rule.ts";

/**
 * StraightThrough(x, y) = y, of x's shape; its cotangent goes to x as it is and to y not at all (Bengio et al. 2013: the straight-through
 * estimator), with the attribute `bound` only where |x| ≤ bound: the gradient of Clip(x, −bound, bound). Written as Identity(y).
 */
export const StraightThrough: Op = {
  vjp({ node, g: [g], needs, b }) {
    const [x, y] = [input(node, 0), input(node, 1)];
    if (!same(shapeOf(x), shapeOf(y))) throw refused(node, `x has the shape [${shapeOf(x)}], y [${shapeOf(y)}]`);
    if (!needs[0]) return [];
    const bound = node.float("bound");
    if (bound === undefined) return [g!];
    const dtype = dtypeOf(x);
    const inside = b.op("LessOrEqual", [b.op("Abs", [x]), b.scalar(bound, dtype)]);
    return [b.mul(g!, b.op("Cast", [inside], { to: dtypes[dtype].code }))];
  },
};

/**
 * Noise(like, rest): numbers in [−1, 1) of the shape of `like`, drawn anew each training step; `rest`, one number, wherever else the graph
 * runs or is written.
 */
export const Noise: Op = stop;
