/**
 * Training speed and peak memory: Adam on four nets, each in a process of its own with the allocator told to keep its memory.
 * `npx tsx --conditions=source bench/training.ts [--threads 2] [--rounds 3] [net …]` writes bench/results/training.json;
 * test/reference/training_speed.py is the same in PyTorch.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { fromArrays } from "../src/data/dataset.ts";
import type { Model } from "../src/ir/graph.ts";
import { lenet5 } from "../src/nets/lenet5.ts";
import { lenet300 } from "../src/nets/mlp.ts";
import { resnet20 } from "../src/nets/resnet20.ts";
import { transformer } from "../src/nets/transformer.ts";
import { sizeOf } from "../src/tensor/dtype.ts";
import { random } from "../src/tensor/random.ts";
import { tensor } from "../src/tensor/tensor.ts";
import { fit } from "../src/train/fit.ts";
import { crossEntropy } from "../src/train/loss.ts";
import { adam } from "../src/train/optimizer.ts";

interface Case {
  readonly model: () => Model;
  readonly batch: number;
  readonly example: readonly number[];
  /** Ids below this, where the input is int64. */
  readonly vocabulary?: number;
  readonly steps: number;
  readonly batchStatistics?: boolean;
}

const cases: Record<string, Case> = {
  "lenet-300-100": { model: () => lenet300(), batch: 128, example: [784], steps: 1500 },
  "lenet-5": { model: () => lenet5(), batch: 64, example: [1, 28, 28], steps: 300 },
  transformer: {
    model: () => transformer({ layers: 4, width: 256, heads: 4, vocabulary: 1000, length: 64, classes: 10 }),
    batch: 16,
    example: [64],
    vocabulary: 1000,
    steps: 50,
  },
  "resnet-20": { model: () => resnet20(), batch: 32, example: [3, 32, 32], steps: 60, batchStatistics: true },
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { threads: { type: "string", default: "2" }, rounds: { type: "string", default: "3" }, child: { type: "boolean" } },
});
const threads = Number(values.threads);
const median = (x: readonly number[]) => x.toSorted((a, b) => a - b)[x.length >> 1]!;

/** Milliseconds of the median step (the first tenth dropped), and the process's peak memory. */
async function measure(name: string) {
  const { model, batch, example, vocabulary, steps, batchStatistics = false } = cases[name]!;
  const n = 8 * batch;
  const r = random(1);
  const values = r.fillNormal(new Float32Array(n * sizeOf(example)));
  const net = model();
  const [input] = net.graph.inputs;
  const ids = () => Array.from(values, () => r.below(vocabulary!));
  const x = vocabulary ? tensor("int64", [n, ...example], ids()) : tensor("float32", [n, ...example], values);
  const labels = tensor(
    "int64",
    [n],
    Array.from({ length: n }, () => r.below(10)),
  );
  const times: number[] = [];
  let last = performance.now();
  await fit(net, {
    data: fromArrays({ [input!.name]: x, labels }),
    loss: crossEntropy(),
    optimizer: adam({ learningRate: 1e-4 }),
    batchSize: batch,
    steps,
    threads,
    batchStatistics,
    onStep() {
      const now = performance.now();
      times.push(now - last);
      last = now;
    },
  });
  return { ms: median(times.slice(steps / 10)), peakMB: process.resourceUsage().maxRSS / 1024 };
}

if (values.child) process.stdout.write(JSON.stringify(await measure(positionals[0]!)));
else {
  const names = positionals.length ? positionals : Object.keys(cases);
  const tunables = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4000000000:glibc.malloc.trim_threshold=8000000000";
  const results: Record<string, unknown> = {};
  for (const name of names) {
    const rounds = Array.from({ length: Number(values.rounds) }, () => {
      const { stdout, status } = spawnSync(
        process.execPath,
        [...process.execArgv, fileURLToPath(import.meta.url), "--child", "--threads", `${threads}`, name],
        { env: { ...process.env, GLIBC_TUNABLES: tunables }, stdio: ["ignore", "pipe", "inherit"], encoding: "utf8" },
      );
      if (status !== 0) throw new Error(`${name} ended with ${status}`);
      return JSON.parse(stdout) as { ms: number; peakMB: number };
    });
    const ms = median(rounds.map((x) => x.ms));
    const peakMB = Math.round(median(rounds.map((x) => x.peakMB)));
    results[name] = { batch: cases[name]!.batch, msPerStep: ms, stepsPerSecond: 1000 / ms, peakMB };
    console.log(`${name.padEnd(14)} ${ms.toFixed(2).padStart(8)} ms/step  peak ${peakMB} MB`);
  }
  const machine = { cpu: cpus()[0]!.model, cores: cpus().length, node: process.version, platform: `${process.platform} ${process.arch}` };
  const folder = join(import.meta.dirname, "results");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "training.json"), `${JSON.stringify({ machine, threads, seed: 1, results }, null, 1)}\n`);
}
