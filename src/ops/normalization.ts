/** Normalizations over a sample's own elements (those over the batch are in their own file). */
import type { Value } from "../ir/graph.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { type Axes, type AxesRule, alongAxes, at, broadcast, same } from "./axes.ts";
import { dtypeOf, shapeOf } from "./build.ts";
import { type Dim, free, product } from "./dims.ts";
import type { Op, VjpArgs } from "./op.ts";
import { axisOf, input, output, unary } from "./rule.ts";
import { normalized, standardized, undo } from "./standardize.ts";

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

/** Cotangents of scale and bias: those of x̂ and of the sum, summed down. */
function affine({ node, needs, b }: VjpArgs, g: Value, xhat: Value, shape: readonly number[]): (Value | null)[] {
  const [scale, bias] = [node.inputs[1], node.inputs[2]];
  return [
    needs[1] && scale ? b.sumTo(b.mul(g, xhat), shape, shapeOf(scale)) : null,
    needs[2] && bias ? b.sumTo(g, shape, shapeOf(bias)) : null,
  ];
}

const epsilonOf = ({ node, b }: VjpArgs) => b.scalar(node.float("epsilon") ?? 1e-5, dtypeOf(input(node, 0)));

/** Scale and bias meet the last axes, the statistics have the others. */
const normalizes =
  (how: (t: Axes, d: Dim) => void): AxesRule =>
  (t) => {
    const x = t.input(0);
    same(t, x, t.output(0));
    for (const i of [1, 2]) if (t.has(i)) broadcast(t, t.input(i), x);
    const axis = at(t.node.int("axis") ?? -1, x.length);
    for (let o = 1; o < t.outputs; o++) if (t.gives(o)) same(t, x.slice(0, axis), t.output(o).slice(0, axis));
    for (const d of x.slice(axis)) how(t, d);
    t.zero(t.has(2) ? "biased" : "any", t.has(2) ? [1, 1, 2] : [0, 1]);
  };
const centres = normalizes((t, d) => t.inexact(d, "centres over it"));
const scales = normalizes((t, d) => t.averages(d, { scale: 1, epsilon: "epsilon" }));

/**
 * x̂·scale + bias over the axes from `axis` on; the statistics are the op's own outputs. Where gradients flow into those:
 * ∂mean/∂x = 1/n, ∂inv/∂x = −inv²·x̂/n.
 */
export const LayerNormalization: Op = {
  axes: centres,
  vjp(args) {
    const { node, needs, b } = args;
    const [x, scale] = [input(node, 0), input(node, 1)];
    const shape = shapeOf(x);
    const dtype = dtypeOf(x);
    const axes = range(axisOf(node.int("axis") ?? -1, shape.length), shape.length);
    // They are float32 whatever x is.
    const own = (v: Value) => (dtype === "float32" ? v : b.cast(v, dtype));
    const [mean, inv] = [own(output(node, 1)), own(output(node, 2))];
    const xhat = b.mul(b.sub(x, mean), inv);
    const [g, gMean, gInv] = [args.g[0], args.g[1] ? own(args.g[1]) : null, args.g[2] ? own(args.g[2]) : null];
    const share = b.scalar(1 / sizeOf(axes.map((a) => shape[a]!)), dtype);
    const parts = [
      g ? undo(b, b.mul(g, scale), xhat, inv, axes, true) : null,
      gMean ? b.expand(b.mul(gMean, share), shape) : null,
      gInv ? b.neg(b.mul(b.mul(gInv, b.mul(b.mul(inv, inv), share)), xhat)) : null,
    ].filter((v) => v !== null);
    const dx = needs[0] ? parts.reduce((p, q) => b.add(p, q)) : null;
    return [dx, ...(g ? affine(args, g, xhat, shape) : [])];
  },
};

/** x / √(mean x² + ε) · scale over the axes from `axis` on. */
export const RMSNormalization: Op = {
  axes: scales,
  vjp(args) {
    const {
      node,
      g: [g],
      needs,
      b,
    } = args;
    const [x, scale] = [input(node, 0), input(node, 1)];
    const shape = shapeOf(x);
    const axes = range(axisOf(node.int("axis") ?? -1, shape.length), shape.length);
    const { xhat, inv } = normalized(b, x, axes, epsilonOf(args));
    return [needs[0] ? undo(b, b.mul(g!, scale), xhat, inv, axes, false) : null, ...affine(args, g!, xhat, shape)];
  },
};
/** ONNX Runtime's name for it from before opset 23. */
export const SimplifiedLayerNormalization: Op = RMSNormalization;

/** Laid out as [n, groups, c / groups · space]: statistics over the last axis, scale and bias by channel. */
function grouped(args: VjpArgs, groups: number): (Value | null)[] {
  const {
    node,
    g: [g],
    needs,
    b,
  } = args;
  const [x, scale] = [input(node, 0), input(node, 1)];
  const shape = shapeOf(x);
  const [n, c] = [shape[0]!, shape[1]!];
  const byChannel = [n, c, sizeOf(shape.slice(2))];
  const byGroup = [n, groups, sizeOf(shape) / n / groups];
  const { xhat, inv } = standardized(b, b.reshape(x, byGroup), [2], epsilonOf(args));
  const dy = b.reshape(g!, byChannel);
  // Opset 18's GroupNormalization has a scale for each group.
  const per = shapeOf(scale)[0]!;
  const spread = per === c ? b.reshape(scale, [c, 1]) : b.reshape(b.expand(b.reshape(scale, [per, 1]), [per, c / per]), [c, 1]);
  const down = (v: Value) => {
    const channels = b.sum(b.sum(v, [2]), [0]);
    return per === c ? channels : b.sum(b.reshape(channels, [per, c / per]), [1]);
  };
  const back = () => b.reshape(undo(b, b.reshape(b.mul(dy, spread), byGroup), xhat, inv, [2], true), shape);
  return [needs[0] ? back() : null, needs[1] ? down(b.mul(dy, b.reshape(xhat, byChannel))) : null, needs[2] ? down(dy) : null];
}

/** By channel; statistics go over the rest, which may hold channels too (a group normalization spelled out). */
const byChannel: AxesRule = (t) => {
  const x = t.input(0);
  same(t, x, t.output(0));
  for (const d of x.slice(2)) t.inexact(d, "centres over it");
  for (const i of [1, 2]) t.unify(t.input(i)[0]!, x[1]!);
  t.zero("biased", [1, 1, 2]);
};

/** Channels are [groups, the rest]; a whole group may go, but statistics go over the rest. */
const byGroup: AxesRule = (t) => {
  const x = t.input(0);
  same(t, x, t.output(0));
  const groups = free(t.node.int("num_groups")!);
  const rest = free(x[1]!.size / groups.size);
  t.unify(x[1]!, product([groups, rest]));
  for (const i of [1, 2]) t.unify(t.input(i)[0]!, t.input(i)[0]!.size === groups.size ? groups : x[1]!);
  t.size({ attr: "num_groups" }, groups);
  t.inexact(rest, "centres over it");
  t.zero("biased", [1, 1, 2]);
};

export const InstanceNormalization: Op = { axes: byChannel, vjp: (args) => grouped(args, shapeOf(input(args.node, 0))[1]!) };
export const GroupNormalization: Op = { axes: byGroup, vjp: (args) => grouped(args, args.node.int("num_groups")!) };

/** (x − mean) / √(variance + 1e-9) over `axes`. */
export const MeanVarianceNormalization = unary(
  alongAxes((t, ndim) => (t.node.ints("axes") ?? [0, 2, 3]).map((a) => at(a, ndim)), "centres over it"),
  ({ b, node, x, g, k }) => {
    const axes = (node.ints("axes") ?? [0, 2, 3]).map((a) => axisOf(a, shapeOf(x).length));
    const { xhat, inv } = standardized(b, x, axes, k(1e-9));
    return undo(b, g, xhat, inv, axes, true);
  },
);

/** y = x / ‖x‖ₚ along one axis: dx = (g − d‖x‖·Σg·y) / ‖x‖ with d‖x‖ = y for p = 2, sign x for p = 1; zero where the norm is. */
export const LpNormalization = unary(
  (t) => {
    const x = t.input(0);
    same(t, x, t.output(0));
    t.sums(x[at(t.node.int("axis") ?? -1, x.length)]!, [0]);
    t.zero("all", [0]);
  },
  ({ b, node, x, y, g, k }) => {
    const axes = [axisOf(node.int("axis") ?? -1, shapeOf(x).length)];
    const p = node.int("p") ?? 2;
    const total = b.sum(p === 2 ? b.mul(x, x) : b.op("Abs", [x]), axes, true);
    const norm = p === 2 ? b.op("Sqrt", [total]) : total;
    const zero = b.op("Equal", [norm, k(0)]);
    const slope = b.mul(p === 2 ? y : b.op("Sign", [x]), b.sum(b.mul(g, y), axes, true));
    return b.where(zero, k(0), b.div(b.sub(g, slope), b.where(zero, k(1), norm)));
  },
);
