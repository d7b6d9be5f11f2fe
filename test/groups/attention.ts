/** Small transformers with fused attention, as exporters and ONNX Runtime's tools write them. */
import { type AttrInput, float, type Model, type Value } from "../../src/ir/graph.ts";
import { tensor } from "../../src/tensor/tensor.ts";
import { type Pieces, pieces } from "./nets.ts";

/** The groups that are to be found free, and of frozen ones "name: why". */
export interface Fused {
  readonly model: () => Model;
  readonly free: readonly string[];
  readonly frozen?: readonly string[];
  readonly shape?: Readonly<Record<string, readonly number[]>>;
}

type Attrs = Readonly<Record<string, AttrInput>>;
type Inputs = readonly (Value | null)[];

let named = 0;
function microsoft(p: Pieces, opType: string, inputs: Inputs, attrs: Attrs = {}, outputs = 1): Value[] {
  p.model.opsets.set("com.microsoft", 1);
  const name = `${opType.toLowerCase()}_${named++}`;
  return p.model.graph.append(opType, inputs, { domain: "com.microsoft", attrs, name, outputs }).outputs as Value[];
}
const one = (p: Pieces, opType: string, inputs: Inputs, attrs?: Attrs) => microsoft(p, opType, inputs, attrs)[0]!;

const table = (p: Pieces, name: string, half: number, f: (x: number) => number) => {
  const angles = Array.from({ length: 16 * half }, (_, i) => f(Math.floor(i / half) / 3 ** (i % half)));
  return p.model.graph.initializer(name, tensor("float32", [16, half], angles));
};
const tables = (p: Pieces, half: number) => [table(p, "cos", half, Math.cos), table(p, "sin", half, Math.sin)] as const;

/** Lengths as GroupQueryAttention wants them, of x [batch, time, …]. */
function lengths(p: Pieces, x: Value): [Value, Value] {
  const { graph } = p.model;
  const size = p.next("Shape", [x]);
  const at = (i: number) => graph.initializer("at", tensor("int64", [1], [i]));
  const total = p.next("Cast", [p.next("Gather", [size, at(1)])], { to: 6 });
  const last = p.next("Sub", [total, graph.initializer("one", tensor("int32", [1], [1]))]);
  return [p.next("Expand", [last, p.next("Gather", [size, at(0)])]), total];
}

/** 0, 1, 2 … for each sequence. */
function positions(p: Pieces, x: Value): Value {
  const ones = p.next("ConstantOfShape", [p.next("Slice", [p.next("Shape", [x]), p.ints(0), p.ints(2)])], {
    value: tensor("int64", [1], [1]),
  });
  const axis = p.model.graph.initializer("axis", tensor("int64", [], [1]));
  return p.next("Sub", [p.next("CumSum", [ones, axis]), p.model.graph.initializer("from", tensor("int64", [], [1]))]);
}

const three = (p: Pieces, x: Value, into: number, widths: readonly [number, number, number]) =>
  ["q", "k", "v"].map((name, i) => p.linear(name, x, [into, widths[i]!])) as [Value, Value, Value];
const between = (p: Pieces, heads: number) => p.weight("between", [1, heads, 5, 5], "he");

/** A decoder with a cache, as the model builder of onnxruntime-genai writes it: [ids, mask, past …] → [logits, present …]. */
function decoder(): Model {
  const p = pieces();
  const { graph } = p.model;
  const [hidden, kv, each, width, inner] = [6, 2, 2, 16, 10];
  const ids = graph.input("ids", "int64", ["batch", "time"]);
  const mask = graph.input("mask", "int64", ["batch", "past + time"]);
  const cast = (v: Value) => p.next("Cast", [v], { to: 6 });
  const seqlens = cast(p.next("Sub", [p.next("ReduceSum", [mask, p.ints(1)], { keepdims: 0 }), p.ints(1)]));
  const at = graph.initializer("at", tensor("int64", [], [1]));
  const total = cast(p.next("Gather", [p.next("Shape", [mask]), at]));
  const rotation = tables(p, width / 2);
  const epsilon = { epsilon: float(1e-5) };
  const product = (name: string, x: Value, units: [number, number]) => p.op(name, "MatMul", [x, p.weight(`${name}.w`, units, "glorot")]);
  let skip = p.op("embed", "Gather", [p.weight("embed.w", [7, hidden], "he"), ids]);
  let x = p.op("norm", "SimplifiedLayerNormalization", [skip, p.weight("norm.w", [hidden], "he")], { axis: -1, ...epsilon });
  const presents: Value[] = [];
  const normed = (name: string, y: Value) => {
    const out = microsoft(p, "SkipSimplifiedLayerNormalization", [skip, y, p.weight(`${name}.w`, [hidden], "he")], epsilon, 4);
    [x, skip] = [out[0]!, out[3]!];
  };
  for (const layer of [0, 1]) {
    const name = (what: string) => `${layer}.${what}`;
    const past = ["key", "value"].map((what) => graph.input(`past.${layer}.${what}`, "float32", ["batch", kv, "past", width]));
    const q = product(name("q"), x, [hidden, kv * each * width]);
    const [k, v] = ["k", "v"].map((what) => product(name(what), x, [hidden, kv * width])) as [Value, Value];
    const attrs = { num_heads: kv * each, kv_num_heads: kv, do_rotary: 1 };
    const [y, ...present] = microsoft(p, "GroupQueryAttention", [q, k, v, ...past, seqlens, total, ...rotation], attrs, 3);
    presents.push(...present);
    normed(name("norm1"), product(name("o"), y!, [kv * each * width, hidden]));
    const gate = product(name("gate"), x, [hidden, inner]);
    const gated = p.next("Mul", [p.next("Mul", [gate, p.next("Sigmoid", [gate])]), product(name("up"), x, [hidden, inner])]);
    normed(name("norm2"), product(name("down"), gated, [inner, hidden]));
  }
  const model = p.ends(product("head", x, [hidden, 7]));
  for (const v of presents) graph.addOutput(v);
  return model;
}

const mine = (v: Value, out: Value): Value => {
  v.graph.addOutput(v);
  return out;
};

export const fused: Readonly<Record<string, Fused>> = {
  "GroupQueryAttention, rotary": {
    model: () => {
      const p = pieces();
      const x = p.tokens(5);
      const y = one(p, "GroupQueryAttention", [...three(p, x, 5, [96, 32, 32]), null, null, ...lengths(p, x), ...tables(p, 8)], {
        num_heads: 6,
        kv_num_heads: 2,
        do_rotary: 1,
      });
      return p.ends(p.linear("out", y, [96, 2]));
    },
    free: ["q.w[1].0 2: q.b k.w[1] k.b v.w[1] v.b out.w[0]", "q.w[1].1 3: q.b out.w[0]"],
    frozen: ["q.w[1].2: GroupQueryAttention takes only heads whose width is a multiple of 8"],
  },
  "GroupQueryAttention, packed": {
    model: () => {
      const p = pieces();
      const x = p.tokens(5);
      const sinks = p.weight("sinks", [4], "he");
      const qkv = p.linear("qkv", x, [5, 64]);
      const y = one(p, "GroupQueryAttention", [qkv, null, null, null, null, ...lengths(p, x), null, null, null, between(p, 4), sinks], {
        num_heads: 4,
        kv_num_heads: 2,
        scale: float(1.3),
      });
      return p.ends(p.linear("out", y, [32, 2]));
    },
    free: ["qkv.w[1].0 2: qkv.b between[1] sinks out.w[0]", "qkv.w[1].1 2: qkv.b between[1] sinks out.w[0]"],
  },
  "a decoder with a cache": {
    model: decoder,
    shape: { ids: [1, 3], "past.0.key": [1, 2, 2, 16] },
    free: [
      "embed.w[1] 6: norm.w 0.q.w[0] 0.k.w[0] 0.v.w[0] 0.o.w[1] 0.norm1.w 0.gate.w[0] 0.up.w[0] 0.down.w[1] 0.norm2.w 1.q.w[0] 1.k.w[0] 1.v.w[0] 1.o.w[1] 1.norm1.w 1.gate.w[0] 1.up.w[0] 1.down.w[1] 1.norm2.w head.w[0]",
      "0.q.w[1].1 2: 0.o.w[0]",
      "0.gate.w[1] 10: 0.up.w[1] 0.down.w[0]",
      "1.q.w[1].1 2: 1.o.w[0]",
      "1.gate.w[1] 10: 1.up.w[1] 1.down.w[0]",
    ],
    frozen: ['0.q.w[1].0: an input of the model ("past.0.key")', '1.q.w[1].0: an input of the model ("past.1.key")'],
  },
  "MultiHeadAttention, bias, heads of two widths": {
    model: () => {
      const p = pieces();
      const x = p.tokens(5);
      const products = ["q", "k", "v"].map((n, i) => p.op(n, "MatMul", [x, p.weight(`${n}.w`, [5, [12, 12, 9][i]!], "glorot")]));
      const y = one(p, "MultiHeadAttention", [...products, p.weight("bias", [33], "he"), null, between(p, 3)], { num_heads: 3 });
      return p.ends(p.linear("out", y, [9, 2]));
    },
    free: ["q.w[1].0 3: k.w[1] v.w[1] bias between[1] out.w[0]", "q.w[1].1 4: k.w[1] bias", "v.w[1].1 3: bias out.w[0]"],
  },
  "MultiHeadAttention, heads first": {
    model: () => {
      const p = pieces();
      const x = p.tokens(5);
      const [q, ...kv] = three(p, x, 5, [12, 12, 12]);
      const [k, v] = kv.map((y) => p.next("Transpose", [p.next("Reshape", [y, p.ints(0, 0, 3, 4)])], { perm: [0, 2, 1, 3] }));
      return p.ends(p.linear("out", one(p, "MultiHeadAttention", [q!, k!, v!], { num_heads: 3 }), [12, 2]));
    },
    free: ["q.w[1].0 3: q.b k.w[1] k.b v.w[1] v.b out.w[0]", "q.w[1].1 4: q.b k.w[1] k.b v.w[1] v.b out.w[0]"],
  },
  "MultiHeadAttention, what it hands on": {
    model: () => {
      const p = pieces();
      const [y, keys, values] = microsoft(p, "MultiHeadAttention", three(p, p.tokens(5), 5, [12, 12, 12]), { num_heads: 3 }, 3);
      // The keys' sizes are free, for only their sum is an output.
      const all = p.next("ReduceSum", [p.next("Mul", [keys!, values!]), p.ints(1, 3)], { keepdims: 0 });
      return p.ends(mine(all, p.linear("out", y!, [12, 2])));
    },
    free: ["q.w[1].0 3: q.b k.w[1] k.b v.w[1] v.b out.w[0]", "q.w[1].1 4: q.b k.w[1] k.b v.w[1] v.b out.w[0]"],
  },
  "Attention, one matrix": {
    model: () => {
      const p = pieces();
      const x = p.linear("in", p.tokens(5), [5, 6]);
      const y = one(p, "Attention", [x, p.weight("w", [6, 36], "glorot"), p.weight("b", [36], "he")], { num_heads: 3, unidirectional: 1 });
      return p.ends(p.linear("out", y, [12, 2]));
    },
    free: ["in.w[1] 6: in.b w[0]", "w[1].0 3: b out.w[0]", "w[1].1 4: b", "w[1].2 4: b out.w[0]"],
  },
  "Attention, values of another width": {
    model: () => {
      const p = pieces();
      const y = one(p, "Attention", [p.tokens(5), p.weight("w", [5, 30], "glorot"), p.weight("b", [30], "he"), null, null, between(p, 3)], {
        num_heads: 3,
        qkv_hidden_sizes: [12, 12, 6],
      });
      return p.ends(p.linear("out", y, [6, 2]));
    },
    free: ["w[1].0 3: b between[1] out.w[0]", "w[1].1 4: b", "w[1].2 2: b out.w[0]"],
  },
  "Attention with a past": {
    model: () => {
      const p = pieces();
      const { graph } = p.model;
      const x = p.linear("in", p.tokens(5), [5, 6]);
      const past = graph.input("past", "float32", [2, "batch", 3, "before", 4]);
      const [y, present] = microsoft(
        p,
        "Attention",
        [x, p.weight("w", [6, 36], "glorot"), p.weight("b", [36], "he"), null, past],
        { num_heads: 3, unidirectional: 1 },
        2,
      );
      return p.ends(mine(present!, p.linear("out", p.next("Relu", [p.linear("up", y!, [12, 8])]), [8, 2])));
    },
    shape: { x: [2, 5, 5], past: [2, 2, 3, 2, 4] },
    free: ["in.w[1] 6: in.b w[0]", "up.w[1] 8: up.b out.w[0]"],
    frozen: ['w[1].0: an input of the model ("past")', 'w[1].1: an input of the model ("past")'],
  },
  "RotaryEmbedding of com.microsoft": {
    model: () => {
      const p = pieces();
      const x = p.tokens(5);
      const [q, k, v] = three(p, x, 5, [12, 12, 9]);
      const rotation = [positions(p, x), ...tables(p, 2)];
      const [a, b] = [q, k].map((y) => one(p, "RotaryEmbedding", [y, ...rotation], { num_heads: 3 }));
      return p.ends(p.linear("out", one(p, "MultiHeadAttention", [a!, b!, v], { num_heads: 3 }), [9, 2]));
    },
    free: ["q.w[1].0 3: q.b k.w[1] k.b v.w[1] v.b out.w[0]", "q.w[1].1 2: q.b k.w[1] k.b cos[1] sin[1]", "v.w[1].1 3: v.b out.w[0]"],
  },
  "RotaryEmbedding of com.microsoft, a part of each head": {
    model: () => {
      const p = pieces();
      const x = p.tokens(5);
      const [q, k, v] = three(p, x, 5, [18, 18, 9]);
      const rotation = [positions(p, x), ...tables(p, 2)];
      const [a, b] = [q, k].map((y) => one(p, "RotaryEmbedding", [y, ...rotation], { num_heads: 3, rotary_embedding_dim: 4 }));
      return p.ends(p.linear("out", one(p, "MultiHeadAttention", [a!, b!, v], { num_heads: 3 }), [9, 2]));
    },
    free: [
      "q.w[1].0 3: q.b k.w[1] k.b v.w[1] v.b out.w[0]",
      "q.w[1].1 2: q.b k.w[1] k.b cos[1] sin[1]",
      "q.w[1].2 2: q.b k.w[1] k.b",
      "v.w[1].1 3: v.b out.w[0]",
    ],
  },
  "Attention of opset 23, grouped and rotary": {
    model: () => {
      const p = pieces(0, 23);
      const x = p.tokens(5);
      const [q, k, v] = three(p, x, 5, [24, 8, 6]);
      const rotation = [...tables(p, 2), positions(p, x)];
      const a = p.next("RotaryEmbedding", [q, ...rotation], { num_heads: 6, interleaved: 1 });
      const b = p.next("RotaryEmbedding", [k, ...rotation], { num_heads: 2, interleaved: 1 });
      const y = p.next("Attention", [a, b, v, between(p, 6)], { q_num_heads: 6, kv_num_heads: 2 });
      return p.ends(p.linear("out", y, [18, 2]));
    },
    free: [
      "q.w[1].0 2: q.b k.w[1] k.b v.w[1] v.b between[1] out.w[0]",
      "q.w[1].1 3: q.b between[1] out.w[0]",
      "q.w[1].2 2: q.b k.w[1] k.b cos[1] sin[1]",
      "v.w[1].1 3: v.b out.w[0]",
    ],
  },
  "Attention of opset 23, heads first, with a past": {
    model: () => {
      const p = pieces(0, 23);
      const { graph } = p.model;
      const x = p.tokens(5);
      const sizes = [4, 4, 3];
      const [q, k, v] = three(p, x, 5, [24, 8, 6]).map((y, i) =>
        p.next("Transpose", [p.next("Reshape", [y, p.ints(0, 0, [6, 2, 2][i]!, sizes[i]!)])], { perm: [0, 2, 1, 3] }),
      );
      const past = ["key", "value"].map((what, i) => graph.input(`past.${what}`, "float32", ["batch", 2, "before", [4, 3][i]!]));
      const [y, ...present] = graph.append("Attention", [q!, k!, v!, null, ...past], {
        name: "attends",
        attrs: { is_causal: 1 },
        outputs: 3,
      }).outputs as Value[];
      const flat = p.next("Reshape", [p.next("Transpose", [y!], { perm: [0, 2, 1, 3] }), p.ints(0, 0, 18)]);
      const model = p.ends(p.linear("out", flat, [18, 2]));
      for (const v of present) graph.addOutput(v);
      return model;
    },
    shape: { x: [2, 5, 5], "past.key": [2, 2, 2, 4], "past.value": [2, 2, 2, 3] },
    free: ["q.w[1].1 3: q.b out.w[0]"],
    frozen: [
      'q.w[1].0: an input of the model ("past.key")',
      'q.w[1].2: an input of the model ("past.key")',
      'v.w[1].1: an input of the model ("past.value")',
    ],
  },
  EmbedLayerNormalization: {
    model: () => {
      const p = pieces();
      const ids = p.model.graph.input("ids", "int32", ["batch", "time"]);
      const tables = ["word", "position"].map((n) => p.weight(n, [7, 6], "he"));
      const scale = [p.weight("gamma", [6], "he"), p.weight("beta", [6], "he")];
      const [x] = microsoft(p, "EmbedLayerNormalization", [ids, null, ...tables, null, ...scale], {}, 2);
      return p.ends(p.linear("out", p.next("Relu", [p.linear("up", x!, [6, 8])]), [8, 2]));
    },
    shape: { ids: [2, 5] },
    free: ["word[1] 6: position[1] gamma beta up.w[0]", "up.w[1] 8: up.b out.w[0]"],
  },
};
