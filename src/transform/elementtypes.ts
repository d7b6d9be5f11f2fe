/** The element type of every value of a graph, read off the ops: what conversions between types need to know everywhere. */
import type { Graph, Model, Node, Value } from "../ir/graph.ts";
import { constantOf, sorted } from "../ir/walk.ts";
import { type DType, dtypeOfCode } from "../tensor/dtype.ts";

type TypeOf = (v: Value | null | undefined) => DType | null;
type Rule = (node: Node, type: TypeOf) => readonly (DType | null)[];

const all =
  (t: DType): Rule =>
  (n) =>
    n.outputs.map(() => t);
const bool = all("bool");
const int64 = all("int64");
/** The first output has the type of input `i`, the others `rest`. */
const like =
  (i: number, rest: DType): Rule =>
  (n, type) =>
    n.outputs.map((_, k) => (k === 0 ? type(n.inputs[i]) : rest));
/** All outputs have the type of input `i`. */
const same =
  (i: number): Rule =>
  (n, type) =>
    n.outputs.map(() => type(n.inputs[i]));
/** The type an attribute names, else that of input 0 or, without one, `otherwise`. */
const named =
  (attribute: string, otherwise?: DType): Rule =>
  (n, type) => {
    const code = n.int(attribute);
    return [code ? dtypeOfCode(code) : (otherwise ?? type(n.inputs[0]))];
  };
const coded: Rule = (n, type) => [n.inputs[2] ? type(n.inputs[2]) : n.int("output_dtype") ? dtypeOfCode(n.int("output_dtype")!) : "uint8"];
const unknown: Rule = (n) => n.outputs.map(() => null);

/** The element type of a sequence's tensors, as far as its making can be followed. */
function elementOf(sequence: Value | null | undefined, type: TypeOf): DType | null {
  const made = sequence?.producer;
  if (made?.domain !== "") return null;
  if (made.opType === "SequenceConstruct" || made.opType === "SplitToSequence") return type(made.inputs[0]);
  if (made.opType === "SequenceInsert") return type(made.inputs[1]);
  if (made.opType === "SequenceEmpty") return dtypeOfCode(made.int("dtype") ?? 1);
  return made.opType === "SequenceErase" || made.opType === "Identity" ? elementOf(made.inputs[0], type) : null;
}

const rules: Readonly<Record<string, Rule>> = {
  ...Object.fromEntries(
    "And Or Xor Not Equal Less Greater LessOrEqual GreaterOrEqual IsNaN IsInf OptionalHasElement".split(" ").map((op) => [op, bool]),
  ),
  ...Object.fromEntries("Shape Size ArgMax ArgMin NonZero NonMaxSuppression SequenceLength".split(" ").map((op) => [op, int64])),
  ...Object.fromEntries("TopK MaxPool Unique".split(" ").map((op) => [op, like(0, "int64")])),
  ...Object.fromEntries("ConvInteger MatMulInteger".split(" ").map((op) => [op, all("int32")])),
  ...Object.fromEntries(
    "LayerNormalization SimplifiedLayerNormalization RMSNormalization".split(" ").map((op) => [op, like(0, "float32")]),
  ),
  ...Object.fromEntries("RandomNormal RandomUniform".split(" ").map((op) => [op, named("dtype", "float32")])),
  ...Object.fromEntries(
    "HannWindow HammingWindow BlackmanWindow MelWeightMatrix".split(" ").map((op) => [op, named("output_datatype", "float32")]),
  ),
  ...Object.fromEntries("RandomNormalLike RandomUniformLike EyeLike Bernoulli".split(" ").map((op) => [op, named("dtype")])),
  ...Object.fromEntries(
    "StringNormalizer StringConcat RegexFullMatch StringSplit ImageDecoder SplitToSequence SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceMap Optional OptionalGetElement"
      .split(" ")
      .map((op) => [op, unknown]),
  ),
  Multinomial: named("dtype", "int32"),
  Cast: (n) => [dtypeOfCode(n.int("to") ?? 0)],
  CastLike: same(1),
  Constant: (n) => [constantOf(n.outputs[0])?.dtype ?? null],
  ConstantOfShape: (n) => {
    const a = n.attrs.get("value");
    return [a?.type === "tensor" ? a.value.dtype : "float32"];
  },
  DequantizeLinear: (n, type) => [n.int("output_dtype") ? dtypeOfCode(n.int("output_dtype")!) : type(n.inputs[1])],
  Dropout: like(0, "bool"),
  DynamicQuantizeLinear: () => ["uint8", "float32", "uint8"],
  OneHot: same(2),
  QLinearConv: same(7),
  QLinearMatMul: same(7),
  QuantizeLinear: coded,
  ...Object.fromEntries(
    ["SequenceAt", "ConcatFromSequence"].map((op): [string, Rule] => [op, (n, type) => [elementOf(n.inputs[0], type)]]),
  ),
  TfIdfVectorizer: all("float32"),
  Where: same(1),
};

/** Of ONNX Runtime's own ops: those whose outputs all have the type of input 0, and what the others give. */
const own: Readonly<Record<string, Rule>> = {
  ...Object.fromEntries(
    "Attention BiasGelu BiasSoftmax FastGelu FusedConv FusedGemm FusedMatMul Gelu GroupQueryAttention MatMulBnb4 MatMulFpQ4 MatMulNBits MultiHeadAttention QuickGelu RotaryEmbedding SkipLayerNormalization SkipSimplifiedLayerNormalization"
      .split(" ")
      .map((op) => [op, same(0)]),
  ),
  DequantizeLinear: same(1),
  DynamicQuantizeLSTM: same(0),
  DynamicQuantizeMatMul: same(0),
  EmbedLayerNormalization: (n, type) => [type(n.inputs[2]), "int32", type(n.inputs[2])],
  GatherBlockQuantized: same(2),
  MatMulIntegerToFloat: same(2),
  QAttention: same(3),
  QuantizeLinear: coded,
};

/**
 * The element types of all values, subgraphs included; null for sequences and optionals, and for what an op gives that is not known here
 * (unless the file says it). Each op's own rule counts for more than what the file says of inner values, which is often stale.
 */
export function elementTypes(model: Model): Map<Value, DType | null> {
  const types = new Map<Value, DType | null>();
  const type: TypeOf = (v) => (v ? (types.get(v) ?? null) : null);
  const visit = (graph: Graph, given: readonly (DType | null)[]) => {
    graph.inputs.forEach((v, i) => {
      types.set(v, v.data?.dtype ?? v.type?.dtype ?? given[i] ?? null);
    });
    for (const v of graph.initializers) types.set(v, v.data!.dtype);
    for (const n of sorted(graph)) {
      for (const g of n.subgraphs) visit(g, intoBody(n, type));
      const rule =
        n.domain === ""
          ? (rules[n.opType] ?? (n.subgraphs.length ? outOf : same(0)))
          : n.domain === "com.microsoft"
            ? own[n.opType]
            : undefined;
      const found = rule?.(n, type) ?? [];
      n.outputs.forEach((o, i) => {
        if (o) types.set(o, found[i] ?? o.type?.dtype ?? null);
      });
    }
  };
  visit(model.graph, []);
  return types;
}

/** What the inputs of a Loop's or Scan's body get. */
function intoBody(n: Node, type: TypeOf): (DType | null)[] {
  if (n.opType === "Loop") return ["int64", "bool", ...n.inputs.slice(2).map(type)];
  return n.opType === "Scan" ? n.inputs.map(type) : [];
}

/** What an If, Loop or Scan gives: what its graphs do, whichever says it. */
function outOf(n: Node, type: TypeOf): readonly (DType | null)[] {
  const [first, ...others] = n.subgraphs.map((g) => g.outputs.map(type));
  const given = first!.map((t, i) => others.reduce((have, types) => have ?? types[i] ?? null, t));
  return n.opType === "Loop" ? given.slice(1) : given;
}
