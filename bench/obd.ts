/**
 * The experiment of Optimal Brain Damage (LeCun, Denker, Solla 1990) on MNIST: the net of the paper, 2,578 free parameters shared by 98,442
 * connections, and what becomes of its error as parameters are deleted by saliency h·u²/2 or by magnitude, with and without retraining;
 * beside it the increase of the loss that the saliencies predict. h is the Gauss-Newton diagonal by connections (lm, as the paper uses),
 * that with the terms of f″ (exact, by random signs), or the Gauss-Newton diagonal by the shared weight itself (shared).
 * `MNIST_DIR=folder npx tsx --conditions=source bench/obd.ts [--seeds 3] [--threads 1] [--nets folder] [part …]` writes
 * bench/results/obd.json, per seed and the median over the seeds; parts: atOnce, retrained (a minute a seed each on a quiet machine).
 */
import { parseArgs } from "node:util";
import { type Dataset, fromArrays, subset } from "../src/data/dataset.ts";
import { cloneModel, type Model, type Value } from "../src/ir/graph.ts";
import { evaluate, mse as meanSquares } from "../src/measure/accuracy.ts";
import { net } from "../src/nets/net.ts";
import { select } from "../src/techniques/prune/pattern.ts";
import { random } from "../src/tensor/random.ts";
import { floatsOf, numbersOf, tensor } from "../src/tensor/tensor.ts";
import { gaussNewtonDiagonal, secondDerivatives } from "../src/train/derivatives.ts";
import { fit } from "../src/train/fit.ts";
import { mse } from "../src/train/loss.ts";
import { adam } from "../src/train/optimizer.ts";
import { cosine } from "../src/train/schedule.ts";
import { insertMask, mergeMasks, zeroed } from "../src/transform/mask.ts";
import { digits, error, kept, median, record, round } from "./digits.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seeds: { type: "string", default: "3" }, threads: { type: "string", default: "1" }, nets: { type: "string" } },
});
const threads = Number(values.threads);
const settings = { train: 10000, epochs: 15, rate: 2e-3, curvature: 1000, probes: 16, step: 0.05, retrain: 2, retrainRate: 5e-4 } as const;
const deletions = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];

/** LeCun et al. 1990, Handwritten digit recognition with a back-propagation network: of 12 maps 8 see two of the 4 below, 4 see one. */
function paper(seed: number): Model {
  const n = net("lenet1", seed);
  const tanh = (name: string, x: Value) => n.op(name, "Tanh", [x]);
  /** Means over 2×2, times a coefficient, plus a bias, for each map. */
  const pool = (name: string, x: Value, maps: number) => {
    const mean = n.op(`${name}.mean`, "AveragePool", [x], { kernel_shape: [2, 2], strides: [2, 2] });
    const scaled = n.op(`${name}.mul`, "Mul", [mean, n.weight(`${name}.weight`, [maps, 1, 1], 1)]);
    return tanh(`${name}.tanh`, n.op(`${name}.add`, "Add", [scaled, n.weight(`${name}.bias`, [maps, 1, 1], 0)]));
  };
  const grouped = (name: string, x: Value, shape: readonly [number, number], group: number) =>
    n.op(name, "Conv", [x, n.weight(`${name}.weight`, [...shape, 5, 5], "glorot"), n.weight(`${name}.bias`, [shape[0]], 0)], { group });
  let x = n.model.graph.input("x", "float32", ["batch", 1, 28, 28]);
  x = pool("pool1", tanh("tanh1", grouped("conv1", x, [4, 1], 1)), 4);
  x = n.op("maps", "Concat", [grouped("conv2", x, [8, 2], 2), grouped("conv3", x, [4, 1], 4)], { axis: 1 });
  x = pool("pool2", tanh("tanh2", x), 12);
  x = n.dense("out", n.op("flatten", "Flatten", [x]), [192, 10], "glorot");
  return n.done(tanh("tanh3", x), ["batch", 10]);
}

/** With targets +0.8 for a digit's class and −0.8 for the others. */
function withTargets(data: Dataset): Dataset {
  const all = data.take(Array.from({ length: data.length }, (_, i) => i));
  const labels = numbersOf(all.labels!);
  const target = new Float32Array(10 * labels.length).fill(-0.8);
  labels.forEach((c, i) => {
    target[10 * i + c] = 0.8;
  });
  // From −1 (background) to 1, as in the paper.
  const x = floatsOf(all.x!).map((v) => 2 * v - 1);
  return fromArrays({ ...all, x: tensor("float32", all.x!.shape, x), target: tensor("float32", [labels.length, 10], target) });
}

const all = withTargets(await digits("train", true));
const test = withTargets(await digits("test", true));
const loss = mse();
/** Mean squared error over all outputs: the loss of training. */
const lossOf = async (model: Model, data: Dataset) =>
  (await evaluate(model, data, meanSquares({ targets: "target" }), { threads, batchSize: 256 })).measurement.value;

const parametersOf = (model: Model) => [...model.graph.initializers].filter((v) => v.data!.dtype === "float32");

/** h·u²/2 of every parameter, or |u|. */
const saliencies = {
  async lm(model: Model, data: Dataset, weights: readonly Value[]) {
    return saliency(weights, await gaussNewtonDiagonal(model, weights, data, loss, { threads, sharing: "connections" }));
  },
  async shared(model: Model, data: Dataset, weights: readonly Value[]) {
    return saliency(weights, await gaussNewtonDiagonal(model, weights, data, loss, { threads }));
  },
  async exact(model: Model, data: Dataset, weights: readonly Value[]) {
    return saliency(
      weights,
      await secondDerivatives(model, weights, data, loss, { threads, sharing: "connections", probes: settings.probes }),
    );
  },
  async magnitude(_: Model, __: Dataset, weights: readonly Value[]) {
    return weights.map((w) => Float32Array.from(floatsOf(w.data!), Math.abs));
  },
};
type Way = keyof typeof saliencies;

const saliency = (weights: readonly Value[], h: readonly Float32Array[]) =>
  weights.map((w, i) => floatsOf(w.data!).map((u, k) => (h[i]![k]! * u * u) / 2));

/** Masks that delete so many of all parameters, those of lowest score first. */
const masks = (scores: readonly Float32Array[], fraction: number) =>
  select(
    scores.map((s) => ({ scores: s.map((x) => Math.max(0, x)), rows: 1, columns: s.length })),
    fraction,
    "global",
  );

const remove = (weights: readonly Value[], keep: readonly Uint8Array[]) => {
  weights.forEach((w, i) => {
    w.graph.setData(w, zeroed(w, keep[i]!));
  });
};

interface Point {
  readonly deleted: number;
  readonly trainLoss: number;
  readonly testError: number;
  /** Increase of the training loss: as it came, and by the saliencies of what was deleted. */
  readonly increase?: number;
  readonly predicted?: number;
}

const optimizer = (learningRate: number) => adam({ learningRate });

async function dense(train: Dataset, seed: number): Promise<Model> {
  const model = paper(seed);
  await fit(model, {
    data: train,
    loss,
    optimizer: optimizer(settings.rate),
    schedule: cosine(),
    epochs: settings.epochs,
    batchSize: 32,
    seed,
    threads,
  });
  return model;
}

/** Deletes at once, trains no more. */
async function atOnce(model: Model, way: Way, train: Dataset, some: Dataset): Promise<Point[]> {
  const before = await lossOf(model, train);
  const scores = await saliencies[way](model, some, parametersOf(model));
  const points: Point[] = [];
  for (const deleted of deletions) {
    const copy = cloneModel(model);
    const keep = masks(scores, deleted);
    remove(parametersOf(copy), keep);
    const trainLoss = await lossOf(copy, train);
    const predicted = scores.reduce((sum, s, i) => sum + s.reduce((t, x, k) => t + (keep[i]![k] ? 0 : x), 0), 0);
    points.push({
      deleted,
      trainLoss,
      testError: await error(copy, test, threads),
      ...(way === "magnitude" ? {} : { increase: trainLoss - before, predicted }),
    });
  }
  return points;
}

/** Deletes a step of all parameters at a time by fresh saliencies, and trains on after each. */
async function stepwise(model: Model, way: Way, train: Dataset, some: Dataset, seed: number): Promise<Point[]> {
  const now = cloneModel(model);
  const points: Point[] = [];
  const last = Math.round(deletions.at(-1)! / settings.step);
  for (let round = 1; round <= last; round++) {
    const weights = parametersOf(now);
    const keep = masks(await saliencies[way](now, some, weights), round * settings.step);
    remove(weights, keep);
    const held = weights.map((w, i) => insertMask(now, w, keep[i]!));
    const frozen = held.map((m) => m.value.name);
    await fit(now, {
      data: train,
      loss,
      optimizer: optimizer(settings.retrainRate),
      schedule: cosine(),
      epochs: settings.retrain,
      batchSize: 32,
      seed: seed + 1000 * round,
      threads,
      frozen,
    });
    mergeMasks(held);
    if ((round * settings.step * 10) % 1 < 1e-9 || (round * settings.step * 10) % 1 > 1 - 1e-9)
      points.push({ deleted: round * settings.step, trainLoss: await lossOf(now, train), testError: await error(now, test, threads) });
  }
  return points;
}

/** Point by point, the median of each figure over the seeds. */
const middle = (runs: readonly (readonly Point[])[]): Point[] =>
  runs[0]!.map((first, i) => {
    const keys = Object.keys(first) as (keyof Point)[];
    return Object.fromEntries(keys.map((k) => [k, digitsOf(median(runs.map((r) => r[i]![k]!)))])) as unknown as Point;
  });
const digitsOf = (x: number) => Number(x.toPrecision(4));

const seeds = Array.from({ length: Number(values.seeds) }, (_, i) => i);
const parts = {
  atOnce: { ways: ["lm", "exact", "shared", "magnitude"], points: atOnce },
  retrained: { ways: ["lm", "shared", "magnitude"], points: stepwise },
} as const;
for (const name of (positionals.length ? positionals : Object.keys(parts)) as (keyof typeof parts)[]) {
  const part = parts[name];
  if (!part) throw new Error(`no part "${name}"; there are ${Object.keys(parts).join(", ")}`);
  const start = performance.now();
  const runs: Record<string, Point[]>[] = [];
  for (const seed of seeds) {
    const order = random(seed, "obd").permutation(all.length);
    const train = subset(all, order.subarray(0, settings.train));
    const some = subset(
      train,
      Array.from({ length: settings.curvature }, (_, i) => i),
    );
    const model = await kept(values.nets, `lenet1-${seed}`, () => dense(train, seed));
    const parameters = parametersOf(model).reduce((n, w) => n + numbersOf(w.data!).length, 0);
    if (parameters !== 2578) throw new Error(`the net of the paper has 2,578 parameters; this one ${parameters}`);
    const told = (what: string, points: readonly Point[]) => {
      const line = points.map((p) => {
        const both = p.predicted === undefined ? "" : ` (+${digitsOf(p.increase!)}, predicted ${digitsOf(p.predicted)})`;
        return `${round(100 * p.deleted)}%: ${digitsOf(p.trainLoss)} ${p.testError}${both}`;
      });
      console.log(name, seed, what, line.join("  "), `${Math.round((performance.now() - start) / 1000)} s`);
      return [...points];
    };
    const run: Record<string, Point[]> = {
      dense: told("dense", [{ deleted: 0, trainLoss: await lossOf(model, train), testError: await error(model, test, threads) }]),
    };
    for (const way of part.ways) run[way] = told(way, await part.points(model, way, train, some, seed));
    runs.push(run);
  }
  record("obd", threads, name, {
    settings,
    parameters: 2578,
    connections: 98442,
    seeds,
    n: { train: settings.train, test: test.length, curvature: settings.curvature },
    median: Object.fromEntries(["dense", ...part.ways].map((way) => [way, middle(runs.map((r) => r[way]!))])),
    runs,
    seconds: Math.round((performance.now() - start) / 1000),
  });
}
