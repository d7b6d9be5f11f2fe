/** Pooling: MaxPool, AveragePool, their global forms, and LRN (an average over neighbouring channels). */
import type { Node, Value } from "../ir/graph.ts";
import { type DType, sizeOf } from "../tensor/dtype.ts";
import { tensor } from "../tensor/tensor.ts";
import { alongAxes, windowed } from "./axes.ts";
import { type Build, dtypeOf, shapeOf } from "./build.ts";
import type { Op } from "./op.ts";
import { refused } from "./rule.ts";
import { pad, spatialOf, type Window, windowOf } from "./window.ts";

function poolWindow(node: Node): Window & { n: number; c: number } {
  const { n, c, spatial: input } = spatialOf(node.inputs[0]!);
  const { spatial: output } = spatialOf(node.outputs[0]!);
  return { n, c, ...windowOf(node, input, output, node.ints("kernel_shape")!) };
}

/**
 * dY goes to the maximum of each window. Where windows do not overlap, X is compared with Y repeated over the window and ties share
 * alike (a plain image region makes many): four times as fast as the runtime's Indices. Else (and in float64, which Resize lacks) the
 * Indices, of ties the first, and ScatterElements, which adds in one thread.
 */
export const MaxPool: Op = {
  axes: windowed,
  vjp({ node, g, b }) {
    if (node.int("storage_order")) throw refused(node, "storage_order 1 (column major)");
    const w = poolWindow(node);
    const x = node.inputs[0]!;
    const y = node.outputs[0]!;
    const shape = shapeOf(x);
    const dtype = dtypeOf(x);
    if (dtype === "float32" && apart(w) && w.begin.every((p) => p === 0) && w.end.every((p) => p <= 0)) {
      const ndim = shape.length;
      const zero = w.begin;
      const mask = b.cast(b.op("Equal", [pad(b, x, ndim, zero, w.end), repeat(b, y, w.kernel)]), dtype);
      const ties = b.op("AveragePool", [mask], { kernel_shape: w.kernel, strides: w.strides });
      const share = b.div(g[0]!, b.mul(ties, b.scalar(sizeOf(w.kernel), dtype)));
      const uncovered = w.end.map((p) => -p);
      return [pad(b, b.mul(mask, repeat(b, share, w.kernel)), ndim, zero, uncovered)];
    }
    const indices = b.node("MaxPool", [x], Object.fromEntries(node.attrs), 2).outputs[1]!;
    const zeros = b.op("Expand", [b.scalar(0, dtype), b.i64([sizeOf(shape)])]);
    const flat = [w.n * w.c * sizeOf(w.output)];
    const scattered = b.op("ScatterElements", [zeros, b.reshape(indices, flat), b.reshape(g[0]!, flat)], { reduction: "add" });
    return [b.reshape(scattered, shape)];
  },
};

/** Windows tile the input without gap or overlap. */
function apart(w: Window): boolean {
  return w.kernel.every((k, i) => w.dilations[i] === 1 && k === w.strides[i]);
}

/** Every element of the spatial axes, `times` over. float32. */
function repeat(b: Build, v: Value, times: readonly number[]): Value {
  const scales = b.constant(tensor("float32", [times.length + 2], [1, 1, ...times]));
  return b.op("Resize", [v, null, scales], { mode: "nearest", coordinate_transformation_mode: "asymmetric", nearest_mode: "floor" });
}

/** How many elements each output averages: [1, 1, …output] of ONNX Runtime's AveragePool, or one number where all are alike. */
function counts(node: Node, w: Window): number | { shape: number[]; values: number[] } {
  const padded = node.int("count_include_pad") === 1;
  const same = node.string("auto_pad")?.startsWith("SAME");
  const declared = same ? w.end : (node.ints("pads")?.slice(w.kernel.length) ?? w.kernel.map(() => 0));
  const axes = w.kernel.map((k, i) =>
    Array.from({ length: w.output[i]! }, (_, o) => {
      const start = o * w.strides[i]! - w.begin[i]!;
      const size = w.input[i]!;
      // With ceil_mode the last window may reach beyond the declared padding: what lies there is never counted.
      const stop = padded ? size + Math.max(declared[i]!, 0) : size;
      let n = 0;
      for (let t = 0; t < k; t++) {
        const at = start + t * w.dilations[i]!;
        if (at < stop && (padded || at >= 0)) n++;
      }
      return n;
    }),
  );
  if (axes.every((a) => a.every((x) => x === a[0]))) return axes.reduce((n, a) => n * a[0]!, 1);
  let values = [1];
  for (const a of axes) values = values.flatMap((v) => a.map((x) => v * x));
  return { shape: [1, 1, ...w.output], values };
}

/** Each output's cotangent, divided by how many it averaged, goes to every input of its window. */
export const AveragePool: Op = {
  axes: windowed,
  vjp({ node, g, b }) {
    const w = poolWindow(node);
    const x = node.inputs[0]!;
    const dtype = dtypeOf(x);
    const n = counts(node, w);
    const share =
      typeof n === "number"
        ? tensor(dtype, [], [1 / n])
        : tensor(
            dtype,
            n.shape,
            n.values.map((v) => 1 / v),
          );
    const each = b.mul(g[0]!, b.constant(share, "share"));
    return [spread(b, w, each, dtype)];
  },
  macs: (node) => {
    const y = node.outputs[0]?.shape;
    return y ? sizeOf(y) * sizeOf(node.ints("kernel_shape")!) : null;
  },
};

/** The adjoint of summing over windows: [n, c, …output] → [n, c, …input]. */
function spread(b: Build, w: Window & { n: number; c: number }, dy: Value, dtype: DType): Value {
  const ndim = w.kernel.length + 2;
  if (apart(w) && dtype === "float32") {
    // Repeat, then cut the padding off and add what no window covers.
    const less = (p: readonly number[]) => p.map((v) => -v);
    return pad(b, repeat(b, dy, w.kernel), ndim, less(w.begin), less(w.end));
  }
  const ones = b.constant(tensor(dtype, [1, 1, ...w.kernel], Array<number>(sizeOf(w.kernel)).fill(1)), "ones");
  const planes = b.reshape(dy, [w.n * w.c, 1, ...w.output]);
  const dx = b.op("ConvTranspose", [planes, ones], {
    kernel_shape: w.kernel,
    strides: w.strides,
    dilations: w.dilations,
    pads: [...w.begin, ...w.end.map((p) => Math.max(p, 0))],
    output_padding: w.end.map((p) => Math.max(-p, 0)),
  });
  return b.reshape(dx, [w.n, w.c, ...w.input]);
}

export const GlobalAveragePool: Op = {
  axes: windowed,
  vjp({ node, g, b }) {
    const x = node.inputs[0]!;
    const { spatial } = spatialOf(x);
    const share = b.scalar(1 / sizeOf(spatial), dtypeOf(x));
    return [b.op("Expand", [b.mul(g[0]!, share), b.i64(shapeOf(x))])];
  },
  macs: (node) => {
    const x = node.inputs[0]?.shape;
    return x ? sizeOf(x) : null;
  },
};

/** The cotangent goes to the maximum (of ties the first). */
export const GlobalMaxPool: Op = {
  axes: windowed,
  vjp({ node, g, b }) {
    const x = node.inputs[0]!;
    const { n, c, spatial } = spatialOf(x);
    const plane = sizeOf(spatial);
    const best = b.op("ArgMax", [b.reshape(x, [n, c, plane])], { axis: 2, keepdims: 1 });
    const positions = b.i64(Array.from({ length: plane }, (_, i) => i));
    const mask = b.cast(b.op("Equal", [best, positions]), dtypeOf(x));
    return [b.reshape(b.mul(mask, b.reshape(g[0]!, [n, c, 1])), shapeOf(x))];
  },
};

/**
 * Y = X / s^β with s = bias + α/size · Σ X² over the `size` channels around each.
 * dX = dY·s^−β − 2αβ/size · X · Σ′ dY·X·s^(−β−1), Σ′ over the channels whose windows hold this one.
 */
export const LRN: Op = {
  axes: alongAxes(() => [1], "runs over neighbours in it"),
  vjp({ node, g, b }) {
    const x = node.inputs[0]!;
    const dy = g[0]!;
    const shape = shapeOf(x);
    const { n, c, spatial } = spatialOf(x);
    const size = node.int("size")!;
    const alpha = node.float("alpha") ?? 1e-4;
    const beta = node.float("beta") ?? 0.75;
    const before = Math.floor((size - 1) / 2);
    const after = size - 1 - before;
    const number = (v: number) => b.scalar(v, dtypeOf(x));
    // Mean over neighbouring channels, zeros beyond the ends included.
    const mean = (v: Value, lo: number, hi: number) => {
      const plane = b.reshape(v, [n, 1, c, sizeOf(spatial)]);
      return b.reshape(b.op("AveragePool", [plane], { kernel_shape: [size, 1], pads: [lo, 0, hi, 0], count_include_pad: 1 }), shape);
    };
    const s = b.add(b.mul(mean(b.mul(x, x), before, after), number(alpha)), number(node.float("bias") ?? 1));
    const scaled = b.mul(dy, b.op("Pow", [s, number(-beta)]));
    const around = mean(b.div(b.mul(scaled, x), s), after, before);
    return [b.sub(scaled, b.mul(b.mul(x, number(2 * alpha * beta)), around))];
  },
};

/** The p-norm over each window, or over all of space. */
export const LpPool: Op = { axes: windowed };
export const GlobalLpPool: Op = { axes: windowed };
