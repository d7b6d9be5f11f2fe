/** Steps applied to a model file: what the commands that change models share. */
import { basename } from "node:path";
import type { Command } from "commander";
import { named } from "../lint/finding.ts";
import { targetOf, targets } from "../lint/lint.ts";
import type { Metric } from "../measure/accuracy.ts";
import { fileBytes, load, save, writeBytes } from "../onnx/file.ts";
import type { SparseIndices } from "../onnx/sparse.ts";
import { compress } from "../recipe/compress.ts";
import { stepText } from "../recipe/recipe.ts";
import type { Run } from "../recipe/run.ts";
import { comparison } from "../report/comparison.ts";
import { bytes, seconds } from "../report/format.ts";
import { page } from "../report/page.ts";
import type { Step } from "../techniques/technique.ts";
import { measureApart } from "./apart.ts";
import { type DataOptions, dataFor, dataName, withData, withMetric } from "./data.ts";
import { checkOutput } from "./output.ts";
import { progressLine } from "./progress.ts";
import { dim, print } from "./terminal.ts";
import { amount, parser, repeated, shape, sparseOption, Usage, whole } from "./usage.ts";

export interface ApplyOptions extends DataOptions {
  readonly output?: string;
  readonly train?: string;
  readonly calibration?: string;
  readonly data?: string;
  readonly metric?: Metric;
  readonly maxDrop?: number;
  readonly seed?: number;
  readonly threads?: number;
  readonly shape?: readonly (readonly [string, readonly number[]])[];
  readonly report?: string;
  readonly json?: string;
  readonly measure: boolean;
  readonly apart?: true;
  readonly target?: string;
  readonly sparse?: SparseIndices;
  readonly quiet?: true;
}

/** Bytes of a model from which on it is measured apart. */
const large = 1e9;

/** Adds the options of {@link ApplyOptions}. */
export function withApply(command: Command): Command {
  command.option("-o, --output <file>", "where the result goes");
  return withMetric(withData(command, ["train", "calibration", "data"]))
    .option("--max-drop <points>", "write nothing if the metric loses more, on a fifth of the training examples held out", amount(0))
    .option("--seed <number>", "same input, steps, data and seed: same bytes (default: the recipe's, or 0)", whole(0))
    .option("--threads <number>", "threads to compress and measure with (default: all cores, and 1 for latency)", whole(1))
    .option(
      "--shape <name=1x3x48x320>",
      "an input's shape to measure and to choose widths by, where the model leaves it open and there is no data",
      repeated(shape),
    )
    .option(
      "--target <name>",
      `where the result is to run, for warnings about it: ${targets.join(", ")} (default: node)`,
      parser((text) => targetOf(text)),
    )
    .addOption(sparseOption())
    .option("--report <file>", "the result as an HTML page")
    .option("--json <file>", "the record of the run as JSON")
    .option("--no-measure", "do not measure the result")
    .option("--apart", "measure in a process of its own, without brotli (always so for models above 1 GB)")
    .option("--quiet", "no progress");
}

/** Applies the steps to the model at `path`, writes the result and prints what came of it. `inputs`: further files that must not be overwritten. */
export async function applySteps(
  command: string,
  path: string,
  steps: readonly Step[],
  options: ApplyOptions,
  inputs: readonly (string | undefined)[] = [],
): Promise<void> {
  const { output, threads } = options;
  if (output === undefined) throw new Usage(`${command} needs -o: where the result goes`);
  for (const out of [output, options.report, options.json])
    if (out !== undefined) checkOutput(out, [path, options.train, options.calibration, options.data, ...inputs]);
  const model = load(path);
  const apart = options.measure && (options.apart || fileBytes(path) > large);
  const line = progressLine(process.stderr, options.quiet);
  try {
    const { model: result, run: made } = await compress(model, steps, {
      train: await dataFor(model, options.train, options),
      calibration: await dataFor(model, options.calibration, options),
      data: await dataFor(model, options.data, options, "test"),
      maxDrop: options.maxDrop ?? null,
      ...(options.seed === undefined ? {} : { seed: options.seed }),
      ...(options.metric ? { metric: options.metric } : {}),
      ...(threads ? { threads } : {}),
      ...(options.target ? { target: options.target } : {}),
      ...(options.sparse ? { sparse: options.sparse } : {}),
      measure:
        options.measure && !apart
          ? {
              seconds: 1,
              concurrency: [1],
              ...(threads ? { threads } : {}),
              ...(options.shape ? { shape: Object.fromEntries(options.shape) } : {}),
            }
          : null,
      names: { model: basename(path), result: basename(output), ...(options.data ? { data: dataName(options.data) } : {}) },
      progress: line.show,
    });
    line.clear();
    save(result, output);
    let run = made;
    if (apart) {
      line.show({ what: "measuring, in a process of its own", step: 0, of: 1 });
      const { before, after, findings, unmeasured } = await measureApart(path, output);
      line.clear();
      run = { ...made, before, after, findings: [...made.findings, ...findings], unmeasured };
    }
    if (options.json) writeBytes(options.json, `${JSON.stringify(run, null, 2)}\n`);
    if (options.report) writeBytes(options.report, page([run]));
    print(record(run));
    const written = [`${output} (${bytes(fileBytes(output))})`, options.json, options.report].filter(Boolean);
    print(`\nwrote ${written.join(", ")}`);
  } finally {
    line.clear();
  }
}

/** What was done, and the table before and after. */
function record(run: Run): string {
  const lines = run.steps.flatMap((s, i) => {
    const { technique, ...params } = run.recipe.steps[i]!;
    return [
      `${stepText({ technique, params, apply: async () => {} })}  ${dim(seconds(s.seconds))}`,
      ...s.notes.map((note) => `  · ${note}`),
    ];
  });
  if (run.gate) {
    const { metric, before, after, n, maxDrop } = run.gate;
    lines.push(`gate: ${metric} ${before.toFixed(2)} → ${after.toFixed(2)} on ${n} validation examples; at most ${maxDrop} may be lost`);
  }
  for (const f of run.findings) lines.push(`${f.level}: ${f.what}${f.nodes.length ? ` (${named(f.nodes)})` : ""}  ${dim(f.basis)}`);
  if (run.unmeasured) lines.push("", `not measured: ${run.unmeasured}`);
  if (run.before.length)
    lines.push(
      "",
      comparison([
        { name: run.model.name, measured: run.before },
        { name: run.name, measured: run.after },
      ]),
    );
  return lines.join("\n");
}
