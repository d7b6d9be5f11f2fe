/** The two gradients of a convolution, in the formulations that were raced (bench/conv-gradients.ts). */
import type { Value } from "../ir/graph.ts";
import type { Build } from "./build.ts";
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

/**
 * dW by matrix products of shifted copies, one or two spatial axes. Of each tap (i, j) the row shift i is made on dY and the column
 * shift j on X, so that k² products need 2k copies: with q running over the input rows of one residue modulo the stride,
 * D_i[q, w] = dY[q − δ_i, w] and E_j[q, w] = X[r + s·q, s·w + j·d − p], dW[m, c, i, j] = Σ_{n,q,w} D_i[m] · E_j[c].
 * `joint`: one product over batch and space (channels first), else one per example, summed. `merge`: all taps in one product.
 */
export function weightByShifts(b: Build, c: Convolution, x: Value, dy: Value, how: { joint: boolean; merge: boolean }): Value {
  const flat = c.kernel.length === 1;
  const two = <T>(xs: readonly T[], one: T): [T, T] => (flat ? [one, xs[0]!] : [xs[0]!, xs[1]!]);
  const [kh, kw] = two(c.kernel, 1);
  const [sh, sw] = two(c.strides, 1);
  const [dh, dw] = two(c.dilations, 1);
  const [ph, pw] = two(c.begin, 0);
  const [h, w] = two(c.input, 1);
  const [oh, ow] = two(c.output, 1);
  const { n, group, ci, co } = c;
  const mod = (a: number, m: number) => ((a % m) + m) % m;
  const lay = (v: Value, ch: number, height: number, width: number) => {
    const v4 = flat ? b.reshape(v, [n, group * ch, height, width]) : v;
    return how.joint ? b.transpose(v4, [1, 0, 2, 3]) : v4;
  };
  const xs = lay(x, ci, h, w);
  const ds = lay(dy, co, oh, ow);
  const shift = (v: Value, begin: [number, number], end: [number, number]) => pad(b, v, 4, begin, end);
  const tap = (k: number, d: number, p: number, s: number) => {
    const at = k * d - p;
    const r = mod(at, s);
    return { k, r, delta: (at - r) / s };
  };
  const rows = Array.from({ length: kh }, (_, i) => tap(i, dh, ph, sh));
  const columns = Array.from({ length: kw }, (_, j) => tap(j, dw, pw, sw));
  // Operand [(n,) g, taps·channels, T] of one or more shifted copies.
  const operand = (copies: Value[], ch: number, t: number) => {
    const shape = how.joint ? [group, ch, n * t] : [n, group, ch, t];
    const parts = copies.map((v) => b.reshape(v, shape));
    return parts.length === 1 ? parts[0]! : b.op("Concat", parts, { axis: shape.length - 2 });
  };
  const swap = how.joint ? [0, 2, 1] : [0, 1, 3, 2];
  const products = new Map<number, Value>();
  const merged: { order: number[]; value: Value }[] = [];
  for (const r of new Set(rows.map((t) => t.r))) {
    const height = Math.ceil((h - r) / sh);
    const t = height * ow;
    const here = rows.filter((x) => x.r === r);
    const strip = stride(b, xs, 2, h, r, height, sh);
    const left = here.map((i) => shift(ds, [i.delta, 0], [height - oh - i.delta, 0]));
    const cut = new Map<number, Value>();
    const right = columns.map((j) => {
      const width = Math.ceil((w - j.r) / sw);
      const base = cut.get(j.r) ?? stride(b, strip, 3, w, j.r, width, sw);
      cut.set(j.r, base);
      return shift(base, [0, -j.delta], [0, ow + j.delta - width]);
    });
    const product = (d: Value[], e: Value[]) => {
      const both = b.matmul(operand(d, co, t), b.transpose(operand(e, ci, t), swap));
      return how.joint ? both : n === 1 ? b.reshape(both, [group, d.length * co, e.length * ci]) : b.sum(both, [0]);
    };
    if (how.merge) merged.push({ order: here.map((i) => i.k), value: product(left, right) });
    else
      for (const [a, i] of here.entries())
        for (const [e, j] of columns.entries()) products.set(i.k * kw + j.k, product([left[a]!], [right[e]!]));
  }
  const shape = [group * co, ci, ...c.kernel];
  if (!how.merge) {
    if (kh * kw === 1) return b.reshape(products.get(0)!, shape);
    const parts = Array.from({ length: kh * kw }, (_, k) => b.reshape(products.get(k)!, [group * co, ci, 1]));
    return b.reshape(b.op("Concat", parts, { axis: 2 }), shape);
  }
  // [g, i, co, j, ci] → [g, co, ci, i, j]
  const parts = merged.flatMap(({ order, value }) => {
    const v = b.reshape(value, [group, order.length, co, kw, ci]);
    if (merged.length === 1) return [{ k: -1, v }];
    return order.map((k, at) => ({ k, v: stride(b, v, 1, order.length, at, 1, 1) }));
  });
  parts.sort((p, q) => p.k - q.k);
  const all =
    parts.length === 1
      ? parts[0]!.v
      : b.op(
          "Concat",
          parts.map((p) => p.v),
          { axis: 1 },
        );
  return b.reshape(b.transpose(all, [0, 2, 4, 1, 3]), shape);
}

/** dB: over space, then over the batch, which ONNX Runtime does faster than both at once. dY [n, m, …output] → [m]. */
export function biasGradient(b: Build, dy: Value, n: number, m: number, output: readonly number[]): Value {
  return b.sum(b.sum(b.reshape(dy, [n, m, product(output)]), [2]), [0]);
}

export function inputGradient(b: Build, c: Convolution, w: Value, dy: Value): Value {
  return c.strides.every((s) => s === 1) && c.ci * c.group > 4 ? inputByFlip(b, c, w, dy) : inputByTranspose(b, c, w, dy);
}

export function weightGradient(b: Build, c: Convolution, x: Value, dy: Value): Value {
  if (c.kernel.length > 2) return weightBySwap(b, c, x, dy);
  return weightByShifts(b, c, x, dy, { joint: true, merge: c.co > 1 });
}
