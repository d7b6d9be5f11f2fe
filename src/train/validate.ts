/** Scores on held-out examples while training: the model with the weights of the moment, without dropout and with running statistics. */
import type { Batch, Dataset } from "../data/dataset.ts";
import { cloneModel, type Model } from "../ir/graph.ts";
import { find, removeDead } from "../ir/walk.ts";
import { feed } from "../runtime/feeds.ts";
import { open } from "../runtime/session.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { floatsOf, numbersOf, type Tensor } from "../tensor/tensor.ts";
import type { Pair } from "./loss.ts";

/** accuracy, loss, or a number for each example of a batch, more being better: their mean is the score. */
export type Metric = "accuracy" | "loss" | ((outputs: Batch, batch: Batch) => ArrayLike<number>);

export interface Score {
  /** Mean loss over the validation examples. */
  readonly validationLoss: number;
  /** The metric (accuracy: 0 to 1). */
  readonly metric: number;
}

export interface Validator {
  score(): Promise<Score>;
  /** Whether one score is better than another. */
  better(a: Score, b: Score): boolean;
  release(): Promise<void>;
}

export interface ValidatorOptions {
  readonly data: Dataset;
  readonly metric?: Metric;
  readonly batchSize: number;
  readonly threads?: number;
  /** The model's own outputs, for a metric that is a function. */
  readonly outputs: readonly string[];
  readonly loss: string;
  readonly pairs: readonly Pair[];
  /** The weights of the moment, by initializer. */
  readonly weights: ReadonlyMap<string, Tensor>;
}

/** Opens a session over `base` (a model with its loss attached), its `weights` read anew for each score. */
export async function validator(base: Model, options: ValidatorOptions): Promise<Validator> {
  const { data, weights, loss, pairs } = options;
  const labelled = pairs.find((p) => p.classes);
  const metric = options.metric ?? (labelled ? "accuracy" : "loss");
  if (metric === "accuracy" && !labelled)
    throw new Fault("metric", "accuracy needs a loss with class labels; the metric loss would be right");
  const model = cloneModel(base);
  const fetch = new Set([loss]);
  if (metric === "accuracy") fetch.add(labelled!.output.name);
  if (typeof metric === "function") for (const o of options.outputs) fetch.add(o);
  for (const name of fetch) if (name !== loss) model.graph.addOutput(find(model.graph, name)!);
  removeDead(model.graph);
  for (const name of weights.keys()) {
    const v = find(model.graph, name)!;
    model.graph.setData(v, null);
    if (!model.graph.inputs.includes(v)) model.graph.inputs.push(v);
  }
  const session = await open(model, { ...(options.threads ? { threads: options.threads } : {}) });
  return {
    async score() {
      let [lost, scored, of] = [0, 0, 0];
      for (const { feeds, batch, count } of feed(base, data, { batchSize: options.batchSize })) {
        const out = await session.run({ ...feeds, ...Object.fromEntries(weights) }, [...fetch]);
        lost += floatsOf(out[loss]!)[0]! * count;
        if (metric === "accuracy") {
          const { right, counted } = correct(labelled!, out[labelled!.output.name]!, batch[labelled!.array]!, count);
          scored += right;
          of += counted;
        } else if (typeof metric === "function") {
          const each = metric(out, batch);
          for (let i = 0; i < count; i++) scored += each[i]!;
          of += count;
        }
      }
      const validationLoss = lost / data.length;
      return { validationLoss, metric: metric === "loss" ? validationLoss : scored / of };
    },
    better: (a, b) => (metric === "loss" ? a.metric < b.metric : a.metric > b.metric),
    release: () => session.release(),
  };
}

/** How many of the first `count` examples' classes (positions that count) the logits have as their maximum. */
function correct({ classes }: Pair, logits: Tensor, labels: Tensor, count: number): { right: number; counted: number } {
  const axis = classes!.axis < 0 ? logits.shape.length + classes!.axis : classes!.axis;
  const n = logits.shape[axis]!;
  const inner = sizeOf(logits.shape.slice(axis + 1));
  const x = floatsOf(logits);
  const ids = numbersOf(labels);
  let [right, counted] = [0, 0];
  const positions = (ids.length / labels.shape[0]!) * count;
  for (let i = 0; i < positions; i++) {
    if (ids[i] === classes!.ignore) continue;
    counted++;
    const at = Math.floor(i / inner) * n * inner + (i % inner);
    let best = 0;
    for (let c = 1; c < n; c++) if (x[at + c * inner]! > x[at + best * inner]!) best = c;
    if (best === ids[i]) right++;
  }
  return { right, counted };
}
