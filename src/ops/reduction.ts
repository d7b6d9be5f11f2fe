/** Reductions over axes, given as an attribute or an input. */
import type { Node, Value } from "../ir/graph.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { type AxesRule, at, same } from "./axes.ts";
import { dtypeOf, shapeOf } from "./build.ts";
import type { Op } from "./op.ts";
import { axisOf, constantInts, type Pointwise, unary } from "./rule.ts";

/** The axes a reduction node reduces; none given: all of them, or (noop_with_empty_axes) none. */
function axesOf(node: Node, ndim: number): number[] {
  const axes = node.ints("axes") ?? constantInts(node, 1) ?? [];
  if (axes.length === 0 && !node.int("noop_with_empty_axes")) return Array.from({ length: ndim }, (_, i) => i);
  return axes.map((a) => axisOf(a, ndim));
}

/** What a reduction's rule gets; y and g have the reduced axes as 1. */
interface Reduced extends Pointwise {
  readonly axes: readonly number[];
  /** Elements that go into one. */
  readonly count: number;
  readonly shape: readonly number[];
}

/** How a reduction goes over an axis: `sums` and `averages` do not change when zeros are removed, others do. */
type Over = "sums" | "averages" | "inexact";

/** The reduced axes go, or stay as 1. */
const reduces =
  (over: Over): AxesRule =>
  (t) => {
    const [x, y] = [t.input(0), t.output(0)];
    const given = t.node.ints("axes") ?? (t.node.opType.startsWith("Arg") ? [t.node.int("axis") ?? 0] : t.has(1) ? t.ints(1) : []);
    if (!given) throw t.refuse("its axes are computed");
    const axes = (given.length || t.node.int("noop_with_empty_axes") ? given : x.map((_, i) => i)).map((a) => at(a, x.length));
    const kept = x.filter((_, i) => !axes.includes(i));
    same(t, kept, y.length === x.length ? y.filter((_, i) => !axes.includes(i)) : y);
    for (const a of axes) {
      if (over === "sums") t.sums(x[a]!, [0]);
      else if (over === "averages") t.averages(x[a]!, "behind");
      else t.inexact(x[a]!, "goes over it");
    }
    t.zero(over === "inexact" ? "none" : "all", [0]);
  };

/** `dx` gives a cotangent of x's shape. */
function reduction(over: Over, dx: (p: Reduced) => Value): Op {
  return unary(reduces(over), (p) => {
    const { b, node, x } = p;
    const shape = shapeOf(x);
    const axes = axesOf(node, shape.length);
    const keptShape = shape.map((d, i) => (axes.includes(i) ? 1 : d));
    const keep = (v: Value) => ((node.int("keepdims") ?? 1) || axes.length === 0 ? v : b.reshape(v, keptShape));
    return dx({ ...p, axes, shape, y: keep(p.y), g: keep(p.g), count: sizeOf(shape) / Math.max(1, sizeOf(keptShape)) });
  });
}

export const ReduceSum = reduction("sums", ({ b, g, shape }) => b.expand(g, shape));
export const ReduceMean = reduction("averages", ({ b, g, shape, count, k }) => b.expand(b.mul(g, k(1 / count)), shape));
export const ReduceSumSquare = reduction("sums", ({ b, g, x, k }) => b.mul(b.mul(g, k(2)), x));
export const ReduceL1 = reduction("sums", ({ b, g, x }) => b.mul(g, b.op("Sign", [x])));
/** Zero where the norm is. */
export const ReduceL2 = reduction("sums", ({ b, g, x, y, k }) => {
  const zero = b.op("Equal", [y, k(0)]);
  return b.mul(b.where(zero, k(0), b.div(g, b.where(zero, k(1), y))), x);
});
/** y = ln Σx. */
export const ReduceLogSum = reduction("inexact", ({ b, g, y, shape }) => b.expand(b.mul(g, b.op("Exp", [b.neg(y)])), shape));
export const ReduceLogSumExp = reduction("inexact", ({ b, g, x, y }) => b.mul(g, b.op("Exp", [b.sub(x, y)])));

/** Elements that tie share the cotangent. */
const extreme = reduction("inexact", ({ b, g, x, y, axes }) => {
  const is = b.cast(b.op("Equal", [x, y]), dtypeOf(x));
  return b.mul(b.div(g, b.sum(is, axes, true)), is);
});
export const ReduceMax = extreme;
export const ReduceMin = extreme;

/** The product of the others, right with zeros too: (Π of the non-zero) / x where no other is zero. */
export const ReduceProd = reduction("inexact", ({ b, g, x, k, axes }) => {
  const zero = b.op("Equal", [x, k(0)]);
  const zeros = b.cast(zero, dtypeOf(x));
  const filled = b.where(zero, k(1), x);
  const noOther = b.cast(b.op("Equal", [b.sum(zeros, axes, true), zeros]), dtypeOf(x));
  return b.mul(b.mul(g, noOther), b.div(b.reduce("ReduceProd", filled, axes, true), filled));
});

/** Where along an axis: positions are counted. */
const counts: AxesRule = (t) => {
  reduces("inexact")(t);
  const x = t.input(0);
  t.freeze(x[at(t.node.int("axis") ?? 0, x.length)]!, t.says("counts along it"));
};

export const ArgMax: Op = { stops: true, axes: counts };
export const ArgMin: Op = { stops: true, axes: counts };
