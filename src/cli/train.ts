/** pith train: a model's weights on examples, by any loss. */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { Command } from "commander";
import { split } from "../data/split.ts";
import { cloneModel } from "../ir/graph.ts";
import type { Metric } from "../measure/accuracy.ts";
import { measureModels } from "../measure/measure.ts";
import { fileBytes, load, save, writeBytes } from "../onnx/file.ts";
import type { SparseIndices } from "../onnx/sparse.ts";
import { storeSparsely } from "../recipe/sparse.ts";
import { comparison } from "../report/comparison.ts";
import { bytes } from "../report/format.ts";
import { table } from "../report/table.ts";
import { readCheckpoint, writeCheckpoint } from "../train/checkpoint.ts";
import { type Fitted, fit, type Step } from "../train/fit.ts";
import { type Loss, parseLoss } from "../train/loss.ts";
import { type Optimizer, parseOptimizer } from "../train/optimizer.ts";
import { parseSchedule, type Schedule } from "../train/schedule.ts";
import { type DataOptions, dataFor, withData, withMetric } from "./data.ts";
import { checkOutput } from "./output.ts";
import { progressLine } from "./progress.ts";
import { print } from "./terminal.ts";
import { amount, parser, sparseOption, Usage, whole } from "./usage.ts";

interface Options extends DataOptions {
  readonly output?: string;
  readonly train?: string;
  readonly validation?: string;
  readonly data?: string;
  readonly holdOut?: number;
  readonly loss: Loss;
  readonly optimizer: Optimizer;
  readonly schedule: Schedule;
  readonly epochs?: number;
  readonly steps?: number;
  readonly batchSize: number;
  readonly trainable?: string;
  readonly frozen?: string;
  readonly clipNorm?: number;
  readonly batchStatistics?: true;
  readonly keepBest?: true;
  readonly patience?: number;
  readonly metric?: Metric;
  readonly checkpoint?: string;
  readonly resume?: string;
  readonly seed: number;
  readonly threads?: number;
  readonly sparse?: SparseIndices;
  readonly quiet?: true;
}

const command = new Command("train")
  .description("trains or fine-tunes a model's weights")
  .argument("<model>", "an ONNX file")
  .option("-o, --output <file>", "where the result goes");
withMetric(withData(command, ["train", "validation", "data"]))
  .option("--hold-out <share>", "instead of --validation: this share of the training examples chooses the best epoch", amount(0))
  .option(
    "--loss <call>",
    "crossEntropy:labels=y, mse:target=t, or a sum like 0.5*mse + 0.5*crossEntropy",
    parser(parseLoss),
    parseLoss("crossEntropy"),
  )
  .option("--optimizer <call>", "adam:learningRate=1e-3, adamw, sgd:momentum=0.9", parser(parseOptimizer), parseOptimizer("adam"))
  .option(
    "--schedule <call>",
    "how the learning rate goes: constant, cosine:warmup=100, linear, step",
    parser(parseSchedule),
    parseSchedule("constant"),
  )
  .option("--epochs <number>", "passes over the training examples (default: 1)", amount(0))
  .option("--steps <number>", "or steps", whole(0))
  .option("--batch-size <number>", "examples a step", whole(1), 32)
  .option("--trainable <selector>", "weights to train, e.g. '*fc*' (default: all the loss depends on)")
  .option("--frozen <selector>", "weights not to train")
  .option("--clip-norm <number>", "gradients are scaled down to this norm", amount(0))
  .option("--batch-statistics", "BatchNormalization by each batch's own statistics: to train from scratch")
  .option("--keep-best", "end with the weights of the best epoch on the validation examples")
  .option("--patience <epochs>", "stop after so many epochs without a better one", whole(1))
  .option("--checkpoint <file>", "written after every epoch: the whole state of the training")
  .option("--resume <file>", "go on from a checkpoint, bit for bit as if it had never stopped; give the same other options")
  .option("--seed <number>", "order of the examples and dropout follow from it", whole(0), 0)
  .option("--threads <number>", "threads to train with", whole(1))
  .addOption(sparseOption())
  .option("--quiet", "no progress")
  .action(run);

export { command as trainCommand };

async function run(path: string, options: Options): Promise<void> {
  const { output } = options;
  if (output === undefined) throw new Usage("train needs -o: where the result goes");
  if (options.train === undefined) throw new Usage("train needs --train: the examples");
  if (options.validation !== undefined && options.holdOut !== undefined) throw new Usage("give --validation or --hold-out, not both");
  const inputs = [path, options.train, options.validation, options.data];
  for (const out of [output, options.checkpoint]) if (out !== undefined) checkOutput(out, inputs);
  const model = load(path);
  const all = (await dataFor(model, options.train, options))!;
  const parts = options.holdOut ? split(all, { fraction: options.holdOut, seed: options.seed }) : null;
  const validation = parts?.held ?? (await dataFor(model, options.validation, options));
  if ((options.keepBest || options.patience) && !validation) throw new Usage("--keep-best and --patience need --validation or --hold-out");
  const data = await dataFor(model, options.data, options, "test");
  const line = progressLine(process.stderr, options.quiet);
  const trained = cloneModel(model);
  const examples = parts?.train ?? all;
  let epoch = 0;
  const keep = (step: Step) => {
    const done = Math.floor((step.step * Math.min(options.batchSize, examples.length)) / examples.length);
    if (options.checkpoint !== undefined && done > epoch) writeBytes(options.checkpoint, writeCheckpoint(step.checkpoint()));
    epoch = done;
  };
  try {
    const { epochs, steps, trainable, frozen, clipNorm, patience, threads } = options;
    const fitted = await fit(trained, {
      data: examples,
      onStep: keep,
      loss: options.loss,
      optimizer: options.optimizer,
      schedule: options.schedule,
      batchSize: options.batchSize,
      seed: options.seed,
      progress: line.show,
      note: (text) => {
        line.clear();
        print(`· ${text}`);
      },
      ...(epochs === undefined ? {} : { epochs }),
      ...(steps === undefined ? {} : { steps }),
      ...(trainable === undefined ? {} : { trainable }),
      ...(frozen === undefined ? {} : { frozen }),
      ...(clipNorm === undefined ? {} : { clipNorm }),
      ...(options.batchStatistics ? { batchStatistics: true } : {}),
      ...(options.resume === undefined ? {} : { resume: readCheckpoint(readFileSync(options.resume), options.resume) }),
      ...(validation ? { validation, metric: options.metric } : {}),
      ...(options.keepBest ? { keepBest: true } : {}),
      ...(patience === undefined ? {} : { patience }),
      ...(threads === undefined ? {} : { threads }),
    });
    line.clear();
    if (options.sparse) print(`· ${storeSparsely(trained, options.sparse).what}`);
    save(trained, output);
    print(epochsTable(fitted));
    if (data) {
      const models = [
        { name: basename(path), model },
        { name: basename(output), model: trained },
      ];
      const measured = await measureModels(models, { data, seconds: 0, ...(options.metric ? { metric: options.metric } : {}) });
      print(`\n${comparison(models.map((m, i) => ({ name: m.name, measured: measured[i]! })))}`);
    }
    print(`\nwrote ${output} (${bytes(fileBytes(output))})`);
  } finally {
    line.clear();
  }
}

/** A line for each epoch. */
function epochsTable({ history, best }: Fitted): string {
  const scored = history.some((e) => e.metric !== undefined);
  const columns = ["epoch", "steps", "loss", ...(scored ? ["validation loss", "metric", ""] : [])];
  const rows = history.map((e) => [
    String(e.epoch),
    String(e.step),
    e.loss.toPrecision(4),
    e.validationLoss?.toPrecision(4) ?? "",
    e.metric?.toPrecision(4) ?? "",
    e.epoch === best ? "kept" : "",
  ]);
  return table(
    columns.map((title) => ({ title, align: "right" })),
    rows,
  );
}
