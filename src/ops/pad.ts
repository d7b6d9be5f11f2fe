/** Pad: constant, reflect, edge, wrap. */
import type { Value } from "../ir/graph.ts";
import { type Build, dtypeOf, shapeOf } from "./build.ts";
import type { Op } from "./op.ts";
import { axisOf, constantInts, input } from "./rule.ts";
import { scatterAdd } from "./scatter.ts";

/** Inputs: x, pads, and optionally the constant's value and the axes. A constant border is cut off again; others go back to the elements they copy. */
export const Pad: Op = {
  vjp({ node, g: [g], needs, b }) {
    const x = input(node, 0);
    const shape = shapeOf(x);
    const pads = constantInts(node, 1)!;
    const axes = (constantInts(node, 3) ?? shape.map((_, i) => i)).map((a) => axisOf(a, shape.length));
    const begin = shape.map(() => 0);
    const end = shape.map(() => 0);
    axes.forEach((a, i) => {
      begin[a] = pads[i]!;
      end[a] = pads[i + axes.length]!;
    });
    const mode = node.string("mode") ?? "constant";
    if (mode !== "constant") return [fold(b, g!, shape, begin, end, mode, dtypeOf(x))];
    const inside = b.pad(
      g!,
      begin.map((n) => -n),
      end.map((n) => -n),
    );
    const every = shape.map((_, i) => i);
    return [needs[0] ? inside : null, null, needs[2] ? b.sub(b.sum(g!, every), b.sum(inside, every)) : null];
  },
};

function fold(
  b: Build,
  g: Value,
  shape: readonly number[],
  begin: readonly number[],
  end: readonly number[],
  mode: string,
  dtype: Parameters<Build["zeros"]>[1],
): Value {
  let out = g;
  const now = shape.map((d, i) => d + begin[i]! + end[i]!);
  shape.forEach((size, axis) => {
    if (begin[axis] === 0 && end[axis] === 0) return;
    const from = Array.from({ length: now[axis]! }, (_, i) => source(i - begin[axis]!, size, mode));
    const padded = [...now];
    now[axis] = size;
    out = scatterAdd(b, b.zeros(now, dtype), b.i64(from), out, axis, padded);
  });
  return out;
}

/** The element that position i of a padded axis copies. */
function source(i: number, size: number, mode: string): number {
  if (mode === "edge") return Math.max(0, Math.min(size - 1, i));
  if (mode === "wrap") return ((i % size) + size) % size;
  const period = Math.max(1, 2 * (size - 1));
  const at = ((i % period) + period) % period;
  return at < size ? at : period - at;
}
