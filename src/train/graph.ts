/** The graph that training runs: loss and gradients as outputs; examples, trained weights and dropout masks as inputs. */
import type { Batch } from "../data/dataset.ts";
import { float, type Model, type Value } from "../ir/graph.ts";
import { matcher, type Selector } from "../ir/select.ts";
import { constantOf, find, removeDead, sorted } from "../ir/walk.ts";
import { Build, shapeOf } from "../ops/build.ts";
import { observeShapes } from "../runtime/shapes.ts";
import { dtypes } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { floatsOf, numbersOf, type Tensor, wrap } from "../tensor/tensor.ts";
import { fold } from "../transform/fold.ts";
import { grad } from "../transform/grad.ts";
import { scoresOf } from "../transform/scores.ts";
import { dropDefault } from "../transform/weights.ts";
import type { Loss, Pair, Root } from "./loss.ts";

export interface GraphOptions {
  /** Which initializers are trained; default: those that look like weights (see {@link looksTrained}). */
  readonly trainable?: Selector;
  readonly frozen?: Selector;
  /** Initializers that are inputs too, but without a gradient: masks that change on the way. */
  readonly live?: Selector;
  /** Their gradients are computed all the same. */
  readonly liveGradients?: boolean;
  /** BatchNormalization by the batch's own statistics. */
  readonly batchStatistics?: boolean;
  readonly threads?: number;
}

/** A weight: an initializer of the model that is a float32 input here. */
export interface Slot {
  readonly name: string;
  readonly shape: readonly number[];
  readonly initial: Float32Array;
  /** The output that is its gradient; null: none is computed. */
  readonly gradient: string | null;
}

/** Statistics of a BatchNormalization: an initializer of the model, and the output that gives the batch's. */
export interface Statistic {
  readonly name: string;
  readonly initial: Float32Array;
  readonly output: string;
  /** Share of the running value that is kept each step. */
  readonly momentum: number;
}

/** An input that is drawn anew each step: a dropout mask of that ratio, or (null) uniform numbers in [−1, 1). */
export interface Draw {
  readonly input: string;
  readonly shape: readonly number[];
  readonly ratio: number | null;
}

export interface TrainingGraph {
  readonly model: Model;
  readonly loss: string;
  readonly weights: readonly Slot[];
  readonly live: readonly Slot[];
  readonly draws: readonly Draw[];
  readonly statistics: readonly Statistic[];
  readonly arrays: ReadonlyMap<string, string>;
  readonly pairs: readonly TargetPair[];
  /** Selected by name, but the loss does not depend on them. */
  readonly unreached: readonly string[];
}

/** A {@link Pair}'s array, with the number of classes. */
export interface TargetPair extends Omit<Pair, "target" | "output"> {
  readonly count: number | null;
}

/** A model with its loss attached, the loss its only output. */
export interface WithLoss {
  readonly model: Model;
  /** The initializers of the model itself, by name: the loss has constants too. */
  readonly own: ReadonlySet<string>;
  readonly loss: Value;
  readonly pairs: readonly Pair[];
  readonly roots: readonly Root[];
  /** Dataset array → graph input. */
  readonly arrays: ReadonlyMap<string, string>;
}

/** Attaches a loss to `model` itself. `sample`: a batch. Errors: arrays that the model or the loss takes and the data has not. */
export function attach(model: Model, loss: Loss, sample: Batch): WithLoss {
  const { graph } = model;
  const sampleOf = (name: string, who: string) => {
    const t = sample[name];
    if (!t) throw new Fault("data", `has no array "${name}", which the ${who} takes; it has ${Object.keys(sample).join(", ")}`);
    return t;
  };
  const own = new Set([...graph.initializers].map((v) => v.name));
  const arrays = new Map<string, string>();
  for (const v of graph.inputs) {
    if (v.data) continue;
    sampleOf(v.name, "model");
    arrays.set(v.name, v.name);
  }
  const b = Build.of(model, "loss");
  const named = (name: string | null) => {
    const v = name === null ? graph.outputs[0] : find(graph, name);
    if (!v) throw new Fault("loss", `the model has no output "${name}"; it has ${graph.outputs.map((o) => o.name).join(", ")}`);
    return v;
  };
  const float32 = (v: Value) => (v.type && v.type.dtype !== "float32" ? b.op("Cast", [v], { to: dtypes.float32.code }) : v);
  const { value, pairs, roots } = loss.attach({
    b,
    sample: (name) => sampleOf(name, "loss"),
    array(name) {
      const { dtype, shape } = sampleOf(name, "loss");
      const known = arrays.get(name);
      if (known) return find(graph, known)!;
      const v = graph.input(name, dtype, [null, ...shape.slice(1)]);
      arrays.set(name, v.name);
      return v;
    },
    output: (name) => float32(named(name)),
    scores(name) {
      const scores = scoresOf(b, named(name));
      return { ...scores, value: float32(scores.value) };
    },
  });
  graph.setOutputs([value]);
  return { model, own, loss: value, pairs, roots, arrays };
}

/** Builds the training graph for batches of the shapes of `sample`; changes `attached`. Errors: no weight gets a gradient; an op without a rule. */
export async function trainingGraph(attached: WithLoss, sample: Batch, options: GraphOptions): Promise<TrainingGraph> {
  const base = attached.model;
  const { arrays } = attached;
  const statistics = options.batchStatistics ? useBatchStatistics(base) : [];
  removeDead(base.graph);
  const candidates = floatInitializers(base).filter((v) => attached.own.has(v.name));
  const isLive = options.live ? matcher(options.live) : () => false;
  const live = candidates.filter((v) => isLive([v.name]));
  const chosen = chooseTrained(candidates, options);
  const initial = new Map([...chosen, ...live].map((v) => [v.name, feedInstead(base, v)]));
  const feeds = Object.fromEntries([...[...arrays].map(([array, input]) => [input, sample[array]!] as const), ...initial]);
  const model = await observeShapes(base, feeds, { threads: options.threads });
  const { graph } = model;
  const here = (v: Value) => find(graph, v.name)!;
  const pairs = attached.pairs.map(({ array, target, output, classes }): TargetPair => {
    const want = shapeOf(here(output));
    const got = shapeOf(here(target));
    if (`${want}` !== `${got}`) {
      const right = classes ? want.toSpliced(classes.axis < 0 ? want.length + classes.axis : classes.axis, 1) : want;
      throw new Fault("data", `"${array}" has the shape [${sample[array]!.shape}] a batch; the model's output [${want}] wants [${right}]`);
    }
    const count = classes ? want.at(classes.axis)! : null;
    return { array, count, ...(classes ? { classes } : {}) };
  });
  const draws = drawnInputs(model);
  // Batches have one shape, so that what is computed from shapes alone is constant: gradient rules want axes, pads and ends to be.
  await fold(model, { shapes: true, threads: options.threads });
  const loss = here(attached.loss);
  const wrt = chosen.map(here);
  const sensed = options.liveGradients ? live.map(here) : [];
  const gradients = grad(model, loss, [...wrt, ...sensed]);
  const reached = wrt.filter((v) => gradients.has(v));
  if (reached.length === 0)
    throw new Fault("train", `no weight gets a gradient from the loss; selected: ${chosen.map((v) => v.name).join(", ") || "none"}`);
  for (const v of wrt) if (!gradients.has(v)) restore(v, initial.get(v.name)!);
  const slot = (v: Value, gradient: string | null): Slot => {
    const t = initial.get(v.name)!;
    return { name: v.name, shape: t.shape, initial: floatsOf(t), gradient };
  };
  const b = Build.of(model, "grad");
  const taken = new Set<Value>([loss]);
  const withGradient = (v: Value): Slot => {
    let g = gradients.get(v);
    if (!g) return slot(v, null);
    // An output of its own for each: two weights may share one cotangent, and none may be an input.
    if (taken.has(g) || !g.producer) g = b.op("Identity", [g]);
    taken.add(g);
    graph.addOutput(g);
    return slot(v, g.name);
  };
  const weights = reached.map(withGradient);
  const changing = live.map((v) => withGradient(here(v)));
  for (const s of statistics) graph.addOutput(find(graph, s.output)!);
  removeDead(graph);
  const names = new Set(reached.map((v) => v.name));
  return {
    model,
    loss: loss.name,
    weights,
    live: changing,
    draws,
    statistics,
    arrays,
    pairs,
    unreached: patternsOf(options.trainable).filter((name) => attached.own.has(name) && !names.has(name)),
  };
}

const patternsOf = (s: Selector | undefined): readonly string[] =>
  s === undefined ? [] : typeof s === "string" ? s.split(",").map((p) => p.trim()) : s;

function floatInitializers(model: Model): Value[] {
  return [...model.graph.initializers].filter((v) => v.data && /^(b?float(16|32|64))$/.test(v.data.dtype));
}

/** The initializers to train. Errors: a selector that matches none. */
function chooseTrained(candidates: readonly Value[], { trainable, frozen, live }: GraphOptions): Value[] {
  const named = new Set(patternsOf(trainable));
  const wanted = trainable === undefined ? () => true : matcher(trainable);
  const unwanted = [frozen, live].flatMap((s) => (s === undefined ? [] : [matcher(s)]));
  const chosen = candidates.filter(
    (v) => (named.has(v.name) || (wanted([v.name]) && looksTrained(v))) && !unwanted.some((matches) => matches([v.name])),
  );
  if (chosen.length === 0) {
    const all = candidates.filter(looksTrained);
    throw new Fault(
      "train",
      `no weight matches trainable "${trainable ?? "*"}" and not frozen "${frozen ?? ""}"; the model has ${all.map((v) => v.name).join(", ") || "none"}`,
    );
  }
  return chosen;
}

/** Inputs whose constants are settings and not weights, by op: statistics, scales of quantizers, bounds, exponents. */
const settings: Readonly<Record<string, readonly number[]>> = {
  BatchNormalization: [3, 4],
  Resize: [1, 2],
  QuantizeLinear: [1, 2],
  DequantizeLinear: [1, 2],
  Clip: [1, 2],
  Pow: [1],
  Where: [1, 2],
  Pad: [2],
  Dropout: [1],
};

/**
 * Whether an initializer is a weight by its looks: a float array that no node reads as a setting, and not the scalar of a formula
 * (ε, 1/√d) or a mask of huge numbers (an array of one element only as bias).
 */
export function looksTrained(v: Value): boolean {
  const t = v.data!;
  if (t.shape.length === 0) return false;
  for (const use of v.uses) {
    if (!("node" in use)) return false;
    if (settings[use.node.opType]?.includes(use.index)) return false;
  }
  const x = floatsOf(t);
  if (x.length === 1)
    return [...v.uses].every((u) => "node" in u && ["Add", "Gemm", "Conv", "ConvTranspose", "MatMul", "PRelu"].includes(u.node.opType));
  return x.every((e) => Math.abs(e) < 1e4);
}

/** Turns an initializer into a float32 input, with a Cast to what it was for its readers; returns its values. */
export function feedInstead(model: Model, v: Value): Tensor {
  const { dtype, shape } = v.data!;
  const values = wrap("float32", shape, floatsOf(v.data!));
  if (dtype !== "float32") {
    const cast = Build.of(model, "train").node("Cast", [v], { to: dtypes[dtype].code });
    const out = cast.outputs[0]!;
    out.type = { dtype, shape };
    v.replaceUses(out, { except: cast });
  }
  model.graph.setData(v, null);
  v.type = { dtype: "float32", shape };
  if (!model.graph.inputs.includes(v)) model.graph.inputs.push(v);
  return values;
}

/** Makes an input an initializer (again). */
function restore(v: Value, data: Tensor): void {
  v.graph.setData(v, data);
  dropDefault(v.graph, v);
}

/** Lets every BatchNormalization normalize by its batch. With momentum 0 its outputs 2 and 3 are the batch's statistics. */
export function useBatchStatistics(model: Model): Statistic[] {
  const out: Statistic[] = [];
  for (const n of [...model.graph.nodes]) {
    if (n.opType !== "BatchNormalization" || n.domain !== "") continue;
    const momentum = n.float("momentum") ?? 0.9;
    const [mean, variance] = [n.inputs[3], n.inputs[4]];
    if (!mean?.data || !variance?.data) continue;
    n.attrs.set("training_mode", { type: "int", value: 1 });
    n.attrs.set("momentum", float(0));
    for (const v of [mean, variance]) {
      const output = model.graph.value(`${v.name}/batch`);
      model.graph.addNodeOutput(n, output);
      out.push({ name: v.name, initial: floatsOf(v.data!), output: output.name, momentum });
    }
  }
  return out;
}

/** Puts a Mul with a mask that is an input in the place of every Dropout that drops anything, and an input in that of every Noise. */
function drawnInputs(model: Model): Draw[] {
  const out: Draw[] = [];
  const b = Build.of(model, "dropout");
  const drawn = (name: string, like: Value, ratio: number | null) => {
    const shape = shapeOf(like);
    const v = model.graph.input(name, "float32", shape);
    out.push({ input: v.name, shape, ratio });
    return v;
  };
  for (const n of sorted(model.graph)) {
    const [x, y] = [n.inputs[0]!, n.outputs[0]!];
    if (n.opType === "Noise" && n.domain === "pith") {
      y.replaceUses(drawn(`${y.name}/noise`, x, null));
      model.graph.remove(n);
    }
    if (n.opType !== "Dropout" || n.domain !== "") continue;
    const given = constantOf(n.inputs[1]);
    const ratio = given ? numbersOf(given)[0]! : (n.float("ratio") ?? 0.5);
    if (ratio === 0 || n.outputs[1]) continue;
    const mask = drawn(`${y.name}/mask`, x, ratio);
    const kept = b.mul(x, x.type?.dtype === "float32" ? mask : b.op("Cast", [mask], { to: dtypes[x.type!.dtype].code }));
    kept.type = x.type;
    y.replaceUses(kept);
    model.graph.remove(n);
  }
  return out;
}
