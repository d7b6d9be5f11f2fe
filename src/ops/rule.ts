/** Kinds of gradient rules, named once and instantiated by the families, and what rules read off a node. */
import type { Node, Value } from "../ir/graph.ts";
import { constantOf, labelOf } from "../ir/walk.ts";
import { Fault } from "../tensor/fault.ts";
import { integersOf } from "../tensor/tensor.ts";
import { type AxesRule, losesZero } from "./axes.ts";
import { type Build, dtypeOf, shapeOf } from "./build.ts";
import type { Op } from "./op.ts";

/** What a rule of one tensor in, one tensor of the same shape out gets. */
export interface Pointwise {
  readonly b: Build;
  readonly node: Node;
  readonly x: Value;
  readonly y: Value;
  readonly g: Value;
  /** A scalar of x's element type. */
  readonly k: (value: number) => Value;
}

/** y = f(x); `dx` gives the cotangent of x, `axes` says what becomes of its axes. */
export function unary(axes: AxesRule, dx: (p: Pointwise) => Value): Op {
  return {
    axes,
    vjp({ node, g, b, needs }) {
      const x = input(node, 0);
      if (!needs[0]) return [];
      return [dx({ b, node, x, y: node.outputs[0]!, g: g[0]!, k: (value) => b.scalar(value, dtypeOf(x)) })];
    },
  };
}

/** What a rule of two broadcast operands gets. */
export interface Operands extends Omit<Pointwise, "x"> {
  readonly x: Value;
  readonly z: Value;
}

/** y = f(x, z) element by element under broadcasting; `dx` and `dz` give cotangents of y's shape, which are then summed down. */
export function binary(axes: AxesRule, dx: (p: Operands) => Value, dz: (p: Operands) => Value): Op {
  return {
    axes,
    vjp({ node, g, b, needs }) {
      const [x, z] = [input(node, 0), input(node, 1)];
      const y = node.outputs[0]!;
      const p: Operands = { b, node, x, z, y, g: g[0]!, k: (value) => b.scalar(value, dtypeOf(x)) };
      const down = (c: Value, to: Value) => b.sumTo(c, shapeOf(y), shapeOf(to));
      return [needs[0] ? down(dx(p), x) : null, needs[1] ? down(dz(p), z) : null];
    },
  };
}

/** What a rule of any number of broadcast operands gets: `x` is the one whose cotangent is wanted. */
export interface Variadic extends Pointwise {
  readonly xs: readonly Value[];
  readonly count: number;
  /** A value that the operands' rules share: made at the first call. */
  readonly once: (make: () => Value) => Value;
}

/** y = f(x₀, x₁, …) element by element under broadcasting. */
export function variadic(axes: AxesRule, dx: (p: Variadic) => Value): Op {
  return {
    axes,
    vjp({ node, g, b, needs }) {
      const xs = node.inputs.map((_, i) => input(node, i));
      const y = node.outputs[0]!;
      let shared: Value | undefined;
      const once = (make: () => Value) => (shared ??= make());
      const p = { b, node, y, g: g[0]!, xs, count: xs.length, once, k: (value: number) => b.scalar(value, dtypeOf(y)) };
      return xs.map((x, i) => (needs[i] ? b.sumTo(dx({ ...p, x }), shapeOf(y), shapeOf(x)) : null));
    },
  };
}

/** An op no gradient passes: comparisons, shapes, indices, piecewise constant functions. */
export const stop: Op = { stops: true };
/** As {@link stop}, element by element under broadcasting. */
export const stopElementwise: Op = { stops: true, axes: losesZero };

/** Input `index` of a node. Errors: it is omitted. */
export function input(node: Node, index: number): Value {
  const v = node.inputs[index];
  if (!v) throw refused(node, `input ${index} is missing`);
  return v;
}

/** Output `index` of a node, made where it was left out. */
export function output(node: Node, index: number): Value {
  while (node.outputs.length <= index) node.graph.addNodeOutput(node, null);
  const have = node.outputs[index];
  if (have) return have;
  const v = node.graph.value(`${labelOf(node)}_out${index}`);
  v.producer = node;
  node.outputs[index] = v;
  return v;
}

/** The integers of an input that must be constant, or undefined where it is omitted. */
export function constantInts(node: Node, index: number): readonly number[] | undefined {
  const v = node.inputs[index];
  if (!v) return undefined;
  const t = constantOf(v);
  if (!t) throw refused(node, `input ${index} ("${v.name}") is computed; only a constant has a gradient rule`);
  return integersOf(t);
}

/** A Fault for a form of an op that has no rule. */
export function refused(node: Node, why: string): Fault {
  return new Fault("grad", `no gradient rule for this ${node.opType} (node "${labelOf(node)}"): ${why}`);
}

/** A non-negative axis of a tensor with `ndim` axes. */
export function axisOf(axis: number, ndim: number): number {
  return axis < 0 ? axis + ndim : axis;
}
