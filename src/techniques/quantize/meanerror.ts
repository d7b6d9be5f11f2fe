/** Bias correction: what rounding shifts the mean of each channel by, taken back layer by layer. */
import type { Dataset } from "../../data/dataset.ts";
import { cloneModel, type Model, type Value } from "../../ir/graph.ts";
import { sorted } from "../../ir/walk.ts";
import { Build } from "../../ops/build.ts";
import { type Observer, observe } from "../../runtime/observe.ts";
import { numbersOf } from "../../tensor/tensor.ts";
import { measuredCorrection } from "./biascorrection.ts";
import { type Layer, outputOf } from "./layers.ts";
import { partsOf, type Quantized, quantizeStatically } from "./static.ts";

const sum: Observer<Float64Array> = {
  init: (shape) => new Float64Array(shape.reduce((a, d) => a * d, 1)),
  update(s, x) {
    const v = numbersOf(x);
    for (let i = 0; i < v.length; i++) s[i]! += v[i]!;
    return s;
  },
};

/**
 * Biases with E[y] − E[ŷ] by channel added, y the layer's output in the float model and ŷ in the quantized one, whose earlier layers are
 * corrected already (Nagel et al. 2019, section 4.2 and appendix D; measured): one pass over the data a layer, in graph order. MatMuls have
 * no bias, and what lies in a branch that never ran has no mean: no entry.
 */
export async function correctedBiases(
  model: Model,
  q: Quantized,
  chains: boolean,
  data: Dataset,
  ndim: (v: Value) => number | null,
  options: { readonly threads: number; readonly progress: (done: number, of: number) => void },
): Promise<Map<Layer, Float32Array>> {
  const { threads } = options;
  const opset = model.opsets.get("") ?? 1;
  const layers = q.parts.flatMap((part) => {
    const place = new Map(sorted(part.graph).map((n, i) => [n, i]));
    return part.layers.filter((l) => l.op !== "MatMul").toSorted((a, b) => place.get(a.node)! - place.get(b.node)!);
  });
  const wanted = await means(cloneModelWith(model), layers, data, threads);
  const biases = new Map<Layer, Float32Array>();
  for (const [i, layer] of layers.entries()) {
    const before = wanted.get(layer);
    if (before) {
      const probe = cloneModelWith(model);
      const twin = (v: Value) => probe.copies.get(v) ?? v;
      const copies = new Map(
        q.parts.flatMap((p) => p.layers).map((l) => [l, { ...l, node: twin(outputOf(l)).producer!, bias: biases.get(l) ?? l.bias }]),
      );
      const parts = partsOf([...copies.values()], chains).map((part, at) => {
        const affines = new Map([...q.parts[at]!.affines].map(([v, a]) => [twin(v), a]));
        return { ...part, affines };
      });
      const weights = new Map([...q.weights].map(([l, w]) => [copies.get(l)!, { ...w, codes: twin(w.codes), scales: twin(w.scales) }]));
      const dims = new Map([...probe.copies].map(([v, copy]) => [copy, ndim(v)]));
      quantizeStatically(opset, { ...q, parts, weights }, (v) => dims.get(v) ?? null);
      const after = (await means(probe, [layer], data, threads)).get(layer);
      if (after) {
        const shift = measuredCorrection(before, after);
        biases.set(
          layer,
          shift.map((e, c) => e + (layer.bias?.[c] ?? 0)),
        );
      }
    }
    options.progress(i + 1, layers.length);
  }
  return biases;
}

interface Probe {
  readonly model: Model;
  readonly copies: Map<Value, Value>;
}

function cloneModelWith(model: Model): Probe {
  const copies = new Map<Value, Value>();
  return { model: cloneModel(model, copies), copies };
}

/** The mean of each channel (axis 1) of the layers' outputs. Appends to the probe. */
async function means(
  { model, copies }: Probe,
  layers: readonly Layer[],
  data: Dataset,
  threads: number,
): Promise<Map<Layer, Float32Array>> {
  const watched = layers.map((layer) => {
    const y = copies.get(outputOf(layer))!;
    const b = new Build(y.graph, model.opsets.get("") ?? 1, "mean");
    const ndim = layer.op === "Conv" ? layer.weight.data!.shape.length : 2;
    const others = Array.from({ length: ndim }, (_, i) => i).filter((i) => i !== 1);
    return { layer, total: b.sum(y, others), size: b.op("Size", [y]) };
  });
  const seen = await observe(
    model,
    watched.flatMap((w) => [w.total, w.size]),
    data,
    sum,
    { threads },
  );
  const out = new Map<Layer, Float32Array>();
  for (const { layer, total, size } of watched) {
    const [t, n] = [seen.get(total), seen.get(size)?.[0]];
    if (t && n)
      out.set(
        layer,
        Float32Array.from(t, (x) => x / (n / layer.channels)),
      );
  }
  return out;
}
