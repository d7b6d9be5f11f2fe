/** pith measure: models side by side. */
import { basename } from "node:path";
import { Command } from "commander";
import { host } from "#host";
import type { Model } from "../ir/graph.ts";
import type { Finding } from "../lint/finding.ts";
import type { Metric } from "../measure/accuracy.ts";
import { feedsFor, measureModels } from "../measure/measure.ts";
import { slowness } from "../measure/slowness.ts";
import { load } from "../onnx/file.ts";
import { comparison } from "../report/comparison.ts";
import { type DataOptions, dataFor, dataName, withData, withMetric } from "./data.ts";
import { progressLine } from "./progress.ts";
import { dim, print } from "./terminal.ts";
import { amount, repeated, shape, whole, wholes } from "./usage.ts";

interface Options extends DataOptions {
  readonly data?: string;
  readonly metric?: Metric;
  readonly fidelity?: true;
  readonly batch?: readonly number[];
  readonly concurrency: readonly number[];
  readonly threads: number;
  readonly seconds: number;
  readonly shape?: readonly (readonly [string, readonly number[]])[];
  readonly memory?: true;
  readonly brotli: boolean;
  readonly json?: true;
  readonly quiet?: true;
}

const command = new Command("measure")
  .description("models side by side: accuracy, or closeness to the first one; sizes; latency in alternating blocks; throughput")
  .argument("<models...>", "ONNX files; the first is what the others are compared with");
withMetric(withData(command, ["data"]))
  .option("--fidelity", "compare outputs with the first model's (default where there are no labels)")
  .option(
    "--shape <name=1x3x48x320>",
    "an input's shape, where the model leaves it open and there is no data (repeatable)",
    repeated(shape),
  )
  .option("--batch <sizes>", "batch sizes to time, e.g. 1,32", wholes(1))
  .option("--concurrency <numbers>", "simultaneous requests for throughput, e.g. 1,4", wholes(1), [1])
  .option("--threads <number>", "threads for latency", whole(1), 1)
  .option("--seconds <number>", "aimed at for each model and timed figure; 0: nothing is timed", amount(0), 2)
  .option("--no-brotli", "do not compress the files to see how small they get (about a second for 5 MB)")
  .option("--memory", "peak memory too, in a process of its own")
  .option("--json", "as JSON")
  .option("--quiet", "no progress")
  .action(run);

export { command as measureCommand };

async function run(paths: readonly string[], options: Options): Promise<void> {
  const models = paths.map((path) => ({ name: basename(path), path, model: load(path) }));
  const data = await dataFor(models[0]!.model, options.data, options, "test");
  const line = progressLine(process.stderr, options.quiet);
  try {
    const measured = await measureModels(models, {
      data,
      ...(options.metric ? { metric: options.metric } : {}),
      ...(options.fidelity ? { fidelity: true } : {}),
      ...(options.batch ? { batch: options.batch } : {}),
      ...(options.shape ? { shape: Object.fromEntries(options.shape) } : {}),
      ...(options.memory ? { memory: true } : {}),
      brotli: options.brotli,
      concurrency: options.concurrency,
      threads: options.threads,
      seconds: options.seconds,
      progress: (what, step, of) => line.show({ what: `measuring ${what}`, step, of }),
    });
    line.clear();
    const slow: Finding[][] = [];
    for (const [i, { model }] of models.entries()) {
      const on = { data, ...(options.shape ? { shape: Object.fromEntries(options.shape) } : {}) };
      const timed = (m: Model) => ({ model: m, feeds: feedsFor(m, on, options.batch?.[0] ?? null) });
      slow.push(i === 0 ? [] : await slowness(timed(models[0]!.model), timed(model), measured[i]!, { threads: options.threads }));
    }
    line.clear();
    const rows = models.map(({ name }, i) => ({ name, measured: measured[i]! }));
    if (options.json) {
      const on = data && options.data ? { name: dataName(options.data), length: data.length } : null;
      const reported = rows.map((r, i) => ({ ...r, findings: slow[i]! }));
      return print(JSON.stringify({ machine: host.machine(), data: on, models: reported }, null, 2));
    }
    const { processor, runtime } = host.machine();
    print(comparison(rows));
    for (const [i, findings] of slow.entries()) for (const f of findings) print(`\n${rows[i]!.name} is ${f.what}`);
    print(
      dim(
        `\n${[data ? `${data.length} examples` : "random inputs", `${options.threads} ${options.threads === 1 ? "thread" : "threads"}`, processor, runtime].join(" · ")}`,
      ),
    );
  } finally {
    line.clear();
  }
}
