/** Learned step size quantization (Esser et al. 2020), spelled in plain ops for training: the numbers of QuantizeLinear and DequantizeLinear. */
import { type Node, produce, type Value } from "../../ir/graph.ts";
import type { Build } from "../../ops/build.ts";
import type { Histogram } from "../../runtime/observers.ts";
import { roundEven, sizeOf } from "../../tensor/dtype.ts";
import { tensor } from "../../tensor/tensor.ts";

/** The integers of a quantizer, counted from its zero point: low ≤ 0 ≤ high. */
export interface Span {
  readonly low: number;
  readonly high: number;
}

/** Symmetric weights: −2^(bits−1) … 2^(bits−1) − 1 (Esser et al., section 2); 8 bits leave −128 out, as integer kernels want it. */
export function weightSpan(bits: number): Span {
  const half = 2 ** (bits - 1);
  return { low: bits === 8 ? 1 - half : -half, high: half - 1 };
}

/** The codes 0 … 2^bits − 1 of a range that holds 0, with its zero point. Symmetric: the middle, or 0 where nothing is negative. */
export function inputSpan(min: number, max: number, bits: number, symmetric: boolean): Span {
  const most = 2 ** bits - 1;
  const zero = min >= 0 ? 0 : symmetric ? (most + 1) / 2 : Math.min(most, Math.max(0, roundEven((-min * most) / (max - min))));
  return { low: 0 - zero, high: most - zero };
}

/** A scale below the smallest normal float32 would underflow. */
const tiny = 1.1754943508222875e-38;

/** Σ n·(v − s·clamp(round(v/s)))² over weighted numbers. */
function squaredError(values: ArrayLike<number>, counts: ArrayLike<number> | null, s: number, { low, high }: Span): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    const n = counts ? counts[i]! : 1;
    if (n === 0) continue;
    const v = values[i]!;
    const q = Math.round(v / s);
    sum += n * (v - s * (q < low ? low : q > high ? high : q)) ** 2;
  }
  return sum;
}

/**
 * The scale of least squared error: of 80 between a fortieth and the whole of what the largest number asks for. 0 for zeros alone.
 * `counts`: how often each number occurs.
 */
export function leastError(values: ArrayLike<number>, counts: ArrayLike<number> | null, span: Span): number {
  let widest = 0;
  for (let i = 0; i < values.length; i++) {
    if (counts && counts[i] === 0) continue;
    const v = values[i]!;
    widest = Math.max(widest, v < 0 ? (span.low < 0 ? v / span.low : -v) : span.high > 0 ? v / span.high : v);
  }
  if (!(widest >= 40 * tiny)) return 0;
  let [best, least] = [widest, Infinity];
  for (let k = 80; k >= 2; k--) {
    const s = Math.fround((widest * k) / 80);
    const e = squaredError(values, counts, s, span);
    if (e < least) [best, least] = [s, e];
  }
  return Math.fround(best);
}

/** The numbers of a histogram's bins, and how often they occur. */
export function binsOf(h: Histogram): { readonly values: Float64Array; readonly counts: Float64Array } {
  const width = 2 ** h.exponent;
  return { values: Float64Array.from(h.counts, (_, i) => Math.min(h.max, Math.max(h.min, (h.start + i + 0.5) * width))), counts: h.counts };
}

/** A scale in a training graph. */
export interface Step {
  readonly span: Span;
  /** Of the shape it broadcasts with; positive. */
  readonly value: Value;
  /** The initializer that is trained, and those that are not. */
  readonly learned: string | null;
  readonly settings: readonly string[];
}

/**
 * A scale s, learned as s₀·exp(p) from p = 0, so that it stays positive and a step of Adam changes all scales by the same share; fixed:
 * s₀. The gradient of p is scaled by 1/(√(N·Qp)·s₀²): with SGD, s moves as section 2.2 of Esser et al. has it, for N numbers a scale serves.
 */
export function stepOf(
  b: Build,
  name: string,
  initial: Float32Array,
  shape: readonly number[],
  span: Span,
  count: number,
  learn: boolean,
): Step {
  const s0 = b.graph.initializer(`${name}/scale0`, tensor("float32", shape, initial));
  s0.type = { dtype: "float32", shape };
  if (!learn) return { span, value: s0, learned: null, settings: [s0.name] };
  const factor = 1 / Math.sqrt(count * Math.max(1, span.high));
  const p = b.graph.initializer(`${name}/log_scale`, tensor("float32", shape, new Float32Array(sizeOf(shape))));
  const scaled = b.graph.initializer(
    `${name}/gradient_scale`,
    tensor(
      "float32",
      shape,
      initial.map((s) => Math.min(1e30, factor / s ** 2)),
    ),
  );
  const value = b.mul(b.op("Exp", [b.straightThrough(b.mul(p, scaled), p)]), s0);
  return { span, value, learned: p.name, settings: [s0.name, scaled.name] };
}

/**
 * The node that gives s·round(clip(x/s, low, high)): the numbers of a QuantizeLinear and a DequantizeLinear with scale s, bit by bit. With
 * the gradient straight through the rounding, those of x and s are the paper's (eq. 3 and 5).
 */
export function fakeQuantize(b: Build, x: Value, { value: s, span }: Step): Node {
  const clipped = b.op("Clip", [b.div(x, s), b.f32(span.low), b.f32(span.high)]);
  return b.node("Mul", [b.straightThrough(clipped, b.op("Round", [clipped])), s]);
}

/** A bias in multiples of the scale of the products, as its int32 codes will hold it; the gradient goes straight through. */
export function fakeBias(b: Build, bias: Value, products: Value): Value {
  return b.straightThrough(bias, b.mul(b.op("Round", [b.div(bias, products)]), products));
}

/** Takes a node out that nobody reads any more, and with it whatever only it needed. */
export function retire(node: Node): void {
  if (!node.graph.nodes.has(node) || node.outputs.some((o) => o && o.uses.size > 0)) return;
  const inputs = [...node.inputs];
  node.graph.remove(node);
  for (const v of inputs) {
    if (!v || v.uses.size > 0) continue;
    if (v.producer) retire(v.producer);
    else if (v.data && v.graph.initializers.has(v) && !v.graph.inputs.includes(v)) v.graph.removeInitializer(v);
  }
}

/** Lets `node` compute `value` from now on; what did so before is retired. */
export function replace(value: Value, node: Node): void {
  const before = value.producer!;
  produce(node, value);
  retire(before);
}
