/** Transformer encoders. */
import { float, type Model, type Value } from "../ir/graph.ts";
import { Fault } from "../tensor/fault.ts";
import { tensor } from "../tensor/tensor.ts";
import { net } from "./net.ts";

export interface TransformerOptions {
  readonly layers?: number;
  readonly width?: number;
  readonly heads?: number;
  /** Units of the feed-forward layers; default 4 · width. */
  readonly hidden?: number;
  readonly vocabulary: number;
  /** Most positions. */
  readonly length: number;
  readonly classes: number;
  /** One prediction for the whole sequence (the mean over its positions), or one for every position. */
  readonly pool?: boolean;
  readonly dropout?: number;
  readonly seed?: number;
}

/**
 * Input "ids" int64 [batch, length]; token and position embeddings, pre-norm encoder layers (Xiong et al. 2020: they train without warm-up)
 * with multi-head attention and Gelu, a last normalization, a dense layer; output "logits" [batch, classes], or [batch, length, classes]
 * with `pool` false. Weights of dense layers are [in, out], as MatMul takes them.
 */
export function transformer(options: TransformerOptions): Model {
  const { layers = 4, width = 256, heads = 4, vocabulary, length, classes, pool = true, dropout = 0, seed = 0 } = options;
  const hidden = options.hidden ?? 4 * width;
  if (width % heads !== 0) throw new Fault("transformer", `width must be a multiple of heads; got ${width} and ${heads}`);
  const n = net("transformer", seed, 20);
  const { graph } = n.model;
  const ints = (name: string, values: readonly number[]) => graph.initializer(name, tensor("int64", [values.length], values));
  const linear = (name: string, x: Value, units: readonly [number, number]) => {
    const w = n.weight(`${name}.weight`, units, "glorot");
    return n.op(name, "Add", [n.op(`${name}.matmul`, "MatMul", [x, w]), n.weight(`${name}.bias`, [units[1]], 0)]);
  };
  const norm = (name: string, x: Value) =>
    n.op(name, "LayerNormalization", [x, n.weight(`${name}.weight`, [width], 1), n.weight(`${name}.bias`, [width], 0)], {
      epsilon: float(1e-5),
    });
  const split = ints("heads.shape", [0, length, heads, width / heads]);
  const joined = ints("joined.shape", [0, length, width]);
  const root = graph.initializer("attention.scale", tensor("float32", [], [(width / heads) ** -0.5]));

  const ids = graph.input("ids", "int64", ["batch", length]);
  const tokens = n.op("embed", "Gather", [n.weight("embed.weight", [vocabulary, width], "normal"), ids]);
  let x = n.op("embed.add", "Add", [tokens, n.weight("positions.weight", [length, width], "normal")]);
  x = n.dropout("embed.drop", x, dropout);
  for (let i = 1; i <= layers; i++) {
    const at = (part: string) => `layer${i}.${part}`;
    const y = norm(at("norm1"), x);
    const [q, k, v] = ["q", "k", "v"].map((part) => {
      const flat = linear(at(`attention.${part}`), y, [width, width]);
      const perm = part === "k" ? [0, 2, 3, 1] : [0, 2, 1, 3];
      return n.op(at(`attention.${part}.heads`), "Transpose", [n.op(at(`attention.${part}.split`), "Reshape", [flat, split])], { perm });
    }) as [Value, Value, Value];
    const scores = n.op(at("attention.scaled"), "Mul", [n.op(at("attention.scores"), "MatMul", [q, k]), root]);
    const mixed = n.op(at("attention.mix"), "MatMul", [n.op(at("attention.softmax"), "Softmax", [scores], { axis: -1 }), v]);
    const flat = n.op(at("attention.join"), "Reshape", [
      n.op(at("attention.unheads"), "Transpose", [mixed], { perm: [0, 2, 1, 3] }),
      joined,
    ]);
    x = n.op(at("add1"), "Add", [x, n.dropout(at("drop1"), linear(at("attention.out"), flat, [width, width]), dropout)]);
    const h = n.op(at("gelu"), "Gelu", [linear(at("fc1"), norm(at("norm2"), x), [width, hidden])]);
    x = n.op(at("add2"), "Add", [x, n.dropout(at("drop2"), linear(at("fc2"), h, [hidden, width]), dropout)]);
  }
  x = norm("norm", x);
  if (pool) x = n.op("pool", "ReduceMean", [x, ints("pool.axes", [1])], { keepdims: 0 });
  return n.done(linear("head", x, [width, classes]), pool ? ["batch", classes] : ["batch", length, classes]);
}
