/** Ops on quantized integers: gradients flow through QuantizeLinear and DequantizeLinear; others are refused by name, where other integers stop them silently. */

import type { Node, Value } from "../ir/graph.ts";
import { constantOf } from "../ir/walk.ts";
import { type DType, dtypeOfCode, intRange, isFloat, sizeOf } from "../tensor/dtype.ts";
import { numbersOf, tensor } from "../tensor/tensor.ts";
import { type AxesRule, at, same } from "./axes.ts";
import { type Build, dtypeOf, shapeOf } from "./build.ts";
import { free, product as productOf, unit } from "./dims.ts";
import { MatMul } from "./linear.ts";
import type { Op } from "./op.ts";
import { axisOf, input, refused } from "./rule.ts";

const quantized: Op = { carries: true };
const product: Op = { carries: true, macs: MatMul.macs! };
const convolution = (weight: number): Op => ({
  carries: true,
  macs(node: Node) {
    const [y, w] = [node.outputs[0]?.shape, node.inputs[weight]?.shape];
    return y && w ? sizeOf(y) * sizeOf(w.slice(1)) : null;
  },
});

/** How the scales of a QuantizeLinear or DequantizeLinear lie on a tensor of `shape`: one, one for each index of an axis, or one for each block along it. */
interface Layout {
  readonly shape: readonly number[];
  readonly scales: readonly number[];
  readonly axis: number;
  /** 0: not blocked. */
  readonly block: number;
}

function layoutOf(node: Node, shape: readonly number[]): Layout {
  const scales = shapeOf(input(node, 1));
  return { shape, scales, axis: axisOf(node.int("axis") ?? 1, shape.length), block: node.int("block_size") ?? 0 };
}

/** A value of the scales' shape so that it broadcasts against the tensor. */
function across(b: Build, v: Value, { shape, scales, axis, block }: Layout): Value {
  if (block > 0) {
    const length = shape[axis]!;
    return b.op("Gather", [v, b.i64(Array.from({ length }, (_, i) => Math.floor(i / block)))], { axis });
  }
  return sizeOf(scales) === 1 ? v : b.reshape(v, beside(shape, axis));
}

/** A value of the tensor's shape, summed to the scales'. */
function down(b: Build, v: Value, { shape, scales, axis, block }: Layout): Value {
  if (block > 0) {
    const groups = scales[axis]!;
    const none = shape.map(() => 0);
    const whole = b.pad(v, none, none.with(axis, groups * block - shape[axis]!));
    return b.sum(b.reshape(whole, shape.toSpliced(axis, 1, groups, block)), [axis + 1]);
  }
  if (sizeOf(scales) === 1) return b.reshape(b.sumTo(v, shape, []), scales);
  return b.reshape(b.sumTo(v, shape, beside(shape, axis)), scales);
}

const beside = (shape: readonly number[], axis: number) => shape.map((d, i) => (i === axis ? d : 1));

/** The integers a QuantizeLinear gives. */
function codesOf(node: Node): DType {
  const zero = node.inputs[2];
  return (zero && (constantOf(zero)?.dtype ?? zero.type?.dtype)) || dtypeOfCode(node.int("output_dtype") ?? 0) || "uint8";
}

/** A scale of its own for each position of an axis, or one for each block of it. Zero stands for zero. */
const quantizes: AxesRule = (t) => {
  const [x, scale] = [t.input(0), t.input(1)];
  same(t, x, t.output(0));
  const axis = at(t.node.int("axis") ?? 1, x.length);
  const scales = t.has(2) ? [scale, t.input(2)] : [scale];
  const block = t.node.int("block_size") ?? 0;
  for (const s of scales) {
    if (block > 0) same(t, s, x, axis);
    if (block === 0) {
      if (s.length === 1 && s[0] !== unit) t.unify(s[0]!, x[axis]!);
      continue;
    }
    s.forEach((d, i) => {
      if (i === axis) return;
      if (d.size * block !== x[i]!.size) throw t.refuse("a last block that is not full");
      const within = free(block, t.says("has one scale for a block of it"));
      t.unify(x[i]!, productOf([d, within]));
    });
  }
  t.zero("all", [0]);
};

/**
 * q = clamp(round(x/s) + z). Rounding passes gradients straight through, saturation stops them: g_x = g_q/s where qmin ≤ x/s + z ≤ qmax,
 * else 0, g_s = −Σ g_x·x/s, and g_z = Σ g_q inside. With a DequantizeLinear behind it that is the clipped straight-through estimator for x (Bengio et al. 2013),
 * and for s learned step size quantization (Esser et al. 2020, eq. 3): Σ g·(round(x/s) − x/s) inside, g·(qmin − z) or g·(qmax − z) outside.
 */
export const QuantizeLinear: Op = {
  axes: quantizes,
  carries: true,
  vjp({ node, g: [g], needs, b }) {
    const [x, s, z] = [input(node, 0), input(node, 1), node.inputs[2]];
    const codes = codesOf(node);
    if (isFloat(codes)) throw refused(node, `it rounds to ${codes}; integers have a rule`);
    const dtype = dtypeOf(x);
    const layout = layoutOf(node, shapeOf(x));
    const scale = across(b, s, layout);
    const ratio = b.div(x, scale);
    const bound = (limit: number): Value => {
      if (!z) return b.scalar(limit, dtype);
      const t = constantOf(z);
      if (!t) return across(b, b.sub(b.scalar(limit, dtype), b.cast(z, dtype)), layout);
      const zeros = numbersOf(t);
      if (t.shape.length === 0 || zeros.every((n) => n === zeros[0])) return b.scalar(limit - zeros[0]!, dtype);
      return across(
        b,
        b.constant(
          tensor(
            dtype,
            t.shape,
            Array.from(zeros, (n) => limit - n),
          ),
        ),
        layout,
      );
    };
    const [least, most] = intRange(codes);
    const inside = b.op("And", [b.op("GreaterOrEqual", [ratio, bound(least)]), b.op("LessOrEqual", [ratio, bound(most)])]);
    const gq = b.mul(g!, b.cast(inside, dtype));
    const gx = b.div(gq, scale);
    return [needs[0] ? gx : null, needs[1] ? b.neg(down(b, b.mul(gx, ratio), layout)) : null, needs[2] ? down(b, gq, layout) : null];
  },
};

/** y = (q − z)·s: g_q = g·s, a float tensor for the integers; g_s = Σ g·(q − z), g_z = −Σ g·s. */
export const DequantizeLinear: Op = {
  axes: quantizes,
  carries: true,
  vjp({ node, g: [g], needs, b }) {
    const [q, s] = [input(node, 0), input(node, 1)];
    const layout = layoutOf(node, shapeOf(node.outputs[0]!));
    const codes = () => {
      const ones = tensor(dtypeOf(s), layout.scales, new Array<number>(sizeOf(layout.scales)).fill(1));
      return b.op("DequantizeLinear", [q, b.constant(ones), ...node.inputs.slice(2)], Object.fromEntries(node.attrs));
    };
    const gq = b.mul(g!, across(b, s, layout));
    return [needs[0] ? gq : null, needs[1] ? down(b, b.mul(g!, codes()), layout) : null, needs[2] ? b.neg(down(b, gq, layout)) : null];
  },
};

export const QLinearConv = convolution(3);
export const ConvInteger = convolution(1);

export { product as MatMulInteger, product as QLinearMatMul, quantized as DynamicQuantizeLinear };
