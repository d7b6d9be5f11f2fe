/** Ops that lay elements out anew, repeat or add them up without changing them. */
import type { Node } from "../ir/graph.ts";
import { numbersOf } from "../tensor/tensor.ts";
import { type Axes, type AxesRule, at, broadcast, keepsZero, relayout, same, slides } from "./axes.ts";
import { dtypeOf, shapeOf } from "./build.ts";
import { free, product, sum, units } from "./dims.ts";
import type { Op } from "./op.ts";
import { axisOf, constantInts, input, unary } from "./rule.ts";

const reshapeBack = unary(relayout, ({ b, x, g }) => b.reshape(g, shapeOf(x)));

export const Reshape: Op = {
  ...reshapeBack,
  axes: (t) => {
    relayout(t);
    t.output(0).forEach((d, at) => {
      if (t.has(1)) t.size({ input: 1, at }, d);
      else t.size({ attr: "shape", at }, d);
    });
  },
};
export const Flatten: Op = reshapeBack;
export const Squeeze: Op = reshapeBack;
export const Unsqueeze: Op = reshapeBack;
export const Identity = unary(keepsZero, ({ g }) => g);

export const Transpose = unary(
  (t) => {
    const x = t.input(0);
    const perm = t.node.ints("perm") ?? x.map((_, i) => x.length - 1 - i);
    same(
      t,
      perm.map((p) => x[p]!),
      t.output(0),
    );
    t.zero("all", [0]);
  },
  ({ b, node, x, g }) => {
    const perm = node.ints("perm") ?? shapeOf(x).map((_, i, s) => s.length - 1 - i);
    return b.transpose(
      g,
      perm.map((_, i) => perm.indexOf(i)),
    );
  },
);

export const Expand = unary(
  (t) => {
    const y = t.output(0);
    broadcast(t, t.input(0), y);
    y.forEach((d, i) => {
      const at = i - y.length + (t.dim(1) ?? y.length);
      if (at >= 0) t.size({ input: 1, at }, d);
    });
    t.zero("all", [0]);
  },
  ({ b, x, y, g }) => b.sumTo(g, shapeOf(y), shapeOf(x)),
);

/** Every axis falls apart into [repeats, size]; the repeats are summed. */
export const Tile = unary(
  (t) => {
    const [x, y] = [t.input(0), t.output(0)];
    x.forEach((d, at) => {
      if (d.size === 0) return;
      const times = free(y[at]!.size / d.size);
      t.unify(product([times, d]), y[at]!);
      t.size({ input: 1, at }, times);
    });
    t.zero("all", [0]);
  },
  ({ b, node, x, g }) => {
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
  },
);

export const Concat: Op = {
  axes: (t) => {
    const [xs, y] = [Array.from({ length: t.inputs }, (_, i) => t.input(i)), t.output(0)];
    const axis = at(t.node.int("axis") ?? 0, y.length);
    for (const x of xs) same(t, x, y, axis);
    t.unify(sum(xs.map((x) => x[axis]!)), y[axis]!);
    t.zero("joined");
  },
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
  axes: (t) => {
    const x = t.input(0);
    const axis = at(t.node.int("axis") ?? 0, x.length);
    const ys = Array.from({ length: t.outputs }, (_, o) => t.output(o));
    for (const y of ys) same(t, y, x, axis);
    t.unify(x[axis]!, sum(ys.map((y) => y[axis]!)));
    ys.forEach((y, at) => {
      t.size({ input: 1, at, otherwise: "split", lacks: true }, y[axis]!);
    });
    t.zero("all", [0]);
  },
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

/** Zeros above or below the diagonal: where it lies counts positions. */
const triangle: AxesRule = (t) => {
  const x = t.input(0);
  same(t, x, t.output(0));
  for (const d of x.slice(-2)) t.freeze(d, t.says("cuts along its diagonal"));
  t.zero("all", [0]);
};

export const Trilu: Op = {
  axes: triangle,
  vjp({ node, g: [g], b }) {
    return [b.op("Trilu", [g!, node.inputs[1] ?? null], { upper: node.int("upper") })];
  },
};

export const CumSum: Op = {
  axes: (t) => {
    const x = t.input(0);
    same(t, x, t.output(0));
    const axis = t.ints(1)?.[0];
    if (axis === undefined) throw t.refuse("its axis is computed");
    t.sums(x[at(axis, x.length)]!, [0]);
    t.zero("none");
  },
  vjp({ node, g: [g], b }) {
    const reverse = node.int("reverse") ? undefined : 1;
    return [b.op("CumSum", [g!, input(node, 1)], { reverse, exclusive: node.int("exclusive") })];
  },
};

export const SpaceToDepth = unary(
  (t) => {
    const [x, y] = [t.input(0), t.output(0)];
    const b = () => units(t.node.int("blocksize")!);
    t.unify(x[0]!, y[0]!);
    t.unify(y[1]!, product([b(), b(), x[1]!]));
    for (const d of [...x.slice(2), ...y.slice(2)]) t.freeze(d, slides);
    t.zero("all", [0]);
  },
  ({ b, node, g }) => b.op("DepthToSpace", [g], { blocksize: node.int("blocksize") }),
);

/** Mode DCR undoes SpaceToDepth; CRD has the channels outside the block. */
export const DepthToSpace = unary(
  (t) => {
    const [x, y] = [t.input(0), t.output(0)];
    const b = () => units(t.node.int("blocksize")!);
    t.unify(x[0]!, y[0]!);
    t.unify(x[1]!, product(t.node.string("mode") === "CRD" ? [y[1]!, b(), b()] : [b(), b(), y[1]!]));
    for (const d of [...x.slice(2), ...y.slice(2)]) t.freeze(d, slides);
    t.zero("all", [0]);
  },
  ({ b, node, x, g }) => {
    const s = node.int("blocksize")!;
    if (node.string("mode") !== "CRD") return b.op("SpaceToDepth", [g], { blocksize: s });
    const [n, c, h, w] = shapeOf(x) as [number, number, number, number];
    const apart = b.reshape(g, [n, c / (s * s), h, s, w, s]);
    return b.reshape(b.transpose(apart, [0, 1, 3, 5, 2, 4]), [n, c, h, w]);
  },
);

/** Of an input, or (before opset 10) of an attribute; omitted: null. Errors: computed from more than sizes. */
function bounds(t: Axes, input: number, attr: string): readonly number[] | null {
  const given = t.has(input) ? t.ints(input) : (t.node.ints(attr) ?? undefined);
  if (given === null) throw t.refuse("where it cuts is computed at run time");
  return given ?? null;
}

/** An axis falls apart in what is before, what is taken and what is after; every k-th element is the first of k. */
const cuts: AxesRule = (t) => {
  const [x, y] = [t.input(0), t.output(0)];
  const axes = bounds(t, 3, "axes") ?? Array.from({ length: t.dim(1) ?? t.node.ints("starts")!.length }, (_, i) => i);
  const cut = new Set(axes.map((a) => at(a, x.length)));
  x.forEach((d, i) => {
    if (!cut.has(i)) t.unify(d, y[i]!);
  });
  t.zero("all", [0]);
  const [starts, steps] = [t.has(1) ? t.ints(1) : t.node.ints("starts"), bounds(t, 4, "steps")];
  // Where the end moves with the inputs' sizes, what is behind it now may be taken another time.
  const known = starts && (!t.has(2) || t.ints(2));
  axes.forEach((axis, k) => {
    const [d, e] = [x[at(axis, x.length)]!, y[at(axis, x.length)]!];
    if (!known) {
      for (const f of [d, e]) t.freeze(f, t.says("cuts it where is computed at run time"));
      return;
    }
    const [step, size] = [steps?.[k] ?? 1, d.size];
    const s = starts[k]!;
    const start = Math.max(0, Math.min(s < 0 ? s + size : s, step > 0 ? size : size - 1));
    if (step === 1) {
      const [before, after] = [free(start), free(size - start - e.size)];
      t.unify(d, sum([before, e, after]));
      t.size({ input: 1, at: k, otherwise: "starts", from: d }, before);
      t.size({ input: 2, at: k, otherwise: "ends", from: d }, sum([before, e]));
    } else if (step > 1 && size % step === 0 && start < step) {
      t.unify(d, product([e, units(step)]));
    } else {
      for (const f of [d, e]) t.freeze(f, t.says("takes it in steps"));
    }
  });
};

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
export const Slice = unary(cuts, ({ b, node, x, y, g }) => {
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

/** Filled with one value. */
export const ConstantOfShape: Op = {
  axes: (t) => {
    t.output(0).forEach((d, at) => {
      t.size({ input: 0, at }, d);
    });
    const a = t.node.attrs.get("value");
    t.zero(a?.type === "tensor" && numbersOf(a.value)[0] !== 0 ? "none" : "always");
  },
};
export const Range: Op = { axes: (t) => t.freeze(t.output(0)[0]!, t.says("counts along it")) };
