/**
 * LeNet-5 on the full MNIST, in 4 and in 2 bits: rounded after training, and trained rounded (qat). Every layer has the bits stated, the
 * first and the last too. Dense nets are trained as bench/mnist.ts does; epochs are chosen on 5,000 held-out training digits, the test
 * digits only score. `MNIST_DIR=folder npx tsx --conditions=source bench/qat.ts [--seeds 3] [--threads 1] [--nets folder] [part …]` writes
 * bench/results/qat.json; --nets keeps the dense nets for the next run; parts: w4a4, w2a8.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Dataset, fromArrays } from "../src/data/dataset.ts";
import { jitter } from "../src/data/jitter.ts";
import { openData } from "../src/data/open.node.ts";
import { preprocess } from "../src/data/preprocess.ts";
import { split } from "../src/data/split.ts";
import type { Model } from "../src/ir/graph.ts";
import { accuracy, evaluate } from "../src/measure/accuracy.ts";
import { lenet5 } from "../src/nets/lenet5.ts";
import { load } from "../src/onnx/file.ts";
import { writeModel } from "../src/onnx/write.ts";
import { compress } from "../src/recipe/compress.ts";
import { qat } from "../src/techniques/index.ts";
import { fit } from "../src/train/fit.ts";
import { crossEntropy } from "../src/train/loss.ts";
import { adam } from "../src/train/optimizer.ts";
import { cosine } from "../src/train/schedule.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seeds: { type: "string", default: "3" }, threads: { type: "string", default: "1" }, nets: { type: "string" } },
});
const threads = Number(values.threads);
const folder = process.env.MNIST_DIR ?? join(import.meta.dirname, "../../shared/data/mnist");
if (!existsSync(folder)) throw new Error(`no MNIST at ${folder}; MNIST_DIR names the folder of its four IDX files`);

const images = async (part: "train" | "test") => {
  const data = preprocess(await openData(folder, { part }), ["scale", "reshape:to=1x28x28"]);
  return fromArrays(data.take(Array.from({ length: data.length }, (_, i) => i)));
};
const [full, test] = [await images("train"), await images("test")];
/** Fraction that is exactly 5,000 of the 60,000; qat holds out the same ones. */
const holdOut = 5000 / 60000;

/** Test error in percent. */
async function error(model: Model, data: Dataset = test): Promise<number> {
  return round(100 - (await evaluate(model, data, accuracy(), { threads })).measurement.value);
}

/** LeNet-5 as bench/mnist.ts trains it: 12 epochs, every digit moved anew each epoch by up to one pixel. */
async function dense(seed: number): Promise<Model> {
  const file = values.nets && join(values.nets, `lenet5-${seed}.onnx`);
  if (file && existsSync(file)) return load(file);
  const { train, held } = split(full, { fraction: holdOut, seed });
  const model = lenet5({ seed });
  await fit(model, {
    data: jitter(train, { by: 1, times: 12, size: [28, 28], seed }),
    evaluateEvery: Math.ceil(train.length / 64),
    validation: held,
    keepBest: true,
    loss: crossEntropy(),
    optimizer: adam({ learningRate: 1e-3 }),
    schedule: cosine(),
    batchSize: 64,
    seed,
    threads,
  });
  if (file) writeFileSync(file, writeModel(model));
  return model;
}

const median = (x: readonly number[]) => x.toSorted((a, b) => a - b)[x.length >> 1]!;
const round = (x: number) => Math.round(1000 * x) / 1000;

const widths = {
  w4a4: { weightBits: 4, activationBits: 4, endBits: 4 },
  w2a8: { weightBits: 2, activationBits: 8, endBits: 2 },
} as const;
const training = { epochs: 2, batchSize: 64, learningRate: 5e-4, holdOut, loss: "teacher" } as const;

const seeds = Array.from({ length: Number(values.seeds) }, (_, i) => i);
const file = join(import.meta.dirname, "results", "qat.json");
mkdirSync(join(import.meta.dirname, "results"), { recursive: true });
for (const name of (positionals.length ? positionals : Object.keys(widths)) as (keyof typeof widths)[]) {
  const bits = widths[name];
  if (!bits) throw new Error(`no part "${name}"; there are ${Object.keys(widths).join(", ")}`);
  const start = performance.now();
  const errors: Record<"dense" | "rounded" | "trained", number[]> = { dense: [], rounded: [], trained: [] };
  let bytes = 0;
  for (const seed of seeds) {
    const net = await dense(seed);
    const run = async (more: object) =>
      (await compress(net, [qat({ ...bits, ...more })], { train: full, calibration: full, seed, threads, measure: null })).model;
    errors.dense.push(await error(net));
    errors.rounded.push(await error(await run({ epochs: 0 })));
    const trained = await run(training);
    errors.trained.push(await error(trained));
    bytes = writeModel(trained).length;
    console.log(
      name,
      seed,
      errors.dense.at(-1),
      errors.rounded.at(-1),
      errors.trained.at(-1),
      Math.round((performance.now() - start) / 1000),
    );
  }
  const result = {
    ...bits,
    training,
    errors,
    median: { dense: median(errors.dense), rounded: median(errors.rounded), trained: median(errors.trained) },
    bytes: { dense: writeModel(await dense(0)).length, trained: bytes },
  };
  console.log(name, JSON.stringify(result));
  const have = existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as { results: object }).results : {};
  const machine = { cpu: cpus()[0]!.model, cores: cpus().length, node: process.version };
  const record = { ...result, seeds, seconds: Math.round((performance.now() - start) / 1000) };
  writeFileSync(file, `${JSON.stringify({ machine, threads, results: { ...have, [name]: record } }, null, 1)}\n`);
}
