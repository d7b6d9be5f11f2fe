/**
 * LeNet-5 on the full MNIST, in 4 and in 2 bits: rounded after training, and trained rounded (qat). Every layer has the bits stated, the
 * first and the last too. Dense nets are trained as bench/mnist.ts does; epochs are chosen on 5,000 held-out training digits, the test
 * digits only score. `MNIST_DIR=folder npx tsx --conditions=source bench/qat.ts [--seeds 3] [--threads 1] [--nets folder] [part …]` writes
 * bench/results/qat.json; --nets keeps the dense nets for the next run; parts: w4a4, w2a8.
 */
import { parseArgs } from "node:util";
import { lenet5 } from "../src/nets/lenet5.ts";
import { writeModel } from "../src/onnx/write.ts";
import { compress } from "../src/recipe/compress.ts";
import { qat } from "../src/techniques/index.ts";
import { digits, error, holdOut, kept, median, parts, record, trained } from "./digits.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seeds: { type: "string", default: "3" }, threads: { type: "string", default: "1" }, nets: { type: "string" } },
});
const threads = Number(values.threads);
const [full, test] = [await digits("train", true), await digits("test", true)];

/** LeNet-5 as bench/mnist.ts trains it: 12 epochs, every digit moved anew each epoch by up to one pixel. */
const dense = (seed: number) =>
  kept(values.nets, `lenet5-${seed}`, async () =>
    trained(lenet5({ seed }), await parts(seed, true), seed, { epochs: 12, batchSize: 64, learningRate: 1e-3, jitter: 1, threads }),
  );

const widths = {
  w4a4: { weightBits: 4, activationBits: 4, endBits: 4 },
  w2a8: { weightBits: 2, activationBits: 8, endBits: 2 },
} as const;
const training = { epochs: 2, batchSize: 64, learningRate: 5e-4, holdOut, loss: "teacher" } as const;

const seeds = Array.from({ length: Number(values.seeds) }, (_, i) => i);
for (const name of (positionals.length ? positionals : Object.keys(widths)) as (keyof typeof widths)[]) {
  const bits = widths[name];
  if (!bits) throw new Error(`no part "${name}"; there are ${Object.keys(widths).join(", ")}`);
  const start = performance.now();
  const errors: Record<"dense" | "rounded" | "trained", number[]> = { dense: [], rounded: [], trained: [] };
  let bytes = 0;
  for (const seed of seeds) {
    const net = await dense(seed);
    const run = async (more: object) =>
      (await compress(net, [qat({ ...bits, ...more })], { train: full, calibration: full, seed, threads, measure: null })).model;
    errors.dense.push(await error(net, test, threads));
    errors.rounded.push(await error(await run({ epochs: 0 }), test, threads));
    const tuned = await run(training);
    errors.trained.push(await error(tuned, test, threads));
    bytes = writeModel(tuned).length;
    console.log(
      name,
      seed,
      errors.dense.at(-1),
      errors.rounded.at(-1),
      errors.trained.at(-1),
      Math.round((performance.now() - start) / 1000),
    );
  }
  const result = {
    ...bits,
    training,
    errors,
    median: { dense: median(errors.dense), rounded: median(errors.rounded), trained: median(errors.trained) },
    bytes: { dense: writeModel(await dense(0)).length, trained: bytes },
  };
  console.log(name, JSON.stringify(result));
  record("qat", threads, name, { ...result, seeds, seconds: Math.round((performance.now() - start) / 1000) });
}
