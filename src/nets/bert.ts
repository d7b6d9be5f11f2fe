/** BERT encoders for classification, with the inputs that tokenizers and loaders of such models use. */
import { float, type Model, type Value } from "../ir/graph.ts";
import { Fault } from "../tensor/fault.ts";
import { tensor } from "../tensor/tensor.ts";
import { net } from "./net.ts";

export interface BertOptions {
  readonly vocabulary: number;
  /** Most positions. */
  readonly length: number;
  readonly classes: number;
  readonly layers?: number;
  readonly width?: number;
  readonly heads?: number;
  /** Units of the feed-forward layers; default 4 · width. */
  readonly hidden?: number;
  readonly dropout?: number;
  readonly seed?: number;
}

/**
 * BERT (Devlin et al. 2019): inputs "input_ids", "attention_mask" and "token_type_ids", int64 [batch, sequence], the sequence as long as one
 * likes up to `length`; token, position and segment embeddings, post-norm encoder layers, Tanh over the first position, a dense layer;
 * output "logits" [batch, classes]. What the mask hides gets −10,000 added, which float16 holds. Names are those of Hugging Face's exports.
 */
export function bert(options: BertOptions): Model {
  const { vocabulary, length, classes, layers = 2, width = 64, heads = 2, dropout = 0, seed = 0 } = options;
  const hidden = options.hidden ?? 4 * width;
  if (width % heads !== 0) throw new Fault("bert", `width must be a multiple of heads; got ${width} and ${heads}`);
  const n = net("bert", seed, 20);
  const { graph } = n.model;
  const ints = (name: string, values: readonly number[]) => graph.initializer(name, tensor("int64", [values.length], values));
  const scalar = (name: string, value: number) => graph.initializer(name, tensor("float32", [], [value]));
  const path = (weight: string) => `/${weight.replaceAll(".", "/")}`;
  const dense = (name: string, x: Value, units: readonly [number, number]) => {
    const product = n.op(`${path(name)}/MatMul`, "MatMul", [x, n.weight(`${name}.weight`, units, "normal")]);
    return n.op(`${path(name)}/Add`, "Add", [product, n.weight(`${name}.bias`, [units[1]], 0)]);
  };
  const norm = (name: string, x: Value) =>
    n.op(
      `${path(name)}/LayerNormalization`,
      "LayerNormalization",
      [x, n.weight(`${name}.weight`, [width], 1), n.weight(`${name}.bias`, [width], 0)],
      { epsilon: float(1e-12) },
    );

  const ids = graph.input("input_ids", "int64", ["batch_size", "sequence_length"]);
  const mask = graph.input("attention_mask", "int64", ["batch_size", "sequence_length"]);
  const types = graph.input("token_type_ids", "int64", ["batch_size", "sequence_length"]);
  const embed = (name: string, rows: number, at: Value) =>
    n.op(`${path(`bert.embeddings.${name}`)}/Gather`, "Gather", [n.weight(`bert.embeddings.${name}.weight`, [rows, width], "normal"), at]);
  const whole = (name: string, x: number) => graph.initializer(name, tensor("int64", [], [x]));
  const [zero, one] = [whole("zero", 0), whole("one", 1)];
  const count = n.op("/bert/Gather", "Gather", [n.op("/bert/Shape", "Shape", [ids]), one]);
  const positions = n.op("/bert/Range", "Range", [zero, count, one]);
  const words = n.op("/bert/embeddings/Add", "Add", [embed("word_embeddings", vocabulary, ids), embed("token_type_embeddings", 2, types)]);
  let x = n.op("/bert/embeddings/Add_1", "Add", [words, embed("position_embeddings", length, positions)]);
  x = n.dropout("/bert/embeddings/dropout", norm("bert.embeddings.LayerNorm", x), dropout);

  const seen = n.op("/bert/Cast", "Cast", [n.op("/bert/Unsqueeze", "Unsqueeze", [mask, ints("mask.axes", [1, 2])])], { to: 1 });
  const hide = n.op("/bert/Mul", "Mul", [n.op("/bert/Sub", "Sub", [scalar("mask.one", 1), seen]), scalar("mask.hidden", -10_000)]);
  const split = ints("heads.shape", [0, 0, heads, width / heads]);
  const joined = ints("joined.shape", [0, 0, width]);
  const root = scalar("attention.scale", (width / heads) ** -0.5);
  for (let i = 0; i < layers; i++) {
    const layer = `bert.encoder.layer.${i}`;
    const at = `${path(layer)}/attention/self`;
    const [q, k, v] = ["query", "key", "value"].map((part) => {
      const flat = dense(`${layer}.attention.self.${part}`, x, [width, width]);
      const perm = part === "key" ? [0, 2, 3, 1] : [0, 2, 1, 3];
      return n.op(`${at}/${part}/Transpose`, "Transpose", [n.op(`${at}/${part}/Reshape`, "Reshape", [flat, split])], { perm });
    }) as [Value, Value, Value];
    const scores = n.op(`${at}/Mul`, "Mul", [n.op(`${at}/MatMul`, "MatMul", [q, k]), root]);
    const weights = n.op(`${at}/Softmax`, "Softmax", [n.op(`${at}/Add`, "Add", [scores, hide])], { axis: -1 });
    const mixed = n.op(`${at}/Transpose`, "Transpose", [n.op(`${at}/MatMul_1`, "MatMul", [weights, v])], { perm: [0, 2, 1, 3] });
    const flat = n.op(`${at}/Reshape`, "Reshape", [mixed, joined]);
    const out = n.dropout(`${at}/dropout`, dense(`${layer}.attention.output.dense`, flat, [width, width]), dropout);
    x = norm(`${layer}.attention.output.LayerNorm`, n.op(`${path(layer)}/attention/output/Add`, "Add", [out, x]));
    const h = n.op(`${path(layer)}/intermediate/Gelu`, "Gelu", [dense(`${layer}.intermediate.dense`, x, [width, hidden])]);
    const y = n.dropout(`${path(layer)}/output/dropout`, dense(`${layer}.output.dense`, h, [hidden, width]), dropout);
    x = norm(`${layer}.output.LayerNorm`, n.op(`${path(layer)}/output/Add`, "Add", [y, x]));
  }
  const first = n.op("/bert/pooler/Gather", "Gather", [x, zero], { axis: 1 });
  const pooled = n.op("/bert/pooler/Tanh", "Tanh", [dense("bert.pooler.dense", first, [width, width])]);
  return n.done(dense("classifier", n.dropout("/dropout", pooled, dropout), [width, classes]), ["batch_size", classes]);
}
