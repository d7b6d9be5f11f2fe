/** Training as a part of a technique: the parameters they share, declared once, and the call of the one training loop. */
import type { Dataset } from "../data/dataset.ts";
import { choice, flag, int, number, text, type ValuesOf } from "../data/params.ts";
import { split } from "../data/split.ts";
import type { Model } from "../ir/graph.ts";
import type { Selector } from "../ir/select.ts";
import type { Checkpoint } from "../train/checkpoint.ts";
import { type Fitted, fit, type Step } from "../train/fit.ts";
import { type Loss, parseLoss } from "../train/loss.ts";
import { optimizers } from "../train/optimizer.ts";
import { schedules } from "../train/schedule.ts";
import type { Context } from "./technique.ts";

export const training = {
  learningRate: number(1e-3, { min: 0, doc: "step size, before the schedule" }),
  batchSize: int(64, { min: 1, doc: "examples a step" }),
  optimizer: choice(["adam", "adamw", "sgd"], { doc: "the update rule (sgd: with momentum 0.9)" }),
  decay: choice(["cosine", "linear", "constant"], { doc: "how the learning rate falls" }),
  weightDecay: number(0, { min: 0, doc: "L2 weight decay (adamw: decoupled)" }),
  holdOut: number(0, {
    min: 0,
    max: 0.5,
    doc: "share of the training examples held out to choose the best epoch; 0: the last epoch is kept",
  }),
};

/** Examples that a net sees in all where nobody says how many passes, at least; and the most passes. */
const [shown, mostPasses] = [48_000, 60];
/** Passes that are always made. */
export const fewestPasses = 3;

/** Passes over so many training examples where nobody says how many: 3, and more where examples are few. */
export function passesOver(examples: number): number {
  return Math.min(mostPasses, Math.max(fewestPasses, Math.ceil(shown / Math.max(1, examples))));
}

/** Whether a net that learns from a teacher alone is shown mixes of the examples. */
export const mix = flag(true, {
  doc: "where it learns from the original's answers alone, to more than 3 passes' worth of few examples: every pass after the first is over new mixes of them, two spliced at random, which the original answers",
});

/** The loss of labelled training, as text. */
export const labelled = text("crossEntropy", { doc: "the loss with the targets, such as crossEntropy:labels=y or mse:target=t" });

export interface FineTuning {
  /** For progress lines. */
  readonly what: string;
  readonly epochs: number;
  readonly loss: Loss | string;
  /** Default: the context's training examples. */
  readonly data?: Dataset;
  /** What stands in for those examples in each pass (from 1) after the first. */
  readonly fresh?: (data: Dataset, seed: number, pass: number) => Promise<Dataset>;
  readonly trainable?: Selector;
  readonly frozen?: Selector;
  readonly live?: Selector;
  readonly liveGradients?: boolean;
  readonly onStep?: (step: Step) => unknown;
  /** Epochs that went before: their order of examples and dropout masks are not drawn again. */
  readonly round?: number;
  readonly batchStatistics?: boolean;
  /** Goes on from there, in the order of examples of that run. */
  readonly resume?: Checkpoint;
  /** Share of the steps after which the best epoch is looked for. */
  readonly keepFrom?: number;
}

/** Trains the model as `params` and `tuning` say. */
export function fineTune(model: Model, params: ValuesOf<typeof training>, context: Context, tuning: FineTuning): Promise<Fitted> {
  const { epochs, what, onStep, fresh } = tuning;
  const seed = context.seed + 1_000_003 * (tuning.round ?? 0);
  const all = tuning.data ?? context.train!;
  const parts = params.holdOut > 0 ? split(all, { fraction: params.holdOut, seed: context.seed }) : null;
  const data = parts ? parts.train : all;
  const { learningRate, weightDecay } = params;
  const momentum = params.optimizer === "sgd" ? { momentum: 0.9 } : {};
  return fit(model, {
    data,
    ...(fresh ? { fresh: (pass: number) => fresh(data, seed, pass) } : {}),
    ...(parts ? { validation: parts.held, keepBest: true } : {}),
    loss: typeof tuning.loss === "string" ? parseLoss(tuning.loss) : tuning.loss,
    optimizer: optimizers[params.optimizer].from({ learningRate, weightDecay, ...momentum }),
    schedule: schedules[params.decay].from({}),
    batchSize: params.batchSize,
    epochs,
    seed,
    threads: context.threads,
    ...(tuning.trainable ? { trainable: tuning.trainable } : {}),
    ...(tuning.frozen ? { frozen: tuning.frozen } : {}),
    ...(tuning.live ? { live: tuning.live } : {}),
    ...(tuning.liveGradients ? { liveGradients: true } : {}),
    ...(tuning.resume ? { resume: tuning.resume } : {}),
    ...(tuning.keepFrom ? { keepFrom: tuning.keepFrom } : {}),
    ...(tuning.batchStatistics ? { batchStatistics: true } : {}),
    ...(onStep ? { onStep } : {}),
    progress: (p) => context.progress({ ...p, what }),
    note: context.note,
  });
}
