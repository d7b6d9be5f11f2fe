/**
 * Optimal Brain Surgeon on the three MONK's problems and on XOR (Hassibi, Stork 1993, tables 1 and figure 2), and beside it magnitude and Optimal
 * Brain Damage, with the same nets and the same choice. Nets are trained by Levenberg-Marquardt with weight decay; weights (biases are some) go
 * one by one; a net is the smallest on its way that classifies the training examples as well as the paper's. Of all weight decays, alphas and
 * seeds the smallest net of the surgeon is taken, then the lowest training loss; the others run with the same decay and alpha, over all seeds.
 * Nothing is taken by test examples: all 432 are only counted for what was taken.
 *   npx tsx --conditions=source bench/monks.ts [--seeds 24] [--only monk1]
 * Writes bench/results/monks.json.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Dataset, fromArrays } from "../src/data/dataset.ts";
import type { Model } from "../src/ir/graph.ts";
import { net } from "../src/nets/net.ts";
import { deletions } from "../src/techniques/prune/operation.ts";
import { random } from "../src/tensor/random.ts";
import { tensor } from "../src/tensor/tensor.ts";
import { type GaussNewton, gaussNewton } from "../src/train/gaussnewton.ts";
import { mse } from "../src/train/loss.ts";
import { levenberg } from "./levenberg.ts";

const { values } = parseArgs({ options: { seeds: { type: "string", default: "24" }, only: { type: "string" } } });
const seeds = Array.from({ length: Number(values.seeds) }, (_, i) => i);

/** Attributes' numbers of values; one input for each. */
const sizes = [3, 3, 2, 3, 4, 2];
const rows: number[][] = [[]];
for (const size of sizes) rows.splice(0, rows.length, ...rows.flatMap((r) => Array.from({ length: size }, (_, v) => [...r, v + 1])));
const inputs = (r: readonly number[]) => r.flatMap((v, a) => Array.from({ length: sizes[a]! }, (_, i) => (i === v - 1 ? 1 : 0)));

interface Problem {
  readonly hidden: number;
  /** Training examples classified right by the paper's net. */
  readonly right: number;
  readonly paper: { readonly weights: number; readonly train: number; readonly test: number };
  readonly is: (a: readonly number[]) => boolean;
}
const problems: Record<"monk1" | "monk2" | "monk3", Problem> = {
  monk1: {
    hidden: 3,
    right: 124,
    paper: { weights: 14, train: 100, test: 100 },
    is: (a) => a[0] === a[1] || a[4] === 1,
  },
  monk2: {
    hidden: 2,
    right: 169,
    paper: { weights: 15, train: 100, test: 100 },
    is: (a) => a.filter((v) => v === 1).length === 2,
  },
  monk3: {
    hidden: 2,
    right: 114,
    paper: { weights: 4, train: 93.4, test: 97.2 },
    is: (a) => (a[4] === 3 && a[3] === 1) || (a[4] !== 4 && a[1] !== 3),
  },
};
/** c of c/2·‖w‖² that is minimized with the mean of (t − o)². */
const decays = [1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3];
/** What is added to the Hessian's diagonal. */
const alphas = [1e-4, 2e-4, 1e-3];
const given = JSON.parse(readFileSync(join(import.meta.dirname, "data/monks.json"), "utf8")) as Record<
  keyof typeof problems,
  { trainIds: number[]; flippedIds: number[] }
>;

function datasetOf(x: readonly number[][], t: readonly number[]): Dataset {
  return fromArrays({
    x: tensor("float32", [x.length, x[0]!.length], x.flat()),
    target: tensor("float32", [t.length, 1], t),
  });
}

/** Sigmoid units; weights and biases drawn from the seed. */
function build(into: number, hidden: number, seed: number): Model {
  const n = net("monks", seed);
  const x = n.model.graph.input("x", "float32", ["batch", into]);
  const h = n.op("sigmoid1", "Sigmoid", [n.dense("fc1", x, [into, hidden], "glorot")]);
  return n.done(n.op("sigmoid2", "Sigmoid", [n.dense("fc2", h, [hidden, 1], "glorot")]), ["batch", 1]);
}

/** One engine for all nets of a shape: weights are what it is given. */
async function prepare(model: Model, data: Dataset): Promise<GaussNewton> {
  return gaussNewton(model, { data, loss: mse(), weights: [...model.graph.initializers], threads: 1, batchSize: 512 });
}
const drawn = (n: number, seed: number, by: number) => random(seed, "monks").fillUniform(new Float64Array(n), -by, by);
const right = (y: ArrayLike<number>, t: readonly number[]) => t.reduce((s, v, i) => s + (y[i]! > 0.5 === v > 0.5 ? 1 : 0), 0);

interface Found {
  readonly seed: number;
  readonly weights: number;
  readonly loss: number;
  readonly w: Float64Array;
}

/** Deletes to the end, one weight after the other; the smallest net that gets `enough` training examples right. */
type Way = (g: GaussNewton, start: Float64Array, weightDecay: number, alpha: number) => AsyncGenerator<{ w: Float64Array; left: number }>;

/** The surgeon, from one inverse Hessian, or from a new one after every deletion, with training of what is left or without. */
const surgeon = (every: number, retrain: boolean): Way =>
  async function* (g, start, weightDecay, alpha) {
    const w = start.slice();
    const keep = new Uint8Array(w.length).fill(1);
    for await (const { left } of deletions(g, w, keep, { alpha, every })) {
      if (retrain) w.set((await levenberg(g, w, { weightDecay, keep, steps: 10, tolerance: 1e-3 })).w);
      yield { w, left };
    }
  };

/** Deletes the weight of the lowest score, and leaves the others as they are, or trains them after every deletion. */
const simple = (score: (w: number, h: number) => number, retrain: boolean): Way =>
  async function* (g, start, weightDecay) {
    let w: Float64Array = start.slice();
    const keep = new Uint8Array(g.n).fill(1);
    let h = (await g.hessian(w)).hessian;
    for (let left = g.n - 1; left >= 0; left--) {
      let q = -1;
      for (let i = 0; i < g.n; i++) if (keep[i] && (q < 0 || score(w[i]!, h[i * g.n + i]!) < score(w[q]!, h[q * g.n + q]!))) q = i;
      w[q] = 0;
      keep[q] = 0;
      if (retrain) {
        w = (await levenberg(g, w, { weightDecay, keep, steps: 10, tolerance: 1e-3 })).w;
        h = (await g.hessian(w)).hessian;
      }
      yield { w, left };
    }
  };
const ways: Record<string, Way> = {
  obs: surgeon(Number.POSITIVE_INFINITY, false),
  "obs, Hessian anew after every deletion": surgeon(1, false),
  "obs, retrained after every deletion": surgeon(1, true),
  obd: simple((w, h) => (h * w * w) / 2, false),
  magnitude: simple((w) => Math.abs(w), false),
  "obd, retrained after every deletion": simple((w, h) => (h * w * w) / 2, true),
  "magnitude, retrained after every deletion": simple((w) => Math.abs(w), true),
};

const percent = (n: number, of: number) => Math.round((1000 * n) / of) / 10;
const median = (x: readonly number[]) => x.toSorted((a, b) => a - b)[x.length >> 1]!;

async function monks(name: keyof typeof problems) {
  const { hidden, right: enough, paper, is } = problems[name];
  const { trainIds, flippedIds } = given[name];
  const labels = rows.map((a) => (is(a) ? 1 : 0));
  const trainLabels = trainIds.map((id) => (flippedIds.includes(id) ? 1 - labels[id - 1]! : labels[id - 1]!));
  const model = build(17, hidden, 0);
  const train = await prepare(
    model,
    datasetOf(
      trainIds.map((id) => inputs(rows[id - 1]!)),
      trainLabels,
    ),
  );
  const test = await prepare(model, datasetOf(rows.map(inputs), labels));
  const found: Record<string, Found[]> = Object.fromEntries(Object.keys(ways).map((way) => [way, []]));
  const converged: number[] = [];
  const seconds: Record<string, number> = {};
  const timed = async <T>(what: string, f: () => Promise<T>) => {
    const start = performance.now();
    const result = await f();
    seconds[what] = Math.round(10 * ((seconds[what] ?? 0) + (performance.now() - start) / 1000)) / 10;
    return result;
  };
  const learned = async (seed: number, weightDecay: number) => {
    const { w } = await timed("training", () => levenberg(train, drawn(train.n, seed, 1), { weightDecay, steps: 300 }));
    return right((await train.value(w)).outputs, trainLabels) < enough ? null : w;
  };
  const smallest = (way: string, seed: number, w: Float64Array, weightDecay: number, alpha: number) =>
    timed(way, async () => {
      let best: Found = { seed, weights: train.n, loss: Number.POSITIVE_INFINITY, w };
      for await (const step of ways[way]!(train, w, weightDecay, alpha)) {
        const { loss, outputs } = await train.value(step.w);
        if (right(outputs, trainLabels) >= enough) best = { seed, weights: step.left, loss, w: step.w.slice() };
      }
      return best;
    });
  const tried: { weightDecay: number; alpha: number; best: Found }[] = [];
  for (const weightDecay of decays)
    for (const seed of seeds) {
      const w = await learned(seed, weightDecay);
      if (w) for (const alpha of alphas) tried.push({ weightDecay, alpha, best: await smallest("obs", seed, w, weightDecay, alpha) });
    }
  const [chosen] = tried.toSorted((a, b) => a.best.weights - b.best.weights || a.best.loss - b.best.loss);
  if (!chosen) throw new Error(`${name}: no net learned the training examples`);
  const { weightDecay, alpha } = chosen;
  for (const seed of seeds) {
    const w = await learned(seed, weightDecay);
    if (!w) continue;
    converged.push(seed);
    for (const way of Object.keys(ways)) found[way]!.push(await smallest(way, seed, w, weightDecay, alpha));
  }
  const results: Record<string, object> = {};
  for (const [way, nets] of Object.entries(found)) {
    if (nets.length === 0) continue;
    const best = nets.toSorted((a, b) => a.weights - b.weights || a.loss - b.loss)[0]!;
    const trainRight = right((await train.value(best.w)).outputs, trainLabels);
    const testRight = right((await test.value(best.w)).outputs, labels);
    results[way] = {
      weights: best.weights,
      seed: best.seed,
      train: { right: trainRight, n: trainLabels.length, percent: percent(trainRight, trainLabels.length) },
      test: { right: testRight, n: labels.length, percent: percent(testRight, labels.length) },
      medianWeights: median(nets.map((f) => f.weights)),
      weightsBySeed: Object.fromEntries(nets.map((f) => [f.seed, f.weights])),
    };
  }
  const dense = train.n;
  await train.release();
  await test.release();
  const settings = { weightDecay, alpha, of: { decays, alphas } };
  return { net: `17-${hidden}-1`, dense, ...settings, paper, converged: converged.length, of: seeds.length, seconds, results };
}

/** The deletion is right if XOR stays solved (after the surgeon's update of the others). */
async function xor() {
  const x = [
    [0, 0],
    [0, 1],
    [1, 0],
    [1, 1],
  ];
  const t = [0, 1, 1, 0];
  const g = await prepare(build(2, 2, 0), datasetOf(x, t));
  const counts: Record<string, number> = { obs: 0, obd: 0, magnitude: 0 };
  let converged = 0;
  for (const seed of Array.from({ length: 2 * seeds.length }, (_, i) => i)) {
    const { w } = await levenberg(g, drawn(g.n, seed, 1), { weightDecay: 2e-4, steps: 300 });
    if (right((await g.value(w)).outputs, t) < 4) continue;
    converged++;
    for (const way of Object.keys(counts)) {
      const first = await ways[way]!(g, w, 2e-4, 2e-4).next();
      if (!first.done && right((await g.value(first.value.w)).outputs, t) === 4) counts[way]!++;
    }
  }
  await g.release();
  return { net: "2-2-1", dense: g.n, converged, of: 2 * seeds.length, solvedAfterOneDeletion: counts };
}

const file = join(import.meta.dirname, "results", "monks.json");
const machine = { cpu: cpus()[0]!.model, cores: cpus().length, node: process.version };
mkdirSync(join(import.meta.dirname, "results"), { recursive: true });
for (const name of ["xor", "monk3", "monk1", "monk2"] as const) {
  if (values.only && values.only !== name) continue;
  const result = name === "xor" ? await xor() : await monks(name);
  console.log(name, JSON.stringify(result));
  const have = existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as { results: object }).results : {};
  writeFileSync(file, `${JSON.stringify({ machine, threads: 1, results: { ...have, [name]: result } }, null, 1)}\n`);
}
