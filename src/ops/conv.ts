/** Conv and ConvTranspose. */
import type { Node } from "../ir/graph.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { type AxesRule, slides } from "./axes.ts";
import { shapeOf } from "./build.ts";
import { biasGradient, type Convolution, conv, inputGradient, weightGradient } from "./convgrad.ts";
import { free, product } from "./dims.ts";
import type { Op } from "./op.ts";
import { spatialOf, windowOf } from "./window.ts";

/** MACs: every element at the wide end of the window meets every weight of its group. */
function macs(node: Node, end: "output" | "input"): number | null {
  const at = (end === "output" ? node.outputs[0] : node.inputs[0])?.shape;
  const w = node.inputs[1]?.shape;
  if (!at || !w) return null;
  return end === "output" ? sizeOf(at) * sizeOf(w.slice(1)) : sizeOf(at) * sizeOf(w.slice(1));
}

/**
 * Channels in and out are [group, the rest]; the bias, where there is one, has those of the output.
 * @param bias its input, or null: there is none
 */
function convolves(x: number, w: number, bias: number | null): AxesRule {
  return (t) => {
    const [from, kernel, to] = [t.input(x), t.input(w), t.output(0)];
    const group = free(t.node.int("group") ?? 1);
    const out = free(kernel[0]!.size / group.size);
    t.unify(from[0]!, to[0]!);
    t.unify(from[1]!, product([group, kernel[1]!]));
    t.unify(kernel[0]!, product([group, out]));
    t.unify(to[1]!, kernel[0]!);
    const biased = bias !== null && t.has(bias);
    if (biased) t.unify(t.input(bias)[0]!, to[1]!);
    for (const d of [...from.slice(2), ...kernel.slice(2), ...to.slice(2)]) t.freeze(d, slides);
    t.size({ attr: "group" }, group);
    t.sums(kernel[1]!, [x, w]);
    if (biased) t.zero("biased", [x, w, bias]);
    else t.zero("any", [x, w]);
  };
}

/** Y[n, m] = Σ_{c, k} X[n, c, s·o + d·k − p] · W[m, c, k] + B[m]; X [N, C, …], W [M, C/group, …kernel]. */
export const Conv: Op = {
  axes: convolves(0, 1, 2),
  vjp({ node, g, needs, b }) {
    const [x, w] = node.inputs;
    const dy = g[0]!;
    const { n, spatial: input } = spatialOf(x!);
    const { spatial: output } = spatialOf(node.outputs[0]!);
    const [m, ci, ...kernel] = shapeOf(w!) as [number, number, ...number[]];
    const group = node.int("group") ?? 1;
    const c: Convolution = { ...windowOf(node, input, output, kernel), n, group, ci, co: m / group };
    return [
      needs[0] ? inputGradient(b, c, w!, dy) : null,
      needs[1] ? weightGradient(b, c, x!, dy) : null,
      needs[2] ? biasGradient(b, dy, n, m, output) : null,
    ];
  },
  macs: (node) => macs(node, "output"),
  weight: { input: 1, outputAxis: () => 0 },
};

/** The adjoint of Conv in X, plus a bias: X [N, C, …], W [C, M/group, …kernel], Y [N, M, …]. */
export const ConvTranspose: Op = {
  axes: (t) => {
    const [x, w, y] = [t.input(0), t.input(1), t.output(0)];
    const group = free(t.node.int("group") ?? 1);
    const [into, out] = [free(x[1]!.size / group.size), w[1]!];
    t.unify(x[0]!, y[0]!);
    t.unify(x[1]!, product([group, into]));
    t.unify(w[0]!, product([group, into]));
    t.unify(y[1]!, product([group, out]));
    if (t.has(2)) t.unify(t.input(2)[0]!, y[1]!);
    for (const d of [...x.slice(2), ...w.slice(2), ...y.slice(2)]) t.freeze(d, slides);
    t.size({ attr: "group" }, group);
    t.sums(into, [0, 1]);
    t.zero("any", [0, 1]);
    if (t.has(2)) t.zero("biased", [0, 1, 2]);
  },
  vjp({ node, g, needs, b }) {
    const [x, w] = node.inputs;
    const dy = g[0]!;
    const { n, spatial: output } = spatialOf(x!);
    const { c: m, spatial: input } = spatialOf(node.outputs[0]!);
    const [channels, ci, ...kernel] = shapeOf(w!) as [number, number, ...number[]];
    const group = node.int("group") ?? 1;
    const c: Convolution = { ...transposedWindow(node, input, output, kernel), n, group, ci, co: channels / group };
    return [
      needs[0] ? conv(b, dy, w!, c) : null,
      needs[1] ? weightGradient(b, c, dy, x!) : null,
      needs[2] ? biasGradient(b, dy, n, m, input) : null,
    ];
  },
  macs: (node) => macs(node, "input"),
  weight: { input: 1, outputAxis: () => 1 },
};

/** The window of the convolution a ConvTranspose is the adjoint of; its own pads follow from output_shape and auto_pad by other rules. */
function transposedWindow(node: Node, input: readonly number[], output: readonly number[], kernel: readonly number[]) {
  const w = windowOf(node, input, output, kernel);
  const auto = node.string("auto_pad") ?? "NOTSET";
  if (!node.ints("output_shape") && auto !== "SAME_UPPER" && auto !== "SAME_LOWER") return w;
  const extra = node.ints("output_padding") ?? kernel.map(() => 0);
  const total = w.begin.map((p, i) => p + w.end[i]! + extra[i]!);
  const begin = total.map((t) => (auto === "SAME_UPPER" ? Math.floor(t / 2) : Math.ceil(t / 2)));
  return { ...w, begin, end: w.begin.map((p, i) => p + w.end[i]! - begin[i]!) };
}
