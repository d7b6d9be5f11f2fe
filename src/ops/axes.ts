/** What an op's `axes` rule gets and says, and the kinds of such rules, named once and instantiated by the families. */
import type { Node } from "../ir/graph.ts";
import type { Fault } from "../tensor/fault.ts";
import { type Dim, product, unit } from "./dims.ts";

/** Where an op writes a size down: an attribute, an entry of a list attribute, or entry `at` of an integer input. */
export type Slot =
  /** `lacks`: it may be left out where all are equal, and is written when they no longer are; `otherwise`: the attribute that holds it in older opsets; `from`: what negative numbers count from the end of. */
  | { readonly attr: string; readonly at?: number; readonly lacks?: true; readonly from?: Dim }
  | { readonly input: number; readonly at: number; readonly otherwise?: string; readonly lacks?: true; readonly from?: Dim };

/**
 * Whether an output is zero at a removed position, given that all weights are: where **any** of the inputs is (products), where **all** of
 * those are that reach there (sums, and ops of one input that map 0 to 0), where the last and any of the others is (**biased** products), where all are that have the position at all (**joined** end to end), **always**, or not known (**none**).
 */
export type Zero = "any" | "all" | "biased" | "joined" | "always" | "none";

/** One node's axes, for its rule to unify. Inputs and outputs are named by number. */
export interface Axes {
  readonly node: Node;
  readonly opset: number;
  /** How many inputs the node has, omitted ones in between counted. */
  readonly inputs: number;
  readonly outputs: number;
  /** Whether an input is given. */
  has(input: number): boolean;
  /** Whether an output is given. */
  gives(output: number): boolean;
  /** The number of entries of an input that is a list; null: omitted or not known. */
  dim(input: number): number | null;
  /** The axes of an input; of one that is never asked for nothing may be removed. Errors: it is omitted, or its shape is not known: the node is then left alone as one without a rule. */
  input(index: number): readonly Dim[];
  output(index: number): readonly Dim[];
  /**
   * The integers of an input: constant, or computed from sizes and the same whatever the sizes of the model's inputs. null: not known
   * beforehand; undefined: omitted.
   */
  ints(input: number): readonly number[] | null | undefined;
  unify(a: Dim, b: Dim): void;
  freeze(d: Dim, why: string): void;
  /** Sums go over `d`: they stay what they were if the removed terms are zero, which they are where any of `from` is. */
  sums(d: Dim, from: readonly number[]): void;
  /** The node's first output is a mean over `d`, of input 0: as {@link sums}, and what is divided by is kept. */
  averages(d: Dim, keep: Average): void;
  /** Something else goes over `d`, and changes even if zeros are removed: "averages over it". */
  inexact(d: Dim, how: string): void;
  /** What is known of zeros in the outputs. */
  zero(kind: Zero, from?: readonly number[]): void;
  /** The node has the size of `d` written down there. */
  size(slot: Slot, d: Dim): void;
  /** Where float attribute `attr` is not said (or 0) the node takes `value` for it, by the size of `d`: it is written down if that changes. */
  keeps(attr: string, value: number, d: Dim): void;
  /** A reason that names the node: `Slice "x" cuts it`. */
  says(what: string): string;
  /** An error that leaves the node alone, as one without a rule. */
  refuse(why: string): Fault;
}

/** How a mean over fewer elements is made the mean over all again: by a Mul behind it, or in the node's own scale (input) and epsilon. */
export type Average = "behind" | { readonly scale: number; readonly epsilon: string };

export type AxesRule = (t: Axes) => void;

/** The reason of spatial axes and kernels. */
export const slides = "a window slides over it";

/** Unify two lists axis by axis, or all but one axis. Errors: of different lengths. */
export function same(t: Axes, a: readonly Dim[], b: readonly Dim[], but?: number): void {
  if (a.length !== b.length) throw t.refuse(`${a.length} axes meet ${b.length}`);
  a.forEach((d, i) => {
    if (i !== but) t.unify(d, b[i]!);
  });
}

/** Unify under broadcasting, aligned at the end: axes of size 1 give way. */
export function broadcast(t: Axes, from: readonly Dim[], to: readonly Dim[]): void {
  from.forEach((d, i) => {
    const e = to[to.length - from.length + i];
    if (e && d.size === e.size) t.unify(d, e);
    else if (d !== unit) throw t.refuse("shapes that do not broadcast");
  });
}

/** Element by element under broadcasting; all outputs alike. */
export function elementwise(zero: Zero, from?: readonly number[]): AxesRule {
  return (t) => {
    for (let o = 0; o < t.outputs; o++) {
      if (!t.gives(o)) continue;
      for (let i = 0; i < t.inputs; i++) if (t.has(i)) broadcast(t, t.input(i), t.output(o));
    }
    t.zero(zero, from);
  };
}
/** f(x), or of several, with f(0) = 0. */
export const keepsZero: AxesRule = elementwise("all");
/** As {@link keepsZero} where only input 0 is a tensor of x's kind: the others are scalars or sizes. */
export const keepsZeroOfFirst: AxesRule = elementwise("all", [0]);
/** f(x), or of several, with f(0) ≠ 0, or what is no number. */
export const losesZero: AxesRule = elementwise("none");
/** Zero where any factor is. */
export const multiplies: AxesRule = elementwise("any");

/** Output 0 has the axes of input 0 and is zero where that is; other inputs are of no matter. */
export const likeFirst: AxesRule = (t) => {
  same(t, t.input(0), t.output(0));
  for (let i = 1; i < t.inputs; i++) if (t.has(i)) t.input(i);
  t.zero("all", [0]);
};

/** The same elements in the same row-major order, under other axes. */
export const relayout: AxesRule = (t) => {
  t.unify(product(t.input(0)), product(t.output(0)));
  t.zero("all", [0]);
};

/** Output 0 is made for input 0's shape, of anything. */
export const likeFirstAnew: AxesRule = (t) => {
  same(t, t.input(0), t.output(0));
  t.zero("none");
};

/** Output 0 has the axes of input 0; `how` goes over those that `axes` gives. */
export function alongAxes(axes: (t: Axes, ndim: number) => readonly number[], how: string): AxesRule {
  return (t) => {
    const x = t.input(0);
    same(t, x, t.output(0));
    for (const a of axes(t, x.length)) t.inexact(x[a]!, how);
    t.zero("none");
  };
}

/** [N, C, …]: channels pass, a window goes over the rest. */
export const windowed: AxesRule = (t) => {
  const [x, y] = [t.input(0), t.output(0)];
  t.unify(x[0]!, y[0]!);
  t.unify(x[1]!, y[1]!);
  for (const d of [...x.slice(2), ...y.slice(2)]) t.freeze(d, slides);
  if (t.node.outputs[1]?.uses.size) throw t.refuse("its output of positions counts all elements");
  t.zero("all", [0]);
};

/** Reads no element: its output's axes have nothing to do with its inputs'. */
export const unrelated: AxesRule = (t) => t.zero("none");

/** A non-negative axis. */
export const at = (axis: number, ndim: number) => (axis < 0 ? axis + ndim : axis);
