/** One net, every family of compression, one table: `npm run demo [folder]`. Nothing is downloaded; about a minute on two cores. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  accuracy,
  adam,
  cloneModel,
  comparison,
  compress,
  crossEntropy,
  type Dataset,
  distill,
  evaluate,
  fit,
  int8,
  lenet300,
  lora,
  type Model,
  magnitude,
  measureModels,
  mlp,
  type Progress,
  page,
  parseSchedule,
  progressText,
  type Run,
  type Step,
  save,
  split,
  svd,
} from "pith";
import { digits, inverted } from "./digits.ts";

const folder = process.argv[2] ?? "demo-output";
const seed = 0;
const started = performance.now();
mkdirSync(folder, { recursive: true });

// 1 · Train LeNet-300-100 (LeCun et al. 1998) on 8,000 digits; the epoch is chosen on a tenth of them.
const { train, test } = digits();
const base = lenet300({ seed });
await training(base, train, 12, "training lenet-300-100");
const names = { model: "lenet-300-100.onnx", data: "digits" };
await said(names.model, base, test);

// 2 · Compress it once by each family.
const small = mlp({ sizes: [784, 48, 10], seed });
const prune = magnitude({ sparsity: 0.9, schedule: "cubic", epochs: 8 });
const recipes: Record<string, readonly Step[]> = {
  "int8-dynamic.onnx": [int8()],
  "int8-static.onnx": [int8({ mode: "static" })],
  "magnitude-90.onnx": [prune],
  "svd.onnx": [svd({ budget: 0.35 })],
  "student.onnx": [distill({ student: "a net of 48 units", temperature: 4, alpha: 0.7, epochs: 20, learningRate: 3e-3, scratch: true })],
  "magnitude-90-int8.onnx": [prune, int8({ mode: "static" })],
};
const results: { model: Model; run: Run }[] = [];
for (const [name, steps] of Object.entries(recipes)) {
  const load = async () => cloneModel(small);
  const result = await compress(base, steps, { train, data: test, seed, measure: null, load, names: { ...names, result: name }, progress });
  results.push(result);
  await said(name, result.model, test);
}

// 3 · Adapt it to a task it has not seen, light digits turned dark: with LoRA, and with all weights for comparison.
const [shiftedTrain, shiftedTest] = [inverted(train), inverted(test)];
const adapted = await compress(base, [lora({ rank: 8, epochs: 12 })], {
  train: shiftedTrain,
  data: shiftedTest,
  seed,
  measure: null,
  names: { model: names.model, result: "lora-inverted.onnx", data: "inverted digits" },
  progress,
});
await said("lora-inverted.onnx", adapted.model, shiftedTest);
const tuned = cloneModel(base);
await training(tuned, shiftedTrain, 12, "fine-tuning all weights");
await said("fine-tuned-inverted.onnx", tuned, shiftedTest);

// 4 · Measure all side by side and write everything down.
const runs = [
  ...(await measured(results, test)),
  ...(await measured(
    [adapted, { model: tuned, run: { ...adapted.run, name: "fine-tuned-inverted.onnx", steps: [], recipe: { seed, steps: [] } } }],
    shiftedTest,
  )),
];
writeFileSync(join(folder, "runs.json"), `${JSON.stringify(runs, null, 2)}\n`);
writeFileSync(join(folder, "index.html"), page(runs));
print(`\n${folder}: the models, runs.json and index.html (open it), after ${((performance.now() - started) / 1000).toFixed(0)} s`);

/** Trains on nine tenths and keeps the epoch that does best on the last. */
async function training(model: Model, data: Dataset, epochs: number, what: string): Promise<void> {
  const parts = split(data, { fraction: 0.1, seed });
  await fit(model, {
    data: parts.train,
    validation: parts.held,
    keepBest: true,
    loss: crossEntropy(),
    optimizer: adam({ learningRate: 1e-3 }),
    schedule: parseSchedule("cosine"),
    epochs,
    batchSize: 64,
    seed,
    progress: (p) => progress({ ...p, what }),
  });
}

/** Measures the results beside the model they came from, prints the table and saves the models. */
async function measured(of: readonly { model: Model; run: Run }[], data: Dataset): Promise<Run[]> {
  const models = [{ name: names.model, model: base }, ...of.map(({ model, run }) => ({ name: run.name, model }))];
  const figures = await measureModels(models, {
    data,
    seconds: 1,
    concurrency: [1],
    progress: (what, step, of) => progress({ what: `measuring ${what}`, step, of }),
  });
  for (const { name, model } of models) save(model, join(folder, name));
  print(`\nOn ${data.length} ${of[0]!.run.data!.name}:`);
  print(comparison(models.map(({ name }, i) => ({ name, measured: figures[i]! }))));
  return of.map(({ run }, i) => ({ ...run, before: figures[0]!, after: figures[i + 1]! }));
}

/** A first word on a result, as soon as it is there. */
async function said(name: string, model: Model, data: Dataset): Promise<void> {
  const { value, interval } = (await evaluate(model, data, accuracy(), { batchSize: 500 })).measurement;
  print(`${name.padEnd(26)} ${value.toFixed(2)} % (${interval!.map((x) => x.toFixed(2)).join("–")})`);
}

/** One line that is rewritten on a terminal; elsewhere one a second at most. */
function progress(p: Progress): void {
  const now = performance.now();
  if (now - (progress.last ?? 0) < (process.stderr.isTTY ? 80 : 1000)) return;
  progress.last = now;
  process.stderr.write(
    process.stderr.isTTY ? `\r\u001b[K${progressText(p).slice(0, (process.stderr.columns || 80) - 1)}` : `${progressText(p)}\n`,
  );
}
progress.last = 0;

function print(text: string): void {
  if (process.stderr.isTTY) process.stderr.write("\r\u001b[K");
  console.log(text);
}
