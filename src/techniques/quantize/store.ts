/** Quantized weights in the model: one int8 tensor for all layers that see the same weight. */
import type { Graph, Model, Node, Value } from "../../ir/graph.ts";
import { floatsOf, tensor, wrap } from "../../tensor/tensor.ts";
import { dropDefault } from "../../transform/weights.ts";
import { type Layer, weightKey, weightOf } from "./layers.ts";
import { quantizeWeights } from "./scheme.ts";

export interface StoredWeight {
  /** int8, as {@link weightOf} lays it out. */
  readonly codes: Value;
  /** float32 [channels], or a scalar. */
  readonly scales: Value;
  readonly scale: Float32Array;
  /** ‖W − Ŵ‖ / ‖W‖. */
  readonly error: number;
}

export interface StoreOptions {
  readonly granularity: "channel" | "tensor";
  readonly reduceRange: boolean;
  /** Smallest weight scale a layer's bias allows, by channel. */
  readonly atLeast?: (layer: Layer, channel: number) => number;
}

/** Quantizes the layers' weights, each tensor once, and appends them as initializers beside the float ones. */
export function storeWeights(layers: readonly Layer[], options: StoreOptions): Map<Layer, StoredWeight> {
  const groups = new Map<string, Layer[]>();
  for (const layer of layers) {
    const key = weightKey(layer);
    groups.set(key, [...(groups.get(key) ?? []), layer]);
  }
  const out = new Map<Layer, StoredWeight>();
  for (const group of groups.values()) {
    const [first] = group;
    const { weight, axis, channels } = first!;
    const t = weightOf(first!);
    const perTensor = options.granularity === "tensor";
    const { atLeast } = options;
    const floor = (c: number) => Math.max(...group.map((l) => atLeast?.(l, c) ?? 0));
    const w = quantizeWeights(floatsOf(t), t.shape, {
      axis: perTensor ? null : axis,
      reduceRange: options.reduceRange,
      atLeast: !atLeast ? undefined : perTensor ? () => Math.max(...Array.from({ length: channels }, (_, c) => floor(c))) : floor,
    });
    const name = first!.use.through.length ? `${weight.name}/seen` : weight.name;
    const stored = {
      codes: weight.graph.initializer(`${name}/int8`, wrap("int8", t.shape, w.codes)),
      scales: weight.graph.initializer(`${name}/scale`, tensor("float32", perTensor ? [] : [channels], w.scales)),
      scale: w.scales,
      error: w.error,
    };
    for (const layer of group) out.set(layer, stored);
  }
  return out;
}

/** Drops a float weight, and the nodes between it and its layer, where nobody reads them any more. Returns those who still do. */
export function dropWeight(model: Model, layer: Layer, note: (line: string) => void): readonly Node[] {
  for (const n of layer.use.through) {
    if (n.outputs.every((o) => !o || o.uses.size === 0)) n.graph.remove(n);
  }
  const { weight } = layer;
  if (weight.uses.size > 0) return [...weight.uses].flatMap((u) => ("node" in u ? [u.node] : []));
  const graph: Graph = weight.graph;
  if (graph.initializers.has(weight)) {
    if (graph === model.graph && dropDefault(graph, weight)) note(`"${weight.name}" was an input with a default; it is a constant now`);
    graph.removeInitializer(weight);
  }
  return [];
}
