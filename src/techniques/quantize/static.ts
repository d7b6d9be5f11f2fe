/** Static quantization: ranges from calibration data, QuantizeLinear/DequantizeLinear pairs where the runtime fuses them into integer kernels. */
import { type Model, produce, type Value } from "../../ir/graph.ts";
import { Build } from "../../ops/build.ts";
import type { Range } from "../../runtime/observers.ts";
import { type Plan, type Tail, tailOf } from "./chain.ts";
import { inputOf, type Layer, outputOf } from "./layers.ts";
import { quantizedLayer, roundTrip } from "./qdq.ts";
import { type Affine, affine, biasFloor, type IntType, representable } from "./scheme.ts";
import { type StoredWeight, type StoreOptions, storeWeights } from "./store.ts";

export interface StaticOptions extends StoreOptions {
  readonly symmetric: boolean;
  readonly activationType: IntType;
  /** Biases in int32, as the integer kernels take them; else in floats (TensorRT, 16 bits). */
  readonly integerBias: boolean;
  /** A range narrower than this is widened to it. */
  readonly minRange: number;
}

/** How the layers will be spelled: decided, with every number it takes. */
export interface Quantized {
  readonly layers: readonly Layer[];
  readonly plan: Plan;
  readonly affines: ReadonlyMap<Value, Affine>;
  readonly weights: ReadonlyMap<Layer, StoredWeight>;
  readonly integerBias: boolean;
}

/** Decides scales and zero points, and stores the quantized weights in the model. */
export function decide(layers: readonly Layer[], plan: Plan, ranges: ReadonlyMap<Value, Range>, o: StaticOptions): Quantized {
  const affines = new Map<Value, Affine>();
  for (const [v, from] of plan.values) {
    const r = ranges.get(from)!;
    const tail = plan.whole.get(from);
    const bounded = tail ? { min: Math.max(r.min, tail.min), max: Math.min(r.max, tail.max) } : r;
    affines.set(v, affine(bounded, o.activationType, o.symmetric, o.minRange));
  }
  const { integerBias } = o;
  const atLeast = (l: Layer, c: number) => (l.bias ? biasFloor(l.bias[c]!, affines.get(inputOf(l))!.scale) : 0);
  const weights = storeWeights(layers, { ...o, ...(integerBias ? { atLeast } : {}) });
  return { layers, plan, affines, weights, integerBias };
}

/** Replaces the float layers, and puts the pairs in. `ndim`: the number of dimensions of a value. */
export function quantizeStatically(model: Model, q: Quantized, ndim: (v: Value) => number | null): void {
  const b = Build.of(model, "int8");
  // First the pairs on what stays float elsewhere, while all readers still stand.
  const partial = new Map<Value, Value>();
  for (const v of q.plan.values.keys()) {
    if (q.plan.whole.has(v)) continue;
    const readers = q.plan.readers(v);
    if (readers.length === 0) continue;
    const d = roundTrip(b, v, q.affines.get(v)!).outputs[0]!;
    for (const u of readers) if ("node" in u) u.node.setInput(u.index, d);
    partial.set(d, v);
  }
  for (const layer of q.layers) {
    const x = inputOf(layer);
    const y = outputOf(layer);
    const before = partial.get(x) ?? x;
    produce(quantizedLayer(b, layer, x, q.affines.get(before)!, q.weights.get(layer)!, q.integerBias), y);
    layer.node.graph.remove(layer.node);
    const tail = tailOf(y);
    if (q.integerBias && layer.op !== "Conv" && !q.plan.whole.has(tail.value)) {
      const dims = layer.op === "Gemm" ? 2 : ndim(before);
      if (dims) keepApart(b, tail, [...new Array<number>(dims - 1).fill(0), layer.channels]);
    }
  }
  for (const [v, tail] of q.plan.whole) pairOnOutput(b, v, tail, q.affines.get(v)!);
}

/**
 * The runtime takes a Relu or Clip behind a Gemm or MatMul for part of it and expects codes next: with floats next it fuses nothing. A
 * Reshape to the same shape between them keeps it from that, and costs nothing.
 */
export function keepApart(b: Build, { absorbed }: Tail, shape: readonly number[]): void {
  const [next] = absorbed;
  if (next) next.setInput(0, b.reshape(next.inputs[0]!, shape));
}

/** True if saturation does what the Relus and Clips of the tail would: they can go. */
export function implied(tail: Tail, a: Affine): boolean {
  const [least, most] = representable(a);
  return least >= tail.min - a.scale / 2 && most <= tail.max + a.scale / 2;
}

/** `v` becomes what its codes stand for; its producer's own result gets another name. Relus and Clips the codes imply go. */
function pairOnOutput(b: Build, v: Value, tail: Tail, a: Affine): void {
  const first = implied(tail, a) ? tail.absorbed[0] : undefined;
  const raw = first ? first.inputs[0]! : b.graph.value(`${v.name}/float`, v.type);
  if (!first) produce(v.producer!, raw);
  const d = roundTrip(b, raw, a);
  produce(d, v);
  if (first) for (const n of [...tail.absorbed].reverse()) n.graph.remove(n);
}
