/** The two gradients of a convolution, in the formulations that were raced (bench/conv-gradients.ts). */
import type { Value } from "../ir/graph.ts";
import { type Build, dtypeOf } from "./build.ts";
import { pad, stride, type Window } from "./window.ts";

/** A convolution of X [n, group·ci, …input] with W [group·co, ci, …kernel] into Y [n, group·co, …output]. */
export interface Convolution extends Window {
  readonly n: number;
  readonly group: number;
  readonly ci: number;
  readonly co: number;
}

const product = (xs: readonly number[]) => xs.reduce((a, d) => a * d, 1);

/** A Conv node; negative pads crop first. */
export function conv(
  b: Build,
  x: Value,
  w: Value,
  a: Pick<Window, "kernel" | "strides" | "dilations" | "begin" | "end"> & { group: number },
): Value {
  const cut = (xs: readonly number[]) => xs.map((p) => Math.min(p, 0));
  const keep = (xs: readonly number[]) => xs.map((p) => Math.max(p, 0));
  const cropped = pad(b, x, a.kernel.length + 2, cut(a.begin), cut(a.end));
  const { strides, dilations, group } = a;
  return b.op("Conv", [cropped, w], { kernel_shape: a.kernel, strides, dilations, group, pads: [...keep(a.begin), ...keep(a.end)] });
}

/** dX as the transposed convolution of dY. */
export function inputByTranspose(b: Build, c: Convolution, w: Value, dy: Value): Value {
  const { strides, dilations, group } = c;
  return b.op("ConvTranspose", [dy, w], {
    kernel_shape: c.kernel,
    strides,
    dilations,
    group,
    pads: [...c.begin, ...c.end.map((p) => Math.max(p, 0))],
    output_padding: c.end.map((p) => Math.max(-p, 0)),
  });
}

/** dX as a convolution of dY with the flipped kernel; all strides 1. */
export function inputByFlip(b: Build, c: Convolution, w: Value, dy: Value): Value {
  const k = product(c.kernel);
  let flipped = w;
  if (c.group === 1) flipped = b.transpose(w, [1, 0, ...c.kernel.map((_, i) => i + 2)]);
  else if (c.ci > 1 || c.co > 1) {
    flipped = b.transpose(b.reshape(w, [c.group, c.co, c.ci, k]), [0, 2, 1, 3]);
    flipped = b.reshape(flipped, [c.group * c.ci, c.co, ...c.kernel]);
  }
  const axes = c.kernel.flatMap((size, i) => (size > 1 ? [i + 2] : []));
  if (axes.length) {
    const down = axes.map(() => -1);
    flipped = b.op("Slice", [flipped, b.i64(down), b.i64(axes.map(() => -(2 ** 31))), b.i64(axes), b.i64(down)]);
  }
  // For whoever looks at the graph afterwards: values that rules append have no types of their own.
  if (flipped !== w) flipped.type = { dtype: dtypeOf(w), shape: [c.group * c.ci, c.co, ...c.kernel] };
  const reach = (p: readonly number[]) => p.map((x, i) => c.dilations[i]! * (c.kernel[i]! - 1) - x);
  return conv(b, dy, flipped, { ...c, begin: reach(c.begin), end: reach(c.end) });
}

/** dW as a convolution of X with dY as the kernel, batch and channels swapped, strides and dilations too: any number of axes. */
export function weightBySwap(b: Build, c: Convolution, x: Value, dy: Value): Value {
  const { n, group, ci, co, input, output, kernel } = c;
  const space = kernel.map((_, i) => i + 2);
  let xs: Value;
  let ds: Value;
  if (group === 1) {
    xs = b.transpose(x, [1, 0, ...space]);
    ds = b.transpose(dy, [1, 0, ...space]);
  } else {
    xs = b.transpose(b.reshape(x, [n, group, ci, ...input]), [2, 1, 0, ...space.map((i) => i + 1)]);
    xs = b.reshape(xs, [ci, group * n, ...input]);
    ds = b.reshape(b.transpose(dy, [1, 0, ...space]), [group * co, n, ...output]);
  }
  const dw = conv(b, xs, ds, { ...c, kernel: output, strides: c.dilations, dilations: c.strides });
  return b.transpose(dw, [1, 0, ...space]);
}

/** One or two spatial axes as two: rows and columns. */
interface Plane {
  readonly kernel: readonly [number, number];
  readonly strides: readonly [number, number];
  readonly dilations: readonly [number, number];
  readonly begin: readonly [number, number];
  readonly input: readonly [number, number];
  readonly output: readonly [number, number];
}

function planeOf(c: Convolution): Plane {
  const two = (xs: readonly number[], one: number) => (xs.length === 1 ? [one, xs[0]!] : [xs[0]!, xs[1]!]) as [number, number];
  return {
    kernel: two(c.kernel, 1),
    strides: two(c.strides, 1),
    dilations: two(c.dilations, 1),
    begin: two(c.begin, 0),
    input: two(c.input, 1),
    output: two(c.output, 1),
  };
}

const range = (n: number) => Array.from({ length: n }, (_, i) => i);
const mod = (a: number, m: number) => ((a % m) + m) % m;

/** [n, channels, …space] → [channels, space, n]: examples innermost, so that a position is one run of n numbers. */
function examplesLast(b: Build, v: Value, n: number, channels: number, space: number): Value {
  return b.reshape(b.transpose(b.reshape(v, [n, channels * space]), [1, 0]), [channels, space, n]);
}

/** Positions of axis 1 by index; −1 is a zero. */
function positions(b: Build, v: Value, index: readonly number[], extent: number): Value {
  if (index.length === extent && index.every((p, i) => p === i)) return v;
  const from = index.some((p) => p < 0) ? b.op("Pad", [v, b.i64([0, 0, 0, 0, 1, 0])]) : v;
  return b.op("Gather", [from, b.i64(index.map((p) => (p < 0 ? extent : p)))], { axis: 1 });
}

/** A [group, rows, t] · Bᵀ [group, t, columns]. */
function innerProducts(b: Build, group: number, left: Value, right: Value, rows: number, columns: number, t: number): Value {
  if (group === 1) return b.op("Gemm", [b.reshape(left, [rows, t]), b.reshape(right, [columns, t])], { transB: 1 });
  return b.matmul(b.reshape(left, [group, rows, t]), b.transpose(b.reshape(right, [group, columns, t]), [0, 2, 1]));
}

/** dW = dY · im2col(X)ᵀ over batch and space at once, the columns gathered with the examples innermost; one or two spatial axes. */
export function weightByColumns(b: Build, c: Convolution, x: Value, dy: Value): Value {
  const { kernel, strides, dilations, begin, input, output } = planeOf(c);
  const [h, w] = input;
  const [oh, ow] = output;
  const index = range(kernel[0]).flatMap((i) =>
    range(kernel[1]).flatMap((j) =>
      range(oh).flatMap((p) =>
        range(ow).map((q) => {
          const row = p * strides[0] + i * dilations[0] - begin[0];
          const column = q * strides[1] + j * dilations[1] - begin[1];
          return row >= 0 && row < h && column >= 0 && column < w ? row * w + column : -1;
        }),
      ),
    ),
  );
  const columns = positions(b, examplesLast(b, x, c.n, c.group * c.ci, h * w), index, h * w);
  const rows = examplesLast(b, dy, c.n, c.group * c.co, oh * ow);
  const dw = innerProducts(b, c.group, rows, columns, c.co, c.ci * kernel[0] * kernel[1], oh * ow * c.n);
  return b.reshape(dw, [c.group * c.co, c.ci, ...c.kernel]);
}

/**
 * dW in one product without im2col, strides 1, one or two spatial axes: of tap (i, j) the row shift is made on dY and the column shift
 * on X, so that k² taps need only 2k copies. With q over the rows of X and o over the columns of dY,
 * D_i[q, o] = dY[q − i·d + p, o], E_j[q, o] = X[q, o + j·d − p], dW[m, c, i, j] = Σ_{n, q, o} D_i[m] · E_j[c].
 */
export function weightByCross(b: Build, c: Convolution, x: Value, dy: Value): Value {
  const { kernel, dilations, begin, input, output } = planeOf(c);
  const [h, w] = input;
  const [oh, ow] = output;
  const [kh, kw] = kernel;
  const { n, group, co, ci } = c;
  const within = (p: number, size: number) => (p >= 0 && p < size ? p : -1);
  const rows = range(kh).flatMap((i) => range(h).map((q) => within(q - i * dilations[0] + begin[0], oh)));
  const dyRows = b.reshape(examplesLast(b, dy, n, group * co, oh * ow), [group * co, oh, ow * n]);
  const left = positions(b, dyRows, rows, oh);
  const columns = range(kw).flatMap((j) =>
    range(h).flatMap((q) =>
      range(ow).map((o) => {
        const at = within(o + j * dilations[1] - begin[1], w);
        return at < 0 ? -1 : q * w + at;
      }),
    ),
  );
  const right = positions(b, examplesLast(b, x, n, group * ci, h * w), columns, h * w);
  const dw = innerProducts(b, group, left, right, co * kh, ci * kw, h * ow * n);
  // [group, co, i, ci, j] → [group·co, ci, i, j]
  return b.reshape(b.transpose(b.reshape(dw, [group * co, kh, ci, kw]), [0, 2, 1, 3]), [group * co, ci, ...c.kernel]);
}

/**
 * The same products example by example, on padded copies of the planes as they lie, and summed: any stride, one or two spatial axes.
 * With a stride s, row taps of one residue r modulo s meet the rows r + s·q of X.
 */
export function weightByShifts(b: Build, c: Convolution, x: Value, dy: Value): Value {
  const { kernel, strides, dilations, begin, input, output } = planeOf(c);
  const [h, w] = input;
  const [oh, ow] = output;
  const { n, group, ci, co } = c;
  const taps = (axis: 0 | 1) =>
    range(kernel[axis]).map((k) => {
      const at = k * dilations[axis] - begin[axis];
      const r = mod(at, strides[axis]);
      return { k, r, delta: (at - r) / strides[axis] };
    });
  const rows = taps(0);
  const columns = taps(1);
  const xs = c.kernel.length === 1 ? b.reshape(x, [n, group * ci, h, w]) : x;
  const ds = c.kernel.length === 1 ? b.reshape(dy, [n, group * co, oh, ow]) : dy;
  const operand = (copies: readonly Value[], channels: number, t: number) => {
    const parts = copies.map((v) => b.reshape(v, [n, group, channels, t]));
    return parts.length === 1 ? parts[0]! : b.op("Concat", parts, { axis: 2 });
  };
  const blocks: { k: number; value: Value }[] = [];
  for (const r of new Set(rows.map((t) => t.r))) {
    const height = Math.ceil((h - r) / strides[0]);
    const here = rows.filter((t) => t.r === r);
    const strip = stride(b, xs, 2, h, r, height, strides[0]);
    const left = here.map((i) => pad(b, ds, 4, [i.delta, 0], [height - oh - i.delta, 0]));
    const cuts = new Map<number, Value>();
    const right = columns.map((j) => {
      const width = Math.ceil((w - j.r) / strides[1]);
      const cut = cuts.get(j.r) ?? stride(b, strip, 3, w, j.r, width, strides[1]);
      cuts.set(j.r, cut);
      return pad(b, cut, 4, [0, -j.delta], [0, ow + j.delta - width]);
    });
    const t = height * ow;
    const products = b.matmul(operand(left, co, t), b.transpose(operand(right, ci, t), [0, 1, 3, 2]));
    const sum = b.reshape(n === 1 ? products : b.sum(products, [0]), [group, here.length, co, kernel[1] * ci]);
    here.forEach((i, at) => {
      blocks.push({ k: i.k, value: stride(b, sum, 1, here.length, at, 1, 1) });
    });
  }
  blocks.sort((p, q) => p.k - q.k);
  const values = blocks.map((block) => block.value);
  const all = values.length === 1 ? values[0]! : b.op("Concat", values, { axis: 1 });
  // [group, i, co, j, ci] → [group·co, ci, i, j]
  const dw = b.transpose(b.reshape(all, [group, kernel[0], co, kernel[1], ci]), [0, 2, 4, 1, 3]);
  return b.reshape(dw, [group * co, ci, ...c.kernel]);
}

/** dB: over space, then over the batch, which ONNX Runtime does faster than both at once. dY [n, m, …output] → [m]. */
export function biasGradient(b: Build, dy: Value, n: number, m: number, output: readonly number[]): Value {
  return b.sum(b.sum(b.reshape(dy, [n, m, product(output)]), [2]), [0]);
}

export type InputForm = "flip" | "transpose";

/**
 * How to compute dX. Flipping needs strides 1; it spends work on every input position where transposing spends it on every output
 * position, and with few channels its matrix product has too few rows (LeNet-5's second layer, 12×12 from 8×8: 5.0 against 2.0 ms;
 * 3 channels from 16: 1.3 against 0.8; 16 from 16 at 32×32: 1.9 against 3.3).
 */
export function inputForm(c: Convolution): InputForm {
  const unit = c.strides.every((s) => s === 1);
  return unit && c.group * c.ci > 4 && product(c.output) >= 0.75 * product(c.input) ? "flip" : "transpose";
}

export function inputGradient(b: Build, c: Convolution, w: Value, dy: Value): Value {
  return inputForm(c) === "flip" ? inputByFlip(b, c, w, dy) : inputByTranspose(b, c, w, dy);
}

export type WeightForm = "swap" | "shifts" | "cross" | "columns";

/**
 * How to compute dW. Gathering with the examples innermost wants runs of some length: below 8 examples (4 where strided) shifted planes
 * win. Of the two gathers the one that copies less: LeNet-5's second layer 1.9 ms by columns, 2.7 crossed; 64 channels 8×8 1.5 and 1.3.
 * Depthwise products are too narrow to cross (64 channels 16×16: 2.5 by columns, 2.9 crossed).
 */
export function weightForm(c: Convolution): WeightForm {
  if (c.kernel.length > 2) return "swap";
  const { kernel, strides, input, output } = planeOf(c);
  const unit = strides[0] === 1 && strides[1] === 1;
  if (kernel[0] * kernel[1] === 1 || c.n < (unit ? 8 : 4)) return "shifts";
  const cross = (kernel[0] * c.co + kernel[1] * c.ci) * input[0] * output[1];
  const columns = kernel[0] * kernel[1] * c.ci * output[0] * output[1];
  return unit && c.co > 1 && cross < columns ? "cross" : "columns";
}

const weightForms: Record<WeightForm, (b: Build, c: Convolution, x: Value, dy: Value) => Value> = {
  swap: weightBySwap,
  shifts: weightByShifts,
  cross: weightByCross,
  columns: weightByColumns,
};

export function weightGradient(b: Build, c: Convolution, x: Value, dy: Value): Value {
  return weightForms[weightForm(c)](b, c, x, dy);
}
