/** How right a model is: metrics with one score per example, so that every figure has its interval and two models can be compared example by example. */
import type { Batch, Dataset } from "../data/dataset.ts";
import type { Model } from "../ir/graph.ts";
import { dtypes, isFloat, sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { floatsOf, numbersOf, type Tensor } from "../tensor/tensor.ts";
import { pairedProportions, positiveRatio, ratio, wilson } from "./interval.ts";
import type { Measurement } from "./measurement.ts";
import { type PredictOptions, predict } from "./predict.ts";

/** Scores of the examples of a batch; the figure is Σ scores / Σ weights over all of them. */
export interface Scores {
  readonly scores: ArrayLike<number>;
  /** Default: 1 each. */
  readonly weights?: ArrayLike<number>;
}

/** What is asked of a model's outputs. Any function of this type is a metric. */
export interface Metric {
  /** Its name in reports: "accuracy". */
  readonly metric: string;
  /** "%" for proportions: scores are 0 or 1 and the figure is 100 times their mean. */
  readonly unit: string;
  readonly better: "higher" | "lower";
  /** The figure is this (a rising function) of Σ scores / Σ weights; default: that itself. */
  readonly figure?: (mean: number) => number;
  /** Arrays of the dataset it reads besides the model's inputs. */
  readonly targets: readonly string[];
  /** `outputs`: the model's tensor outputs in order; `batch`: every array of the dataset for the same examples. */
  readonly score: (outputs: readonly Tensor[], batch: Batch) => Scores;
}

/** Class indices left out of scores and losses: padding. */
export const ignored = -100;

/**
 * Top-1: the index of the largest element along the last axis of the first output, against integer `labels` of the output's shape without
 * that axis (each position of a sequence counts; −100 is left out). A first output of integers is taken as the classes themselves.
 * Errors: labels of another shape, or outside the classes.
 */
export function accuracy(options: { labels?: string } = {}): Metric {
  const name = options.labels ?? "labels";
  return {
    metric: "accuracy",
    unit: "%",
    better: "higher",
    targets: [name],
    score(outputs, batch) {
      const output = first("accuracy", outputs);
      const wanted = labelsFor("accuracy", name, output, batch);
      const direct = !isFloat(output.dtype) && sizeOf(output.shape) === wanted.length;
      const classes = direct ? Infinity : (output.shape.at(-1) ?? 0);
      const predicted = direct ? numbersOf(output) : argmax(output);
      if (classes < 2) throw new Fault("accuracy", `the output's last axis holds ${classes} class; at least two were expected`);
      const scores: number[] = [];
      for (let i = 0; i < wanted.length; i++) {
        const label = wanted[i]!;
        if (label === ignored) continue;
        inside("accuracy", label, classes);
        scores.push(predicted[i] === label ? 1 : 0);
      }
      return { scores };
    },
  };
}

/** Index of the largest element along the last axis (the first of equals), one for each row. A row with NaN gives −1: it is never right. */
export function argmax(t: Tensor): Int32Array {
  const k = t.shape.at(-1) ?? 1;
  const values = floatsOf(t);
  const out = new Int32Array(k ? values.length / k : 0);
  for (let r = 0; r < out.length; r++) {
    let best = -1;
    let high = -Infinity;
    for (let i = 0; i < k; i++) {
      const x = values[r * k + i]!;
      if (Number.isNaN(x)) {
        best = -1;
        break;
      }
      if (x > high || best < 0) {
        high = x;
        best = i;
      }
    }
    out[r] = best;
  }
  return out;
}

/** Mean squared error of the first output against `targets` of the same shape, by example. Errors: another shape. */
export function mse(options: { targets?: string } = {}): Metric {
  const name = options.targets ?? "targets";
  return {
    metric: "mse",
    unit: "",
    better: "lower",
    targets: [name],
    score(outputs, batch) {
      const output = first("mse", outputs);
      const wanted = numbersOf(batch[name]!);
      const got = numbersOf(output);
      if (got.length !== wanted.length)
        throw new Fault("mse", `"${name}" has the shape [${batch[name]!.shape}]; the output has [${output.shape}]`);
      const n = output.shape[0] ?? 1;
      const width = got.length / n;
      const scores = Array.from({ length: n }, (_, r) => {
        let s = 0;
        for (let i = r * width; i < (r + 1) * width; i++) s += (got[i]! - wanted[i]!) ** 2;
        return s / width;
      });
      return { scores };
    },
  };
}

/**
 * exp of the mean of −log softmax(logits)[label] in the natural logarithm: how many classes the model hesitates between. Logits along the
 * last axis of the first output, against integer `labels` of its shape without that axis (each position of a sequence counts; −100 is left
 * out). Errors: labels of another shape, or outside the classes.
 */
export function perplexity(options: { labels?: string } = {}): Metric {
  const name = options.labels ?? "labels";
  return {
    metric: "perplexity",
    unit: "",
    better: "lower",
    figure: Math.exp,
    targets: [name],
    score(outputs, batch) {
      const output = first("perplexity", outputs);
      const labels = labelsFor("perplexity", name, output, batch);
      const classes = output.shape.at(-1)!;
      const logits = floatsOf(output);
      const scores: number[] = [];
      for (let i = 0; i < labels.length; i++) {
        const label = labels[i]!;
        if (label === ignored) continue;
        inside("perplexity", label, classes);
        const row = logits.subarray(i * classes, (i + 1) * classes);
        const most = row.reduce((a, x) => Math.max(a, x), -Infinity);
        scores.push(most + Math.log(row.reduce((a, x) => a + Math.exp(x - most), 0)) - row[label]!);
      }
      return { scores };
    },
  };
}

/** Integer labels, one for each row of the output's last axis. */
function labelsFor(where: string, name: string, output: Tensor, batch: Batch): ArrayLike<number> {
  const labels = batch[name]!;
  if (labels.strings || isFloat(labels.dtype)) throw new Fault(where, `"${name}" must be integers; got ${labels.dtype}`);
  const direct = !isFloat(output.dtype) && sizeOf(output.shape) === sizeOf(labels.shape);
  if (!direct && sizeOf(labels.shape) !== sizeOf(output.shape.slice(0, -1)))
    throw new Fault(
      where,
      `"${name}" has the shape [${labels.shape}]; the output's [${output.shape}] wants [${output.shape.slice(0, -1)}]`,
    );
  return numbersOf(labels);
}

function inside(where: string, label: number, classes: number): void {
  if (!(label >= 0 && label < classes))
    throw new Fault(where, `label ${label} is out of range; the model has the classes 0 … ${classes - 1}`);
}

function first(where: string, outputs: readonly Tensor[]): Tensor {
  const t = outputs[0];
  if (!t || t.strings || dtypes[t.dtype].kind === "c")
    throw new Fault(where, `the model's first output must be a tensor of numbers; got ${t?.dtype ?? "none"}`);
  return t;
}

/** A metric on a dataset: the figure, and what each example contributed. */
export interface Evaluation {
  readonly measurement: Measurement;
  readonly metric: Metric;
  readonly scores: Float64Array;
  /** null: 1 each. */
  readonly weights: Float64Array | null;
}

/** Measures `metric` over the whole dataset. Errors: a target the dataset does not have, data that does not fit the model, an empty dataset. */
export async function evaluate(model: Model, data: Dataset, metric: Metric, options: PredictOptions = {}): Promise<Evaluation> {
  for (const t of metric.targets) {
    if (!data.names.includes(t)) throw new Fault(metric.metric, `the data has no array "${t}"; it has ${data.names.join(", ")}`);
  }
  const scores: number[] = [];
  const weights: number[] = [];
  let weighted = false;
  for await (const { outputs, batch } of predict(model, data, options)) {
    const s = metric.score(outputs, batch);
    weighted ||= s.weights !== undefined;
    for (let i = 0; i < s.scores.length; i++) {
      scores.push(s.scores[i]!);
      weights.push(s.weights?.[i] ?? 1);
    }
  }
  if (scores.length === 0) throw new Fault(metric.metric, "there is nothing to measure: the data holds no example with a target");
  return summarize(metric, Float64Array.from(scores), weighted ? Float64Array.from(weights) : null);
}

function summarize(metric: Metric, scores: Float64Array, weights: Float64Array | null): Evaluation {
  const n = scores.length;
  const scale = metric.unit === "%" ? 100 : 1;
  const { value, interval } = scores.some((s) => s < 0) ? ratio(scores, weights) : positiveRatio(scores, weights);
  const range = isProportion(metric, weights) ? wilson(Math.round(value * n), n) : interval;
  const figure = metric.figure ?? ((mean) => mean * scale);
  return {
    measurement: {
      metric: metric.metric,
      value: figure(value),
      unit: metric.unit,
      n,
      interval: range && [figure(range[0]), figure(range[1])],
    },
    metric,
    scores,
    weights,
  };
}

const isProportion = (metric: Metric, weights: Float64Array | null) => metric.unit === "%" && weights === null;

/**
 * By how much `other` differs from `reference` on the same examples, with the interval of the paired comparison, which is narrower than
 * what the two intervals by themselves suggest. Named `<metric>Change`; "points" for proportions.
 * Errors: evaluations of different metrics or numbers of examples.
 */
export function change(reference: Evaluation, other: Evaluation): Measurement {
  const { metric, scores, weights } = reference;
  if (other.metric.metric !== metric.metric || other.scores.length !== scores.length)
    throw new Fault(
      "change",
      `${other.metric.metric} on ${other.scores.length} examples is not comparable with ${metric.metric} on ${scores.length}`,
    );
  const n = scores.length;
  const scale = metric.unit === "%" ? 100 : 1;
  const differences = scores.map((s, i) => other.scores[i]! - s);
  const { value, interval } = isProportion(metric, weights)
    ? pairedProportions(differences.filter((d) => d > 0).length, differences.filter((d) => d < 0).length, n)
    : ratio(differences, weights);
  // Of a figure that is no mean: what the difference of the means does to the reference's figure.
  const { figure } = metric;
  const mean = figure ? ratio(scores, weights).value : 0;
  const by = figure ? (d: number) => figure(mean + d) - figure(mean) : (d: number) => d * scale;
  return {
    metric: `${metric.metric}Change`,
    value: by(value),
    unit: metric.unit === "%" ? "points" : metric.unit,
    n,
    interval: interval && [by(interval[0]), by(interval[1])],
  };
}
