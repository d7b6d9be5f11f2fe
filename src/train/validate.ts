/** Scores on held-out examples while training: the model with the weights of the moment, without dropout and with running statistics. */
import type { Batch, Dataset } from "../data/dataset.ts";
import { cloneModel, type Model } from "../ir/graph.ts";
import { find, removeDead } from "../ir/walk.ts";
import { accuracy, type Metric } from "../measure/accuracy.ts";
import { rows } from "../measure/predict.ts";
import { feed } from "../runtime/feeds.ts";
import { open } from "../runtime/session.ts";
import { Fault } from "../tensor/fault.ts";
import { floatsOf, type Tensor } from "../tensor/tensor.ts";
import { feedInstead } from "./graph.ts";
import type { Pair } from "./loss.ts";

export interface Score {
  /** Mean loss over the validation examples. */
  readonly validationLoss: number;
  /** The metric's figure, as measuring gives it (accuracy: in percent); without a metric the loss. */
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
  /** Default: accuracy where the loss has class labels, else the loss. */
  readonly metric: Metric | undefined;
  readonly batchSize: number;
  readonly threads: number | undefined;
  /** The model's own outputs: what the metric gets. */
  readonly outputs: readonly string[];
  readonly loss: string;
  readonly pairs: readonly Pair[];
  /** The arrays that the model and its loss take. */
  readonly arrays: Iterable<string>;
  /** The weights of the moment, by initializer. */
  readonly weights: ReadonlyMap<string, Tensor>;
}

/** Opens a session over `base` (a model with its loss attached), its `weights` read anew for each score. */
export async function validator(base: Model, options: ValidatorOptions): Promise<Validator> {
  const { data, weights, loss, pairs } = options;
  const labelled = pairs.find((p) => p.classes?.axis === -1);
  const metric = options.metric ?? (labelled ? accuracy({ labels: labelled.array }) : null);
  for (const name of [...options.arrays, ...(metric?.targets ?? [])])
    if (!data.names.includes(name)) throw new Fault("validation data", `has no array "${name}"; it has ${data.names.join(", ")}`);
  const outputs = !metric ? [] : options.metric ? options.outputs : [labelled!.output.name];
  const model = cloneModel(base);
  for (const name of outputs) model.graph.addOutput(find(model.graph, name)!);
  removeDead(model.graph);
  for (const name of weights.keys()) feedInstead(model, find(model.graph, name)!);
  const session = await open(model, { threads: options.threads });
  return {
    async score() {
      let [lost, scored, of] = [0, 0, 0];
      for (const { feeds, batch, count } of feed(base, data, { batchSize: options.batchSize })) {
        const out = await session.run({ ...feeds, ...Object.fromEntries(weights) }, [loss, ...outputs]);
        lost += floatsOf(out[loss]!)[0]! * count;
        if (!metric) continue;
        // A fixed batch that had to be filled up is cut to its real examples.
        const first = (t: Tensor) => (t.shape[0] === batchOf(batch) ? rows(t, count) : t);
        const cut = Object.fromEntries(Object.entries(batch).map(([name, t]) => [name, first(t)]));
        const { scores, weights: w } = metric.score(
          outputs.map((o) => first(out[o]!)),
          cut,
        );
        for (let i = 0; i < scores.length; i++) {
          scored += scores[i]!;
          of += w?.[i] ?? 1;
        }
      }
      const validationLoss = lost / data.length;
      return { validationLoss, metric: metric ? ((metric.unit === "%" ? 100 : 1) * scored) / of : validationLoss };
    },
    better: (a, b) => (metric?.better === "higher" ? a.metric > b.metric : a.metric < b.metric),
    release: () => session.release(),
  };
}

const batchOf = (batch: Batch) => Object.values(batch)[0]!.shape[0];
