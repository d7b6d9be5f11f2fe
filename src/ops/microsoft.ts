/** ONNX Runtime's own ops, which its optimizer writes into exported models. */
import type { Node, Value } from "../ir/graph.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { type AxesRule, broadcast, keepsZero, same } from "./axes.ts";
import { type Build, dtypeOf, shapeOf } from "./build.ts";
import { Conv } from "./conv.ts";
import { gelu, geluTanh, swish } from "./gelu.ts";
import { Gemm, MatMul } from "./linear.ts";
import type { Op, VjpArgs } from "./op.ts";
import { axisOf, input, output, refused, unary } from "./rule.ts";
import { normalized, standardized, undo } from "./standardize.ts";

export const Gelu = unary(keepsZero, ({ b, x, g }) => b.mul(g, gelu(b, x)));
export const QuickGelu = unary(keepsZero, ({ b, node, x, y, g }) => b.mul(g, swish(b, x, y, node.float("alpha") ?? 1.702)));

/** f(x + bias), where the bias may be missing. */
function biased(derivative: (b: Build, x: Value) => Value): Op {
  return {
    axes: keepsZero,
    vjp({ node, g: [g], needs, b }) {
      const x = input(node, 0);
      const bias = node.inputs[1];
      const at = bias ? b.add(x, bias) : x;
      at.type ??= { dtype: dtypeOf(x), shape: shapeOf(x) };
      const dx = b.mul(g!, derivative(b, at));
      return [needs[0] ? dx : null, needs[1] && bias ? b.sumTo(dx, shapeOf(x), shapeOf(bias)) : null];
    },
  };
}
export const BiasGelu = biased(gelu);
export const FastGelu = biased(geluTanh);

/** Normalizes x + skip + bias over the last axis; output 3 is that sum. Inputs: x, skip, scale, then (beta and) bias. */
function skipped(centred: boolean): Op {
  return {
    axes: (t) => {
      const x = t.input(0);
      for (let i = 1; i < t.inputs; i++) if (t.has(i)) broadcast(t, t.input(i), x);
      for (const o of [0, 3]) if (t.gives(o)) same(t, x, t.output(o));
      if (centred) t.inexact(x.at(-1)!, "centres over it");
      else t.averages(x.at(-1)!, { scale: 2, epsilon: "epsilon" });
      t.zero("all");
    },
    vjp({ node, g, needs, b }: VjpArgs) {
      if (g[1] || g[2]) throw refused(node, "a gradient flows into its statistics");
      const [x, scale] = [input(node, 0), input(node, 2)];
      const shape = shapeOf(x);
      const axes = [axisOf(-1, shape.length)];
      const epsilon = b.scalar(node.float("epsilon") ?? 1e-12, dtypeOf(x));
      const { xhat, inv } = (centred ? standardized : normalized)(b, output(node, 3), axes, epsilon);
      const down = (v: Value, index: number) => (needs[index] ? b.sumTo(v, shape, shapeOf(input(node, index))) : null);
      const through = g[0] ? undo(b, b.mul(g[0], scale), xhat, inv, axes, centred) : null;
      const dsum = through && g[3] ? b.add(through, g[3]) : (through ?? g[3]!);
      const dscale = g[0] ? down(b.mul(g[0], xhat), 2) : null;
      const dbeta = g[0] && centred ? [down(g[0], 3)] : [];
      return [down(dsum, 0), down(dsum, 1), dscale, ...dbeta, down(dsum, centred ? 4 : 3)];
    },
  };
}
export const SkipLayerNormalization = skipped(true);
export const SkipSimplifiedLayerNormalization = skipped(false);

/** alpha · A′B′, where transA and transB exchange the last two axes. */
export const FusedMatMul: Op = {
  axes: (t) => {
    if (t.node.int("transBatchA") || t.node.int("transBatchB")) throw t.refuse("transBatch");
    MatMul.axes!(t);
  },
  vjp({ node, g: [g], needs, b }) {
    const [x, z] = [input(node, 0), input(node, 1)];
    const [xs, zs] = [shapeOf(x), shapeOf(z)];
    if (node.int("transBatchA") || node.int("transBatchB") || xs.length < 2 || zs.length < 2) throw refused(node, "vectors or transBatch");
    const [transA, transB] = [node.int("transA") ? 1 : 0, node.int("transB") ? 1 : 0];
    const y = shapeOf(node.outputs[0]!);
    const product = (p: Value, q: Value, tp: number, tq: number, to: readonly number[]) => {
      const v = b.op("FusedMatMul", [p, q], { alpha: node.attrs.get("alpha"), transA: tp, transB: tq }, "com.microsoft");
      return b.sumTo(v, [...y.slice(0, -2), ...to.slice(-2)], to);
    };
    const dx = () => (transA ? product(z, g!, transB, 1, xs) : product(g!, z, 0, 1 - transB, xs));
    const dz = () => (transB ? product(g!, x, 1, transA, zs) : product(x, g!, 1 - transA, 0, zs));
    return [needs[0] ? dx() : null, needs[1] ? dz() : null];
  },
  macs: (node: Node) => {
    const y = node.outputs[0]?.shape;
    const k = node.inputs[0]?.shape?.at(node.int("transA") ? -2 : -1);
    return y && k !== undefined ? sizeOf(y) * k : null;
  },
  weight: {
    input: 1,
    outputAxis: (node) => (node.inputs[1]?.type?.shape?.length ?? 2) - (node.int("transB") ? 2 : 1),
  },
};

/** Products whose weights are packed, quantized or fused with what follows: counted, not differentiated. */
export const MatMulNBits: Op = {
  macs: (node: Node) => {
    const y = node.outputs[0]?.shape;
    return y ? sizeOf(y) * (node.int("K") ?? 0) : null;
  },
};
export const DynamicQuantizeMatMul: Op = { macs: MatMul.macs! };
export const MatMulIntegerToFloat: Op = { macs: MatMul.macs! };
/** Activations that map 0 to 0. */
const fusable = new Set(["Relu", "LeakyRelu", "Tanh", "Elu", "HardSwish"]);
const activated =
  (rule: AxesRule): AxesRule =>
  (t) => {
    rule(t);
    if (!fusable.has(t.node.string("activation") ?? "Relu")) t.zero("none");
  };
export const FusedGemm: Op = { macs: Gemm.macs!, axes: activated(Gemm.axes!) };
export const FusedConv: Op = {
  macs: Conv.macs!,
  axes: activated((t) => {
    Conv.axes!(t);
    if (t.has(3)) same(t, t.input(3), t.output(0));
    if (t.has(3)) t.zero("none");
  }),
};
