/**
 * Pruning layer by layer in one shot. `quality`: a small transformer trained here to tell the next word of a generated language (a grammar
 * with agreement over relative clauses and seeded preferences of words for each other; no file is read), pruned at 50 %, 60 % and 2:4 by
 * magnitude, wanda, sparsegpt and obs (layer by layer, which knows no patterns): perplexity on sentences it has not seen, three seeds.
 * `solvers`: CPU and wall time (medians) and memory of the solvers alone by rows and columns, each in a process of its own; how they grow
 * against what their formulas say: `exponent` 1 is as said, `nanoseconds` are per multiply-add of the formula.
 *   npx tsx --conditions=source bench/sparse-layers.ts [--part quality,solvers] [--runs 5] [--seeds 3]
 * Writes bench/results/sparse-layers.json, part by part.
 */
import { execFileSync } from "node:child_process";
import { loadavg } from "node:os";
import { parseArgs } from "node:util";
import { type Dataset, fromArrays } from "../src/data/dataset.ts";
import { evaluate, perplexity } from "../src/measure/accuracy.ts";
import { transformer } from "../src/nets/transformer.ts";
import { compress } from "../src/recipe/compress.ts";
import { magnitude, obs, sparsegpt, wanda } from "../src/techniques/index.ts";
import { columnwise } from "../src/techniques/prune/columnwise.ts";
import { surgeonRows } from "../src/techniques/prune/rowwise.ts";
import { excise, leastSalient } from "../src/techniques/prune/surgeon.ts";
import { gptq } from "../src/techniques/quantize/gptq.ts";
import { inverse } from "../src/tensor/linalg/dense.ts";
import { random } from "../src/tensor/random.ts";
import { tensor } from "../src/tensor/tensor.ts";
import { fit } from "../src/train/fit.ts";
import { crossEntropy } from "../src/train/loss.ts";
import { adam } from "../src/train/optimizer.ts";
import { cosine } from "../src/train/schedule.ts";
import { mean, median, record, round } from "./digits.ts";

const { values } = parseArgs({
  options: {
    part: { type: "string", default: "quality,solvers" },
    runs: { type: "string", default: "5" },
    seeds: { type: "string", default: "3" },
    one: { type: "string" },
  },
});

// The language.

const [nouns, verbs, adjectives, prepositions] = [16, 12, 16, 6];
/** Words by kind: where each kind's ids begin. Nouns and verbs have a singular and a plural. */
const [stop, that, article, noun, verb, adjective, preposition] = [
  0,
  1,
  2,
  6,
  6 + 2 * nouns,
  6 + 2 * (nouns + verbs),
  6 + 2 * (nouns + verbs) + adjectives,
];
const vocabulary = preposition + prepositions;
const length = 16;

/** Words of sentences until there are `count`. The preferences are those of seed 0, the choices those of `stream`. */
function language(count: number, stream: string): Uint8Array {
  const preferences = random(0, "language");
  const table = (n: number, of: number) =>
    Array.from({ length: n }, () => Array.from({ length: of }, () => Math.exp(1.5 * preferences.normal())));
  const [described, does, done, place] = [table(nouns, adjectives), table(nouns, verbs), table(verbs, nouns), table(prepositions, nouns)];
  const subjects = table(1, nouns)[0]!;
  const r = random(0, stream);
  const chance = (p: number) => r.below(1000) < 1000 * p;
  const pick = (weights: readonly number[]) => {
    let left = (r.below(1e6) / 1e6) * weights.reduce((a, b) => a + b, 0);
    return Math.max(
      0,
      weights.findIndex((w) => (left -= w) < 0),
    );
  };
  const out: number[] = [];
  const thing = (which: readonly number[], deep: number): [number, number] => {
    const k = pick(which);
    const plural = chance(0.4) ? 1 : 0;
    out.push(article + 2 * plural + r.below(2));
    if (chance(0.5)) out.push(adjective + pick(described[k]!));
    out.push(noun + 2 * k + plural);
    if (deep < 2 && chance(0.25)) {
      out.push(that);
      act(k, plural, deep + 1);
    }
    return [k, plural];
  };
  const act = (k: number, plural: number, deep: number) => {
    const v = pick(does[k]!);
    out.push(verb + 2 * v + plural);
    thing(done[v]!, deep + 1);
    if (deep === 0 && chance(0.3)) {
      const p = r.below(prepositions);
      out.push(preposition + p);
      thing(place[p]!, 2);
    }
  };
  while (out.length < count) {
    const [k, plural] = thing(subjects, 0);
    act(k, plural, 0);
    out.push(stop);
  }
  return Uint8Array.from(out.slice(0, count));
}

/** Every `length` words of a text of its own, labelled with the word that follows. */
function windows(n: number, stream: string): Dataset {
  const text = language(n * (length + 1), stream);
  const ids = new BigInt64Array(n * length);
  const labels = new BigInt64Array(n);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < length; k++) ids[i * length + k] = BigInt(text[i * (length + 1) + k]!);
    labels[i] = BigInt(text[i * (length + 1) + length]!);
  }
  return fromArrays({ ids: tensor("int64", [n, length], ids), labels: tensor("int64", [n], labels) });
}

async function quality(seeds: number) {
  const [train, calibration, test] = [windows(24000, "train"), windows(512, "calibration"), windows(6000, "test")];
  const levels = { "50 %": { sparsity: 0.5 }, "60 %": { sparsity: 0.6 }, "2:4": { sparsity: 0.5, pattern: "2:4" } };
  const bySeed: { dense: number; pruned: Record<string, Record<string, number | null>> }[] = [];
  for (let seed = 0; seed < seeds; seed++) {
    const model = transformer({ layers: 2, width: 64, heads: 4, vocabulary, length, classes: vocabulary, seed });
    const score = async (m: typeof model) => (await evaluate(m, test, perplexity(), { threads: 1 })).measurement.value;
    const optimizer = adam({ learningRate: 2e-3 });
    await fit(model, { data: train, loss: crossEntropy(), optimizer, schedule: cosine(), epochs: 6, batchSize: 64, threads: 1, seed });
    const dense = await score(model);
    const pruned: Record<string, Record<string, number | null>> = {};
    for (const [level, settings] of Object.entries(levels)) {
      const { sparsity } = settings;
      const op = "op:MatMul";
      const steps = {
        magnitude: magnitude({ ...settings, include: op, scope: "layer", epochs: 0 }),
        wanda: wanda({ ...settings, include: op, epochs: 0 }),
        "wanda, refine=none": wanda({ ...settings, include: op, epochs: 0, refine: "none" }),
        sparsegpt: sparsegpt({ ...settings, include: op, epochs: 0 }),
        obs: "pattern" in settings ? null : obs({ sparsity, include: op, scope: "layer" }),
      };
      pruned[level] = {};
      for (const [name, step] of Object.entries(steps)) {
        const { model: sparse } = step ? await compress(model, [step], { calibration, measure: null, threads: 1, seed }) : { model: null };
        pruned[level][name] = sparse && (await score(sparse));
      }
    }
    bySeed.push({ dense, pruned });
    process.stderr.write(`seed ${seed}: ${JSON.stringify(bySeed.at(-1))}\n`);
  }
  const of = (f: (s: (typeof bySeed)[number]) => number | null) => {
    const all = bySeed.map(f);
    return all.includes(null) ? null : round(mean(all as number[]));
  };
  const rows = Object.keys(levels).map((level) => [
    level,
    Object.fromEntries(Object.keys(bySeed[0]!.pruned[level]!).map((name) => [name, of((s) => s.pruned[level]![name]!)])),
  ]);
  return {
    text: "generated",
    calibration: calibration.length,
    test: test.length,
    metric: "perplexity",
    dense: of((s) => s.dense),
    mean: Object.fromEntries(rows),
    bySeed,
  };
}

// The solvers.

const shapes = ["256x256", "768x768", "3072x768", "768x3072", "1536x1536", "4096x1024"];
/** Multiply-adds by rows and columns, as the solvers' docs state them. */
const byColumn = (r: number, c: number) => c ** 3 / 6 + (r * c * c) / 2;
const solvers = {
  "sparsegpt, 50 %": { shapes, cost: byColumn },
  "sparsegpt, 2:4": { shapes, cost: byColumn },
  "gptq, 4 bits": { shapes, cost: byColumn },
  "obs by rows, 50 %": { shapes: ["256x64", "128x128", "256x256", "32x512", "16x768"], cost: (r: number, c: number) => r * c ** 3 },
  "obs, half of all": { shapes: ["1x500", "1x1000", "1x2000"], cost: (_: number, c: number) => c ** 3 },
} as const;
type Solver = keyof typeof solvers;

/** Second moments of inputs of different sizes, each like its neighbours; made in place, so that they are all the memory they take. */
function moments(n: number): Float64Array {
  const r = random(1, "moments");
  const size = Float64Array.from({ length: n }, () => Math.exp(0.5 * r.normal()));
  const h = new Float64Array(n * n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) h[i * n + j] = size[i]! * size[j]! * (0.2 + 0.8 * 0.9 ** Math.abs(i - j));
  return h;
}

/** Times of one solver and the memory its first run added to the process. */
function timed(solver: Solver, shape: string, runs: number) {
  const [rows, columns] = shape.split("x").map(Number) as [number, number];
  const h = moments(columns);
  const w = random(2).fillNormal(new Float32Array(rows * columns));
  const half = Math.round((rows * columns) / 2);
  const solve = {
    "sparsegpt, 50 %": () => columnwise(w, rows, columns, h, { sparsity: 0.5 }),
    "sparsegpt, 2:4": () => columnwise(w, rows, columns, h, { sparsity: 0.5, pattern: { kind: "nm", keep: 2, of: 4 } }),
    "gptq, 4 bits": () => gptq(w, rows, columns, h, { bits: 4, groupSize: 32, symmetric: true }),
    "obs by rows, 50 %": () => surgeonRows(w, rows, columns, h, half),
    "obs, half of all": () => {
      const [x, keep] = [Float64Array.from(w), new Uint8Array(columns).fill(1)];
      const inv = inverse(h, columns);
      for (let i = 0; i < half; i++) excise(x, inv, keep, leastSalient(x, inv, keep));
    },
  }[solver];
  const times: { cpu: number; wall: number }[] = [];
  const before = process.memoryUsage.rss();
  let peak = 0;
  for (let i = 0; i <= runs; i++) {
    const [cpu, wall] = [process.cpuUsage(), performance.now()];
    solve();
    const used = process.cpuUsage(cpu);
    // The first run warms up.
    if (i > 0) times.push({ cpu: (used.user + used.system) / 1e6, wall: (performance.now() - wall) / 1000 });
    else peak = process.resourceUsage().maxRSS * 1024 - before;
  }
  return { cpu: median(times.map((t) => t.cpu)), wall: median(times.map((t) => t.wall)), megabytes: Math.max(0, Math.round(peak / 1e6)) };
}

/** The slope of log(time) against log(cost) by least squares. */
function slope(points: readonly (readonly [cost: number, time: number])[]): number {
  const [x, y] = [points.map(([c]) => Math.log(c)), points.map(([, t]) => Math.log(t))];
  const [mx, my] = [mean(x), mean(y)];
  return x.reduce((s, v, i) => s + (v - mx) * (y[i]! - my), 0) / x.reduce((s, v) => s + (v - mx) ** 2, 0);
}

if (values.one) {
  const [solver, shape] = values.one.split("@") as [Solver, string];
  process.stdout.write(JSON.stringify(timed(solver, shape, Number(values.runs))));
} else {
  const load = round(loadavg()[0]!);
  if (values.part.includes("solvers"))
    for (const [name, { shapes, cost }] of Object.entries(solvers)) {
      const bySize: Record<string, object> = {};
      const points: [number, number][] = [];
      for (const shape of shapes) {
        const args = [...process.execArgv, process.argv[1]!, "--one", `${name}@${shape}`, "--runs", values.runs];
        const t = JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" })) as ReturnType<typeof timed>;
        const [r, c] = shape.split("x").map(Number) as [number, number];
        points.push([cost(r, c), t.cpu]);
        bySize[shape] = {
          cpuSeconds: round(t.cpu),
          wallSeconds: round(t.wall),
          megabytes: t.megabytes,
          nanoseconds: round((1e9 * t.cpu) / cost(r, c)),
        };
        process.stderr.write(`${name}, ${shape}: ${JSON.stringify(bySize[shape])}\n`);
      }
      record("sparse-layers", 1, name, { seed: 1, load, runs: Number(values.runs), exponent: round(slope(points)), bySize });
    }
  if (values.part.includes("quality"))
    record("sparse-layers", 1, "quality", { seeds: Number(values.seeds), ...(await quality(Number(values.seeds))) });
}
