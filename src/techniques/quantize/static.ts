/** Static quantization: ranges from calibration data, QuantizeLinear/DequantizeLinear pairs where the runtime fuses them into integer kernels. */
import { type Graph, produce, type Value } from "../../ir/graph.ts";
import { Build } from "../../ops/build.ts";
import type { Range } from "../../runtime/observers.ts";
import { type Plan, planChain, type Tail, tailOf } from "./chain.ts";
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

/** The layers of one graph, the model's own or a branch of an If, and what is quantized around them. */
export interface Part {
  readonly graph: Graph;
  readonly layers: readonly Layer[];
  readonly plan: Plan;
}

/** How the layers will be spelled: decided, with every number it takes. */
export interface Quantized {
  readonly parts: readonly (Part & { readonly affines: ReadonlyMap<Value, Affine> })[];
  readonly weights: ReadonlyMap<Layer, StoredWeight>;
  readonly integerBias: boolean;
}

/** The layers by the graph they are in, each graph with its own plan. */
export function partsOf(layers: readonly Layer[], chains: boolean): Part[] {
  const graphs = new Map<Graph, Layer[]>();
  for (const l of layers) graphs.set(l.node.graph, [...(graphs.get(l.node.graph) ?? []), l]);
  return [...graphs].map(([graph, layers]) => ({ graph, layers, plan: planChain(graph, layers, chains) }));
}

/** Every value whose range a plan needs. */
export function valuesOf(parts: readonly Part[]): Set<Value> {
  return new Set(parts.flatMap(({ plan }) => [...plan.values.keys(), ...plan.values.values()]));
}

/** Decides scales and zero points, and stores the quantized weights in the model. */
export function decide(parts: readonly Part[], ranges: ReadonlyMap<Value, Range>, o: StaticOptions): Quantized {
  const decided = parts.map((part) => {
    const affines = new Map<Value, Affine>();
    for (const [v, from] of part.plan.values) {
      const r = ranges.get(from)!;
      const tail = part.plan.whole.get(from);
      const bounded = tail ? { min: Math.max(r.min, tail.min), max: Math.min(r.max, tail.max) } : r;
      affines.set(v, affine(bounded, o.activationType, o.symmetric, o.minRange));
    }
    return { ...part, affines };
  });
  const { integerBias } = o;
  const inputScale = new Map(decided.flatMap(({ layers, affines }) => layers.map((l) => [l, affines.get(inputOf(l))!.scale])));
  const atLeast = (l: Layer, c: number) => (l.bias ? biasFloor(l.bias[c]!, inputScale.get(l)!) : 0);
  const weights = storeWeights(
    parts.flatMap((part) => part.layers),
    { ...o, ...(integerBias ? { atLeast } : {}) },
  );
  return { parts: decided, weights, integerBias };
}

/** Replaces the float layers, and puts the pairs in. `ndim`: the number of dimensions of a value. */
export function quantizeStatically(opset: number, q: Quantized, ndim: (v: Value) => number | null): void {
  for (const { graph, layers, plan, affines } of q.parts) {
    const b = new Build(graph, opset, "int8");
    // First the pairs on what stays float elsewhere, while all readers still stand.
    const partial = new Map<Value, Value>();
    for (const v of plan.values.keys()) {
      if (plan.whole.has(v)) continue;
      const readers = plan.readers(v);
      if (readers.length === 0) continue;
      const d = roundTrip(b, v, affines.get(v)!).outputs[0]!;
      for (const u of readers) if ("node" in u) u.node.setInput(u.index, d);
      partial.set(d, v);
    }
    for (const layer of layers) {
      const x = inputOf(layer);
      const y = outputOf(layer);
      const before = partial.get(x) ?? x;
      produce(quantizedLayer(b, layer, x, affines.get(before)!, q.weights.get(layer)!, q.integerBias), y);
      graph.remove(layer.node);
      const tail = tailOf(y);
      if (q.integerBias && layer.op !== "Conv" && !plan.whole.has(tail.value)) {
        const dims = layer.op === "Gemm" ? 2 : ndim(before);
        if (dims) keepApart(b, tail, [...new Array<number>(dims - 1).fill(0), layer.channels]);
      }
    }
    for (const [v, tail] of plan.whole) pairOnOutput(b, v, tail, affines.get(v)!);
  }
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
