/** Conv and ConvTranspose. */
import type { Node } from "../ir/graph.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { shapeOf } from "./build.ts";
import { biasGradient, type Convolution, conv, inputGradient, weightGradient } from "./convgrad.ts";
import type { Op } from "./op.ts";
import { spatialOf, windowOf } from "./window.ts";

/** MACs: every element at the wide end of the window meets every weight of its group. */
function macs(node: Node, end: "output" | "input"): number | null {
  const at = (end === "output" ? node.outputs[0] : node.inputs[0])?.shape;
  const w = node.inputs[1]?.shape;
  if (!at || !w) return null;
  return end === "output" ? sizeOf(at) * sizeOf(w.slice(1)) : sizeOf(at) * sizeOf(w.slice(1));
}

/** Y[n, m] = Σ_{c, k} X[n, c, s·o + d·k − p] · W[m, c, k] + B[m]; X [N, C, …], W [M, C/group, …kernel]. */
export const Conv: Op = {
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
