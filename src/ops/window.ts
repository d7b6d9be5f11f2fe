/** The sliding window that Conv, ConvTranspose and pooling share: where output position o and tap k read the input, per spatial axis. */
import type { Node, Value } from "../ir/graph.ts";
import { Fault } from "../tensor/fault.ts";
import { type Build, shapeOf } from "./build.ts";

/**
 * Tap k of output position o reads input position o·strides + k·dilations − begin (zero where that lies outside).
 * `end` is how far the last window reaches beyond the input: negative where the last rows are covered by no window.
 * All arrays have one entry per spatial axis.
 */
export interface Window {
  readonly input: readonly number[];
  readonly output: readonly number[];
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly begin: readonly number[];
  readonly end: readonly number[];
}

/** The window of a node from its attributes and the spatial sizes at both ends (for ConvTranspose: of the convolution it is the adjoint of). */
export function windowOf(node: Node, input: readonly number[], output: readonly number[], kernel: readonly number[]): Window {
  const ones = kernel.map(() => 1);
  const strides = node.ints("strides") ?? ones;
  const dilations = node.ints("dilations") ?? ones;
  const total = kernel.map((k, i) => (output[i]! - 1) * strides[i]! + (k - 1) * dilations[i]! + 1 - input[i]!);
  const auto = node.string("auto_pad") ?? "NOTSET";
  let begin: readonly number[];
  if (auto === "SAME_UPPER") begin = total.map((t) => Math.floor(Math.max(t, 0) / 2));
  else if (auto === "SAME_LOWER") begin = total.map((t) => Math.ceil(Math.max(t, 0) / 2));
  else if (auto === "VALID") begin = kernel.map(() => 0);
  else begin = (node.ints("pads") ?? [...ones, ...ones].map(() => 0)).slice(0, kernel.length);
  return { input, output, kernel, strides, dilations, begin, end: total.map((t, i) => t - begin[i]!) };
}

/** Pads (or, where negative, crops) the trailing axes of `v` with `value`; no node where there is nothing to do. */
export function pad(b: Build, v: Value, ndim: number, begin: readonly number[], end: readonly number[], value = 0): Value {
  if (begin.every((x) => x === 0) && end.every((x) => x === 0)) return v;
  const lead = Array<number>(ndim - begin.length).fill(0);
  const pads = b.i64([...lead, ...begin, ...lead, ...end]);
  return b.op("Pad", value === 0 ? [v, pads] : [v, pads, b.f32(value)]);
}

/** Every `step`-th element from `start`, `size` of them, along `axis`; no node where that is all of the `extent`. */
export function stride(b: Build, v: Value, axis: number, extent: number, start: number, size: number, step: number): Value {
  if (start === 0 && step === 1 && size === extent) return v;
  return b.op("Slice", [v, b.i64([start]), b.i64([start + (size - 1) * step + 1]), b.i64([axis]), b.i64([step])]);
}

/** Splits a shape [N, C, …spatial]. Errors: fewer than three axes. */
export function spatialOf(v: Value): { n: number; c: number; spatial: readonly number[] } {
  const [n, c, ...spatial] = shapeOf(v);
  if (n === undefined || c === undefined || spatial.length === 0)
    throw new Fault(`value "${v.name}"`, `[N, C, spatial …] would be right; got [${v.shape}]`);
  return { n, c, spatial };
}
