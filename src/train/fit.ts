/** The one training loop. */
import type { Dataset } from "../data/dataset.ts";
import { cloneModel, type Model } from "../ir/graph.ts";
import type { Selector } from "../ir/select.ts";
import type { Metric } from "../measure/accuracy.ts";
import { channelBlock } from "../runtime/blocks.ts";
import { inputsOf } from "../runtime/feeds.ts";
import { open } from "../runtime/session.ts";
import { Fault } from "../tensor/fault.ts";
import { floatsOf } from "../tensor/tensor.ts";
import { blockConvolutions } from "../transform/blocked.ts";
import { liftConstants } from "../transform/fold.ts";
import { upgrade } from "../transform/upgrade.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { feeder } from "./feeder.ts";
import { attach, trainingGraph } from "./graph.ts";
import { checkLabels, type Loss } from "./loss.ts";
import { remember } from "./memory.ts";
import { adam, type Optimizer } from "./optimizer.ts";
import { constant, type Schedule } from "./schedule.ts";
import { type Score, type Validator, validator } from "./validate.ts";
import { writeBack } from "./weights.ts";

export interface FitOptions {
  /** Examples; arrays named as the model's inputs, and whatever the loss takes. */
  readonly data: Dataset;
  /**
   * The examples of each pass after the first (1 for the second), as many and of the same shapes: a function of the number alone, so that a
   * resumed run goes on with the same ones. A batch that begins in one pass is wholly of that pass's examples. Default: `data` again.
   */
  readonly fresh?: (pass: number) => Promise<Dataset>;
  readonly loss: Loss;
  /** Default: adam(). */
  readonly optimizer?: Optimizer;
  /** How long: passes over the data (default 1), or steps. */
  readonly epochs?: number;
  readonly steps?: number;
  /** Examples a step, default 32. What is left of the last batch of an epoch is carried over to the next. */
  readonly batchSize?: number;
  /** Order of the examples and dropout masks follow from it. Default 0. */
  readonly seed?: number;
  /** Initializers to train, by name; default: every weight the loss depends on. */
  readonly trainable?: Selector;
  readonly frozen?: Selector;
  /** Initializers that `onStep` may write into (see {@link Step.values}): masks that change on the way. */
  readonly live?: Selector;
  /** Gradients of the live ones too, for {@link Step.gradient}. */
  readonly liveGradients?: boolean;
  readonly schedule?: Schedule;
  /** Gradients are scaled down to this global norm where they are longer. */
  readonly clipNorm?: number;
  /** BatchNormalization by each batch's own statistics, the running ones following (training from scratch); default: frozen statistics. */
  readonly batchStatistics?: boolean;
  /** Scored at the end of every epoch, or every so many steps. */
  readonly validation?: Dataset;
  readonly evaluateEvery?: number;
  /** What is scored; default: accuracy where the loss has class labels, else the loss. */
  readonly metric?: Metric;
  /** End with the weights of the best score. */
  readonly keepBest?: boolean;
  /** Scores count for keepBest and patience only after this share of the steps: until then the model is not yet what is wanted (masks still grow). */
  readonly keepFrom?: number;
  /** Stop after so many scores without a better one. */
  readonly patience?: number;
  readonly threads?: number;
  /** Go on from a checkpoint of the same run: the result is bit-equal to one that was never interrupted. */
  readonly resume?: Checkpoint;
  readonly progress?: (p: Progress) => void;
  /** Called, and awaited, after every step; false ends the training. */
  readonly onStep?: (step: Step) => unknown;
  /** A line worth telling: what was selected but does not train. */
  readonly note?: (line: string) => void;
}

export interface Progress {
  readonly what: string;
  readonly step: number;
  readonly of: number;
  readonly loss: number;
  /** The last score, if there was one. */
  readonly metric?: number;
  /** Seconds left, estimated. */
  readonly left: number;
}

export interface Step {
  /** Steps done. */
  readonly step: number;
  readonly of: number;
  readonly loss: number;
  /** Euclidean norm of all gradients before clipping. */
  norm(): number;
  /** Initializers that have values here: trained and live ones, running statistics. */
  readonly names: readonly string[];
  /** A view of a trained or live weight (float32): read it, or write into it. */
  values(name: string): Float32Array;
  /** A view of the gradient of a trained weight (live too, with liveGradients), by the values before this step; null: it has none. */
  gradient(name: string): Float32Array | null;
  checkpoint(): Checkpoint;
}

/** One epoch's figures, or those of the steps between two evaluations. */
export interface Epoch extends Partial<Score> {
  /** Counted from 1. */
  readonly epoch: number;
  readonly step: number;
  /** Mean training loss of its steps. */
  readonly loss: number;
}

export interface Fitted {
  readonly history: readonly Epoch[];
  /** The loss of every step of this run. */
  readonly losses: readonly number[];
  readonly steps: number;
  /** The epoch whose weights were kept (keepBest), else null. */
  readonly best: number | null;
  /** Names of the weights that were trained. */
  readonly trained: readonly string[];
}

/** A loss this many times its first value (or 1, if that is more), as a moving average, has blown up. */
const blownUp = 10;

/**
 * Trains `model` on the data and puts the new weights into its initializers (or Constant nodes): names, dtypes and all else stay.
 * The model changes only when training ends well. The graph gives loss and gradients, a WebAssembly kernel updates all weights in
 * place. The same options give the same bytes (same machine, threads and runtime). Turns the event loop after each step.
 * Errors: arrays or shapes that do not fit, labels out of range, ops without a gradient, a training that diverges.
 */
export async function fit(model: Model, options: FitOptions): Promise<Fitted> {
  const { data, loss, optimizer = adam(), seed = 0, schedule = constant(), clipNorm, threads } = options;
  const size = Math.min(options.batchSize ?? 32, data.length);
  if (!(size >= 1)) throw new Fault("train", `needs examples, and a batch size of at least 1; got ${data.length} and ${options.batchSize}`);
  const of = options.steps ?? Math.ceil(((options.epochs ?? 1) * data.length) / size);
  const base = cloneModel(model);
  liftConstants(base);
  // Gradient rules are written for opset 17 and later; only weights return to the model itself.
  upgrade(base, Math.max(17, base.opsets.get("") ?? 17));
  const outputs = base.graph.outputs.map((o) => o.name);
  const feed = feeder(data, size, seed, inputsOf(base), options.fresh);
  const attached = attach(base, loss, feed.batch);
  const scored = options.validation ? cloneModel(base) : null;
  const graph = await trainingGraph(attached, feed.batch, options);
  for (const name of graph.unreached) options.note?.(`"${name}" was selected for training, but the loss does not depend on it`);

  const memory = remember(graph, optimizer.moments);
  const { places, kernel } = memory.arena;
  const block = await channelBlock();
  if (block) blockConvolutions(graph.model, block);
  const session = await open(graph.model, { training: true, threads });
  let validate: Validator | null = null;
  try {
    if (scored)
      validate = await validator(scored, {
        data: options.validation!,
        batchSize: Math.max(size, 256),
        outputs,
        loss: attached.loss.name,
        arrays: attached.arrays.keys(),
        pairs: attached.pairs,
        weights: memory.weights,
        metric: options.metric,
        threads,
      });
    const run = session.bind(
      { ...memory.feeds, ...Object.fromEntries([...graph.arrays].map(([array, input]) => [input, feed.batch[array]!])) },
      memory.fetches,
    );
    const identity = { seed, size, examples: data.length, optimizer: optimizer.name };
    const course: Course = { step: 0, history: [], first: 0, average: 0, epochLoss: 0, best: null, worse: 0 };
    if (options.resume) Object.assign(course, memory.restore(options.resume, identity).course);
    const losses: number[] = [];
    const began = performance.now();
    const beganAt = course.step;
    const periods = (steps: number) => Math.floor(options.evaluateEvery ? steps / options.evaluateEvery : (steps * size) / data.length);
    const names = [...memory.weights.keys()];
    let stopped = false;
    while (course.step < of && !stopped) {
      const indices = await feed.fill(course.step);
      for (const pair of graph.pairs) if (pair.classes) checkLabels(pair, pair.count!, feed.batch, indices);
      memory.draw(seed, course.step);
      await run();
      const value = memory.loss[0]!;
      const norm = () => Math.sqrt(kernel.sumSquares(places.g, places.length));
      const length = clipNorm === undefined ? 0 : norm();
      if (course.step === 0) course.first = course.average = value;
      course.average += 0.1 * (value - course.average);
      if (!Number.isFinite(value + length) || course.average > blownUp * Math.max(1, course.first)) {
        feed.refuseNaN();
        throw new Fault("train", `diverged at step ${course.step + 1} (loss ${value}); a lower learning rate would be right, or clipNorm`);
      }
      const scale = clipNorm !== undefined && length > clipNorm ? clipNorm / (length + 1e-6) : 1;
      const rate = optimizer.learningRate * schedule(course.step, of);
      course.step++;
      optimizer.update(kernel, places, course.step, rate, scale);
      memory.follow();
      losses.push(value);
      course.epochLoss += value;

      const epoch = periods(course.step);
      if (epoch > periods(course.step - 1) || course.step === of) {
        const since = course.step - (course.history.at(-1)?.step ?? 0);
        const score = await validate?.score();
        const entry: Epoch = { epoch: Math.max(1, epoch), step: course.step, loss: course.epochLoss / since, ...score };
        course.history.push(entry);
        course.epochLoss = 0;
        const best = course.history.find((e) => e.step === course.best);
        const counts = score && course.step > Math.floor((options.keepFrom ?? 0) * of);
        if (counts && (!best || validate!.better(score, best as Score))) {
          course.best = course.step;
          course.worse = 0;
          if (options.keepBest) memory.keep();
        } else if (counts && ++course.worse >= (options.patience ?? Infinity)) stopped = true;
      }
      const left = (((performance.now() - began) / (course.step - beganAt)) * (of - course.step)) / 1000;
      const metric = course.history.at(-1)?.metric;
      options.progress?.({ what: "training", step: course.step, of, loss: value, left, ...(metric === undefined ? {} : { metric }) });
      const told = options.onStep?.({
        step: course.step,
        of,
        loss: value,
        norm,
        names,
        values: memory.values,
        gradient: memory.gradient,
        checkpoint: () => memory.checkpoint({ ...identity, course }),
      });
      if ((await told) === false) stopped = true;
    }
    if (!Number.isFinite(kernel.sumSquares(places.p, places.length)))
      throw new Fault(
        "train",
        `diverged at step ${course.step} (weights that are no numbers); a lower learning rate would be right, or clipNorm`,
      );
    if (options.keepBest) memory.takeBest();
    for (const [name, t] of memory.weights) writeBack(model, name, floatsOf(t));
    const best = course.history.find((e) => e.step === course.best);
    return {
      history: course.history,
      losses,
      steps: course.step,
      best: options.keepBest && best ? best.epoch : null,
      trained: graph.weights.map((w) => w.name),
    };
  } finally {
    await session.release();
    await validate?.release();
  }
}

/** How far a run is, beside the arrays: all that a checkpoint needs. */
interface Course {
  step: number;
  history: Epoch[];
  /** The first loss, and a moving average. */
  first: number;
  average: number;
  /** Sum of losses since the last epoch's end. */
  epochLoss: number;
  /** The step of the best score, and how many scores since were not better. */
  best: number | null;
  worse: number;
}
