/** Ops that pick and place elements by index. */
import { constantOf } from "../ir/walk.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { integersOf } from "../tensor/tensor.ts";
import { dtypeOf, shapeOf } from "./build.ts";
import type { Op } from "./op.ts";
import { axisOf, input, output, refused } from "./rule.ts";
import { scatterAdd } from "./scatter.ts";

/** Rows of an embedding, or slices along any axis. */
export const Gather: Op = {
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
  vjp({ node, g: [g], b }) {
    const x = input(node, 0);
    return [b.op("ScatterElements", [b.zeros(shapeOf(x), dtypeOf(x)), input(node, 1), g!], { axis: node.int("axis"), reduction: "add" })];
  },
};

/** Index tuples become row numbers of x with its indexed axes flattened. */
export const GatherND: Op = {
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
  vjp({ node, g: [g], b }) {
    const x = input(node, 0);
    return [b.op("ScatterElements", [b.zeros(shapeOf(x), dtypeOf(x)), output(node, 1), g!], { axis: node.int("axis") ?? -1 })];
  },
};
