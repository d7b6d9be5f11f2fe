/** The engine of unstructured pruning: weights go one by one or in patterns, at once or while training, by whatever makes them important. */
import { choice, int, number, optional, text, type ValuesOf } from "../../data/params.ts";
import { cloneModel, type Model, type Node, type Value } from "../../ir/graph.ts";
import { allGraphs, find } from "../../ir/walk.ts";
import { sizeOf } from "../../tensor/dtype.ts";
import { Fault } from "../../tensor/fault.ts";
import { numbersOf, type Tensor } from "../../tensor/tensor.ts";
import type { Checkpoint } from "../../train/checkpoint.ts";
import type { Step } from "../../train/fit.ts";
import { writeBack } from "../../train/weights.ts";
import { liftConstants } from "../../transform/fold.ts";
import { insertMask, type Mask, mergeMasks, zeroed } from "../../transform/mask.ts";
import { dropDefault, type Weight, weightsOf } from "../../transform/weights.ts";
import { type FineTuning, fineTune, labelled, training } from "../finetune.ts";
import type { Context } from "../technique.ts";
import { choose, type Masks, type Removal } from "./choose.ts";
import { layoutOf } from "./layout.ts";
import { parsePattern } from "./pattern.ts";
import { refined, refinement } from "./refinement.ts";
import { sparsities } from "./scan.ts";
import { scheduled } from "./schedule.ts";

/** Which weights, by which pattern and how they are compared: what solvers share too. */
export const selection = {
  sparsity: number(0.9, { min: 0, max: 1, doc: "fraction of the weights removed" }),
  scope: choice(["global", "layer"], { doc: "compare all weights, or each layer's among themselves" }),
  pattern: text("free", {
    expects: "free, n:m or rows x columns",
    doc: "free; 2:4: of 4 neighbours along the inputs at most 2 stay (sparsity is not used then); 4x4, 1x8, 16x1: blocks of outputs x inputs stay or go whole",
  }),
  include: optional(text("*", { doc: "only layers this selector matches" })),
  exclude: optional(text("", { doc: "not layers this selector matches" })),
};

/** The parameters of every technique that removes weights by their importance. */
export const edges = {
  sparsity: selection.sparsity,
  scope: choice(["global", "layer", "row", "sensitivity"], {
    doc: "compare all weights; each layer's among themselves; each output's (row); or each layer's, with a sparsity of its own from what pruning it alone does to the loss (without training data: to the outputs)",
  }),
  pattern: selection.pattern,
  ...refinement,
  schedule: choice(["oneshot", "iterative", "cubic", "lottery", "dynamic"], {
    doc: "remove all at once; in rounds of pruning and training; gradually while training; in rounds of training, pruning and going back to the first weights, then train what is left (lottery); while training, where what was removed learns on and may come back (dynamic)",
  }),
  rounds: int(5, { min: 1, doc: "rounds of the iterative and lottery schedules" }),
  rewind: int(0, {
    min: 0,
    doc: "lottery: the training step whose weights what is left goes back to; 0: those of the model given, which should be untrained",
  }),
  ramp: number(0.6, { min: 0, max: 1, doc: "share of the training over which the cubic and dynamic schedules remove" }),
  every: int(20, { min: 1, doc: "training steps between two removals of the cubic and dynamic schedules" }),
  lastRate: number(1, {
    min: 0,
    max: 1,
    doc: "scope=layer: the output layer is pruned at this share of the others' rate (0.5 in the lottery ticket's paper)",
  }),
  epochs: optional(int(3, { min: 0, doc: "passes over the training data (lottery: of each round); null: 3 where there is some, else 0" })),
  include: selection.include,
  exclude: selection.exclude,
  loss: labelled,
  ...training,
};

export type EdgeParams = ValuesOf<typeof edges>;

/** What is declared of most of them: at which settings nothing changes, and which is the stronger of two. */
export const settings = {
  neutral: { sparsity: 0, epochs: 0 },
  stronger: [
    { sparsity: 0.5, epochs: 0 },
    { sparsity: 0.9, epochs: 0 },
  ],
} as const;

/** What a technique adds to the engine. */
export interface Importance {
  /**
   * Scores ≥ 0 in each weight's own (stored) layout, from the model's current values; higher stays. Called at every removal. What was removed
   * before is 0 in `model`; with the dynamic schedule it has the values it has learned on its own.
   */
  scores(
    model: Model,
    weights: readonly Weight[],
    context: Context,
    p: EdgeParams,
  ): readonly Float32Array[] | Promise<readonly Float32Array[]>;
  /** Sees every step of a training that removes (cubic, dynamic), gradients of the weights' masks included, before scores are asked for. */
  watch?(step: Step, masks: readonly Mask[]): void;
  /** Scores go on for what was removed: it comes back, as it was, where its score is among the highest again (cubic). */
  readonly returns?: true;
}

/** Which data it takes at least: for a technique's `needs`. */
export const needsOf = (p: EdgeParams): ("train" | "calibration")[] => [
  ...(p.refine === "none" ? [] : (["calibration"] as const)),
  ...(p.schedule !== "oneshot" || (p.epochs ?? 0) > 0 ? (["train"] as const) : []),
];

/** The weights that the parameters select, in graph order, empty ones aside. Errors: none. */
export function selected(model: Model, p: Pick<EdgeParams, "include" | "exclude">, what: string): Weight[] {
  const named = weightsOf(model, { ...(p.include ? { include: p.include } : {}), ...(p.exclude ? { exclude: p.exclude } : {}) });
  const weights = named.filter(({ value }) => sizeOf(value.data!.shape) > 0);
  if (weights.length === 0) throw new Fault(what, "no weight of a Conv, Gemm or MatMul is selected");
  return weights;
}

/** One run of the engine. */
interface Run {
  readonly model: Model;
  readonly weights: readonly Weight[];
  readonly p: EdgeParams;
  readonly context: Context;
  readonly what: string;
  readonly epochs: number;
  readonly importance: Importance;
  /** The masks that come next. */
  readonly next: (model: Model, weights: readonly Weight[], removal: Removal) => Promise<Masks>;
}

/** Removes weights of the model as the parameters say, and notes what is left of each. `what`: the technique, for messages. */
export async function pruneEdges(model: Model, p: EdgeParams, context: Context, what: string, importance: Importance): Promise<void> {
  if (parsePattern(p.pattern).kind === "nm" && p.scope === "sensitivity")
    throw new Fault(what, `pattern ${p.pattern} prunes all layers alike; scope must be global, layer or row; got sensitivity`);
  liftConstants(model);
  const weights = selected(model, p, what);
  const defaults = weights.filter(({ value }) => value.graph.inputs.includes(value));
  const epochs = p.epochs ?? (context.train ? 3 : 0);
  if (p.schedule !== "oneshot" && epochs === 0)
    throw new Fault(what, `the ${p.schedule} schedule removes while it trains; epochs must be at least 1`);
  if (p.lastRate !== 1 && p.scope !== "layer" && p.scope !== "row")
    throw new Fault(what, `lastRate is the output layer's where each has its own sparsity; scope must be layer or row; got ${p.scope}`);
  let finals: number | readonly number[] =
    p.lastRate === 1 ? p.sparsity : weights.map((w) => (isLast(w, weights) ? lastSparsity(p) : p.sparsity));
  const whole = p.schedule !== "cubic" && p.schedule !== "dynamic";
  if (p.refine !== "none" && !whole) context.note(`refine=${p.refine} was not used: schedule=${p.schedule} removes while it trains`);
  const next: Run["next"] = async (now, ws, removal) => {
    const scores = await importance.scores(now, ws, context, p);
    // Once, when the first weights go.
    if (p.scope === "sensitivity" && typeof finals === "number") finals = await sparsities(now, ws, scores, p, context);
    const masks = choose(
      ws,
      scores,
      { scope: p.scope === "sensitivity" ? "layer" : p.scope, pattern: p.pattern, sparsity: finals },
      removal,
    );
    return whole ? refined(now, ws, masks, p, context) : masks;
  };
  const run: Run = { model, weights, p, context, what, epochs, importance, next };
  const keep = await schedules[p.schedule](run);
  zero(weights, keep);
  for (const { value } of defaults) context.note(`"${value.name}" is no longer an input that callers may override`);
  report(weights, keep, p, context);
}

/** Whether no other of the weights is read behind it. */
function isLast(weight: Weight, all: readonly Weight[]): boolean {
  const others = new Set(all.flatMap((w) => (w === weight ? [] : w.uses.map((u) => u.node))));
  const seen = new Set<Node>();
  const front = weight.uses.map((u) => u.node);
  for (let n = front.pop(); n; n = front.pop())
    for (const out of n.outputs)
      for (const use of out?.uses ?? []) {
        if (!("node" in use) || seen.has(use.node)) continue;
        if (others.has(use.node)) return false;
        seen.add(use.node);
        front.push(use.node);
      }
  return true;
}

/** The final sparsity of the output layer where each round removes its share `lastRate` of what is left as of the others. */
function lastSparsity({ schedule, rounds, sparsity, lastRate }: EdgeParams): number {
  const of = schedule === "iterative" || schedule === "lottery" ? rounds : 1;
  return 1 - (1 - lastRate * (1 - (1 - sparsity) ** (1 / of))) ** of;
}

const schedules: Readonly<Record<EdgeParams["schedule"], (run: Run) => Promise<Masks>>> = {
  oneshot: rounds,
  iterative: rounds,
  cubic: gradually,
  dynamic: gradually,
  lottery: tickets,
};

/** Removes and trains, once or in rounds. */
async function rounds({ model, weights, p, context, what, epochs, next }: Run): Promise<Masks> {
  const { schedule } = p;
  const of = schedule === "iterative" ? p.rounds : 1;
  let keep: Masks | null = null;
  for (let round = 1; round <= of; round++) {
    const at = (final: number) => scheduled(schedule === "iterative" ? "iterative" : "oneshot", final, round, of);
    keep = await next(model, weights, { at, before: keep });
    zero(weights, keep);
    if (epochs > 0) await holdAndTrain(model, weights, keep, p, context, { what, epochs: epochs / of, round });
  }
  return keep!;
}

/** A weight that was removed comes back only if its score is this many times one that goes: the two thresholds of Guo et al., 0.9 and 1.1. */
const hysteresis = 1.1 / 0.9;

/**
 * Removes while training: more and more over the first `ramp` of the steps (Zhu & Gupta 2017). Dynamic (Guo et al. 2016, Dynamic Network
 * Surgery): what is removed learns on by the gradient of the masked weight and is compared anew each time, for as long again as half of the
 * rest; then the masks stay.
 */
async function gradually({ model, weights, p, context, what, epochs, importance, next }: Run): Promise<Masks> {
  const dynamic = p.schedule === "dynamic";
  // Scored is a copy with the values of the moment.
  const copy = cloneModel(model);
  const watched = selected(copy, p, what);
  let keep: Masks = weights.map(({ value }) => new Uint8Array(numbersOf(value.data!).length).fill(1));
  const masks = weights.map((w, i) => insertMask(model, w.value, keep[i]!, dynamic));
  const untilOf = (of: number) => {
    const ramp = Math.max(1, Math.floor(p.ramp * of));
    return { ramp, until: dynamic ? Math.floor((ramp + of) / 2) : ramp };
  };
  const onStep = async (step: Step) => {
    importance.watch?.(step, masks);
    const { ramp, until } = untilOf(step.of);
    if (step.step > until || (step.step % p.every !== 0 && step.step !== ramp)) return;
    for (const name of step.names) if (find(copy.graph, name)) writeBack(copy, name, step.values(name));
    if (!dynamic) zero(watched, keep);
    const at = (final: number) => scheduled("cubic", final, step.step, ramp);
    keep = await next(copy, watched, { at, before: importance.returns ? null : keep, ...(dynamic ? { hysteresis } : {}) });
    masks.forEach((m, i) => {
      step.values(m.value.name).set(keep[i]!);
    });
  };
  const live = masks.map((m) => m.value.name);
  // The best epoch is one after the last removal.
  const liveGradients = importance.watch !== undefined;
  await fineTune(model, p, context, {
    what,
    loss: p.loss,
    epochs,
    live,
    liveGradients,
    onStep,
    keepFrom: dynamic ? (1 + p.ramp) / 2 : p.ramp,
  });
  keep = masks.map((m) => Uint8Array.from(numbersOf(m.value.data!)));
  mergeMasks(masks);
  return keep;
}

/**
 * Winning tickets (Frankle & Carbin 2019): train, remove, go back to the first weights, and again; what is left is trained at the end. With
 * `rewind` the way back ends at that training step (Frankle et al. 2019, Stabilizing the Lottery Ticket Hypothesis), moments of the optimizer
 * included. Each training sees the same examples in the same order.
 */
async function tickets({ model, weights, p, context, what, epochs, next }: Run): Promise<Masks> {
  const first = new Map<Value, Tensor>();
  for (const g of allGraphs(model.graph)) for (const v of g.initializers) first.set(v, v.data!);
  let start: Checkpoint | null = null;
  let keep: Masks = weights.map(({ value }) => new Uint8Array(numbersOf(value.data!).length).fill(1));
  const onStep = (step: Step) => {
    if (p.rewind > 0 && step.step === p.rewind) start ??= withoutBest(step.checkpoint());
    if (step.step === step.of && p.rewind > 0 && !start)
      throw new Fault(what, `rewind must be one of the ${step.of} steps; got ${p.rewind}`);
  };
  for (let round = 0; round <= p.rounds; round++) {
    if (round > 0) {
      const at = (final: number) => scheduled("iterative", final, round, p.rounds);
      keep = await next(model, weights, { at, before: keep });
      for (const [v, t] of first) v.graph.setData(v, t);
      zero(weights, keep);
    }
    const resume = start as Checkpoint | null;
    await holdAndTrain(model, weights, keep, p, context, { what, epochs, onStep, ...(resume ? { resume } : {}) });
  }
  return keep;
}

/** A checkpoint that knows no best epoch: those before are of a denser net. */
function withoutBest({ tensors, state }: Checkpoint): Checkpoint {
  return {
    tensors: new Map([...tensors].filter(([name]) => !name.startsWith("best/"))),
    state: { ...state, course: { ...(state.course as object), best: null, worse: 0 } },
  };
}

/**
 * Trains with the masks held: what is removed stays 0. `p` holds the parameters of training and the loss. For solvers: fine-tuning after
 * weights were removed.
 */
export async function holdAndTrain(
  model: Model,
  weights: readonly { readonly value: Value }[],
  keep: readonly Uint8Array[],
  p: ValuesOf<typeof training> & { readonly loss: string },
  context: Context,
  tuning: Omit<FineTuning, "loss" | "frozen" | "live">,
): Promise<void> {
  const masks = weights.map((w, i) => insertMask(model, w.value, keep[i]!));
  await fineTune(model, p, context, { ...tuning, loss: p.loss, frozen: masks.map((m) => m.value.name) });
  mergeMasks(masks);
}

/** Puts zeros where nothing is kept; all else keeps its bits. */
export function zero(weights: readonly Weight[], keep: readonly Uint8Array[]): void {
  weights.forEach(({ value }, i) => {
    value.graph.setData(value, zeroed(value, keep[i]!));
    dropDefault(value.graph, value);
  });
}

/** Notes how much of each layer is left, and warns of layers that are (nearly) empty. */
export function report(
  weights: readonly Weight[],
  keep: readonly Uint8Array[],
  p: { readonly pattern: string; readonly sparsity: number },
  context: Context,
): void {
  const of = (kept: number, n: number) => `${kept} of ${n} kept (${((100 * kept) / n).toFixed(1)} %)`;
  let [left, all] = [0, 0];
  weights.forEach((w, i) => {
    const kept = keep[i]!.reduce((n, k) => n + k, 0);
    const n = keep[i]!.length;
    left += kept;
    all += n;
    context.note(`${w.value.name} [${w.value.shape}]: ${of(kept, n)}`);
    const rows = layoutOf(w)?.rows ?? 1;
    if (kept < Math.min(rows, n))
      context.note(
        `WARNING: ${w.value.name} is nearly empty: ${kept} of its ${n} weights are left for ${rows} outputs; scope=layer, a lower sparsity or exclude would spare it`,
      );
  });
  const pattern = parsePattern(p.pattern);
  if (pattern.kind === "nm" && Math.abs(p.sparsity - (1 - pattern.keep / pattern.of)) > 1e-9)
    context.note(`pattern ${p.pattern} fixes how many weights go; sparsity=${p.sparsity} was not used`);
  if (weights.length > 1) context.note(`all ${weights.length} layers: ${of(left, all)}`);
}
