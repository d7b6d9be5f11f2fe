/** QuantizeLinear and DequantizeLinear: what is differenced is what their rules stand for, for a rounded function is flat. */

import { type DType, intRange, roundEven, sizeOf } from "../../src/tensor/dtype.ts";
import { random } from "../../src/tensor/random.ts";
import { numbersOf, type Tensor, tensor } from "../../src/tensor/tensor.ts";
import type { Row, Subject } from "./check.ts";

const scales = (...shape: number[]) => ({ shape, from: 0.3, to: 3 });
const codes = (dtype: DType, shape: number[]) =>
  tensor(
    dtype,
    shape,
    Array.from({ length: sizeOf(shape) }, (_, i) => (5 * i) % 8),
  );
const constant = (dtype: DType, shape: number[], ...values: number[]) => tensor(dtype, shape, values);

export const rows: readonly Row[] = [
  { op: "DequantizeLinear", float32: true, inputs: [codes("uint8", [2, 3]), scales(), constant("uint8", [], 3)] },
  { op: "DequantizeLinear", float32: true, inputs: [codes("int8", [2, 3, 2]), scales(3), constant("int8", [3], 1, 0, -2)] },
  { op: "DequantizeLinear", float32: true, inputs: [codes("int32", [2, 3]), scales(2)], attrs: { axis: 0 } },
  { op: "DequantizeLinear", float32: true, opset: 21, inputs: [codes("uint4", [3, 4]), scales(3, 2)], attrs: { axis: 1, block_size: 2 } },
  { op: "DequantizeLinear", float32: true, opset: 21, inputs: [codes("int16", [5, 2]), scales(2, 2)], attrs: { axis: 0, block_size: 3 } },
];

interface RoundTrip {
  readonly codes: DType;
  readonly shape: readonly number[];
  /** Shape of the scales: [], [axis], or blocked. */
  readonly scales: readonly number[];
  readonly axis?: number;
  readonly block?: number;
  /** Zero points, of the scales' shape; null: left out. */
  readonly zeros: readonly number[] | null;
  readonly opset?: number;
}

/** The scale that serves each element. */
function places({ shape, scales, axis: given = 1, block }: RoundTrip): number[] {
  const axis = given < 0 ? given + shape.length : given;
  return Array.from({ length: sizeOf(shape) }, (_, i) => {
    const at = shape.map((d, k) => Math.floor(i / sizeOf(shape.slice(k + 1))) % d);
    if (block) return at.with(axis, Math.floor(at[axis]! / block)).reduce((n, a, k) => n * scales[k]! + a, 0);
    return scales.length ? at[axis]! : 0;
  });
}

/**
 * DequantizeLinear(QuantizeLinear(x, s), s) = s·clip(round(x/s), qmin − z, qmax − z). Taken for it is s·(clip(x/s, …) + r), with r the rest that
 * rounding left at the point of the check, held fixed, and 0 where x is outside: its derivative by x is 1 inside and 0 outside, its
 * derivative by s is round(x/s) − x/s inside and the bound outside, which is equation 3 of Esser et al. 2020.
 */
export function roundTrip(t: RoundTrip, seed = 3): Subject {
  const r = random(seed, JSON.stringify(t));
  const at = places(t);
  const [least, most] = intRange(t.codes);
  // The point lies on multiples of the step, so that it moves exactly.
  const step = most > 255 ? 2 ** -6 : 2 ** -9;
  const exact = (v: number) => Math.round(v / step) * step;
  const zeros = t.zeros ?? new Array<number>(sizeOf(t.scales)).fill(0);
  const s = Float32Array.from(zeros, () => exact(0.5 + 0.5 * r.uniform()));
  // Ratios so far from the bounds that no step of the differences crosses one; a third of them outside.
  const ratios = at.map((k, i) => {
    const [low, high] = [least - zeros[k]!, most - zeros[k]!];
    const margin = 0.2 + 6 * step * Math.max(-low, high);
    const by = margin + 2 * r.uniform();
    if (i % 6 === 0) return low - by;
    if (i % 6 === 3) return high + by;
    return Math.min(high - margin, Math.max(low + margin, low + (high - low) * r.uniform() * (i % 2 ? 1 : 0.05)));
  });
  const x = Float32Array.from(ratios, (q, i) => exact(q * s[at[i]!]!));
  const limit = (bound: number) =>
    tensor(
      "float64",
      t.shape,
      at.map((k) => bound - zeros[k]!),
    );
  const rest = tensor(
    "float64",
    t.shape,
    ratios.map((_, i) => {
      const ratio = x[i]! / s[at[i]!]!;
      const z = zeros[at[i]!]!;
      return ratio + z < least || ratio + z > most ? 0 : roundEven(ratio) - ratio;
    }),
  );
  const attrs = { ...(t.scales.length ? { axis: t.axis ?? 1 } : {}), ...(t.block ? { block_size: t.block } : {}) };
  return {
    dtype: "float32",
    step,
    opset: t.opset ?? 17,
    inputs: [
      { name: "x", value: tensor("float32", t.shape, x) },
      { name: "s", value: tensor("float32", t.scales, s) },
    ],
    build(b, [x, s]) {
      const zero = t.zeros && b.constant(tensor(t.codes, t.scales, t.zeros), "zero");
      const q = b.op("QuantizeLinear", [x!, s!, zero], attrs);
      return [b.op("DequantizeLinear", [q, s!, zero], attrs)];
    },
    instead(b, [x, s]) {
      const index = tensor("int64", t.shape, at);
      const each = b.op("Gather", [b.reshape(b.cast(s!, "float64"), [-1]), b.constant(index)]);
      const clipped = b.op("Min", [b.op("Max", [b.div(b.cast(x!, "float64"), each), b.constant(limit(least))]), b.constant(limit(most))]);
      return [b.mul(each, b.add(clipped, b.constant(rest)))];
    },
  };
}

/** What the two rules give together, by the paper's equation, for a cotangent: gradients of x and s. */
export function learnedStep(t: RoundTrip, x: Tensor, s: Tensor, g: ArrayLike<number>): { x: Float64Array; s: Float64Array } {
  const at = places(t);
  const [least, most] = intRange(t.codes);
  const [xs, ss] = [numbersOf(x), numbersOf(s)];
  const out = { x: new Float64Array(xs.length), s: new Float64Array(ss.length) };
  at.forEach((k, i) => {
    const z = t.zeros?.[k] ?? 0;
    const [qn, qp, v] = [least - z, most - z, xs[i]! / ss[k]!];
    const inside = v >= qn && v <= qp;
    out.x[i] = inside ? g[i]! : 0;
    out.s[k]! += g[i]! * (inside ? roundEven(v) - v : v < qn ? qn : qp);
  });
  return out;
}

export const trips: readonly RoundTrip[] = [
  { codes: "uint8", shape: [3, 4], scales: [], zeros: [128] },
  { codes: "uint8", shape: [3, 4], scales: [], zeros: null },
  { codes: "int8", shape: [2, 3, 4], scales: [3], zeros: [0, 0, 0] },
  { codes: "int8", shape: [4, 3], scales: [4], axis: 0, zeros: [-3, 0, 5, 100] },
  { codes: "int8", shape: [2, 3], scales: [2], axis: -2, zeros: [0, 9] },
  { codes: "int16", shape: [3, 4], scales: [], zeros: [-77], opset: 21 },
  { codes: "uint16", shape: [3, 4], scales: [], zeros: [3000], opset: 21 },
  { codes: "int4", shape: [6, 4], scales: [6], axis: 0, zeros: new Array(6).fill(0), opset: 21 },
  { codes: "uint4", shape: [4, 3], scales: [], zeros: [7], opset: 21 },
  { codes: "int8", shape: [2, 8], scales: [2, 2], axis: 1, block: 4, zeros: [0, 1, 2, 3], opset: 21 },
  { codes: "uint4", shape: [7, 2], scales: [3, 2], axis: 0, block: 3, zeros: [8, 7, 6, 5, 8, 8], opset: 21 },
  { codes: "int2", shape: [6, 4], scales: [6], axis: 0, zeros: new Array(6).fill(0), opset: 25 },
];
