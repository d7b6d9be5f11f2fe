/** A layer as rows × matrix: which elements of its input a row takes, and the weights in that order. */
import { sizeOf } from "../../tensor/dtype.ts";
import type { Layer } from "./layers.ts";

export interface Row {
  /** Where the input's column k lies; −1: padding. */
  readonly at: (k: number) => number;
  /** The output channels it is multiplied with: from, to. */
  readonly channels: readonly [number, number];
}

const groupOf = (l: Layer) => (l.op === "Conv" ? (l.node.int("group") ?? 1) : 1);

/** A Conv with one input channel a group. */
export function depthwise(l: Layer): boolean {
  return groupOf(l) > 1 && l.weight.data!.shape[1] === 1;
}

/** Weights as [channels, columns], from the layout of {@link weightOf}; a Conv's columns have the channels innermost. */
export function matrix(l: Layer, w: ArrayLike<number>): Int8Array {
  const out = new Int8Array(w.length);
  const columns = w.length / l.channels;
  if (l.op !== "Conv") for (let k = 0; k < columns; k++) for (let c = 0; c < l.channels; c++) out[c * columns + k] = w[k * l.channels + c]!;
  else {
    const inner = l.weight.data!.shape.slice(2).reduce((a, d) => a * d, 1);
    const inputs = columns / inner;
    for (let c = 0; c < l.channels; c++)
      for (let i = 0; i < inputs; i++) for (let p = 0; p < inner; p++) out[c * columns + p * inputs + i] = w[c * columns + i * inner + p]!;
  }
  return out;
}

/** At most about `most` rows, evenly over an input of `shape`; none for a Conv of more than two axes. */
export function* rows(l: Layer, shape: readonly number[], most: number): Generator<Row> {
  if (l.op !== "Conv") {
    const k = shape.at(-1)!;
    const n = sizeOf(shape) / k;
    const step = Math.max(1, Math.floor(n / most));
    for (let r = 0; r < n; r += step) yield { at: (i) => r * k + i, channels: [0, l.channels] };
    return;
  }
  if (shape.length > 4 || shape.length < 3) return;
  const kernel = l.weight.data!.shape.slice(2);
  // A Conv over one axis is one over two, the first of size 1.
  const two = (v: readonly number[], fill: number) => (v.length === 1 ? [fill, v[0]!] : [v[0]!, v[1]!]) as [number, number];
  const axes = kernel.length;
  const one = new Array<number>(axes).fill(1);
  const pads = l.node.ints("pads") ?? new Array<number>(2 * axes).fill(0);
  const [kh, kw] = two(kernel, 1);
  const [sh, sw] = two(l.node.ints("strides") ?? one, 1);
  const [dh, dw] = two(l.node.ints("dilations") ?? one, 1);
  const [top, left] = two(pads.slice(0, axes), 0);
  const [bottom, right] = two(pads.slice(axes), 0);
  const [h, w] = two(shape.slice(2), 1);
  const oh = Math.floor((h + top + bottom - dh * (kh - 1) - 1) / sh) + 1;
  const ow = Math.floor((w + left + right - dw * (kw - 1) - 1) / sw) + 1;
  const groups = groupOf(l);
  const inputs = shape[1]! / groups;
  const step = Math.max(1, Math.floor((shape[0]! * oh * ow) / most));
  for (let o = 0; o < shape[0]! * oh * ow; o += step) {
    const [n, y, x] = [Math.floor(o / (oh * ow)), Math.floor(o / ow) % oh, o % ow];
    for (let g = 0; g < groups; g++) {
      const at = (k: number) => {
        const [p, i] = [Math.floor(k / inputs), k % inputs];
        const row = y * sh - top + Math.floor(p / kw) * dh;
        const column = x * sw - left + (p % kw) * dw;
        if (row < 0 || row >= h || column < 0 || column >= w) return -1;
        return ((n * shape[1]! + g * inputs + i) * h + row) * w + column;
      };
      const per = l.channels / groups;
      yield { at, channels: [g * per, (g + 1) * per] };
    }
  }
}
