/** Reductions over axes, given as an attribute or an input. */
import type { Node, Value } from "../ir/graph.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { shapeOf } from "./build.ts";
import type { Op } from "./op.ts";
import { axisOf, constantInts, type Pointwise, unary } from "./rule.ts";

/** The axes a reduction node reduces; none given: all of them, or (noop_with_empty_axes) none. */
function axesOf(node: Node, ndim: number): number[] {
  const axes = node.ints("axes") ?? constantInts(node, 1) ?? [];
  if (axes.length === 0 && !node.int("noop_with_empty_axes")) return Array.from({ length: ndim }, (_, i) => i);
  return axes.map((a) => axisOf(a, ndim));
}

/** What a reduction's rule gets: `kept` lays a value of y's shape out with the reduced axes as 1. */
interface Reduced extends Pointwise {
  readonly axes: readonly number[];
  readonly kept: (v: Value) => Value;
  /** Elements that go into one. */
  readonly count: number;
}

/** `dx` gives a cotangent of x's shape or one that broadcasts to it. */
function reduction(dx: (p: Reduced) => Value, spread: boolean): Op {
  return unary((p) => {
    const { b, node, x } = p;
    const shape = shapeOf(x);
    const axes = axesOf(node, shape.length);
    const keptShape = shape.map((d, i) => (axes.includes(i) ? 1 : d));
    const keepdims = node.int("keepdims") ?? 1;
    const kept = (v: Value) => (keepdims || axes.length === 0 ? v : b.reshape(v, keptShape));
    const c = dx({ ...p, axes, kept, count: sizeOf(shape) / Math.max(1, sizeOf(keptShape)) });
    return spread ? b.op("Expand", [c, b.i64(shape)]) : c;
  });
}

export const ReduceSum = reduction(({ g, kept }) => kept(g), true);
export const ReduceMean = reduction(({ b, g, kept, count, k }) => b.mul(kept(g), k(1 / count)), true);
