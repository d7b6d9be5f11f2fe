import { expect, test } from "vitest";
import { subset } from "../src/data/dataset.ts";
import { evaluate } from "../src/measure/accuracy.ts";
import { characterError, ctcGreedy } from "../src/measure/ctc.ts";
import { predict } from "../src/measure/predict.ts";
import { load } from "../src/onnx/file.ts";
import { characters, lines, recognizer } from "./ocr.ts";

test("a real recognizer reads rendered lines", async () => {
  const model = load(recognizer);
  const { measurement } = await evaluate(model, lines(), characterError(), { batchSize: 8 });
  expect(measurement.n).toBe(40);
  expect(measurement.value).toBeLessThan(2.5);
  for await (const { outputs } of predict(model, subset(lines(), [0]))) {
    expect(ctcGreedy(outputs[0]!).map((l) => l.map((c) => characters[c]).join(""))).toEqual(["The quick brown fox"]);
  }
});
