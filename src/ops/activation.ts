/** Activation functions. */
import type { Value } from "../ir/graph.ts";
import { keepsZero, keepsZeroOfFirst, losesZero } from "./axes.ts";
import { type Build, dtypeOf, shapeOf } from "./build.ts";
import { gelu, geluTanh, swish } from "./gelu.ts";
import type { Op } from "./op.ts";
import { input, type Pointwise, unary } from "./rule.ts";

/** g where y > 0: the two casts are the fastest mask ONNX Runtime has. */
export const Relu = unary(keepsZero, ({ b, y, g }) => b.mul(g, b.cast(b.cast(y, "bool"), dtypeOf(y))));
export const Sigmoid = unary(losesZero, ({ b, y, g, k }) => b.mul(g, b.mul(y, b.sub(k(1), y))));
export const Tanh = unary(keepsZero, ({ b, y, g, k }) => b.mul(g, b.sub(k(1), b.mul(y, y))));
export const Softplus = unary(losesZero, ({ b, x, g }) => b.mul(g, b.op("Sigmoid", [x])));
export const Softsign = unary(keepsZero, ({ b, x, g, k }) => {
  const d = b.add(b.op("Abs", [x]), k(1));
  return b.div(g, b.mul(d, d));
});

const above = ({ b, x, k }: Pointwise, bound = 0) => b.op("Greater", [x, k(bound)]);

/** g where x > 0, else the cotangent `otherwise`. */
const rectifier = (otherwise: (p: Pointwise) => Value) => unary(keepsZero, (p) => p.b.where(above(p), p.g, otherwise(p)));
export const LeakyRelu = rectifier(({ b, node, g, k }) => b.mul(g, k(node.float("alpha") ?? 0.01)));
/** α(eˣ − 1) below zero. */
export const Elu = rectifier(({ b, node, y, g, k }) => b.mul(g, b.add(y, k(node.float("alpha") ?? 1))));
/** α(e^(x/α) − 1) below zero. */
export const Celu = rectifier(({ b, node, y, g, k }) => b.mul(g, b.add(b.mul(y, k(1 / (node.float("alpha") ?? 1))), k(1))));
/** γx above zero, γα(eˣ − 1) below. */
export const Selu = unary(keepsZero, (p) => {
  const { b, node, y, g, k } = p;
  const gamma = node.float("gamma") ?? 1.0507009873554805;
  const alpha = node.float("alpha") ?? 1.6732632423543772;
  return b.mul(g, b.where(above(p), k(gamma), b.add(y, k(gamma * alpha))));
});
export const ThresholdedRelu = unary(keepsZero, (p) => p.b.where(above(p, p.node.float("alpha") ?? 1), p.g, p.k(0)));

/** x moved towards zero by `bias` where |x| > lambd, else 0. */
export const Shrink = unary(keepsZero, ({ b, node, x, g, k }) =>
  b.mul(g, b.cast(b.op("Greater", [b.op("Abs", [x]), k(node.float("lambd") ?? 0.5)]), dtypeOf(x))),
);

/** Inputs: x, and a slope that broadcasts to it. */
export const PRelu: Op = {
  axes: keepsZeroOfFirst,
  vjp({ node, g: [g], needs, b }) {
    const [x, slope] = [input(node, 0), input(node, 1)];
    const zero = b.scalar(0, dtypeOf(x));
    const positive = b.op("Greater", [x, zero]);
    return [
      needs[0] ? b.where(positive, g!, b.mul(g!, slope)) : null,
      needs[1] ? b.sumTo(b.where(positive, zero, b.mul(g!, x)), shapeOf(x), shapeOf(slope)) : null,
    ];
  },
};

/** 1 where low < v < high. */
const between = (b: Build, v: Value, low: Value, high: Value) =>
  b.cast(b.op("And", [b.op("Greater", [v, low]), b.op("Less", [v, high])]), dtypeOf(v));

/** max(0, min(1, αx + β)). */
export const HardSigmoid = unary(losesZero, ({ b, node, y, g, k }) =>
  b.mul(b.mul(g, k(node.float("alpha") ?? 0.2)), between(b, y, k(0), k(1))),
);
/** x · max(0, min(1, x/6 + ½)): x/3 + ½ within (−3, 3), then 1. */
export const HardSwish = unary(keepsZero, (p) => {
  const { b, x, g, k } = p;
  const inside = b.add(b.mul(x, k(1 / 3)), k(0.5));
  return b.mul(g, b.where(above(p, 3), k(1), b.mul(inside, between(b, x, k(-3), k(3)))));
});
/** x · tanh(softplus x). */
export const Mish = unary(keepsZero, ({ b, x, g, k }) => {
  const t = b.op("Tanh", [b.op("Softplus", [x])]);
  const inner = b.mul(b.mul(x, b.op("Sigmoid", [x])), b.sub(k(1), b.mul(t, t)));
  return b.mul(g, b.add(t, inner));
});
/** x · σ(αx). */
export const Swish = unary(keepsZero, ({ b, node, x, y, g }) => b.mul(g, swish(b, x, y, node.float("alpha") ?? 1)));
export const Gelu = unary(keepsZero, ({ b, node, x, g }) => b.mul(g, (node.string("approximate") === "tanh" ? geluTanh : gelu)(b, x)));
