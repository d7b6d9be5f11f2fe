/** Resize: a linear map along each axis, so its gradient is the transposed map. */
import type { Node } from "../ir/graph.ts";
import { constantOf } from "../ir/walk.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { numbersOf, tensor } from "../tensor/tensor.ts";
import type { AxesRule } from "./axes.ts";
import { dtypeOf, shapeOf } from "./build.ts";
import type { Op } from "./op.ts";
import { refused } from "./rule.ts";

/** Scale of every axis as the node uses it: given, or from the sizes (and the policy that keeps the aspect ratio). */
function scalesOf(node: Node, input: readonly number[], output: readonly number[]): number[] {
  const axes = (node.ints("axes") ?? input.map((_, i) => i)).map((a) => (a < 0 ? a + input.length : a));
  const out = input.map(() => 1);
  if (node.inputs[3]) {
    const ratio = (i: number) => output[i]! / input[i]!;
    const policy = node.string("keep_aspect_ratio_policy") ?? "stretch";
    const given = constantOf(node.inputs[3]);
    if (policy !== "stretch" && !given) throw refused(node, `${policy} with computed sizes`);
    const wanted = given ? Array.from(numbersOf(given)) : [];
    const one = (policy === "not_larger" ? Math.min : Math.max)(...axes.map((a, k) => (wanted[k] ?? 0) / input[a]!));
    for (const a of axes) out[a] = policy === "stretch" ? ratio(a) : one;
    return out;
  }
  const given = constantOf(node.inputs[2]);
  if (!given) throw refused(node, "computed scales");
  const scales = numbersOf(given);
  axes.forEach((a, k) => {
    out[a] = scales[k]!;
  });
  return out;
}

/** Where output position i lies in the input; float32 like the runtime's own, so that ties fall alike. */
function coordinate(node: Node, mode: string, i: number, scale: number, size: number, out: number): number {
  const f = Math.fround;
  const half = () => f(f(f(i + 0.5) / f(scale)) - 0.5);
  switch (mode) {
    case "half_pixel":
      return half();
    case "half_pixel_symmetric":
      return f(f((size / 2) * (1 - out / (scale * size))) + half());
    case "pytorch_half_pixel":
      return out > 1 ? half() : 0;
    case "align_corners":
      return out === 1 ? 0 : f(f(i * (size - 1)) / f(out - 1));
    case "asymmetric":
      return f(i / f(scale));
    default:
      throw refused(node, mode);
  }
}

function nearest(mode: string, x: number): number {
  const floor = Math.floor(x);
  if (mode === "floor") return floor;
  if (mode === "ceil") return Math.ceil(x);
  if (x - floor === 0.5) return mode === "round_prefer_ceil" ? floor + 1 : floor;
  return Math.round(x);
}

/** The weights of output position i over the input of one axis: [position, weight] pairs; positions may repeat. */
function weights(node: Node, i: number, scale: number, size: number, out: number): [number, number][] {
  const mode = node.string("mode") ?? "nearest";
  const x = coordinate(node, node.string("coordinate_transformation_mode") ?? "half_pixel", i, scale, size, out);
  const clamp = (p: number) => Math.min(Math.max(p, 0), size - 1);
  if (mode === "nearest") return [[clamp(nearest(node.string("nearest_mode") ?? "round_prefer_floor", x)), 1]];
  if (mode === "linear") {
    const at = clamp(x);
    const low = Math.floor(at);
    return [
      [low, 1 - (at - low)],
      [clamp(low + 1), at - low],
    ];
  }
  // Keys' cubic convolution over the four neighbours.
  const a = node.float("cubic_coeff_a") ?? -0.75;
  const low = Math.floor(x);
  const t = x - low;
  const near = (d: number) => ((a + 2) * d - (a + 3)) * d * d + 1;
  const far = (d: number) => ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  const taps: [number, number][] = [
    [low - 1, far(1 + t)],
    [low, near(t)],
    [low + 1, near(1 - t)],
    [low + 2, far(2 - t)],
  ];
  if (node.int("exclude_outside") !== 1) return taps.map(([p, w]) => [clamp(p), w]);
  const inside = taps.filter(([p]) => p >= 0 && p < size);
  const total = inside.reduce((s, [, w]) => s + w, 0);
  return inside.map(([p, w]) => [p, w / total]);
}

/** Axes of the same size are taken for unscaled. */
const resizes: AxesRule = (t) => {
  const y = t.output(0);
  t.input(0).forEach((d, i) => {
    if (d.size === y[i]!.size) t.unify(d, y[i]!);
    else for (const e of [d, y[i]!]) t.freeze(e, t.says("resizes it"));
    if (t.has(3) && !t.node.ints("axes")) t.size({ input: 3, at: i }, y[i]!);
  });
  t.zero("all", [0]);
};
/** Resize's name before opset 10. */
export const Upsample: Op = { axes: resizes };

/** Nearest, linear and cubic (without antialiasing): dX = Aᵀ·dY along every resized axis; whole-number repeats by AveragePool. */
export const Resize: Op = {
  axes: resizes,
  vjp({ node, g, b }) {
    const x = node.inputs[0]!;
    if (node.int("antialias") === 1) throw refused(node, "antialias 1");
    const input = shapeOf(x);
    const output = shapeOf(node.outputs[0]!);
    const scales = scalesOf(node, input, output);
    const maps = input.map((size, axis) =>
      size === output[axis] && scales[axis] === 1
        ? null
        : Array.from({ length: output[axis]! }, (_, i) => weights(node, i, scales[axis]!, size, output[axis]!)),
    );
    const repeats = input.map((size, axis) => (maps[axis] ? output[axis]! / size : 1));
    const whole = maps.every((m, axis) => !m || m.every((taps, i) => taps.length === 1 && taps[0]![0] === Math.floor(i / repeats[axis]!)));
    const dtype = dtypeOf(x);
    const spatial = repeats.slice(2);
    if (whole && spatial.length > 0 && repeats.every((r, axis) => Number.isInteger(r) && (r === 1 || axis > 1))) {
      const mean = b.op("AveragePool", [g[0]!], { kernel_shape: spatial, strides: spatial });
      return [b.mul(mean, b.scalar(sizeOf(spatial), dtype))];
    }
    let dx = g[0]!;
    const shape = [...output];
    maps.forEach((map, axis) => {
      if (!map) return;
      const size = input[axis]!;
      const last = axis === shape.length - 1;
      const values = new Float64Array(map.length * size);
      map.forEach((taps, i) => {
        for (const [p, w] of taps) values[last ? i * size + p : p * map.length + i]! += w;
      });
      const a = b.constant(tensor(dtype, last ? [map.length, size] : [size, map.length], values), "resize");
      const lead = sizeOf(shape.slice(0, axis));
      shape[axis] = size;
      const rest = sizeOf(shape.slice(axis + 1));
      dx = last ? b.matmul(b.reshape(dx, [lead, map.length]), a) : b.matmul(a, b.reshape(dx, [lead, map.length, rest]));
    });
    return [b.reshape(dx, input)];
  },
};
