/**
 * What GPTQ, AWQ, HQQ and AdaRound win over rounding to nearest: a small transformer trained here on text (the licences and READMEs of
 * installed packages), on text it has not seen, at 4 and 3 bits in blocks of 32: how far
 * its predictions move (Kullback-Leibler divergence) and its perplexity.
 *   npx tsx --conditions=source bench/weight-algorithms.ts
 * Writes bench/results/weight-algorithms.json. Needs the folder node_modules.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { fromArrays } from "../src/data/dataset.ts";
import type { Model } from "../src/ir/graph.ts";
import { transformer } from "../src/nets/transformer.ts";
import { compress } from "../src/recipe/compress.ts";
import { open } from "../src/runtime/session.ts";
import { weightOnly } from "../src/techniques/index.ts";
import { random } from "../src/tensor/random.ts";
import { numbersOf, tensor } from "../src/tensor/tensor.ts";
import { fit } from "../src/train/fit.ts";
import { crossEntropy } from "../src/train/loss.ts";
import { adam } from "../src/train/optimizer.ts";
import { cosine } from "../src/train/schedule.ts";

const seed = 0;
const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const length = 24;
const vocabulary = 97;

/** Printable ASCII and "anything else". */
const idOf = (c: number) => (c >= 32 && c < 127 ? c - 31 : 0);

/** Words of licences and READMEs, in the order of the packages' names. */
function corpus(): Uint8Array {
  const parts: string[] = [];
  for (const name of readdirSync(join(root, "node_modules")).sort()) {
    for (const file of ["LICENSE", "README.md"]) {
      const path = join(root, "node_modules", name, file);
      if (existsSync(path)) parts.push(readFileSync(path, "utf8").replace(/\s+/g, " ").slice(0, 6000));
    }
  }
  return Uint8Array.from(Buffer.from(parts.join(" ")), idOf);
}

/** Sequences of `length` characters whose next one is the label, from places drawn at random. */
function windows(text: Uint8Array, n: number, stream: string, from: number, to: number) {
  const r = random(seed, stream);
  const ids = new BigInt64Array(n * length);
  const labels = new BigInt64Array(n);
  for (let i = 0; i < n; i++) {
    const at = from + r.below(to - from - length - 1);
    for (let k = 0; k < length; k++) ids[i * length + k] = BigInt(text[at + k]!);
    labels[i] = BigInt(text[at + length]!);
  }
  return fromArrays({ ids: tensor("int64", [n, length], ids), labels: tensor("int64", [n], labels) });
}

/** Log-probabilities of every next character, [examples, vocabulary]. */
async function predictions(model: Model, data: ReturnType<typeof windows>): Promise<Float64Array> {
  const session = await open(model, { threads: 1, config: { "session.qdq_matmulnbits_accuracy_level": "0" } });
  const out = new Float64Array(data.length * vocabulary);
  for (let from = 0; from < data.length; from += 64) {
    const indices = Array.from({ length: Math.min(64, data.length - from) }, (_, i) => from + i);
    const logits = numbersOf(Object.values(await session.run({ ids: data.take(indices).ids! }))[0]!);
    for (let i = 0; i < indices.length; i++) {
      const row = Array.from(logits.subarray(i * vocabulary, (i + 1) * vocabulary));
      const top = Math.max(...row);
      const norm = top + Math.log(row.reduce((sum, v) => sum + Math.exp(v - top), 0));
      row.forEach((v, k) => {
        out[(from + i) * vocabulary + k] = v - norm;
      });
    }
  }
  await session.release();
  return out;
}

function perplexity(p: Float64Array, labels: ArrayLike<number>): number {
  let loss = 0;
  for (let i = 0; i < labels.length; i++) loss -= p[i * vocabulary + labels[i]!]!;
  return Math.exp(loss / labels.length);
}

/** Mean KL(p ‖ q): the gap without the chance of which characters came. */
function divergence(p: Float64Array, q: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < p.length; i++) sum += Math.exp(p[i]!) * (p[i]! - q[i]!);
  return (sum * vocabulary) / p.length;
}

const main = async () => {
  const start = performance.now();
  const text = corpus();
  const split = Math.floor(text.length * 0.9);
  const train = windows(text, 16000, "train", 0, split);
  const test = windows(text, 3000, "test", split, text.length);
  const calibration = windows(text, 512, "calibration", 0, split);
  const model = transformer({ layers: 2, width: 64, heads: 4, vocabulary, length, classes: vocabulary, seed });
  await fit(model, {
    data: train,
    loss: crossEntropy(),
    optimizer: adam({ learningRate: 2e-3 }),
    schedule: cosine(),
    epochs: 4,
    batchSize: 64,
    threads: 1,
    seed,
  });
  const labels = numbersOf(test.take(Array.from({ length: test.length }, (_, i) => i)).labels!);
  const original = await predictions(model, test);
  const base = perplexity(original, labels);
  console.log(`trained in ${((performance.now() - start) / 1000).toFixed(0)} s, perplexity ${base.toFixed(3)}`);
  const results: Record<string, Record<string, unknown>> = { int4: {}, int3: {} };
  const file = join(root, "bench/results/weight-algorithms.json");
  mkdirSync(dirname(file), { recursive: true });
  const machine = { cpu: cpus()[0]?.model, cores: cpus().length, node: process.version };
  const plain: Record<string, number> = {};
  for (const algorithm of ["rtn", "gptq", "awq", "hqq", "adaround"] as const) {
    for (const type of ["int4", "int3"] as const) {
      const began = performance.now();
      const step = weightOnly({ type, algorithm, maxError: 1e9 });
      const { model: small } = await compress(model, [step], { calibration, measure: null, threads: 1, seed });
      const seconds = (performance.now() - began) / 1000;
      const q = await predictions(small, test);
      const kl = divergence(original, q);
      plain[type] ??= kl;
      const closed = 1 - kl / plain[type];
      results[type]![algorithm] = { perplexity: perplexity(q, labels), divergence: kl, closed, seconds };
      console.log(
        `${type}, ${algorithm}: KL ${kl.toExponential(3)}, ${(100 * closed).toFixed(0)} % closed; perplexity ${perplexity(q, labels).toFixed(3)}; ${seconds.toFixed(1)} s`,
      );
      writeFileSync(file, `${JSON.stringify({ seed, machine, characters: text.length, perplexity: base, results }, null, 1)}\n`);
    }
  }
};
main();
