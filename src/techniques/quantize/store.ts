/** Quantized weights in the model: one tensor of codes for all layers that see the same weight. */
import type { Model, Value } from "../../ir/graph.ts";
import { allGraphs, labelOf } from "../../ir/walk.ts";
import { floatsOf, tensor, wrap } from "../../tensor/tensor.ts";
import { dropDefault } from "../../transform/weights.ts";
import { type Layer, weightKey, weightOf } from "./layers.ts";
import type { IntType } from "./scheme.ts";
import { quantizeWeights } from "./weightcodes.ts";

export interface StoredWeight {
  /** Integers, as {@link weightOf} lays it out. */
  readonly codes: Value;
  /** float32 [channels], or a scalar. */
  readonly scales: Value;
  readonly scale: Float32Array;
  /** One for each scale. */
  readonly zeroPoints: Int32Array;
  /** ‖W − Ŵ‖ / ‖W‖. */
  readonly error: number;
}

export interface StoreOptions {
  readonly granularity: "channel" | "tensor";
  readonly weightType: IntType;
  /** Codes centred on 0 (unsigned: on the middle). */
  readonly symmetricWeights: boolean;
  /** All layers have one zero point for all channels, as Convs do: kernels with the range of an input taken at run time want that. */
  readonly oneZero?: boolean;
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
      dtype: options.weightType,
      symmetric: options.symmetricWeights,
      oneZero: options.oneZero === true || first!.op === "Conv",
      reduceRange: options.reduceRange,
      atLeast: !atLeast ? undefined : perTensor ? () => Math.max(...Array.from({ length: channels }, (_, c) => floor(c))) : floor,
    });
    const name = first!.use.through.length ? `${weight.name}/seen` : weight.name;
    const stored = {
      codes: weight.graph.initializer(`${name}/${options.weightType}`, wrap(options.weightType, t.shape, w.codes)),
      scales: weight.graph.initializer(`${name}/scale`, tensor("float32", perTensor ? [] : [channels], w.scales)),
      scale: w.scales,
      zeroPoints: w.zeroPoints,
      error: w.error,
    };
    for (const layer of group) out.set(layer, stored);
  }
  return out;
}

/** Takes stored weights that no layer reads out of the model again, and frees their names. */
export function dropUnused(weights: ReadonlyMap<Layer, StoredWeight>): void {
  for (const { codes, scales } of new Set(weights.values())) {
    for (const v of [codes, scales]) {
      if (v.uses.size > 0) continue;
      v.graph.removeInitializer(v);
      // Stored again, they get their names again.
      v.graph.names.delete(v.name);
    }
  }
}

/** The initializers somebody reads. */
export function readInitializers(model: Model): Set<Value> {
  return new Set([...allGraphs(model.graph)].flatMap((g) => [...g.initializers].filter((v) => v.uses.size > 0)));
}

/**
 * Drops what was read before the layers were replaced and is no more: float weights, the nodes between them and their layers, biases,
 * bounds. Notes the weights that others still read as floats.
 */
export function dropFloats(
  layers: readonly Pick<Layer, "use" | "weight">[],
  before: ReadonlySet<Value>,
  note: (line: string) => void,
): void {
  for (const l of layers)
    for (const n of l.use.through) if (n.graph.nodes.has(n) && n.outputs.every((o) => !o?.uses.size)) n.graph.remove(n);
  for (const { name, uses } of new Set(layers.map((l) => l.weight))) {
    const readers = [...uses].map((u) => ("node" in u ? labelOf(u.node) : "an output"));
    if (readers.length) note(`"${name}" is also kept in float, for ${readers.join(", ")}`);
  }
  const defaults: string[] = [];
  for (const v of before) {
    if (v.uses.size > 0 || !v.graph.initializers.has(v)) continue;
    if (!v.graph.parent && dropDefault(v.graph, v)) defaults.push(v.name);
    v.graph.removeInitializer(v);
  }
  if (defaults.length) note(`were inputs with a default and are constants now: ${defaults.join(", ")}`);
}
