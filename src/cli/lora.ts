/** pith lora: adapters in PEFT's files, trained, merged and unmerged. */
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { Command } from "commander";
import { cloneModel, type Model } from "../ir/graph.ts";
import { measureModels } from "../measure/measure.ts";
import { fileBytes, load, save, writeBytes } from "../onnx/file.ts";
import { contextOf } from "../recipe/compress.ts";
import { comparison } from "../report/comparison.ts";
import { bytes } from "../report/format.ts";
import { lora } from "../techniques/index.ts";
import { type Adapter, merge, scaled, unmerge } from "../techniques/lora/adapter.ts";
import { type LoraParams, trainAdapter } from "../techniques/lora/lora.ts";
import { configFile, readPeft, weightsFile, writePeft } from "../techniques/lora/peft.ts";
import type { Technique } from "../techniques/technique.ts";
import { Fault } from "../tensor/fault.ts";
import { type DataOptions, dataFor, withData } from "./data.ts";
import { checkOutput } from "./output.ts";
import { stepOf, withParams } from "./params.ts";
import { progressLine } from "./progress.ts";
import { print } from "./terminal.ts";
import { parser, Usage, whole } from "./usage.ts";

interface TrainOptions extends DataOptions, Readonly<Record<string, unknown>> {
  readonly output?: string;
  readonly train?: string;
  readonly data?: string;
  readonly seed: number;
  readonly threads?: number;
  readonly quiet?: true;
}

const technique = lora as unknown as Technique;

const train = new Command("train")
  .description("trains an adapter; the model itself stays as it is")
  .argument("<base>", "an ONNX file")
  .option("-o, --output <folder>", `where ${configFile} and ${weightsFile} go`);
withData(withParams(train, technique, ["merge"]), ["train", "data"])
  .option("--seed <number>", "start of the adapter and order of the examples follow from it", whole(0), 0)
  .option("--threads <number>", "threads to train with (default: all cores)", whole(1))
  .option("--quiet", "no progress")
  .action(runTrain);

interface FoldOptions {
  readonly output?: string;
  readonly weights?: readonly number[];
}

/** merge and unmerge differ in a sign. */
function foldCommand(name: "merge" | "unmerge", description: string, model: string, fold: typeof merge): Command {
  return new Command(name)
    .description(description)
    .argument(model, "an ONNX file")
    .argument("<adapter...>", `folders with ${configFile} and ${weightsFile}, from here or from PEFT`)
    .option("-o, --output <file>", "where the result goes")
    .option("--weights <numbers>", "how much each adapter counts, e.g. 0.7,0.3 (default: 1 each)", parser(numbers))
    .action((path: string, folders: readonly string[], options: FoldOptions) => runFold(name, fold, path, folders, options));
}

function numbers(text: string): readonly number[] {
  const all = text.split(",").map((x) => (x.trim() ? Number(x) : Number.NaN));
  if (!all.every(Number.isFinite)) throw new Fault("weights", `must be numbers with commas between them; got ${JSON.stringify(text)}`);
  return all;
}

export const loraCommand = new Command("lora")
  .description("low-rank adapters")
  .addCommand(train)
  .addCommand(foldCommand("merge", "folds adapters into the weights: the same file, adapted", "<base>", merge))
  .addCommand(
    foldCommand(
      "unmerge",
      "takes merged adapters out of the weights again (give the weights they were merged with): the base, exact up to float rounding; a tied weight that merging split stays split",
      "<merged>",
      unmerge,
    ),
  );

async function runTrain(path: string, options: TrainOptions): Promise<void> {
  const { output, seed, threads } = options;
  if (output === undefined) throw new Usage("lora train needs -o: the adapter's folder");
  if (options.train === undefined) throw new Usage("lora train needs --train: the examples");
  const [config, weights] = [join(output, configFile), join(output, weightsFile)];
  for (const file of [config, weights]) checkOutput(file, [path, options.train, options.data]);
  const model = load(path);
  const examples = await dataFor(model, options.train, options);
  const data = await dataFor(model, options.data, options, "test");
  const line = progressLine(process.stderr, options.quiet);
  try {
    const notes: string[] = [];
    const context = contextOf(model, {
      train: examples,
      seed,
      ...(threads ? { threads } : {}),
      progress: line.show,
      note: (text) => {
        notes.push(text);
      },
    });
    const params = stepOf(technique, options).params as unknown as LoraParams;
    const { adapter } = await trainAdapter(cloneModel(model), params, context);
    line.clear();
    const files = writePeft(adapter, basename(path));
    writeBytes(config, files.config);
    writeBytes(weights, files.weights);
    for (const text of notes) print(`· ${text}`);
    if (data) {
      const merged = cloneModel(model);
      merge(merged, adapter);
      print(`\n${await scores(data, { [basename(path)]: model, "with the adapter": merged })}`);
    }
    print(`\nwrote ${config}, ${weights} (${bytes(files.weights.byteLength)})`);
  } finally {
    line.clear();
  }
}

function runFold(name: string, fold: typeof merge, path: string, folders: readonly string[], options: FoldOptions): void {
  const { output, weights = folders.map(() => 1) } = options;
  if (output === undefined) throw new Usage(`lora ${name} needs -o: where the result goes`);
  if (weights.length !== folders.length) throw new Usage(`--weights needs a number for each of ${folders.length} adapters; got ${weights}`);
  checkOutput(output, [path, ...folders.flatMap((f) => [join(f, configFile), join(f, weightsFile)])]);
  const adapters = folders.map((folder, i) => scaled(openAdapter(folder), weights[i]!));
  const model = load(path);
  for (const adapter of adapters) for (const text of fold(model, adapter)) print(`· ${text}`);
  save(model, output);
  print(`wrote ${output} (${bytes(fileBytes(output))})`);
}

function openAdapter(folder: string): Adapter {
  const [config, weights] = [configFile, weightsFile].map((file) => {
    try {
      return readFileSync(join(folder, file));
    } catch (e) {
      throw new Fault(folder, `holds no ${file} that can be read; a PEFT adapter's folder was expected`, { cause: e });
    }
  });
  return readPeft(config!.toString("utf8"), weights!, folder);
}

async function scores(data: NonNullable<Awaited<ReturnType<typeof dataFor>>>, models: Readonly<Record<string, Model>>): Promise<string> {
  const all = Object.entries(models).map(([name, model]) => ({ name, model }));
  const measured = await measureModels(all, { data, seconds: 0, brotli: false });
  return comparison(all.map(({ name }, i) => ({ name, measured: measured[i]! })));
}
