/** What the benchmarks on the full MNIST share: its digits, 5,000 of them held out of training, how a net is trained and scored, and where results go. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { type Dataset, fromArrays } from "../src/data/dataset.ts";
import { jitter } from "../src/data/jitter.ts";
import { openData } from "../src/data/open.node.ts";
import { preprocess } from "../src/data/preprocess.ts";
import { split } from "../src/data/split.ts";
import type { Model } from "../src/ir/graph.ts";
import { accuracy, evaluate } from "../src/measure/accuracy.ts";
import { load } from "../src/onnx/file.ts";
import { writeModel } from "../src/onnx/write.ts";
import { tensor } from "../src/tensor/tensor.ts";
import { fit } from "../src/train/fit.ts";
import { crossEntropy } from "../src/train/loss.ts";
import { adam } from "../src/train/optimizer.ts";
import { cosine } from "../src/train/schedule.ts";

const folder = process.env.MNIST_DIR ?? join(import.meta.dirname, "../../shared/data/mnist");

const loaded = new Map<string, Promise<Dataset>>();
/** 60,000 or 10,000 digits as float32 from 0 to 1: flat rows of 784, or images [1, 28, 28]. */
export function digits(part: "train" | "test", images = false): Promise<Dataset> {
  const key = `${part} ${images}`;
  if (!loaded.has(key)) {
    const read = async () => {
      if (!existsSync(folder)) throw new Error(`no MNIST at ${folder}; MNIST_DIR names the folder of its four IDX files`);
      const data = preprocess(await openData(folder, { part }), ["scale", `reshape:to=${images ? "1x28x28" : "784"}`]);
      return fromArrays(data.take(Array.from({ length: data.length }, (_, i) => i)));
    };
    loaded.set(key, read());
  }
  return loaded.get(key)!;
}

/** Fraction that is exactly 5,000 of the 60,000: techniques given it as `holdOut` hold out the same ones as {@link parts} does. */
export const holdOut = 5000 / 60000;

/** All training digits, the 55,000 and the 5,000 they part into by the seed, and the test digits, which only score. */
export async function parts(seed: number, images = false) {
  const full = await digits("train", images);
  return { full, ...split(full, { fraction: holdOut, seed }), test: await digits("test", images) };
}

/** So many epochs of digits in one, each digit moved anew every time by up to one pixel. */
export const moved = (data: Dataset, times: number, seed: number, by = 1) => jitter(data, { by, times, size: [28, 28], seed });

/** Error in percent. */
export async function error(model: Model, data: Dataset, threads: number): Promise<number> {
  return round(100 - (await evaluate(model, data, accuracy(), { threads })).measurement.value);
}

export interface Training {
  readonly epochs: number;
  readonly batchSize?: number;
  readonly learningRate: number;
  /** Every digit is moved anew each epoch, by up to so many pixels. */
  readonly jitter?: number;
  readonly threads: number;
}

/** The model, trained by Adam with a falling rate; of all epochs the one that is best on the held-out digits. */
export async function trained(model: Model, data: { train: Dataset; held: Dataset }, seed: number, t: Training): Promise<Model> {
  const { epochs, batchSize = 128, jitter: by, threads } = t;
  await fit(model, {
    data: by ? moved(data.train, epochs, seed, by) : data.train,
    epochs: by ? 1 : epochs,
    ...(by ? { evaluateEvery: Math.ceil(data.train.length / batchSize) } : {}),
    validation: data.held,
    keepBest: true,
    loss: crossEntropy(),
    optimizer: adam({ learningRate: t.learningRate }),
    schedule: cosine(),
    batchSize,
    seed,
    threads,
  });
  return model;
}

/** Sets the shares of hidden units and of inputs (drop0) that training leaves out. */
export function setDropout(model: Model, hidden: number, inputs: number): void {
  for (const n of model.graph.nodes) {
    const v = n.opType === "Dropout" ? n.inputs[1] : null;
    if (v?.data) v.graph.setData(v, tensor("float32", [], [v.name.startsWith("drop0") ? inputs : hidden]));
  }
}

/** The net of that name from the folder, else made and, where there is a folder, kept there for the next run. */
export async function kept(nets: string | undefined, name: string, make: () => Promise<Model>): Promise<Model> {
  const file = nets && join(nets, `${name}.onnx`);
  if (file && existsSync(file)) return load(file);
  const model = await make();
  if (file) {
    mkdirSync(nets, { recursive: true });
    writeFileSync(file, writeModel(model));
  }
  return model;
}

export const median = (x: readonly number[]) => x.toSorted((a, b) => a - b)[x.length >> 1]!;
export const mean = (x: readonly number[]) => x.reduce((a, b) => a + b, 0) / x.length;
export const round = (x: number) => Math.round(1000 * x) / 1000;

const results = join(import.meta.dirname, "results");
/** What bench/results/<bench>.json holds so far, by name. */
export function recorded(bench: string): Record<string, unknown> {
  const file = join(results, `${bench}.json`);
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as { results: Record<string, unknown> }).results : {};
}

/** Puts one entry into bench/results/<bench>.json, beside what is there. */
export function record(bench: string, threads: number, name: string, entry: object): void {
  mkdirSync(results, { recursive: true });
  const machine = { cpu: cpus()[0]!.model, cores: cpus().length, node: process.version };
  const all = { machine, threads, results: { ...recorded(bench), [name]: entry } };
  writeFileSync(join(results, `${bench}.json`), `${JSON.stringify(all, null, 1)}\n`);
}
