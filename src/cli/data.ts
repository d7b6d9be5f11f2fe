/** Options that name data, and the datasets they open. */
import { basename } from "node:path";
import type { Command } from "commander";
import type { Dataset } from "../data/dataset.ts";
import { openData } from "../data/open.node.ts";
import { called, declare, text } from "../data/params.ts";
import { preprocess, preprocessing } from "../data/preprocess.ts";
import type { Model } from "../ir/graph.ts";
import { accuracy, type Metric, mse } from "../measure/accuracy.ts";
import { parser, repeated } from "./usage.ts";

/** What is done to every dataset of a command. */
export interface DataOptions {
  readonly labels?: string;
  readonly preprocess?: readonly ReturnType<typeof preprocessing>[];
}

const flags = {
  train: "examples with targets to train on: an .npz, .npy or IDX file, or a folder of MNIST's files",
  calibration: "examples to observe activations on (default: those of --train)",
  data: "test examples: they score the end result and decide nothing",
  validation: "examples to choose the best epoch by",
} as const;

/** Adds `--train` and the like, and what applies to all of them. */
export function withData(command: Command, kinds: readonly (keyof typeof flags)[]): Command {
  for (const kind of kinds) command.option(`--${kind} <data>`, flags[kind]);
  return command
    .option("--labels <array>", "the array that holds the labels (default: labels)")
    .option("--preprocess <call>", "done to all data, e.g. scale:by=255 or reshape:to=784 (repeatable)", repeated(preprocessing));
}

/** Opens one of them for a model: an unnamed array is the model's first input. null: no path was given. */
export function dataFor(model: Model, path: string | undefined, options: DataOptions, part: "train" | "test" = "train"): Dataset | null {
  if (path === undefined) return null;
  const input = model.graph.inputs.find((v) => !v.data)?.name;
  const data = openData(path, { part, ...(input ? { input } : {}), ...(options.labels ? { labels: options.labels } : {}) });
  return preprocess(data, options.preprocess ?? []);
}

/** What to call a dataset in reports. */
export function dataName(path: string): string {
  return basename(path).replace(/\.np[yz]$/, "");
}

const metrics = {
  accuracy: declare("accuracy", "top-1 accuracy", { labels: text("labels", { doc: "the array of class numbers" }) }, accuracy),
  mse: declare("mse", "mean squared error", { targets: text("targets", { doc: "the array of targets" }) }, mse),
};

/** Adds `--metric`. */
export function withMetric(command: Command): Command {
  return command.option(
    "--metric <call>",
    "accuracy, accuracy:labels=y or mse:targets=t (default: accuracy where there are labels)",
    parser((call) => called<Metric>("metric", metrics, call)),
  );
}
