import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { numbersOf } from "../tensor/tensor.ts";
import { openData } from "./open.node.ts";

// A hand-made WordPiece tokenizer in BERT's shape: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, a 4, good 5, bad 6, film 7, ##s 8, not 9.
const tokenizer = join(import.meta.dirname, "../../test/reference/fixtures/tokenizer/tokenizer.json");
const folder = mkdtempSync(join(tmpdir(), "pith-"));
const file = (name: string, ...lines: unknown[]) => {
  const path = join(folder, name);
  writeFileSync(path, lines.map((l) => (typeof l === "string" ? l : JSON.stringify(l))).join("\n"));
  return path;
};
const opened = async (path: string, options = {}) => {
  const d = await openData(path, { tokenizer, ...options });
  const batch = d.take(Array.from({ length: d.length }, (_, i) => i));
  return Object.fromEntries(
    Object.entries(batch).map(([name, t]) => {
      expect([name, t.dtype]).toEqual([name, name === "labels" && t.dtype === "float32" ? "float32" : "int64"]);
      const width = t.shape[1] ?? t.shape[0]!;
      const all = Array.from(numbersOf(t));
      return [name, t.shape.length === 1 ? all : Array.from({ length: t.shape[0]! }, (_, i) => all.slice(i * width, (i + 1) * width))];
    }),
  );
};

const reviews = file("reviews.jsonl", { text: "A good films zzz", label: 1 }, "", { text: "bad", label: 0 });

test("texts become numbers, padded to the longest, or cut and padded to a length", async () => {
  expect(await opened(reviews)).toEqual({
    input_ids: [
      [2, 4, 5, 7, 8, 1, 3],
      [2, 6, 3, 0, 0, 0, 0],
    ],
    attention_mask: [
      [1, 1, 1, 1, 1, 1, 1],
      [1, 1, 1, 0, 0, 0, 0],
    ],
    token_type_ids: [
      [0, 0, 0, 0, 0, 0, 0],
      [0, 0, 0, 0, 0, 0, 0],
    ],
    labels: [1, 0],
  });
  // Cutting never takes the special tokens.
  expect((await opened(reviews, { length: 4 })).input_ids).toEqual([
    [2, 4, 5, 3],
    [2, 6, 3, 0],
  ]);
});

test("pairs: the longer text is cut first, the second has type 1", async () => {
  const pairs = file(
    "pairs.jsonl",
    { text: "a good film", text_pair: "not bad", label: "yes" },
    { text: "bad", text_pair: "good", label: "no" },
  );
  const whole = await opened(pairs);
  expect([whole.input_ids![0], whole.token_type_ids![0], whole.labels]).toEqual([
    [2, 4, 5, 7, 3, 9, 6, 3],
    [0, 0, 0, 0, 0, 1, 1, 1],
    [1, 0],
  ]);
  const cut = await opened(pairs, { length: 6, classes: ["yes", "no"] });
  expect([cut.input_ids![0], cut.token_type_ids![0], cut.labels]).toEqual([
    [2, 4, 5, 3, 9, 3],
    [0, 0, 0, 0, 1, 1],
    [0, 1],
  ]);
  // Seven hold all of the shorter one.
  expect((await opened(pairs, { length: 7 })).input_ids![0]).toEqual([2, 4, 5, 3, 9, 6, 3]);
  await expect(opened(pairs, { length: 2 })).rejects.toThrow("a length of 2 is too short for the special tokens alone");
});

test("labels that are not whole are float32; none are none", async () => {
  const scores = file("scores.jsonl", { text: "a", label: 1 }, { text: "bad", labels: 0.5 });
  expect((await opened(scores)).labels).toEqual([1, 0.5]);
  expect(Object.keys(await opened(file("bare.jsonl", { text: "a" })))).toEqual(["input_ids", "attention_mask", "token_type_ids"]);
});

test("what is wrong is told by its line", async () => {
  const wrong = (...lines: unknown[]) => expect(opened(file("wrong.jsonl", ...lines))).rejects;
  await wrong({ text: "a" }, "{").toThrow(/wrong\.jsonl:2: is not JSON; a line like/);
  await wrong("null").toThrow('wrong.jsonl:1: "text" must be a string; got undefined');
  await wrong({ text: 1 }).toThrow('wrong.jsonl:1: "text" must be a string; got 1');
  await wrong({ text: "a", text_pair: 1 }).toThrow('"text_pair" must be a string; got 1');
  await wrong({ text: "a", label: [1] }).toThrow('"label" must be a number or a class name; got [1]');
  await wrong({ text: "a", label: 1 }, { text: "a" }).toThrow("wrong.jsonl:2: its label must be like the first line's, 1; got null");
  await wrong("").toThrow("holds no lines");
  await expect(openData(reviews)).rejects.toThrow("reviews.jsonl: needs a tokenizer to become numbers");
  const model = file("model.json", { a: 1 });
  await expect(openData(reviews, { tokenizer: model })).rejects.toThrow(/model\.json: is no tokenizer: [^\n]+$/);
  await expect(openData(reviews, { tokenizer: reviews })).rejects.toThrow("reviews.jsonl: is not JSON");
});
