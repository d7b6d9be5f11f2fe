/** Ops that lay elements out anew, repeat or add them up without changing them. */
import type { Node } from "../ir/graph.ts";
import { dtypeOf, shapeOf } from "./build.ts";
import type { Op } from "./op.ts";
import { axisOf, constantInts, input, unary } from "./rule.ts";

const reshapeBack = unary(({ b, x, g }) => b.reshape(g, shapeOf(x)));

export const Reshape: Op = reshapeBack;
export const Flatten: Op = reshapeBack;
export const Squeeze: Op = reshapeBack;
export const Unsqueeze: Op = reshapeBack;
export const Identity = unary(({ g }) => g);

export const Transpose = unary(({ b, node, x, g }) => {
  const perm = node.ints("perm") ?? shapeOf(x).map((_, i, s) => s.length - 1 - i);
  return b.transpose(
    g,
    perm.map((_, i) => perm.indexOf(i)),
  );
});

export const Expand = unary(({ b, x, y, g }) => b.sumTo(g, shapeOf(y), shapeOf(x)));

/** Every axis falls apart into [repeats, size]; the repeats are summed. */
export const Tile = unary(({ b, node, x, g }) => {
  const shape = shapeOf(x);
  const repeats = constantInts(node, 1)!;
  const apart = b.reshape(
    g,
    shape.flatMap((d, i) => [repeats[i]!, d]),
  );
  return b.sum(
    apart,
    shape.map((_, i) => 2 * i),
  );
});

export const Concat: Op = {
  vjp({ node, g: [g], needs, b }) {
    const xs = node.inputs.map((_, i) => input(node, i));
    const axis = axisOf(node.int("axis")!, shapeOf(xs[0]!).length);
    let at = 0;
    return xs.map((x, i) => {
      const [from, to] = [at, (at += shapeOf(x)[axis]!)];
      return needs[i] ? b.op("Slice", [g!, b.i64([from]), b.i64([to]), b.i64([axis])]) : null;
    });
  },
};

/** Parts without a cotangent count as zeros. */
export const Split: Op = {
  vjp({ node, g, b }) {
    const x = input(node, 0);
    const shape = shapeOf(x);
    const axis = axisOf(node.int("axis") ?? 0, shape.length);
    const sizes = node.outputs.map((o) => shapeOf(o!)[axis]!);
    const resized = (n: number, rest: readonly number[]) => rest.map((d, i) => (i === axis ? n : d));
    const given = g.flatMap((c, i) => (c ? [i] : []));
    if (given.length === 1) {
      const [at] = given as [number];
      const total = (xs: readonly number[]) => xs.reduce((a, d) => a + d, 0);
      const none = shape.map(() => 0);
      return [b.pad(g[at]!, resized(total(sizes.slice(0, at)), none), resized(total(sizes.slice(at + 1)), none))];
    }
    const parts = g.map((c, i) => c ?? b.zeros(resized(sizes[i]!, shape), dtypeOf(x)));
    return [b.op("Concat", parts, { axis })];
  },
};

export const Trilu: Op = {
  vjp({ node, g: [g], b }) {
    return [b.op("Trilu", [g!, node.inputs[1] ?? null], { upper: node.int("upper") })];
  },
};

export const CumSum: Op = {
  vjp({ node, g: [g], b }) {
    const reverse = node.int("reverse") ? undefined : 1;
    return [b.op("CumSum", [g!, input(node, 1)], { reverse, exclusive: node.int("exclusive") })];
  },
};

export const SpaceToDepth = unary(({ b, node, g }) => b.op("DepthToSpace", [g], { blocksize: node.int("blocksize") }));

/** Mode DCR undoes SpaceToDepth; CRD has the channels outside the block. */
export const DepthToSpace = unary(({ b, node, x, g }) => {
  const s = node.int("blocksize")!;
  if (node.string("mode") !== "CRD") return b.op("SpaceToDepth", [g], { blocksize: s });
  const [n, c, h, w] = shapeOf(x) as [number, number, number, number];
  const apart = b.reshape(g, [n, c / (s * s), h, s, w, s]);
  return b.reshape(b.transpose(apart, [0, 1, 3, 5, 2, 4]), [n, c, h, w]);
});

/** Where a Slice takes its elements along one axis: `count` of them from `start` on, `step` apart. */
interface Run {
  readonly axis: number;
  readonly start: number;
  readonly step: number;
  readonly count: number;
}

function runsOf(node: Node, from: readonly number[], to: readonly number[]): Run[] {
  const starts = constantInts(node, 1)!;
  const axes = constantInts(node, 3) ?? starts.map((_, i) => i);
  const steps = constantInts(node, 4);
  return starts.map((s, i) => {
    const axis = axisOf(axes[i]!, from.length);
    const step = steps?.[i] ?? 1;
    const size = from[axis]!;
    const start = Math.max(0, Math.min(s < 0 ? s + size : s, step > 0 ? size : size - 1));
    return { axis, start, step, count: to[axis]! };
  });
}

/** The elements go back to where they came from, among zeros. */
export const Slice = unary(({ b, node, x, y, g }) => {
  const shape = shapeOf(x);
  const sliced = shapeOf(y);
  if (sliced.includes(0)) return b.zeros(shape, dtypeOf(x));
  const runs = runsOf(node, shape, sliced).filter((r) => r.count !== shape[r.axis] || r.step !== 1);
  let out = g;
  const turned = runs.filter((r) => r.step < 0);
  if (turned.length) {
    const all = (n: number) => b.i64(turned.map(() => n));
    // ONNX's "to the beginning, inclusive" is any end far below zero.
    out = b.op("Slice", [out, all(-1), all(-(2 ** 40)), b.i64(turned.map((r) => r.axis)), all(-1)]);
  }
  const now = [...sliced];
  for (const r of runs.filter((r) => Math.abs(r.step) > 1)) {
    const step = Math.abs(r.step);
    const lengthened = [...now.slice(0, r.axis + 1), 1, ...now.slice(r.axis + 1)];
    out = b.reshape(out, lengthened);
    out = b.pad(
      out,
      lengthened.map(() => 0),
      lengthened.map((_, i) => (i === r.axis + 1 ? step - 1 : 0)),
    );
    now[r.axis]! *= step;
    out = b.reshape(out, now);
  }
  const begin = shape.map(() => 0);
  const end = shape.map(() => 0);
  for (const { axis, start, step, count } of runs) {
    begin[axis] = step < 0 ? start + step * (count - 1) : start;
    end[axis] = shape[axis]! - begin[axis]! - now[axis]!;
  }
  return b.pad(out, begin, end);
});
