/**
 * Structured pruning to 2–2.5 times fewer multiply-accumulates on the full MNIST: LeNet-5, and a residual net with BatchNormalization. How
 * long to train is chosen on 5,000 held-out training digits, the test digits only score; differences from the dense net are paired, digit
 * by digit. Latencies are taken in alternating blocks, one thread, one digit a run. The second rows take any width in place of multiples of
 * 16, at equal multiply-accumulates. `MNIST_DIR=folder npx tsx --conditions=source bench/structured.ts [--seeds 3] [--threads 1]
 * [--nets folder] [part …]` writes bench/results/structured.json; parts: lenet5, residual. `--nets` keeps the dense nets for another run.
 */
import { parseArgs } from "node:util";
import type { Model } from "../src/ir/graph.ts";
import { accuracy, change, evaluate } from "../src/measure/accuracy.ts";
import { latency } from "../src/measure/latency.ts";
import { macsOf } from "../src/measure/macs.ts";
import { feedsFor } from "../src/measure/measure.ts";
import { countParameters } from "../src/measure/parameters.ts";
import { lenet5 } from "../src/nets/lenet5.ts";
import { resnet20 } from "../src/nets/resnet20.ts";
import { compress } from "../src/recipe/compress.ts";
import { observeShapes } from "../src/runtime/shapes.ts";
import { structured } from "../src/techniques/index.ts";
import { fit } from "../src/train/fit.ts";
import { crossEntropy } from "../src/train/loss.ts";
import { adam } from "../src/train/optimizer.ts";
import { cosine } from "../src/train/schedule.ts";
import { holdOut, kept, median, parts, record, round, trained } from "./digits.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seeds: { type: "string", default: "3" },
    threads: { type: "string", default: "1" },
    nets: { type: "string" },
  },
});
const threads = Number(values.threads);
type Digits = Awaited<ReturnType<typeof parts>>;
type Settings = Parameters<typeof structured>[0];

async function macs(model: Model): Promise<number> {
  return macsOf(await observeShapes(model, feedsFor(model, {}, null)))!;
}

/** One dense net, and what each setting makes of it. */
async function compared(dense: Model, data: Digits, seed: number, settings: Readonly<Record<string, Settings>>) {
  const before = await evaluate(dense, data.test, accuracy(), { threads });
  const nets: { name: string; model: Model; seconds: number; widths: string[] }[] = [];
  for (const [name, p] of Object.entries(settings)) {
    const start = performance.now();
    const step = structured({ ...p, holdOut, check: false });
    const { model, run } = await compress(dense, [step], { train: data.full, seed, threads, measure: null });
    const widths = run.steps[0]!.notes.filter((n) => / → /.test(n) && n.includes("["));
    nets.push({ name, model, seconds: Math.round((performance.now() - start) / 1000), widths });
  }
  const feeds = feedsFor(dense, { data: data.test }, 1);
  const times = await latency(
    [dense, ...nets.map((n) => n.model)].map((model) => ({ model, feeds })),
    { threads: 1, seconds: 3 },
  );
  const error = (x: number) => round(100 - x);
  const rows: Record<string, object> = {};
  for (const [i, { name, model, seconds, widths }] of nets.entries()) {
    const after = await evaluate(model, data.test, accuracy(), { threads });
    const paired = change(before, after);
    const speedup = times[i + 1]!.find((m) => m.metric === "speedup")!;
    rows[name] = {
      error: error(after.measurement.value),
      /** Points of error more than the dense net makes, with the 95 % interval of the paired difference. */
      more: { value: round(-paired.value), interval: paired.interval?.map((x) => round(-x)).reverse() },
      macs: await macs(model),
      parameters: countParameters(model).parameters,
      ms: round(times[i + 1]![0]!.value),
      speedup: { value: round(speedup.value), interval: speedup.interval?.map(round) },
      widths,
      seconds,
    };
  }
  const { parameters } = countParameters(dense);
  return {
    dense: { error: error(before.measurement.value), macs: await macs(dense), parameters, ms: round(times[0]![0]!.value) },
    ...rows,
  };
}

/** The median over seeds of the errors of each row. */
function medians(runs: readonly object[]): Record<string, number> {
  const names = Object.keys(runs[0]!);
  return Object.fromEntries(names.map((n) => [n, median(runs.map((r) => (r as Record<string, { error: number }>)[n]!.error))]));
}

const benches: Record<string, (seeds: readonly number[]) => Promise<object>> = {
  async lenet5(seeds) {
    const runs: object[] = [];
    for (const seed of seeds) {
      const data = await parts(seed, true);
      const dense = await kept(values.nets, `lenet5-${seed}`, () =>
        trained(lenet5({ seed }), data, seed, { epochs: 8, batchSize: 64, learningRate: 1e-3, threads }),
      );
      const same = {
        by: "macs",
        ratio: 0.57,
        epochs: 6,
        batchSize: 64,
        learningRate: 1e-3,
        loss: "0.3*crossEntropy + 0.7*teacher:temperature=4",
      } as const;
      runs.push(await compared(dense, data, seed, { "multiples of 16": same, "any width": { ...same, roundTo: 1 } }));
      console.log(JSON.stringify(runs.at(-1)));
    }
    return { seeds, medians: medians(runs), runs };
  },
  async residual(seeds) {
    const [seed] = seeds as [number];
    const data = await parts(seed, true);
    const dense = await kept(values.nets, `residual-${seed}`, async () => {
      const model = resnet20({ channels: 1, size: 28, width: 32, blocks: 1, seed });
      await fit(model, {
        data: data.train,
        validation: data.held,
        keepBest: true,
        epochs: 2,
        batchSize: 64,
        loss: crossEntropy(),
        optimizer: adam({ learningRate: 2e-3 }),
        schedule: cosine(),
        batchStatistics: true,
        seed,
        threads,
      });
      return model;
    });
    const same = {
      by: "macs",
      ratio: 0.55,
      epochs: 2,
      batchSize: 64,
      learningRate: 1e-3,
      loss: "0.3*crossEntropy + 0.7*teacher:temperature=4",
    } as const;
    return { seeds: [seed], ...(await compared(dense, data, seed, { "multiples of 16": same, "any width": { ...same, roundTo: 1 } })) };
  },
};

const seeds = Array.from({ length: Number(values.seeds) }, (_, i) => i);
for (const name of positionals.length ? positionals : Object.keys(benches)) {
  const bench = benches[name];
  if (!bench) throw new Error(`no part "${name}"; there are ${Object.keys(benches).join(", ")}`);
  const start = performance.now();
  const result = await bench(seeds);
  console.log(name, JSON.stringify(result));
  record("structured", threads, name, { ...result, seconds: Math.round((performance.now() - start) / 1000) });
}
