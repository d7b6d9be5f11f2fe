/** What quantizing does to each layer, measured: its output on codes beside its float output, on the same data. */
import type { Dataset } from "../../data/dataset.ts";
import { cloneModel, type Model, type Node, type Value } from "../../ir/graph.ts";
import { Build } from "../../ops/build.ts";
import { type Observer, observe } from "../../runtime/observe.ts";
import { numbersOf } from "../../tensor/tensor.ts";
import { biasAdd, inputOf, type Layer, outputOf } from "./layers.ts";
import { quantizedLayer, roundTrip } from "./qdq.ts";
import { biasOf, type Quantized } from "./static.ts";

const total: Observer<number> = { init: () => 0, update: (s, x) => s + numbersOf(x)[0]! };

/**
 * ‖y − ŷ‖ / ‖y‖ of each layer over the data, with y its float output and ŷ what it gives for the same input on codes: input, weights, bias
 * and, for a Conv, output rounded. One graph holds both; the runtime fuses it as it will the result.
 */
export async function layerErrors(model: Model, q: Quantized, data: Dataset, threads: number): Promise<Map<Layer, number>> {
  const probe = cloneModel(model);
  const values = new Map<string, Value>();
  for (const v of [...probe.graph.inputs, ...probe.graph.initializers]) values.set(v.name, v);
  for (const n of probe.graph.nodes) for (const v of n.outputs) if (v) values.set(v.name, v);
  const twin = (v: Value) => values.get(v.name)!;
  const b = Build.of(probe, "error");
  const square = (v: Value) => b.op("ReduceSumSquare", [v], { keepdims: 0 });
  const sums = q.layers.map((layer) => {
    const a = q.affines.get(inputOf(layer))!;
    const w = q.weights.get(layer)!;
    const x = roundTrip(b, twin(inputOf(layer)), a).outputs[0]!;
    const copy = { ...layer, node: twin(outputOf(layer)).producer! };
    const stored = { ...w, codes: twin(w.codes), scales: twin(w.scales) };
    const spelling = { bias: biasOf(q, layer), integerBias: q.integerBias };
    let got = quantizedLayer(b, copy, x, a, stored, spelling).outputs[0]!;
    let wanted = q.withBias.has(layer) ? biasAdd(layer)!.node.outputs[0]! : outputOf(layer);
    const tail = [...q.plan.whole.values()].find((t) => (t.absorbed[0]?.inputs[0] ?? t.value) === wanted);
    if (tail) {
      for (const n of tail.absorbed) got = again(b, n, got, twin);
      got = roundTrip(b, got, q.affines.get(tail.value)!).outputs[0]!;
      wanted = tail.value;
    }
    const float = twin(wanted);
    return { layer, wrong: square(b.sub(float, got)), all: square(float) };
  });
  const seen = await observe(
    probe,
    sums.flatMap((s) => [s.wrong, s.all]),
    data,
    total,
    { threads },
  );
  return new Map(
    sums.map(({ layer, wrong, all }) => {
      const [e, y] = [seen.get(wrong) ?? 0, seen.get(all) ?? 0];
      return [layer, y > 0 ? Math.sqrt(e / y) : e > 0 ? Infinity : 0];
    }),
  );
}

/** The same op on another input. */
function again(b: Build, n: Node, x: Value, twin: (v: Value) => Value): Value {
  return b.op(n.opType, [x, ...n.inputs.slice(1).map((v) => v && twin(v))], Object.fromEntries(n.attrs));
}
