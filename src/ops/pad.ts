/** Pad: constant, reflect, edge, wrap. */
import type { Value } from "../ir/graph.ts";
import { constantOf } from "../ir/walk.ts";
import { numbersOf } from "../tensor/tensor.ts";
import { at } from "./axes.ts";
import { type Build, dtypeOf, shapeOf } from "./build.ts";
import { free, sum } from "./dims.ts";
import type { Op } from "./op.ts";
import { axisOf, constantInts, input } from "./rule.ts";
import { scatterAdd } from "./scatter.ts";

/** Inputs: x, pads, and optionally the constant's value and the axes. A constant border is cut off again; others go back to the elements they copy. */
export const Pad: Op = {
  axes: (t) => {
    const [x, y] = [t.input(0), t.output(0)];
    const pads = t.has(1) ? t.ints(1) : t.node.ints("pads");
    const axes = (t.ints(3) === undefined ? x.map((_, i) => i) : t.ints(3))?.map((a) => at(a, x.length));
    if (!axes) throw t.refuse("its axes are computed");
    const constant = (t.node.string("mode") ?? "constant") === "constant";
    for (const [i, d] of x.entries()) {
      const k = axes.indexOf(i);
      const [before, after] = k < 0 ? [0, 0] : [pads?.[k], pads?.[k + axes.length]];
      if (before === 0 && after === 0) t.unify(d, y[i]!);
      else if (before === undefined || after === undefined || before < 0 || after < 0 || !constant) {
        for (const e of [d, y[i]!]) t.freeze(e, t.says("pads it"));
      } else {
        const [b, a] = [free(before), free(after)];
        t.unify(sum([b, d, a]), y[i]!);
        t.size({ input: 1, at: k, otherwise: "pads" }, b);
        t.size({ input: 1, at: k + axes.length, otherwise: "pads" }, a);
      }
    }
    const value = t.has(2) ? constantOf(t.node.inputs[2]) : null;
    const fill = t.has(2) ? (value ? numbersOf(value)[0]! : Number.NaN) : (t.node.float("value") ?? 0);
    t.zero(fill === 0 ? "joined" : "none", [0]);
  },
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
