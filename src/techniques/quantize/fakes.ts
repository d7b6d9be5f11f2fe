/** The graph that quantization-aware training runs: float master weights and activations through quantizers that training can change. */
import { type Model, produce, type Value } from "../../ir/graph.ts";
import { labelOf } from "../../ir/walk.ts";
import { Build } from "../../ops/build.ts";
import type { Histogram } from "../../runtime/observers.ts";
import { sizeOf } from "../../tensor/dtype.ts";
import { floatsOf, tensor } from "../../tensor/tensor.ts";
import { type Plan, tailOf } from "./chain.ts";
import { inputOf, type Layer, outputOf, weightKey, weightOf } from "./layers.ts";
import { binsOf, fakeBias, fakeQuantize, inputSpan, leastError, type Step, stepOf, weightSpan } from "./lsq.ts";
import { keepApart } from "./static.ts";

/** Bits of a layer's weight and of its input (0: float). */
export interface Width {
  readonly weight: number;
  readonly input: number;
}

export interface FakeOptions {
  readonly widths: ReadonlyMap<Layer, Width>;
  readonly granularity: "channel" | "tensor";
  readonly symmetric: boolean;
  /** Scales are trained too. */
  readonly learn: boolean;
  /** Elements of a value for one example. */
  readonly elements: (v: Value) => number;
  readonly ndim: (v: Value) => number | null;
}

/** A value that goes through codes: `to` is what the codes of `from` stand for. */
export interface FakeInput {
  readonly step: Step;
  readonly bits: number;
  readonly from: Value;
  readonly to: Value;
}

export interface FakeWeight {
  readonly step: Step;
  readonly bits: number;
  readonly layers: readonly Layer[];
  /** The trained float weight, as {@link weightOf} lays it out. */
  readonly master: Value;
  readonly shape: readonly number[];
  readonly to: Value;
}

export interface FakeBias {
  readonly master: Value;
  readonly to: Value;
  readonly input: Step;
  readonly weight: FakeWeight;
}

export interface Fakes {
  readonly inputs: readonly FakeInput[];
  readonly weights: readonly FakeWeight[];
  readonly biases: readonly FakeBias[];
}

/** A value of which calibration saw no element. */
const nothing: Histogram = { min: 0, max: 0, n: 0, counts: new Float64Array(0), start: 0, exponent: 0 };

/** Every trained scale and every setting among a model's fakes, by initializer. */
export function namesOf(f: Fakes): { readonly learned: string[]; readonly settings: string[] } {
  const steps = [...new Set([...f.inputs, ...f.weights].map((s) => s.step))];
  return { learned: steps.flatMap((s) => s.learned ?? []), settings: steps.flatMap((s) => s.settings) };
}

/**
 * The bits of every value of a plan: what the layers that read it want, the most of them, looked for through ops that share its scale; 8
 * where an Add, Mul, Concat or pooling reads it (sums of branches stay exact, as in the papers), or whoever reads floats where it is whole.
 */
export function bitsOf(plan: Plan, widths: ReadonlyMap<Layer, Width>): Map<Value, number> {
  const byNode = new Map([...widths].map(([l, w]) => [l.node, w.input]));
  const bits = new Map<Value, number>();
  for (const [v, root] of plan.values) {
    const readers = plan.readers(v);
    const most = (n: number) => bits.set(root, Math.max(bits.get(root) ?? 0, n));
    if (plan.whole.has(v) && readers.length < v.uses.size) most(8);
    for (const u of readers) {
      if (!("node" in u)) continue;
      const end = byNode.has(u.node) ? null : tailOf(u.node.outputs[0]!).value;
      const shares = end !== null && plan.values.get(end) === root;
      if (!shares) most(byNode.get(u.node) ?? 8);
    }
  }
  return new Map([...plan.values].map(([v, root]) => [v, bits.get(root) ?? 8]));
}

/**
 * Puts quantizers on the layers' weights, inputs and biases, where {@link quantizeStatically} puts codes. `seen`: a histogram of each value
 * the plan takes a range from. Without a plan only weights are quantized.
 */
export function insertFakes(
  model: Model,
  layers: readonly Layer[],
  plan: Plan | null,
  seen: ReadonlyMap<Value, Histogram>,
  o: FakeOptions,
): Fakes {
  const b = Build.of(model, "qat");
  const bits = plan ? bitsOf(plan, o.widths) : new Map<Value, number>();
  const steps = new Map<string, Step>();
  const inputs: FakeInput[] = [];
  /** The scale of a value at some bits, shared with all that take its range. */
  const stepFor = (v: Value, width: number): Step => {
    const root = plan!.values.get(v)!;
    const key = `${root.name}/${width}`;
    const known = steps.get(key);
    if (known) return known;
    const h = seen.get(root) ?? nothing;
    const tail = plan!.whole.get(root) ?? { min: -Infinity, max: Infinity };
    const [min, max] = [Math.max(Math.min(h.min, 0), tail.min), Math.min(Math.max(h.max, 0), tail.max)];
    const span = inputSpan(h.n ? min : 0, h.n ? max : 0, width, o.symmetric);
    const { values, counts } = binsOf(h);
    const bounded = values.map((x) => Math.min(tail.max, Math.max(tail.min, x)));
    const step = stepOf(b, key, Float32Array.of((h.n && leastError(bounded, counts, span)) || 1), [], span, o.elements(root), o.learn);
    steps.set(key, step);
    return step;
  };
  const through = (v: Value, of: Value, width: number) => {
    const step = stepFor(of, width);
    const to = fakeQuantize(b, v, step).outputs[0]!;
    inputs.push({ step, bits: width, from: v, to });
    return to;
  };
  // Each layer's input: on its own edge where the value is not whole, or has more bits for others.
  const given = new Map(layers.map((l) => [l, inputOf(l)]));
  const edges = new Map<string, Value>();
  const inputStep = new Map<Layer, Step>();
  for (const l of plan ? layers : []) {
    const v = inputOf(l);
    const width = o.widths.get(l)!.input;
    inputStep.set(l, stepFor(v, width));
    if (plan!.whole.has(v) && bits.get(v) === width) continue;
    const key = `${v.name}/${width}`;
    const edge = edges.get(key) ?? through(v, v, width);
    edges.set(key, edge);
    l.node.setInput(0, edge);
  }
  const weights = fakeWeights(b, layers, o);
  const biases: FakeBias[] = [];
  for (const layer of layers) {
    const { node, bias, op } = layer;
    const [x, y] = [inputOf(layer), outputOf(layer)];
    const weight = weights.get(layer)!;
    const ins = [x, weight.to];
    if (bias) {
      const name = `${labelOf(node)}/bias`;
      const master = b.graph.initializer(name, tensor("float32", [bias.length], bias));
      const step = inputStep.get(layer);
      const products = step && b.mul(step.value, o.granularity === "tensor" ? weight.step.value : b.reshape(weight.step.value, [-1]));
      const to = products ? fakeBias(b, master, products) : master;
      if (step) biases.push({ master, to, input: step, weight });
      ins.push(to);
    }
    produce(
      b.graph.append(op, ins, { name: `${node.name || op}/quantized`, attrs: op === "Conv" ? Object.fromEntries(node.attrs) : {} }),
      y,
    );
    node.graph.remove(node);
    const tail = tailOf(y);
    if (plan && op !== "Conv" && !plan.whole.has(tail.value)) {
      const dims = op === "Gemm" ? 2 : o.ndim(given.get(layer)!);
      if (dims) keepApart(b, tail, [...new Array<number>(dims - 1).fill(0), layer.channels]);
    }
  }
  for (const [v, tail] of plan?.whole ?? []) {
    const step = stepFor(v, bits.get(v)!);
    // Codes that begin at zero do what a Relu does; a bound above is learned (Choi et al. 2018, PACT).
    const first = tail.absorbed[0] && step.span.low === 0 && tail.min >= 0 ? tail.absorbed[0] : null;
    const raw = first ? first.inputs[0]! : b.graph.value(`${v.name}/float`, v.type);
    if (!first) produce(v.producer!, raw);
    produce(fakeQuantize(b, raw, step), v);
    inputs.push({ step, bits: bits.get(v)!, from: raw, to: v });
    if (first) for (const n of [...tail.absorbed].reverse()) n.graph.remove(n);
  }
  return { inputs, weights: [...new Set(weights.values())], biases };
}

/** One master and one quantizer for all layers that see the same weight; of two widths the larger. */
function fakeWeights(b: Build, layers: readonly Layer[], o: FakeOptions): Map<Layer, FakeWeight> {
  const groups = new Map<string, Layer[]>();
  for (const l of layers) groups.set(weightKey(l), [...(groups.get(weightKey(l)) ?? []), l]);
  const out = new Map<Layer, FakeWeight>();
  for (const group of groups.values()) {
    const [first] = group as [Layer];
    const t = weightOf(first);
    const bits = Math.max(...group.map((l) => o.widths.get(l)!.weight));
    const span = weightSpan(bits);
    const perChannel = o.granularity === "channel";
    const { axis, channels, weight } = first;
    const w = floatsOf(t);
    const inner = sizeOf(t.shape.slice(axis + 1));
    const scales = Float32Array.from({ length: perChannel ? channels : 1 }, (_, c) =>
      leastError(perChannel ? channelOf(w, c, channels, inner) : w, null, span),
    );
    const widest = Math.max(...scales) || 1;
    const name = first.use.through.length ? `${weight.name}/seen` : weight.name;
    const master = b.graph.initializer(`${name}/master`, t);
    const shape = perChannel ? t.shape.map((d, i) => (i === axis ? d : 1)) : [];
    const step = stepOf(
      b,
      name,
      scales.map((s) => s || widest),
      shape,
      span,
      w.length / scales.length,
      o.learn,
    );
    const fake: FakeWeight = { step, bits, layers: group, master, shape: t.shape, to: fakeQuantize(b, master, step).outputs[0]! };
    for (const l of group) out.set(l, fake);
  }
  return out;
}

/** The numbers of channel c, where an index of the channels' axis serves `inner` numbers in a row. */
function channelOf(w: Float32Array, c: number, channels: number, inner: number): Float32Array {
  const out = new Float32Array(w.length / channels);
  for (let i = c * inner, at = 0; i < w.length; i += channels * inner) for (let k = 0; k < inner; k++) out[at++] = w[i + k]!;
  return out;
}
