/** pith lora: adapters in PEFT's files, trained and merged. */
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { Command } from "commander";
import { cloneModel, type Model } from "../ir/graph.ts";
import { measureModels } from "../measure/measure.ts";
import { fileBytes, load, save } from "../onnx/file.ts";
import { contextOf } from "../recipe/compress.ts";
import { comparison } from "../report/comparison.ts";
import { bytes } from "../report/format.ts";
import { lora } from "../techniques/index.ts";
import { merge } from "../techniques/lora/adapter.ts";
import { type LoraParams, trainAdapter } from "../techniques/lora/lora.ts";
import { configFile, readPeft, weightsFile, writePeft } from "../techniques/lora/peft.ts";
import type { Technique } from "../techniques/technique.ts";
import { Fault } from "../tensor/fault.ts";
import { type DataOptions, dataFor, withData } from "./data.ts";
import { checkOutput, writeBytes } from "./output.ts";
import { stepOf, withParams } from "./params.ts";
import { progressLine } from "./progress.ts";
import { print } from "./terminal.ts";
import { Usage, whole } from "./usage.ts";

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

const mergeCommand = new Command("merge")
  .description("folds an adapter into the weights: the same file, adapted")
  .argument("<base>", "an ONNX file")
  .argument("<adapter>", `a folder with ${configFile} and ${weightsFile}, from here or from PEFT`)
  .option("-o, --output <file>", "where the result goes")
  .action(runMerge);

export const loraCommand = new Command("lora").description("low-rank adapters").addCommand(train).addCommand(mergeCommand);

async function runTrain(path: string, options: TrainOptions): Promise<void> {
  const { output, seed, threads } = options;
  if (output === undefined) throw new Usage("lora train needs -o: the adapter's folder");
  if (options.train === undefined) throw new Usage("lora train needs --train: the examples");
  const [config, weights] = [join(output, configFile), join(output, weightsFile)];
  for (const file of [config, weights]) checkOutput(file, [path, options.train, options.data]);
  const model = load(path);
  const examples = dataFor(model, options.train, options);
  const data = dataFor(model, options.data, options, "test");
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

function runMerge(path: string, folder: string, options: { readonly output?: string }): void {
  const { output } = options;
  if (output === undefined) throw new Usage("lora merge needs -o: where the result goes");
  const files = [join(folder, configFile), join(folder, weightsFile)] as const;
  checkOutput(output, [path, ...files]);
  const [config, weights] = files.map((file) => {
    try {
      return readFileSync(file);
    } catch (e) {
      throw new Fault(folder, `holds no ${basename(file)} that can be read; a PEFT adapter's folder was expected`, { cause: e });
    }
  });
  const model = load(path);
  for (const text of merge(model, readPeft(config!.toString("utf8"), weights!, folder))) print(`· ${text}`);
  save(model, output);
  print(`wrote ${output} (${bytes(fileBytes(output))})`);
}

async function scores(data: NonNullable<ReturnType<typeof dataFor>>, models: Readonly<Record<string, Model>>): Promise<string> {
  const all = Object.entries(models).map(([name, model]) => ({ name, model }));
  const measured = await measureModels(all, { data, seconds: 0, brotli: false });
  return comparison(all.map(({ name }, i) => ({ name, measured: measured[i]! })));
}
