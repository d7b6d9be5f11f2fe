/** pith transformers: a model folder's session files in the dtypes that transformers.js loads. */
import { join } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { bytes } from "../report/format.ts";
import { table } from "../report/table.ts";
import { type ConvertOptions, convert, type Result } from "../transformers/convert.node.ts";
import { type Algorithm, algorithms, type Dtype, type DtypeName, defaultDtypes, differences, dtypes } from "../transformers/dtypes.ts";
import { readFolder } from "../transformers/folder.node.ts";
import { type DataOptions, dataFor, withData } from "./data.ts";
import { progressLine } from "./progress.ts";
import { dim, print } from "./terminal.ts";
import { amount, repeated, shape, whole } from "./usage.ts";

interface Options extends DataOptions {
  readonly dtypes: readonly DtypeName[];
  readonly output?: string;
  readonly force?: true;
  readonly perChannel?: boolean;
  readonly reduceRange?: boolean;
  readonly blockSize?: number;
  readonly symmetric: boolean;
  readonly algorithm: Algorithm;
  readonly calibration?: string;
  readonly accuracyLevel?: number;
  readonly quantType: 0 | 1;
  readonly embeddings?: true;
  readonly blockOps?: readonly string[];
  readonly compat?: true;
  readonly current?: true;
  readonly check: boolean;
  readonly leastAgreement?: number;
  readonly shape?: readonly (readonly [string, readonly number[]])[];
  readonly threads?: number;
  readonly json?: true;
  readonly quiet?: true;
}

const all = Object.keys(dtypes) as DtypeName[];

const command = new Command("transformers")
  .description("a model folder for transformers.js: writes onnx/<name><suffix>.onnx in each dtype, loaded and compared with the original")
  .argument("<folder>", "config.json, tokenizer files and onnx/<name>.onnx, as transformers.js has them")
  .option("--dtypes <names>", `of ${all.join(",")}`, dtypeList, defaultDtypes)
  .option("-o, --output <folder>", "where the results go, with a copy of the folder's other files (default: into the folder itself)")
  .option("--force", "replace files that are there")
  .option("--per-channel", "8 bits: a scale for each output channel (default: by the config's model_type, as the converter of version 3)")
  .option("--no-per-channel", "8 bits: one scale for each tensor")
  .option("--reduce-range", "8 bits: 7-bit weights (default: by model_type)")
  .option("--no-reduce-range", "8 bits: all 8 bits")
  .option("--block-size <columns>", "weights that share a scale (default: 32; bnb4: 64)", blockSize)
  .option("--no-symmetric", "4 bits and fewer: with zero points")
  .addOption(
    new Option("--algorithm <name>", "4 bits and fewer: how codes are found; all but rtn and hqq need --calibration")
      .choices(algorithms)
      .default("rtn"),
  )
  .option("--accuracy-level <level>", "4 bits and fewer: accuracy_level of MatMulNBits, 4 for 8-bit activations", whole(0))
  .option("--quant-type <type>", "bnb4: 0 FP4, 1 NF4", quantType, 1)
  .option("--embeddings", "4 bits and fewer: embedding tables too (default: those that the output layer shares)")
  .option("--block-ops <types>", "op types that stay as they are, e.g. Gather,Conv", (text: string) => text.split(","))
  .option("--compat", "as the converter of version 3 did, where pith does otherwise (below)")
  .option("--current", "for loaders on ONNX Runtime 1.30 and later only: no workarounds for older ones")
  .option("--no-check", "do not load the results and compare them with the original")
  .option("--least-agreement <number>", "refuse a result whose outputs agree less (default: by dtype)", amount(-1))
  .option("--shape <name=1x3x224x224>", "an input's shape, where it cannot be guessed (repeatable)", repeated(shape))
  .option("--threads <number>", "threads (default: all cores)", whole(1))
  .option("--json", "the results as JSON")
  .option("--quiet", "no progress")
  .addHelpText("after", () =>
    [
      "",
      "Dtypes:",
      ...all.map((d) => `  ${d.padEnd(6)} onnx/<name>${dtypes[d].suffix}.onnx`.padEnd(38) + dtypes[d].doc),
      "",
      "With --compat:",
      ...differences.map((d) => `  ${d}`),
    ].join("\n"),
  )
  .action(run);

withData(command, ["calibration"]);

export { command as transformersCommand };

function dtypeList(text: string): readonly DtypeName[] {
  const names = text.split(",").map((n) => n.trim());
  for (const n of names)
    if (!Object.hasOwn(dtypes, n)) throw new InvalidArgumentError(`there is no dtype "${n}"; there are ${all.join(", ")}.`);
  return [...new Set(names)] as DtypeName[];
}

function blockSize(text: string): number {
  const n = Number(text);
  if (!(n >= 16 && n <= 1024 && Number.isInteger(Math.log2(n)))) throw new InvalidArgumentError("16, 32, 64, … 1024 is needed.");
  return n;
}

function quantType(text: string): 0 | 1 {
  if (text !== "0" && text !== "1") throw new InvalidArgumentError("0 or 1 is needed.");
  return Number(text) as 0 | 1;
}

async function run(path: string, o: Options): Promise<void> {
  const folder = readFolder(path);
  const line = progressLine(process.stderr, o.quiet);
  const options: ConvertOptions = {
    dtypes: o.dtypes,
    perChannel: o.perChannel ?? null,
    reduceRange: o.reduceRange ?? null,
    blockSize: o.blockSize ?? null,
    symmetric: o.symmetric,
    algorithm: o.algorithm,
    ...(o.calibration === undefined
      ? {}
      : { calibration: (model) => dataFor(model, o.calibration, { tokenizer: join(path, "tokenizer.json"), ...o }) }),
    accuracyLevel: o.accuracyLevel ?? null,
    quantType: o.quantType,
    embeddings: o.embeddings ?? false,
    blockedOps: o.blockOps ?? [],
    compat: o.compat ?? false,
    current: o.current ?? false,
    check: o.check,
    ...(o.output === undefined ? {} : { output: o.output }),
    ...(o.force ? { force: true } : {}),
    ...(o.leastAgreement === undefined ? {} : { leastAgreement: o.leastAgreement }),
    ...(o.shape ? { shapes: Object.fromEntries(o.shape) } : {}),
    ...(o.threads ? { threads: o.threads } : {}),
    progress: (p) => line.show(p),
  };
  try {
    const { results, configured } = await convert(folder, options);
    line.clear();
    if (o.json) print(JSON.stringify(results, null, 2));
    else {
      print(tableOf(results));
      for (const [note, names] of gathered(results.flatMap((r) => r.notes.map((n) => [n, r.file.replace(/\.onnx$/, "")] as const))))
        print(dim(`${names.join(", ")}: ${note}`));
      const remarks = o.dtypes.flatMap((d) => {
        const { remark }: Dtype = dtypes[d];
        return remark && results.some((r) => r.dtype === d && r.error === null) ? [[remark, d] as const] : [];
      });
      for (const [remark, names] of gathered(remarks)) print(dim(`${names.join(", ")}: ${remark}`));
      if (configured) print(dim("config.json: its transformers.js_config now says which files have external data"));
    }
    const failed = results.filter((r) => r.error !== null);
    for (const why of new Set(failed.map((r) => r.error)))
      process.stderr.write(`pith: not written: ${failed.flatMap((r) => (r.error === why ? [r.file] : [])).join(", ")}: ${why}\n`);
    if (failed.length) process.exitCode = 1;
  } finally {
    line.clear();
  }
}

/** The names that each line is said of. */
function gathered(lines: readonly (readonly [line: string, name: string])[]): Map<string, string[]> {
  const out = new Map<string, string[]>();
  for (const [line, name] of lines) out.set(line, [...(out.get(line) ?? []), name]);
  return out;
}

function tableOf(results: readonly Result[]): string {
  const figure = (x: number | undefined, digits: number) => (x === undefined ? "" : x.toFixed(digits));
  const rows = results.map((r) => [
    r.file,
    r.dtype ?? "fp32",
    r.bytes === null ? "not written" : bytes(r.bytes),
    r.ratio === null || r.dtype === null ? "" : `${r.ratio.toFixed(2)}×`,
    figure(r.agreement?.cosine, 5),
    r.agreement ? `${figure(100 * r.agreement.relative, 2)} %` : r.dtype && r.error === null ? "not checked" : "",
  ]);
  return table(
    [
      { title: "file" },
      { title: "dtype" },
      { title: "bytes", align: "right" },
      { title: "smaller", align: "right" },
      { title: "cosine", align: "right" },
      { title: "error", align: "right" },
    ],
    rows,
  );
}
