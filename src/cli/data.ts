/** Options that name data, and the datasets they open. */
import { basename } from "node:path";
import { type Command, Option } from "commander";
import type { Dataset } from "../data/dataset.ts";
import { type Fit, fits } from "../data/images.node.ts";
import { openData } from "../data/open.node.ts";
import { called, declare, int, text } from "../data/params.ts";
import { preprocess, preprocessing } from "../data/preprocess.ts";
import type { Model } from "../ir/graph.ts";
import { accuracy, type Metric, mse, perplexity } from "../measure/accuracy.ts";
import { characterError } from "../measure/ctc.ts";
import { Fault } from "../tensor/fault.ts";
import { parser, repeated, whole } from "./usage.ts";

/** What is done to every dataset of a command. */
export interface DataOptions {
  readonly size?: readonly [height: number, width: number];
  readonly gray?: true;
  readonly fit?: Fit;
  readonly classes?: readonly string[];
  readonly tokenizer?: string;
  readonly length?: number;
  readonly labels?: string;
  readonly preprocess?: readonly ReturnType<typeof preprocessing>[];
}

const flags = {
  train: "examples with targets to train on (pith help data says in which files)",
  calibration: "examples to observe activations on (default: those of --train)",
  data: "test examples: they score the end result and decide nothing",
  validation: "examples to choose the best epoch by",
} as const;

/** Adds `--train` and the like, and what applies to all of them. */
export function withData(command: Command, kinds: readonly (keyof typeof flags)[]): Command {
  for (const kind of kinds) command.option(`--${kind} <data>`, flags[kind]);
  return command
    .option("--labels <array>", "the array that holds the labels (default: labels)")
    .option("--size <HxW>", "images of a folder are resized to this (default: 224x224)", parser(imageSize))
    .option("--gray", "images as one channel of brightness")
    .addOption(new Option("--fit <how>", "images of other proportions: cut, stretched or with bars (default: cover)").choices(fits))
    .option("--classes <names>", "classes in the order of their numbers, e.g. cat,dog (default: sorted)", (names) => names.split(","))
    .option("--tokenizer <file>", "the tokenizer.json for the texts of .jsonl data")
    .option("--length <tokens>", "texts are cut or padded to so many tokens (default: the longest)", whole(1))
    .option("--preprocess <call>", "done to all data, e.g. scale:by=255 or reshape:to=784 (repeatable)", repeated(preprocessing));
}

/** "224" or "48x320". */
function imageSize(text: string): readonly [number, number] {
  const m = /^(\d+)(?:x(\d+))?$/.exec(text);
  if (!m) throw new Fault("size", `must be written 224 or 48x320 (height x width); got ${JSON.stringify(text)}`);
  return [Number(m[1]), Number(m[2] ?? m[1])];
}

/** What `pith help data` says. */
export const dataHelp = `Data, for --train, --data, --validation and --calibration, is one of
  x.npz              arrays named as the model's inputs, and labels
  x.npy              one array: the model's first input
  x-images-idx3-ubyte, also .gz, or a folder of MNIST's files: images and the labels beside them
  folder/<class>/*.jpg|png|webp
                     images by class, read by the package sharp (npm install sharp): bytes [n, height, width, 3]
                     for the first input, with --gray [n, height, width, 1]; labels by the sorted names of the
                     folders, or as --classes orders them: give it where a part may lack a class
                     --size 32x32 --preprocess layout:to=nchw --preprocess scale:by=255
  folder/*.jpg|png|webp
                     the same without labels: to calibrate with, or to train on with loss=teacher
  x.jsonl            a text a line: {"text": "…", "text_pair": "…", "label": 0}, the pair if there is one; read by
                     the package @huggingface/tokenizers (npm install @huggingface/tokenizers): input_ids,
                     attention_mask, token_type_ids [n, length] and labels (numbers, or names as above)
                     --tokenizer tokenizer.json --length 128
All of it is held in memory; images and texts may take 4 GiB.`;

/** Opens one of them for a model: an unnamed array is the model's first input. null: no path was given. */
export async function dataFor(
  model: Model,
  path: string | undefined,
  options: DataOptions,
  part: "train" | "test" = "train",
): Promise<Dataset | null> {
  if (path === undefined) return null;
  const input = model.graph.inputs.find((v) => !v.data)?.name;
  const { labels, size, gray, fit, classes, tokenizer, length } = options;
  const given = Object.entries({ input, labels, size, gray, fit, classes, tokenizer, length }).filter(([, v]) => v !== undefined);
  const data = await openData(path, { part, ...Object.fromEntries(given) });
  return preprocess(data, options.preprocess ?? []);
}

/** What to call a dataset in reports. */
export function dataName(path: string): string {
  return basename(path).replace(/\.np[yz]$/, "");
}

const metrics = {
  accuracy: declare("accuracy", "top-1 accuracy", { labels: text("labels", { doc: "the array of class numbers" }) }, accuracy),
  perplexity: declare(
    "perplexity",
    "exp of the mean cross-entropy",
    { labels: text("labels", { doc: "the array of class numbers" }) },
    perplexity,
  ),
  characterError: declare(
    "characterError",
    "character error rate of a text recognizer (CTC)",
    {
      labels: text("labels", { doc: "the array of classes, padded with -100" }),
      blank: int(0, { min: 0, doc: "the class that writes nothing" }),
    },
    characterError,
  ),
  mse: declare("mse", "mean squared error", { targets: text("targets", { doc: "the array of targets" }) }, mse),
};

/** Adds `--metric`. */
export function withMetric(command: Command): Command {
  return command.option(
    "--metric <call>",
    "accuracy, accuracy:labels=y, perplexity, characterError or mse:targets=t (default: accuracy where there are labels)",
    parser((call) => called<Metric>("metric", metrics, call)),
  );
}
