/**
 * Binary and ternary nets on the full MNIST. Everything is trained on 55,000 digits, each moved by up to a pixel anew every epoch, for a
 * number of epochs fixed beforehand; 5,000 held-out training digits chose the dense nets' epochs only. The test digits score the file as it
 * is written. `MNIST_DIR=folder npx tsx --conditions=source bench/binary.ts
 * [--seeds 3] [--threads 1] [part …]` writes bench/results/binary.json; parts: mlp (3×1024, binary weights), ternary (LeNet-5 beside its
 * dense twin), xnor (LeNet-5 with binary weights and activations between its first and last layer).
 */
import { parseArgs } from "node:util";
import type { Dataset } from "../src/data/dataset.ts";
import { cloneModel, type Model } from "../src/ir/graph.ts";
import { lenet5 } from "../src/nets/lenet5.ts";
import { mlp } from "../src/nets/mlp.ts";
import { net } from "../src/nets/net.ts";
import { readModel } from "../src/onnx/read.ts";
import { writeModel } from "../src/onnx/write.ts";
import { compress } from "../src/recipe/compress.ts";
import { binary } from "../src/techniques/index.ts";
import type { Step } from "../src/techniques/technique.ts";
import * as digits from "./digits.ts";
import { median, moved, parts, record, round, trained } from "./digits.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seeds: { type: "string", default: "3" }, threads: { type: "string", default: "1" } },
});
const threads = Number(values.threads);

/** Test error in percent, of the very bytes. */
const error = (bytes: Uint8Array, data: Dataset) => digits.error(readModel(bytes), data, threads);

/** The step on `epochs` times as many digits, once through. */
async function after(model: Model, step: Step, train: Dataset, epochs: number, seed: number): Promise<Uint8Array> {
  return writeModel((await compress(model, [step], { train: moved(train, epochs, seed), seed, threads, measure: null })).model);
}

/** LeNet-5 in the order of XNOR-Net: convolution, pooling, BatchNormalization, activation. */
function normalizedLenet5(seed: number): Model {
  const n = net("lenet5", seed);
  const pool = { kernel_shape: [2, 2], strides: [2, 2] };
  let x = n.model.graph.input("x", "float32", ["batch", 1, 28, 28]);
  x = n.op("pool1", "MaxPool", [n.conv("conv1", x, [1, 20], { kernel: 5, bias: false })], pool);
  x = n.relu("relu1", n.batchNorm("bn1", x, 20));
  x = n.op("pool2", "MaxPool", [n.conv("conv2", x, [20, 50], { kernel: 5, bias: false })], pool);
  x = n.relu("relu2", n.batchNorm("bn2", x, 50));
  x = n.dense("fc1", n.op("flatten", "Flatten", [x]), [800, 500], "he", false);
  x = n.relu("relu3", n.batchNorm("bn3", x, 500));
  return n.done(n.dense("fc2", x, [500, 10], "glorot"), ["batch", 10]);
}

const runs: Record<string, (seed: number) => Promise<Record<string, number>>> = {
  async mlp(seed) {
    const { train, test } = await parts(seed);
    const start = performance.now();
    const model = mlp({ sizes: [784, 1024, 1024, 1024, 10], batchNorm: true, seed });
    const step = binary({ scaling: "none", epochs: 1, batchSize: 500, learningRate: 3e-3 });
    const bytes = await after(model, step, train, 14, seed);
    return {
      error: await error(bytes, test),
      bytes: bytes.length,
      floatBytes: writeModel(model).length,
      seconds: Math.round((performance.now() - start) / 1000),
    };
  },
  async ternary(seed) {
    const { train, held, test } = await parts(seed, true);
    const training = { epochs: 8, batchSize: 64, learningRate: 1e-3, jitter: 1, threads };
    const model = await trained(lenet5({ seed }), { train, held }, seed, training);
    const dense = writeModel(model);
    const step = binary({ weights: "ternary", epochs: 1, batchSize: 64, learningRate: 5e-4 });
    const bytes = await after(cloneModel(model), step, train, 8, seed + 100);
    const errors = { dense: await error(dense, test), error: await error(bytes, test) };
    return { ...errors, difference: round(errors.error - errors.dense), bytes: bytes.length, floatBytes: dense.length };
  },
  async xnor(seed) {
    const { train, test } = await parts(seed, true);
    const model = normalizedLenet5(seed);
    const step = binary({ activations: "binary", keep: "both", epochs: 1, batchSize: 128, learningRate: 3e-3 });
    const bytes = await after(model, step, train, 10, seed);
    return { error: await error(bytes, test), bytes: bytes.length, floatBytes: writeModel(model).length };
  },
};

const seeds = Array.from({ length: Number(values.seeds) }, (_, i) => i);
for (const name of positionals.length ? positionals : Object.keys(runs)) {
  const run = runs[name];
  if (!run) throw new Error(`no part "${name}"; there are ${Object.keys(runs).join(", ")}`);
  const results: Record<string, number>[] = [];
  for (const seed of seeds) {
    results.push(await run(seed));
    console.log(name, seed, JSON.stringify(results.at(-1)));
    const medians = Object.fromEntries(Object.keys(results[0]!).map((k) => [k, median(results.map((r) => r[k]!))]));
    record("binary", threads, name, { seeds: seeds.slice(0, results.length), median: medians, runs: results });
  }
}
