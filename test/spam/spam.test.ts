import { cpSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { env, ModelRegistry, pipeline } from "@huggingface/transformers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openData } from "../../src/data/open.node.ts";
import { load } from "../../src/onnx/file.ts";
import { type Converted, type ConvertOptions, convert } from "../../src/transformers/convert.node.ts";
import { type DtypeName, dtypes } from "../../src/transformers/dtypes.ts";
import { readFolder } from "../../src/transformers/folder.node.ts";
import { executablePath, skipped } from "../browser/chromium.ts";
import { type Answer, openPage, type Page } from "./page.ts";
import { texts } from "./texts.ts";

const names = Object.keys(dtypes) as DtypeName[];
const models = mkdtempSync(join(tmpdir(), "pith-"));
const mails = texts.map((t) => t.text);
const labels = texts.map((t) => t.label);

/** How far the score of a mail may be from the original's. */
const tolerance = (dtype: DtypeName) => (/q2|q1/.test(dtype) ? 0.5 : 0.02);

const options: ConvertOptions = { dtypes: names, threads: 1 };

let converted: Converted;
let original: readonly Answer[];

beforeAll(async () => {
  cpSync(join(import.meta.dirname, "../fixtures/spam"), join(models, "spam"), { recursive: true });
  converted = await convert(readFolder(join(models, "spam")), options);
  cpSync(join(import.meta.dirname, "../fixtures/spam"), join(models, "pieces"), { recursive: true });
  await convert(readFolder(join(models, "pieces")), { ...options, dtypes: ["q4"], external: "always", chunkBytes: 40_000 });
  env.allowRemoteModels = false;
  env.localModelPath = models;
  original = await classify("fp32");
}, 120_000);

async function classify(dtype: string, model = "spam"): Promise<readonly Answer[]> {
  const run = await pipeline("text-classification", model, { dtype: dtype as "fp32", session_options: { intraOpNumThreads: 1 } });
  const answers = (await run(mails)) as Answer[];
  await run.dispose();
  return answers;
}

const expectClose = (answers: readonly Answer[], dtype: DtypeName) => {
  expect(answers.map((a) => a.label)).toEqual(labels);
  answers.forEach((a, i) => {
    expect(Math.abs(a.score - original[i]!.score), mails[i]).toBeLessThanOrEqual(tolerance(dtype));
  });
};

describe("the spam classifier in the pipeline of transformers.js", () => {
  test("every dtype was written, is smaller and agrees with the original", () => {
    expect(converted.results.filter((r) => r.error)).toEqual([]);
    for (const r of converted.results) {
      if (!r.dtype) continue;
      expect(r.agreement!.score, r.file).toBeGreaterThanOrEqual(dtypes[r.dtype].agreement);
      expect(r.ratio, r.file).toBeGreaterThan(1.2);
    }
  });

  test("the loader sees every dtype", async () => {
    expect((await ModelRegistry.get_available_dtypes("spam")).sort()).toEqual(["fp32", ...names].sort());
  });

  test("the original tells the mails apart", () => {
    expect(original.map((a) => a.label)).toEqual(labels);
  });

  test.each(names)("%s in Node: the same labels, close scores", async (dtype) => {
    expectClose(await classify(dtype), dtype);
  });

  test("weights in several files of external data, in Node", async () => {
    expect(readdirSync(join(models, "pieces/onnx")).filter((f) => f.startsWith("model_q4.onnx_data")).length).toBeGreaterThan(2);
    expect(await classify("q4", "pieces")).toEqual(await classify("q4"));
  });

  describe.skipIf(!executablePath)(`in Chromium${skipped}`, () => {
    let page: Page;
    beforeAll(async () => {
      page = await openPage(models);
    }, 120_000);
    afterAll(() => page?.close());

    // What differs in q2f16 and q1f16 is in q4f16, q2 and q1.
    test.each(["fp32", ...names.filter((n) => !/q[12]f16/.test(n))])("%s in Chromium: the same labels, close scores", async (dtype) => {
      expectClose(await page.classify("spam", dtype, mails), dtype as DtypeName);
    });

    test("weights in several files of external data, which config.json declares", async () => {
      expect(await page.classify("pieces", "q4", mails)).toEqual(await page.classify("spam", "q4", mails));
    });
  });
});

test("on mails, read with the folder's own tokenizer, GPTQ finds 2-bit codes that agree better than the nearest ones", async () => {
  cpSync(join(import.meta.dirname, "../fixtures/spam"), join(models, "gptq"), { recursive: true });
  const data = join(models, "mails.jsonl");
  writeFileSync(data, mails.map((text) => JSON.stringify({ text })).join("\n"));
  const { results } = await convert(readFolder(join(models, "gptq")), {
    ...options,
    dtypes: ["q2"],
    algorithm: "gptq",
    calibration: () => openData(data, { tokenizer: join(models, "gptq/tokenizer.json") }),
  });
  const nearest = converted.results.find((r) => r.dtype === "q2")!;
  expect(results[1]!.error).toBeNull();
  expect(results[1]!.bytes).toBe(nearest.bytes);
  expect(results[1]!.agreement!.relative).toBeLessThan(0.5 * nearest.agreement!.relative);
  const without = await convert(readFolder(join(models, "gptq")), { ...options, dtypes: ["q4"], algorithm: "gptq" });
  expect(without.results[1]!.error).toMatch(/needs calibration data/);
}, 120_000);

test("the initializers have the names of ONNX Runtime's quantizer", () => {
  const held = (file: string) => [...load(join(models, "spam/onnx", file)).graph.initializers].map((v) => v.name);
  const weight = "bert.encoder.layer.0.attention.self.query.weight";
  for (const file of ["model_quantized.onnx", "model_int8.onnx", "model_uint8.onnx"])
    expect(held(file)).toEqual(expect.arrayContaining([`${weight}_quantized`, `${weight}_scale`, `${weight}_zero_point`]));
  expect(held("model_q4.onnx")).toEqual(expect.arrayContaining([`${weight}_Q4`, `${weight}_scales`]));
  expect(held("model_q4.onnx")).not.toContain(`${weight}_zero_points`);
  expect(held("model_bnb4.onnx")).toEqual(expect.arrayContaining([`${weight}_Bnb4`, `${weight}_absmax`]));
  const nodes = [...load(join(models, "spam/onnx/model_q4.onnx")).graph.nodes].filter((n) => n.opType === "MatMulNBits");
  expect(nodes.map((n) => n.name)).toContain("/bert/encoder/layer/0/attention/self/query/MatMul_Q4");
  expect(nodes.map((n) => [n.int("bits"), n.int("block_size")])).toEqual(nodes.map(() => [4, 32]));
});

test("quantize_config.json has the keys that the converter wrote", () => {
  expect(JSON.parse(readFileSync(join(models, "spam/quantize_config.json"), "utf8"))).toEqual({
    modes: names,
    per_channel: true,
    reduce_range: true,
    block_size: null,
    is_symmetric: true,
    accuracy_level: null,
    quant_type: 1,
    op_block_list: null,
  });
});
