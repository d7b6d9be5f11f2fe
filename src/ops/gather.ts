/** Ops that pick and place elements by index. */
import { constantOf } from "../ir/walk.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { integersOf } from "../tensor/tensor.ts";
import { type Axes, at, same } from "./axes.ts";
import { dtypeOf, shapeOf } from "./build.ts";
import { type Dim, free, sum, unit } from "./dims.ts";
import type { Op } from "./op.ts";
import { axisOf, input, output, refused } from "./rule.ts";
import { scatterAdd } from "./scatter.ts";

/** One index an element, along one axis; the other axes of the indices are those of the data, or shorter. */
function indexesElements(t: Axes, x: readonly Dim[], ids: readonly Dim[]): void {
  const axis = at(t.node.int("axis") ?? 0, x.length);
  x.forEach((d, i) => {
    if (i !== axis && d.size === ids[i]!.size) t.unify(d, ids[i]!);
    else for (const e of [d, ids[i]!]) t.freeze(e, t.says("indexes it by number"));
  });
}

/** Rows of an embedding, or slices along any axis. */
export const Gather: Op = {
  axes: (t) => {
    const [x, ids, y] = [t.input(0), t.input(1), t.output(0)];
    const axis = at(t.node.int("axis") ?? 0, x.length);
    x.slice(0, axis).forEach((d, i) => {
      t.unify(d, y[i]!);
    });
    same(t, ids, y.slice(axis, axis + ids.length));
    x.slice(axis + 1).forEach((d, i) => {
      t.unify(d, y[axis + ids.length + i]!);
    });
    const picked = t.ints(1);
    const size = x[axis]!.size;
    if (ids.length === 0 && picked?.length === 1) {
      // One position stays for sure; what lies beside it may go, and the index follows.
      const p = at(picked[0]!, size);
      const before = free(p);
      t.unify(x[axis]!, sum([before, unit, free(size - 1 - p)]));
      t.size({ input: 1, at: 0, from: x[axis]! }, before);
    } else t.freeze(x[axis]!, t.says("picks from it by number"));
    t.zero("all", [0]);
  },
  vjp({ node, g: [g], b }) {
    const [x, ids] = [input(node, 0), input(node, 1)];
    const shape = shapeOf(x);
    const axis = axisOf(node.int("axis") ?? 0, shape.length);
    const n = sizeOf(shapeOf(ids));
    const rows = shape.map((d, i) => (i === axis ? n : d));
    const laid = b.reshape(g!, rows);
    const fixed = constantOf(ids);
    if (fixed && n === 1) {
      const at = axisOf(integersOf(fixed)[0]!, shape[axis]!);
      const along = (k: number) => shape.map((_, i) => (i === axis ? k : 0));
      return [b.pad(laid, along(at), along(shape[axis]! - 1 - at))];
    }
    return [scatterAdd(b, b.zeros(shape, dtypeOf(x)), ids, laid, axis, rows)];
  },
};

export const GatherElements: Op = {
  axes: (t) => {
    indexesElements(t, t.input(0), t.input(1));
    same(t, t.input(1), t.output(0));
    t.zero("all", [0]);
  },
  vjp({ node, g: [g], b }) {
    const x = input(node, 0);
    return [b.op("ScatterElements", [b.zeros(shapeOf(x), dtypeOf(x)), input(node, 1), g!], { axis: node.int("axis"), reduction: "add" })];
  },
};

/** Index tuples become row numbers of x with its indexed axes flattened. */
export const GatherND: Op = {
  axes: (t) => {
    const [x, ids, y] = [t.input(0), t.input(1), t.output(0)];
    const batch = t.node.int("batch_dims") ?? 0;
    const depth = ids.at(-1)!.size;
    same(t, [...ids.slice(0, -1), ...x.slice(batch + depth)], y);
    for (let i = 0; i < batch; i++) t.unify(x[i]!, ids[i]!);
    for (const d of [...x.slice(batch, batch + depth), ids.at(-1)!]) t.freeze(d, t.says("picks from it by number"));
    t.zero("all", [0]);
  },
  vjp({ node, g: [g], b }) {
    const [x, ids] = [input(node, 0), input(node, 1)];
    const shape = shapeOf(x);
    const tuples = shapeOf(ids);
    const batch = node.int("batch_dims") ?? 0;
    const depth = tuples.at(-1)!;
    const indexed = shape.slice(batch, batch + depth);
    const rest = shape.slice(batch + depth);
    const [groups, size] = [sizeOf(shape.slice(0, batch)), sizeOf(indexed)];
    const n = sizeOf(tuples) / depth;
    const flat = b.reshape(ids, [n, depth]);
    const from = b.where(b.op("Less", [flat, b.i64([0])]), b.add(flat, b.i64(indexed)), flat);
    const strides = indexed.map((_, i) => sizeOf(indexed.slice(i + 1)));
    const local = b.sum(b.mul(from, b.i64(strides)), [1]);
    const offsets = Array.from({ length: n }, (_, i) => Math.floor((i * groups) / n) * size);
    const rows = groups === 1 ? local : b.add(local, b.i64(offsets));
    const width = sizeOf(rest);
    const zeros = b.zeros([groups * size, width], dtypeOf(x));
    return [b.reshape(scatterAdd(b, zeros, rows, b.reshape(g!, [n, width]), 0, [n, width]), shape)];
  },
};

/** Inputs: data, indices, updates. Written (indices must not repeat) or added. */
export const ScatterElements: Op = {
  axes: (t) => {
    same(t, t.input(0), t.output(0));
    indexesElements(t, t.input(0), t.input(1));
    same(t, t.input(1), t.input(2));
    t.zero("all", [0, 2]);
  },
  vjp({ node, g: [g], needs, b }) {
    const [ids, updates] = [input(node, 1), input(node, 2)];
    const reduction = node.string("reduction") ?? "none";
    if (reduction !== "none" && reduction !== "add") throw refused(node, `reduction ${reduction}`);
    const axis = node.int("axis");
    const kept = () =>
      reduction === "add" ? g! : b.op("ScatterElements", [g!, ids, b.zeros(shapeOf(updates), dtypeOf(updates))], { axis });
    return [needs[0] ? kept() : null, null, needs[2] ? b.op("GatherElements", [g!, ids], { axis }) : null];
  },
};

/** As ScatterElements, for whole slices. */
export const ScatterND: Op = {
  axes: (t) => {
    const [x, ids, updates] = [t.input(0), t.input(1), t.input(2)];
    same(t, x, t.output(0));
    const depth = ids.at(-1)!.size;
    same(t, [...ids.slice(0, -1), ...x.slice(depth)], updates);
    for (const d of [...x.slice(0, depth), ids.at(-1)!]) t.freeze(d, t.says("writes to it by number"));
    t.zero("all", [0, 2]);
  },
  vjp({ node, g: [g], needs, b }) {
    const [ids, updates] = [input(node, 1), input(node, 2)];
    const reduction = node.string("reduction") ?? "none";
    if (reduction !== "none" && reduction !== "add") throw refused(node, `reduction ${reduction}`);
    const kept = () => (reduction === "add" ? g! : b.op("ScatterND", [g!, ids, b.zeros(shapeOf(updates), dtypeOf(updates))]));
    return [needs[0] ? kept() : null, null, needs[2] ? b.op("GatherND", [g!, ids]) : null];
  },
};

/** The values' cotangent goes to where they stood. */
export const TopK: Op = {
  axes: (t) => {
    const x = t.input(0);
    const axis = at(t.node.int("axis") ?? -1, x.length);
    for (const o of [0, 1]) {
      if (!t.gives(o)) continue;
      t.output(o).forEach((d, i) => {
        if (i === axis) t.freeze(d, t.says("picks the largest along it"));
        else t.unify(d, x[i]!);
      });
    }
    t.freeze(x[axis]!, t.says("picks the largest along it"));
    t.zero("none");
  },
  vjp({ node, g: [g], b }) {
    const x = input(node, 0);
    return [b.op("ScatterElements", [b.zeros(shapeOf(x), dtypeOf(x)), output(node, 1), g!], { axis: node.int("axis") ?? -1 })];
  },
};

/** The last (or `axis`) axis counts classes. */
export const OneHot: Op = {
  axes: (t) => {
    const [x, y] = [t.input(0), t.output(0)];
    const axis = at(t.node.int("axis") ?? -1, y.length);
    same(
      t,
      x,
      y.filter((_, i) => i !== axis),
    );
    t.freeze(y[axis]!, t.says("counts classes along it"));
  },
};
