/**
 * Accuracy on the full MNIST: dense nets, 90 % pruned, distilled, adapted. Epochs are chosen on 5,000 held-out training digits, the test
 * digits only score. `MNIST_DIR=folder npx tsx --conditions=source bench/mnist.ts [--seeds 3] [--threads 2] [part …]` writes
 * bench/results/mnist.json; parts: prune (LeNet-300-100, dense and pruned), lenet5, distill, lora.
 */
import { parseArgs } from "node:util";
import { type Dataset, fromArrays } from "../src/data/dataset.ts";
import { cloneModel, type Model } from "../src/ir/graph.ts";
import { lenet5 } from "../src/nets/lenet5.ts";
import { lenet300, mlp } from "../src/nets/mlp.ts";
import { compress } from "../src/recipe/compress.ts";
import { distill, lora, magnitude } from "../src/techniques/index.ts";
import type { Step } from "../src/techniques/technique.ts";
import { floatsOf, tensor } from "../src/tensor/tensor.ts";
import * as digits from "./digits.ts";
import { holdOut, mean, median, parts, record, round, setDropout } from "./digits.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seeds: { type: "string", default: "3" }, threads: { type: "string", default: "2" } },
});
const threads = Number(values.threads);
const error = (model: Model, data: Dataset) => digits.error(model, data, threads);
const trained = (model: Model, data: { train: Dataset; held: Dataset }, seed: number, t: Omit<digits.Training, "threads">) =>
  digits.trained(model, data, seed, { ...t, threads });

/** Every digit upside down. */
function turned(data: Dataset): Dataset {
  const batch = data.take(Array.from({ length: data.length }, (_, i) => i));
  const from = floatsOf(batch.x!);
  const to = new Float32Array(from.length);
  for (let i = 0; i < data.length; i++) to.set(from.subarray(784 * i, 784 * (i + 1)).toReversed(), 784 * i);
  return fromArrays({ ...batch, x: tensor("float32", batch.x!.shape, to) });
}

/** The step applied by compress(), which measures nothing here; training steps hold out the same digits as above. */
async function after(model: Model, step: Step, train: Dataset, seed: number): Promise<Model> {
  return (await compress(model, [step], { train, seed, threads, measure: null })).model;
}

/** Two-sided 97.5 % quantiles of Student's t for 1 to 9 degrees of freedom. */
const student = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];
/** Mean of paired differences with its 95 % interval (Student's t). */
function paired(differences: readonly number[]) {
  const m = mean(differences);
  const sd = Math.sqrt(differences.reduce((a, d) => a + (d - m) ** 2, 0) / (differences.length - 1));
  const half = (student[differences.length - 2]! * sd) / Math.sqrt(differences.length);
  return { mean: round(m), interval: [round(m - half), round(m + half)] };
}

const dense = async (seed: number) =>
  trained(lenet300({ dropout: 0.3, inputDropout: 0.2, seed }), await parts(seed), seed, { epochs: 30, learningRate: 1e-3 });

const runs: Record<string, (seeds: number[]) => Promise<object>> = {
  async prune(seeds) {
    const { full, test } = await parts(0);
    const before: number[] = [];
    const errors: number[] = [];
    for (const seed of seeds) {
      const net = await dense(seed);
      before.push(await error(net, test));
      setDropout(net, 0.1, 0.2 / 3);
      const step = magnitude({ sparsity: 0.9, schedule: "cubic", epochs: 20, batchSize: 128, learningRate: 1e-3, ramp: 0.5, holdOut });
      errors.push(await error(await after(net, step, full, seed), test));
    }
    return { dense: { errors: before, median: median(before) }, sparsity: 0.9, errors, median: median(errors) };
  },
  async lenet5(seeds) {
    const errors: number[] = [];
    for (const seed of seeds) {
      const data = await parts(seed, true);
      const net = await trained(lenet5({ seed }), data, seed, { epochs: 12, batchSize: 64, learningRate: 1e-3, jitter: 1 });
      errors.push(await error(net, data.test));
    }
    return { errors, median: median(errors) };
  },
  async distill(seeds) {
    const alone: number[] = [];
    const distilled: number[] = [];
    const { train, held, test, full } = await parts(0);
    const teacher = await trained(mlp({ sizes: [784, 1200, 1200, 10], dropout: 0.5, inputDropout: 0.2, seed: 100 }), { train, held }, 100, {
      epochs: 30,
      learningRate: 1e-3,
    });
    const teacherError = await error(teacher, test);
    const load = () => Promise.resolve(teacher);
    for (const seed of seeds) {
      const same = { epochs: 15, batchSize: 128, learningRate: 1e-3, holdOut };
      const options = { train: full, seed, threads, measure: null, load };
      const onLabels = await compress(lenet300({ seed }), [distill({ ...same, teacher: "teacher", alpha: 0 })], options);
      const onTeacher = await compress(lenet300({ seed }), [distill({ ...same, teacher: "teacher", alpha: 0.9, temperature: 4 })], options);
      alone.push(await error(onLabels.model, test));
      distilled.push(await error(onTeacher.model, test));
    }
    return { teacher: "784-1200-1200-10", teacherError, alone, distilled, difference: paired(distilled.map((d, i) => d - alone[i]!)) };
  },
  async lora(seeds) {
    const out: object[] = [];
    const rates = [3e-4, 1e-3, 3e-3, 1e-2];
    for (const seed of seeds) {
      const base = await dense(seed);
      setDropout(base, 0, 0);
      const upright = await parts(seed);
      const [full, held, test] = [turned(upright.train), turned(upright.held), turned(upright.test)];
      const epochs = 10;
      const best = async (run: (learningRate: number) => Promise<Model>) => {
        const tried = [];
        for (const learningRate of rates) {
          const model = await run(learningRate);
          tried.push({ learningRate, model, validation: await error(model, held) });
        }
        const { learningRate, model } = tried.reduce((a, b) => (b.validation < a.validation ? b : a));
        return { learningRate, error: await error(model, test) };
      };
      const tuned = await best((learningRate) => trained(cloneModel(base), { train: full, held }, seed, { epochs, learningRate }));
      const adapted = await best((learningRate) =>
        after(base, lora({ targets: "*", rank: 8, alpha: 16, epochs, batchSize: 128, learningRate }), full, seed),
      );
      const before = await error(base, test);
      out.push({ before, tuned, adapted, wonBack: round((before - adapted.error) / (before - tuned.error)) });
    }
    return { task: "digits upside down", rank: 8, runs: out };
  },
};

const seeds = Array.from({ length: Number(values.seeds) }, (_, i) => i);
for (const name of positionals.length ? positionals : Object.keys(runs)) {
  const run = runs[name];
  if (!run) throw new Error(`no part "${name}"; there are ${Object.keys(runs).join(", ")}`);
  const start = performance.now();
  const result = await run(seeds);
  console.log(name, JSON.stringify(result));
  record("mnist", threads, name, { ...result, seeds, seconds: Math.round((performance.now() - start) / 1000) });
}
