/** What quantizing does to each layer, measured: its output on codes beside its float output, on the same data. */
import type { Dataset } from "../../data/dataset.ts";
import { cloneModel, type Model, type Node, type Value } from "../../ir/graph.ts";
import { Build } from "../../ops/build.ts";
import { type Observer, observe } from "../../runtime/observe.ts";
import { numbersOf } from "../../tensor/tensor.ts";
import { dynamicLayer, quantizedInput } from "./dynamic.ts";
import { inputOf, type Layer, outputOf } from "./layers.ts";
import { quantizedLayer, roundTrip } from "./qdq.ts";
import { implied, type Quantized } from "./static.ts";
import type { StoredWeight } from "./store.ts";

const total: Observer<number> = { init: () => 0, update: (s, x) => s + numbersOf(x)[0]! };

/** The clone a layer is tried in: where to append, and the layer, its weight and any value as they are there. */
interface Probe {
  readonly b: Build;
  readonly layer: Layer;
  readonly weight: StoredWeight;
  readonly twin: (v: Value) => Value;
}

/** Appends a layer on codes to the probe; what it gives, and the float value (of the model) that should be. */
type Spell = (layer: Layer, probe: Probe) => { readonly got: Value; readonly wanted: Value };

/**
 * ‖y − ŷ‖ / ‖y‖ of each layer over the data, with y its float output and ŷ what it gives for the same input on codes; in the branches of
 * an If too. One graph holds both; the runtime fuses it as it will the result. A layer that never ran has no entry.
 */
export async function errorsOf(
  model: Model,
  weights: ReadonlyMap<Layer, StoredWeight>,
  data: Dataset,
  threads: number,
  spell: Spell,
): Promise<Map<Layer, number>> {
  const copies = new Map<Value, Value>();
  const probe = cloneModel(model, copies);
  const twin = (v: Value) => copies.get(v)!;
  const pairs = [...weights].map(([layer, w]) => {
    const node = twin(outputOf(layer)).producer!;
    const b = new Build(node.graph, probe.opsets.get("") ?? 1, "error");
    const weight = { ...w, codes: twin(w.codes), scales: twin(w.scales) };
    const { got, wanted } = spell(layer, { b, layer: { ...layer, node }, weight, twin });
    return { of: layer, got, wanted: twin(wanted) };
  });
  return relativeErrors(probe, pairs, data, threads);
}

/**
 * √(Σ(wanted − got)² / Σ wanted²) of pairs of values of one model over the data; none where no element of them was seen (a branch not
 * taken). Appends to the model.
 */
export async function relativeErrors<T>(
  probe: Model,
  pairs: readonly { readonly of: T; readonly got: Value; readonly wanted: Value }[],
  data: Dataset,
  threads: number,
): Promise<Map<T, number>> {
  const sums = pairs.map(({ of, got, wanted }) => {
    const b = new Build(wanted.graph, probe.opsets.get("") ?? 1, "error");
    const square = (v: Value) => b.op("ReduceSumSquare", [v], { keepdims: 0 });
    return { of, wrong: square(b.sub(wanted, got)), all: square(wanted) };
  });
  const watched = sums.flatMap((s) => [s.wrong, s.all]);
  const seen = await observe(probe, watched, data, total, { threads });
  const errors = new Map<T, number>();
  for (const { of, wrong, all } of sums) {
    const [e, y] = [seen.get(wrong), seen.get(all)];
    if (e !== undefined && y !== undefined) errors.set(of, y > 0 ? Math.sqrt(e / y) : e > 0 ? Infinity : 0);
  }
  return errors;
}

/** Static: input, weights, bias and, for a Conv, output rounded, with the scales decided. */
export function onDecidedScales(q: Quantized): Spell {
  return (layer, { b, layer: copy, weight, twin }) => {
    const part = q.parts.find((p) => p.layers.includes(layer))!;
    const a = part.affines.get(inputOf(layer))!;
    const x = roundTrip(b, inputOf(copy), a).outputs[0]!;
    let got = quantizedLayer(b, copy, x, a, weight, q.integerBias).outputs[0]!;
    let wanted = outputOf(layer);
    const tail = [...part.plan.whole.values()].find((t) => (t.absorbed[0]?.inputs[0] ?? t.value) === wanted);
    if (tail) {
      const out = part.affines.get(tail.value)!;
      if (!implied(tail, out)) for (const n of tail.absorbed) got = again(b, n, got, twin);
      got = roundTrip(b, got, out).outputs[0]!;
      wanted = tail.value;
    }
    return { got, wanted };
  };
}

/** Dynamic: input and weights rounded. */
export const onRunningScales: Spell = (layer, { b, layer: copy, weight }) => {
  const y = dynamicLayer(b, copy, quantizedInput(b.graph, inputOf(copy)), weight);
  return { got: y.outputs[0]!, wanted: outputOf(layer) };
};

/** The same op on another input. */
function again(b: Build, n: Node, x: Value, twin: (v: Value) => Value): Value {
  return b.op(n.opType, [x, ...n.inputs.slice(1).map((v) => v && twin(v))], Object.fromEntries(n.attrs));
}
