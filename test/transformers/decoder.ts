/** A GPT-2 with random weights, as exporters merge its two forms: one file, an If on `use_cache_branch`, weights outside of both branches, the output layer tied to the embeddings. */
import { float, Graph, type Model, newModel, type Value } from "../../src/ir/graph.ts";
import { random } from "../../src/tensor/random.ts";
import { tensor } from "../../src/tensor/tensor.ts";

export const sizes = { vocabulary: 300, width: 64, heads: 2, layers: 2, positions: 32 } as const;

export const config = {
  model_type: "gpt2",
  architectures: ["GPT2LMHeadModel"],
  vocab_size: sizes.vocabulary,
  n_embd: sizes.width,
  n_head: sizes.heads,
  n_layer: sizes.layers,
  n_positions: sizes.positions,
};

const { vocabulary, width, heads, layers, positions } = sizes;
const head = width / heads;

/** `tied`: the output layer is the transposed embedding; otherwise it has weights of its own. */
export function mergedDecoder({ tied = true } = {}): Model {
  const model = newModel("decoder", 17, 8);
  const { graph } = model;
  const weight = (name: string, shape: readonly number[], scale: number) => {
    const values = random(3, name).fillNormal(new Float32Array(shape.reduce((a, b) => a * b, 1)), scale);
    return graph.initializer(name, tensor("float32", shape, values));
  };
  const filled = (name: string, n: number, x: number) => graph.initializer(name, tensor("float32", [n], new Float32Array(n).fill(x)));
  const weights = {
    wte: weight("transformer.wte.weight", [vocabulary, width], 0.3),
    wpe: weight("transformer.wpe.weight", [positions, width], 0.1),
    head: tied ? null : weight("lm_head.weight", [width, vocabulary], 0.2),
    last: [filled("transformer.ln_f.weight", width, 1), filled("transformer.ln_f.bias", width, 0)] as const,
    layers: Array.from({ length: layers }, (_, i) => {
      const at = (part: string) => `transformer.h.${i}.${part}`;
      return {
        norm: [filled(at("ln_1.weight"), width, 1), filled(at("ln_1.bias"), width, 0)] as const,
        attention: [weight(at("attn.c_attn.weight"), [width, 3 * width], 0.15), filled(at("attn.c_attn.bias"), 3 * width, 0.01)] as const,
        project: weight(at("attn.c_proj.weight"), [width, width], 0.15),
        up: weight(at("mlp.c_fc.weight"), [width, 4 * width], 0.15),
        down: weight(at("mlp.c_proj.weight"), [4 * width, width], 0.08),
      };
    }),
  };
  const ids = graph.input("input_ids", "int64", ["batch_size", "sequence_length"]);
  graph.input("attention_mask", "int64", ["batch_size", "past_sequence_length + sequence_length"]);
  const past = Array.from({ length: layers }, (_, i) =>
    ["key", "value"].map((kv) => graph.input(`past_key_values.${i}.${kv}`, "float32", ["batch_size", heads, "past_sequence_length", head])),
  );
  const cached = graph.input("use_cache_branch", "bool", [1]);

  const branch = (name: string, withPast: boolean): Graph => {
    const g = new Graph(name, graph);
    const op = (label: string, opType: string, inputs: readonly Value[], attrs = {}, outputs = 1) =>
      g.append(opType, inputs, { name: `/${name}/${label}`, attrs, outputs }).outputs as Value[];
    const one = (label: string, opType: string, inputs: readonly Value[], attrs = {}) => op(label, opType, inputs, attrs)[0]!;
    const ints = (label: string, values: readonly number[], scalar = false) =>
      g.initializer(`${name}.${label}`, tensor("int64", scalar ? [] : [values.length], values));
    const scalarOf = (label: string, v: Value, axis: number) =>
      one(label, "Gather", [one(`${label}/Shape`, "Shape", [v]), ints(`${label}.axis`, [axis], true)]);
    const [zero, step] = [ints("zero", [0], true), ints("step", [1], true)];
    const count = scalarOf("count", ids, 1);
    const before = withPast ? scalarOf("before", past[0]![0]!, 2) : zero;
    const whole = one("whole", "Add", [before, count]);
    const at = one("positions", "Range", [before, whole, step]);
    let x = one("wte/Gather", "Gather", [weights.wte, ids]);
    x = one("embed/Add", "Add", [x, one("wpe/Gather", "Gather", [weights.wpe, at])]);
    const lengths = one(
      "lengths",
      "Concat",
      [count, whole].map((v, i) => one(`lengths/${i}`, "Unsqueeze", [v, ints(`lengths.${i}`, [0])])),
      { axis: 0 },
    );
    const ones = one("ones", "ConstantOfShape", [lengths], { value: tensor("float32", [1], [1]) });
    const seen = one("seen", "Trilu", [ones, before], { upper: 0 });
    const hidden = g.initializer(`${name}.hidden`, tensor("float32", [], [-10_000]));
    const mask = one("mask", "Mul", [one("unseen", "Sub", [ones, seen]), hidden]);
    const presents: Value[] = [];
    weights.layers.forEach((w, i) => {
      const l = (part: string) => `h.${i}/${part}`;
      const y = one(l("ln_1"), "LayerNormalization", [x, ...w.norm], { epsilon: float(1e-5) });
      // As Conv1D is exported: rows, a Gemm, and back.
      const rows = one(l("rows"), "Reshape", [y, ints(`rows.${i}`, [-1, width])]);
      const flat = one(l("attn/c_attn/Gemm"), "Gemm", [rows, ...w.attention]);
      const shape = one(l("qkv/shape"), "Concat", [one(l("qkv/outer"), "Shape", [ids]), ints(`qkv.${i}`, [3 * width])], { axis: 0 });
      const parts = op(
        l("split"),
        "Split",
        [one(l("qkv"), "Reshape", [flat, shape]), ints(`split.${i}`, [width, width, width])],
        { axis: 2 },
        3,
      );
      const [q, k, v] = parts.map((part, n) =>
        one(l(`heads/${n}`), "Transpose", [one(l(`apart/${n}`), "Reshape", [part, ints(`apart.${i}.${n}`, [0, 0, heads, head])])], {
          perm: [0, 2, 1, 3],
        }),
      ) as [Value, Value, Value];
      const [keys, values] = [k, v].map((now, n) =>
        withPast ? one(l(`cat/${n}`), "Concat", [past[i]![n]!, now], { axis: 2 }) : one(l(`cat/${n}`), "Identity", [now]),
      );
      presents.push(keys!, values!);
      const scores = one(l("scores"), "MatMul", [q, one(l("keys"), "Transpose", [keys!], { perm: [0, 1, 3, 2] })]);
      const scale = g.initializer(`${name}.scale.${i}`, tensor("float32", [], [head ** -0.5]));
      const masked = one(l("masked"), "Add", [one(l("scaled"), "Mul", [scores, scale]), mask]);
      const mixed = one(l("mixed"), "MatMul", [one(l("softmax"), "Softmax", [masked], { axis: -1 }), values!]);
      const joined = one(l("joined"), "Reshape", [
        one(l("unheads"), "Transpose", [mixed], { perm: [0, 2, 1, 3] }),
        ints(`joined.${i}`, [0, 0, width]),
      ]);
      x = one(l("add1"), "Add", [x, one(l("attn/c_proj/MatMul"), "MatMul", [joined, w.project])]);
      const up = one(l("relu"), "Relu", [one(l("mlp/c_fc/MatMul"), "MatMul", [x, w.up])]);
      x = one(l("add2"), "Add", [x, one(l("mlp/c_proj/MatMul"), "MatMul", [up, w.down])]);
    });
    x = one("ln_f", "LayerNormalization", [x, ...weights.last], { epsilon: float(1e-5) });
    const out = weights.head ?? one("lm_head/Transpose", "Transpose", [weights.wte], { perm: [1, 0] });
    g.addOutput(one("lm_head/MatMul", "MatMul", [x, out]));
    for (const p of presents) g.addOutput(p);
    return g;
  };
  const names = ["logits", ...past.flatMap((_, i) => [`present.${i}.key`, `present.${i}.value`])];
  const node = graph.append("If", [cached], {
    name: "optimum::if",
    attrs: { then_branch: branch("then", true), else_branch: branch("else", false) },
    outputs: names,
  });
  node.outputs.forEach((v, i) => {
    v!.type = {
      dtype: "float32",
      shape: i ? ["batch_size", heads, "past_sequence_length + sequence_length", head] : ["batch_size", "sequence_length", vocabulary],
    };
    graph.addOutput(v!);
  });
  return model;
}
