/**
 * Accuracy on the full MNIST: dense nets, 90 % pruned, distilled, adapted. Epochs are chosen on 5,000 held-out training digits, the test
 * digits only score. `MNIST_DIR=folder npx tsx --conditions=source bench/mnist.ts [--seeds 3] [--threads 2] [part …]` writes
 * bench/results/mnist.json; parts: prune (LeNet-300-100, dense and pruned), lenet5, distill, lora.
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
import { cloneModel, type Model } from "../src/ir/graph.ts";
import { accuracy, evaluate } from "../src/measure/accuracy.ts";
import { lenet5 } from "../src/nets/lenet5.ts";
import { lenet300, mlp } from "../src/nets/mlp.ts";
import { compress } from "../src/recipe/compress.ts";
import { distill, lora, magnitude } from "../src/techniques/index.ts";
import type { Step } from "../src/techniques/technique.ts";
import { floatsOf, tensor } from "../src/tensor/tensor.ts";
import { fit } from "../src/train/fit.ts";
import { crossEntropy } from "../src/train/loss.ts";
import { adam } from "../src/train/optimizer.ts";
import { cosine } from "../src/train/schedule.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seeds: { type: "string", default: "3" }, threads: { type: "string", default: "2" } },
});
const threads = Number(values.threads);
const folder = process.env.MNIST_DIR ?? join(import.meta.dirname, "../../shared/data/mnist");
if (!existsSync(folder)) throw new Error(`no MNIST at ${folder}; MNIST_DIR names the folder of its four IDX files`);

const all = (data: Dataset) => data.take(Array.from({ length: data.length }, (_, i) => i));
const raw = { train: await openData(folder), test: await openData(folder, { part: "test" }) };
const loaded = new Map<string, Dataset>();
/** A part of MNIST as float32 from 0 to 1: flat rows, or images of one channel. */
function part(which: "train" | "test", images = false): Dataset {
  const key = `${which} ${images}`;
  let data = loaded.get(key);
  if (!data) {
    data = fromArrays(all(preprocess(raw[which], ["scale", `reshape:to=${images ? "1x28x28" : "784"}`])));
    loaded.set(key, data);
  }
  return data;
}
/** Fraction that is exactly 5,000 of the 60,000. */
const holdOut = 5000 / 60000;
const parts = (seed: number, images = false) => {
  const { train, held } = split(part("train", images), { fraction: holdOut, seed });
  return { full: part("train", images), train, held, test: part("test", images) };
};
/** Every digit upside down. */
function turned(data: Dataset): Dataset {
  const batch = all(data);
  const from = floatsOf(batch.x!);
  const to = new Float32Array(from.length);
  for (let i = 0; i < data.length; i++) to.set(from.subarray(784 * i, 784 * (i + 1)).toReversed(), 784 * i);
  return fromArrays({ ...batch, x: tensor("float32", batch.x!.shape, to) });
}

/** Test error in percent. */
async function error(model: Model, data: Dataset): Promise<number> {
  const { measurement } = await evaluate(model, data, accuracy(), { threads });
  return 100 - measurement.value;
}

interface Training {
  readonly epochs: number;
  readonly batchSize?: number;
  readonly learningRate: number;
  /** Every digit is moved anew each epoch, by up to so many pixels. */
  readonly jitter?: number;
}
async function trained(model: Model, data: { train: Dataset; held: Dataset }, seed: number, t: Training): Promise<Model> {
  const { epochs, batchSize = 128, jitter: by } = t;
  const moved = by ? jitter(data.train, { by, times: epochs, size: [28, 28], seed }) : null;
  await fit(model, {
    data: moved ?? data.train,
    epochs: moved ? 1 : epochs,
    ...(moved ? { evaluateEvery: Math.ceil(data.train.length / batchSize) } : {}),
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
/** The step applied by compress(), which measures nothing here; training steps hold out the same digits as above. */
async function after(model: Model, step: Step, train: Dataset, seed: number): Promise<Model> {
  return (await compress(model, [step], { train, seed, threads, measure: null })).model;
}

const median = (x: readonly number[]) => x.toSorted((a, b) => a - b)[x.length >> 1]!;
const mean = (x: readonly number[]) => x.reduce((a, b) => a + b, 0) / x.length;
const round = (x: number) => Math.round(1000 * x) / 1000;

/** Two-sided 97.5 % quantiles of Student's t for 1 to 9 degrees of freedom. */
const student = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];
/** Mean of paired differences with its 95 % interval (Student's t). */
function paired(differences: readonly number[]) {
  const m = mean(differences);
  const sd = Math.sqrt(differences.reduce((a, d) => a + (d - m) ** 2, 0) / (differences.length - 1));
  const half = (student[differences.length - 2]! * sd) / Math.sqrt(differences.length);
  return { mean: round(m), interval: [round(m - half), round(m + half)] };
}

const dense = (seed: number) =>
  trained(lenet300({ dropout: 0.3, inputDropout: 0.2, seed }), parts(seed), seed, { epochs: 30, learningRate: 1e-3 });

const runs: Record<string, (seeds: number[]) => Promise<object>> = {
  async prune(seeds) {
    const before: number[] = [];
    const errors: number[] = [];
    for (const seed of seeds) {
      const net = await dense(seed);
      before.push(round(await error(net, part("test"))));
      setDropout(net, 0.1);
      const step = magnitude({ sparsity: 0.9, schedule: "cubic", epochs: 20, batchSize: 128, learningRate: 1e-3, ramp: 0.5, holdOut });
      errors.push(round(await error(await after(net, step, part("train"), seed), part("test"))));
    }
    return { dense: { errors: before, median: median(before) }, sparsity: 0.9, errors, median: median(errors) };
  },
  async lenet5(seeds) {
    const errors: number[] = [];
    for (const seed of seeds) {
      const data = parts(seed, true);
      errors.push(
        round(
          await error(await trained(lenet5({ seed }), data, seed, { epochs: 12, batchSize: 64, learningRate: 1e-3, jitter: 1 }), data.test),
        ),
      );
    }
    return { errors, median: median(errors) };
  },
  async distill(seeds) {
    const alone: number[] = [];
    const distilled: number[] = [];
    const { train, held, test, full } = parts(0);
    const teacher = await trained(mlp({ sizes: [784, 1200, 1200, 10], dropout: 0.5, inputDropout: 0.2, seed: 100 }), { train, held }, 100, {
      epochs: 30,
      learningRate: 1e-3,
    });
    const teacherError = round(await error(teacher, test));
    const load = () => Promise.resolve(teacher);
    for (const seed of seeds) {
      const same = { epochs: 15, batchSize: 128, learningRate: 1e-3, holdOut };
      const options = { train: full, seed, threads, measure: null, load };
      const onLabels = await compress(lenet300({ seed }), [distill({ ...same, teacher: "teacher", alpha: 0 })], options);
      const onTeacher = await compress(lenet300({ seed }), [distill({ ...same, teacher: "teacher", alpha: 0.9, temperature: 4 })], options);
      alone.push(round(await error(onLabels.model, test)));
      distilled.push(round(await error(onTeacher.model, test)));
    }
    return { teacher: "784-1200-1200-10", teacherError, alone, distilled, difference: paired(distilled.map((d, i) => d - alone[i]!)) };
  },
  async lora(seeds) {
    const out: object[] = [];
    const rates = [3e-4, 1e-3, 3e-3, 1e-2];
    for (const seed of seeds) {
      const base = await dense(seed);
      setDropout(base, 0);
      const [full, held] = [turned(parts(seed).train), turned(parts(seed).held)];
      const test = turned(part("test"));
      const epochs = 10;
      const best = async (run: (learningRate: number) => Promise<Model>) => {
        const tried = [];
        for (const learningRate of rates) {
          const model = await run(learningRate);
          tried.push({ learningRate, model, validation: await error(model, held) });
        }
        const { learningRate, model } = tried.reduce((a, b) => (b.validation < a.validation ? b : a));
        return { learningRate, error: round(await error(model, test)) };
      };
      const tuned = await best((learningRate) => trained(cloneModel(base), { train: full, held }, seed, { epochs, learningRate }));
      const adapted = await best((learningRate) =>
        after(base, lora({ targets: "*", rank: 8, alpha: 16, epochs, batchSize: 128, learningRate }), full, seed),
      );
      const before = round(await error(base, test));
      out.push({ before, tuned, adapted, wonBack: round((before - adapted.error) / (before - tuned.error)) });
    }
    return { task: "digits upside down", rank: 8, runs: out };
  },
};

/** The dropout of hidden layers (Han et al. 2015: less of it for a sparser net), and two thirds of it for the inputs. */
function setDropout(model: Model, ratio: number): void {
  for (const n of model.graph.nodes) {
    const v = n.opType === "Dropout" ? n.inputs[1] : null;
    if (v?.data) v.graph.setData(v, tensor("float32", [], [v.name.startsWith("drop0") ? (2 * ratio) / 3 : ratio]));
  }
}

const seeds = Array.from({ length: Number(values.seeds) }, (_, i) => i);
const file = join(import.meta.dirname, "results", "mnist.json");
mkdirSync(join(import.meta.dirname, "results"), { recursive: true });
for (const name of positionals.length ? positionals : Object.keys(runs)) {
  const run = runs[name];
  if (!run) throw new Error(`no part "${name}"; there are ${Object.keys(runs).join(", ")}`);
  const start = performance.now();
  const result = await run(seeds);
  console.log(name, JSON.stringify(result));
  const have = existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as { results: object }).results : {};
  const machine = { cpu: cpus()[0]!.model, cores: cpus().length, node: process.version };
  const record = { ...result, seeds, seconds: Math.round((performance.now() - start) / 1000) };
  writeFileSync(file, `${JSON.stringify({ machine, threads, results: { ...have, [name]: record } }, null, 1)}\n`);
}
