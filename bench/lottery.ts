/**
 * Winning tickets (Frankle & Carbin 2019, The Lottery Ticket Hypothesis, section 2 and appendix G): LeNet-300-100 on MNIST, Adam 1.2e-3,
 * batches of 60, 55,000 digits to train and 5,000 to stop early. Each round trains, removes 36 % of what is left of every layer by magnitude
 * (19 % of the output layer: two of the paper's rounds of 20 % and 10 %) and goes back to the first weights. Beside the ticket: its masks
 * with other first weights, and as many weights at random places with the ticket's first weights.
 * `MNIST_DIR=folder npx tsx --conditions=source bench/lottery.ts [--seeds 3] [--first 1] [--steps 5000] [--threads 1]` writes
 * bench/results/lottery.json after each seed.
 */
import { parseArgs } from "node:util";
import type { Dataset } from "../src/data/dataset.ts";
import { cloneModel, type Model } from "../src/ir/graph.ts";
import { perplexity } from "../src/measure/accuracy.ts";
import { lenet300 } from "../src/nets/mlp.ts";
import { choose, type Masks } from "../src/techniques/prune/choose.ts";
import { random } from "../src/tensor/random.ts";
import { floatsOf } from "../src/tensor/tensor.ts";
import { fit } from "../src/train/fit.ts";
import { crossEntropy } from "../src/train/loss.ts";
import { adam } from "../src/train/optimizer.ts";
import { writeBack } from "../src/train/weights.ts";
import { insertMask, mergeMasks } from "../src/transform/mask.ts";
import { weightsOf } from "../src/transform/weights.ts";
import { error, mean, parts, record, recorded, round } from "./digits.ts";

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "3" },
    first: { type: "string", default: "1" },
    steps: { type: "string", default: "5000" },
    threads: { type: "string", default: "1" },
  },
});
const threads = Number(values.threads);
const steps = Number(values.steps);
/** Steps between two looks at the held-out digits. */
const every = 100;
const batchSize = 60;
const learningRate = 1.2e-3;
/** Removed each round, and in how many of them the controls run. */
const rates = [0.36, 0.36, 0.19];
const rounds = 9;
const compared = [2, 4, 6, 9];

interface Outcome {
  /** The step of the lowest loss on the held-out digits, and the error on the test digits there and at the end, in percent. */
  readonly stop: number;
  readonly error: number;
  readonly last: number;
}

/** Trains a copy of `start` under the masks. `weights`: |w| of its end. */
async function train(start: Model, masks: Masks | null, seed: number, data: { train: Dataset; held: Dataset; test: Dataset }) {
  const model = cloneModel(start);
  const inserted = masks ? weightsOf(model).map((w, i) => insertMask(model, w.value, masks[i]!)) : [];
  const end = new Map<string, Float32Array>();
  const { history } = await fit(model, {
    data: data.train,
    validation: data.held,
    evaluateEvery: every,
    // Least where the loss is.
    metric: perplexity(),
    keepBest: true,
    loss: crossEntropy(),
    optimizer: adam({ learningRate }),
    batchSize,
    steps,
    seed,
    threads,
    frozen: inserted.map((m) => m.value.name),
    onStep: (s) => {
      if (s.step === s.of) for (const name of s.names) end.set(name, s.values(name).slice());
    },
  });
  mergeMasks(inserted);
  const best = history.reduce((a, b) => (b.validationLoss! < a.validationLoss! ? b : a));
  const stopped = await error(model, data.test, threads);
  for (const [name, v] of end) writeBack(model, name, v);
  if (masks)
    for (const [i, { value }] of weightsOf(model).entries()) {
      const w = floatsOf(value.data!).map((x, k) => (masks[i]![k] ? x : 0));
      writeBack(model, value.name, w);
    }
  const outcome: Outcome = { stop: best.step, error: stopped, last: await error(model, data.test, threads) };
  return { outcome, model };
}

/** As many ones in every mask, at random places. */
function shuffled(masks: Masks, seed: number): Masks {
  return masks.map((m, i) => {
    const order = random(seed, `lottery/${i}`).permutation(m.length);
    return m.map((_, k) => m[order[k]!]!);
  });
}

/** Mean with its 95 % interval (Student's t over the seeds). */
function over(seeds: readonly number[]) {
  const student = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];
  const m = mean(seeds);
  const n = seeds.length;
  if (n < 2) return { mean: round(m), interval: null, n };
  const half = (student[n - 2]! * Math.sqrt(seeds.reduce((a, x) => a + (x - m) ** 2, 0) / (n - 1))) / Math.sqrt(n);
  return { mean: round(m), interval: [round(m - half), round(m + half)], n };
}

type Kind = "ticket" | "reinitialised" | "random";
type Level = { left: number } & Partial<Record<Kind, Outcome>>;

async function play(seed: number): Promise<Level[]> {
  const data = await parts(seed);
  const start = lenet300({ seed });
  const other = lenet300({ seed: seed + 1000 });
  let masks: Masks | null = null;
  const levels: Level[] = [];
  for (let r = 0; r <= rounds; r++) {
    const all = masks?.reduce((n, m) => n + m.length, 0) ?? 1;
    const left = round((100 * (masks?.reduce((n, m) => n + m.reduce((a, k) => a + k, 0), 0) ?? 1)) / all);
    const ticket = await train(start, masks, seed, data);
    const level: Level = { left, ticket: ticket.outcome };
    if (masks && compared.includes(r)) {
      level.reinitialised = (await train(other, masks, seed, data)).outcome;
      level.random = (await train(start, shuffled(masks, seed), seed, data)).outcome;
    }
    levels.push(level);
    process.stderr.write(`seed ${seed}: ${JSON.stringify(level)}\n`);
    const weights = weightsOf(ticket.model);
    const scores = weights.map(({ value }) => floatsOf(value.data!).map(Math.abs));
    const sparsity = rates.map((rate) => 1 - (1 - rate) ** (r + 1));
    masks = choose(weights, scores, { scope: "layer", pattern: "free", sparsity }, { at: (s) => s, before: masks });
  }
  return levels;
}

const setting = { net: "LeNet-300-100", optimizer: "adam", learningRate, batchSize, steps, every, rates };
const name = "LeNet-300-100";
const old = recorded("lottery")[name] as { setting: typeof setting; bySeed: Record<string, Level[]> } | undefined;
const bySeed: Record<string, Level[]> = JSON.stringify(old?.setting) === JSON.stringify(setting) ? old!.bySeed : {};
for (let seed = Number(values.first); seed < Number(values.first) + Number(values.seeds); seed++) {
  bySeed[seed] = await play(seed);
  const seeds = Object.keys(bySeed).map(Number);
  const levels = bySeed[seed]!.map(({ left }, l) => {
    const kinds = (["ticket", "reinitialised", "random"] as const).flatMap((kind) => {
      const outcomes = seeds.flatMap((s) => bySeed[s]![l]![kind] ?? []);
      if (outcomes.length === 0) return [];
      const figures = {
        earlyStop: over(outcomes.map((o) => o.stop)),
        accuracy: over(outcomes.map((o) => 100 - o.error)),
        accuracyAtEnd: over(outcomes.map((o) => 100 - o.last)),
      };
      return [[kind, figures] as const];
    });
    return { percentLeft: left, ...Object.fromEntries(kinds) };
  });
  record("lottery", threads, name, { setting, seeds, examples: { held: 5000, test: 10000 }, levels, bySeed });
}
