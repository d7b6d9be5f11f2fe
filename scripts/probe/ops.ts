/** The smallest node of each op, for any element type: what the probe opens. */
import { type AttrInput, float, floats, Graph, type Model, type Node, newModel, type Value } from "../../src/ir/graph.ts";
import { Build } from "../../src/ops/build.ts";
import { type DType, dtypes } from "../../src/tensor/dtype.ts";
import { type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { changes, irVersionOf } from "../../src/transform/opsets.ts";

/** A model of one node, what it is fed with and (null: not known beforehand) what should come out. */
export interface Probe {
  readonly op: string;
  readonly version: number;
  readonly model: Model;
  readonly node: Node;
  readonly feeds: Readonly<Record<string, Tensor>>;
  readonly expected: ArrayLike<number> | null;
}

type Attrs = Readonly<Record<string, AttrInput>>;

interface Form {
  /**
   * Inputs, in words: `T2x3` fed, of the probed type; `b2x3` fed booleans; `I:1,0` a constant list of int64, `I0:1` one number,
   * `I2x2:0,1,1,0` with a shape; `F…` the same in float32, `B…` in bool; `C…` of the probed type; `E` an empty list of
   * float32, `-` omitted.
   */
  readonly in: string;
  readonly attrs?: Attrs;
  /** Number of outputs; only the first is looked at. */
  readonly out?: number;
}
type Case = Form | ((opset: number) => Form | null);

const unary =
  "Abs Acos Acosh Asin Asinh Atan Atanh Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu GlobalAveragePool GlobalLpPool GlobalMaxPool HardSigmoid HardSwish Hardmax Identity IsInf IsNaN LeakyRelu Log LogSoftmax LpNormalization MeanVarianceNormalization Mish Neg NonZero Not Reciprocal Relu Round Selu Shape Shrink Sigmoid Sign Sin Sinh Size Softmax Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu RandomNormalLike RandomUniformLike Bernoulli";
const binary =
  "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Mul Or PRelu Sub Xor BitwiseAnd BitwiseOr BitwiseXor Max Min Mean Sum";
const reductions = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare";

const axesAs =
  (from: number, attr: Attrs, input: string, rest = "T1x2x3"): Case =>
  (opset) =>
    opset >= from ? { in: `${rest} ${input}` } : { in: rest, attrs: attr };

const cases: Record<string, Case> = {
  ...Object.fromEntries(unary.split(" ").map((op) => [op, { in: "T1x2x3x4" }])),
  ...Object.fromEntries(binary.split(" ").map((op) => [op, { in: "T2x3 T2x3" }])),
  ...Object.fromEntries(reductions.split(" ").map((r) => [`Reduce${r}`, axesAs(r === "Sum" ? 13 : 18, { axes: [1] }, "I:1")])),
  Bernoulli: { in: "T2x3" },
  BitwiseNot: { in: "T2x3" },
  ArgMax: { in: "T2x3" },
  ArgMin: { in: "T2x3" },
  AffineGrid: { in: "T1x2x3 I:1,1,2,2" },
  Attention: { in: "T1x2x4 T1x2x4 T1x2x4", attrs: { q_num_heads: 2, kv_num_heads: 2 } },
  AveragePool: { in: "T1x1x4x4", attrs: { kernel_shape: [2, 2] } },
  BatchNormalization: { in: "T1x2x3 C2 C2 C2 C2" },
  BitShift: { in: "T2x3 T2x3", attrs: { direction: "LEFT" } },
  BlackmanWindow: { in: "I0:4" },
  HannWindow: { in: "I0:4" },
  HammingWindow: { in: "I0:4" },
  CenterCropPad: { in: "T2x3 I:2,2" },
  Clip: (opset) => (opset >= 11 ? { in: "T2x3 C0 C0" } : { in: "T2x3", attrs: { min: float(0), max: float(6) } }),
  Col2Im: { in: "T1x4x4 I:3,3 I:2,2" },
  Compress: { in: "T2x3 B:1,0", attrs: { axis: 0 } },
  Concat: { in: "T2x3 T2x3", attrs: { axis: 1 } },
  Conv: { in: "T1x2x4x4 C2x2x3x3" },
  ConvTranspose: { in: "T1x2x3x3 C2x2x2x2" },
  CumProd: { in: "T2x3 I0:1" },
  CumSum: { in: "T2x3 I0:1" },
  DFT: (opset) => (opset >= 20 ? { in: "T1x4x1 - I0:1" } : { in: "T1x4x1", attrs: { axis: 1 } }),
  DeformConv: { in: "T1x1x3x3 C1x1x2x2 T1x8x2x2", attrs: { kernel_shape: [2, 2] } },
  DepthToSpace: { in: "T1x4x2x2", attrs: { blocksize: 2 } },
  SpaceToDepth: { in: "T1x1x4x4", attrs: { blocksize: 2 } },
  Det: { in: "T2x2" },
  Dropout: { in: "T2x3", out: 1 },
  DynamicQuantizeLinear: { in: "T2x3", out: 3 },
  Einsum: { in: "T2x3 T3x4", attrs: { equation: "ij,jk->ik" } },
  Expand: { in: "T1x3 I:2,3" },
  EyeLike: { in: "T2x2" },
  Flatten: { in: "T1x2x3" },
  GRU: { in: "T3x1x2 C1x6x2 C1x6x2", attrs: { hidden_size: 2 } },
  LSTM: { in: "T3x1x2 C1x8x2 C1x8x2", attrs: { hidden_size: 2 } },
  RNN: { in: "T3x1x2 C1x2x2 C1x2x2", attrs: { hidden_size: 2 } },
  Gather: { in: "T4x3 I:1,0" },
  GatherElements: { in: "T2x2 I2x2:0,1,1,0", attrs: { axis: 1 } },
  GatherND: { in: "T2x2 I2x2:0,1,1,0" },
  Gemm: { in: "T2x3 C3x4 C4" },
  GridSample: { in: "T1x1x3x3 F1x2x2x2:0,0.5,-0.5,0,0.25,0.5,0,0" },
  GroupNormalization: (opset) => ({ in: opset >= 21 ? "T1x4x3 C4 C4" : "T1x4x3 C2 C2", attrs: { num_groups: 2 } }),
  InstanceNormalization: { in: "T1x2x3 C2 C2" },
  LRN: { in: "T1x2x3x3", attrs: { size: 3 } },
  LayerNormalization: { in: "T2x4 C4 C4" },
  RMSNormalization: { in: "T2x4 C4" },
  LpPool: { in: "T1x1x4x4", attrs: { kernel_shape: [2, 2] } },
  MatMul: { in: "T2x3 T3x4" },
  MatMulInteger: { in: "T2x3 T3x4" },
  MaxPool: { in: "T1x1x4x4", attrs: { kernel_shape: [2, 2] } },
  MaxRoiPool: { in: "T1x1x4x4 C1x5:0,0,0,2,2", attrs: { pooled_shape: [2, 2] } },
  MaxUnpool: { in: "T1x1x2x2 I1x1x2x2:0,3,8,10", attrs: { kernel_shape: [2, 2], strides: [2, 2] } },
  Mod: { in: "T2x3 T2x3", attrs: { fmod: 1 } },
  Multinomial: { in: "T2x3", attrs: { sample_size: 2 } },
  NegativeLogLikelihoodLoss: { in: "T2x3 I:0,1" },
  SoftmaxCrossEntropyLoss: { in: "T2x3 I:0,1" },
  NonMaxSuppression: { in: "T1x2x4 T1x1x2 I:2" },
  Pad: (opset) => (opset >= 11 ? { in: "T2x3 I:0,1,0,1 C0" } : { in: "T2x3", attrs: { pads: [0, 1, 0, 1] } }),
  Range: { in: "S1 S5 S1" },
  Reshape: { in: "T2x3 I:3,2" },
  Resize: (opset) => ({ in: `T1x1x2x2 ${opset >= 13 ? "- " : opset >= 11 ? "E " : ""}F:1,1,2,2` }),
  Upsample: (opset) => (opset >= 9 ? { in: "T1x1x2x2 F:1,1,2,2" } : { in: "T1x1x2x2", attrs: { scales: floats([1, 1, 2, 2]) } }),
  ReverseSequence: { in: "T3x2 I:1,2" },
  RoiAlign: { in: "T1x1x4x4 C1x4 I:0", attrs: { output_height: 2, output_width: 2, sampling_ratio: 2 } },
  RotaryEmbedding: { in: "T1x2x4 C1x2x1 C1x2x1", attrs: { num_heads: 2 } },
  STFT: { in: "T1x8x1 I0:2 - I0:4" },
  Scatter: { in: "T3x3 I2x3:1,0,2,0,2,1 T2x3" },
  ScatterElements: { in: "T3x3 I2x3:1,0,2,0,2,1 T2x3" },
  ScatterND: { in: "T4x2 I2x1:1,3 T2x2" },
  Slice: (opset) => (opset >= 10 ? { in: "T3x4 I:0 I:2 I:1" } : { in: "T3x4", attrs: { starts: [0], ends: [2], axes: [1] } }),
  Split: (opset) => (opset >= 18 ? { in: "T2x4", attrs: { axis: 1, num_outputs: 2 }, out: 2 } : { in: "T2x4", attrs: { axis: 1 }, out: 2 }),
  Squeeze: axesAs(13, { axes: [0] }, "I:0"),
  Unsqueeze: axesAs(13, { axes: [0] }, "I:0"),
  TensorScatter: { in: "T1x4x2 T1x1x2 I:1" },
  Tile: { in: "T2x3 I:1,2" },
  TopK: (opset) => (opset >= 10 ? { in: "T2x3 I:2", out: 2 } : { in: "T2x3", attrs: { k: 2 }, out: 2 }),
  Transpose: { in: "T2x3" },
  Trilu: { in: "T3x3" },
  Unique: { in: "T2x3" },
  Where: { in: "b2x3 T2x3 T2x3" },
  "com.microsoft.Gelu": { in: "T2x4" },
  "com.microsoft.QuickGelu": { in: "T2x4" },
  "com.microsoft.FastGelu": { in: "T2x4" },
  "com.microsoft.BiasGelu": { in: "T2x4 T4" },
  "com.microsoft.FusedMatMul": { in: "T2x3 T3x4" },
  "com.microsoft.FusedGemm": { in: "T2x3 T3x4 T4", attrs: { activation: "Relu" } },
  "com.microsoft.FusedConv": { in: "T1x2x4x4 C2x2x3x3", attrs: { activation: "Relu" } },
  "com.microsoft.SkipLayerNormalization": { in: "T1x2x4 T1x2x4 C4 C4" },
  "com.microsoft.SkipSimplifiedLayerNormalization": { in: "T1x2x4 T1x2x4 C4" },
  SimplifiedLayerNormalization: { in: "T2x4 C4" },
  "com.microsoft.Attention": { in: "T1x2x4 C4x12 C12", attrs: { num_heads: 2 } },
  "com.microsoft.MultiHeadAttention": { in: "T1x2x4 T1x2x4 T1x2x4", attrs: { num_heads: 2 } },
  "com.microsoft.RotaryEmbedding": { in: "T1x2x2x4 I:0 C4x2 C4x2" },
};

/** Element types that are tried: all that a number can be. Strings are left out. */
export const types = (Object.keys(dtypes) as DType[]).filter((d) => !/^(string|complex)/.test(d));

/** Versions of an op that count from opset 7 on: ONNX Runtime promises nothing below. */
function versionsOf(op: string): number[] {
  if (op.includes(".")) return [1];
  const all = (changes.get(op) ?? []).map((c) => c.version);
  return [...all.filter((v) => v < 7).slice(-1), ...all.filter((v) => v >= 7)];
}

export function domainOf(op: string): { domain: string; type: string } {
  const at = op.lastIndexOf(".");
  return { domain: at < 0 ? "" : op.slice(0, at), type: op.slice(at + 1) };
}

/** An empty model for an op of this version. */
export function modelFor(op: string, version: number): { model: Model; b: Build; opset: number } {
  const { domain } = domainOf(op);
  const opset = domain === "" ? Math.max(version, 7) : 21;
  const model = newModel("probe", opset, Math.max(4, irVersionOf(opset)));
  if (domain !== "") model.opsets.set(domain, version);
  return { model, b: Build.of(model), opset };
}

/** A node of every op, version and type. */
export function* opProbes(): Generator<Probe> {
  for (const [op, c] of Object.entries(cases)) {
    for (const version of versionsOf(op)) for (const type of types) yield* one(op, version, type, c);
  }
  yield* casts();
  yield* several();
  yield* control();
}

/** Small positive whole numbers, which every type holds. */
function numbers(n: number, from = 1): number[] {
  return Array.from({ length: n }, (_, i) => from + ((i * 3) % 4) / 2 - ((((i * 3) % 4) / 2) % 1));
}

function* one(op: string, version: number, type: DType, c: Case): Generator<Probe> {
  const { model, b, opset } = modelFor(op, version);
  const form = typeof c === "function" ? c(opset) : c;
  if (!form) return;
  const feeds: Record<string, Tensor> = {};
  const fed = (shape: number[], to: DType): Value => {
    const name = `x${Object.keys(feeds).length}`;
    const x = model.graph.input(name, "float32", shape);
    feeds[name] = tensor("float32", shape, numbers(shape.reduce((a, d) => a * d, 1)));
    return to === "float32" ? x : b.cast(x, to);
  };
  const inputs = form.in.split(" ").map((word): Value | null => {
    if (word === "-") return null;
    if (word === "E") return constantOf(b, "float32", [0], []);
    const kind = word[0]!;
    const [dims = "", values] = word.slice(1).split(":");
    const shape = dims === "" ? [values!.split(",").length] : dims === "0" ? [] : dims.split("x").map(Number);
    if (kind === "T") return fed(shape, type);
    if (kind === "S") return constantOf(b, type, [], [Number(dims)]);
    if (kind === "b") return fed(shape, "bool");
    const dtype = ({ I: "int64", F: "float32", B: "bool" } as const)[kind] ?? type;
    const list = values?.split(",").map(Number) ?? numbers(shape.reduce((a, d) => a * d, 1));
    return constantOf(b, dtype, shape, list);
  });
  const { domain, type: opType } = domainOf(op);
  const node = b.node(opType, inputs, form.attrs ?? {}, form.out ?? 1, domain);
  model.graph.addOutput(b.cast(node.outputs[0]!, "float32"));
  yield { op, version, model, node, feeds, expected: null };
}

function constantOf(b: Build, dtype: DType, shape: readonly number[], values: readonly number[]): Value {
  return b.graph.initializer("c", tensor(dtype, shape, values));
}

/** Ops on several types, and forms that attributes choose. */
function* several(): Generator<Probe> {
  const some = types.filter((t) => /^(u?int(8|16|32|64)|float(16|32|64)|bfloat16)$/.test(t));
  for (const version of versionsOf("Pow"))
    for (const base of some)
      for (const exponent of some) {
        const { model, b } = modelFor("Pow", version);
        const node = b.node("Pow", [constantOf(b, base, [2], [1, 2]), constantOf(b, exponent, [2], [3, 2])]);
        model.graph.addOutput(b.cast(node.outputs[0]!, "float32"));
        yield { op: "Pow", version, model, node, feeds: {}, expected: [1, 4] };
      }
  const few: DType[] = ["float32", "int32", "int64", "uint8"];
  for (const version of versionsOf("OneHot"))
    for (const indices of few)
      for (const depth of few)
        for (const values of [...few, "float16", "float64", "bool"] as const) {
          const { model, b } = modelFor("OneHot", version);
          const node = b.node("OneHot", [
            constantOf(b, indices, [2], [1, 0]),
            constantOf(b, depth, [], [2]),
            constantOf(b, values, [2], [0, 1]),
          ]);
          model.graph.addOutput(b.cast(node.outputs[0]!, "float32"));
          yield { op: "OneHot", version, model, node, feeds: {}, expected: [0, 1, 1, 0] };
        }
  for (const [op, gates] of [
    ["RNN", 1],
    ["GRU", 3],
    ["LSTM", 4],
  ] as const)
    for (const version of versionsOf(op).filter((v) => v >= 14))
      for (const type of some) {
        const weights = `C1x${2 * gates}x2`;
        yield* one(op, version, type, { in: `T1x3x2 ${weights} ${weights}`, attrs: { hidden_size: 2, layout: 1 } });
      }
}

/** Cast between all pairs of types, and constants of all. */
function* casts(): Generator<Probe> {
  for (const version of versionsOf("Cast"))
    for (const from of types)
      for (const to of types) {
        const { model, b } = modelFor("Cast", version);
        // A constant: the type it comes from needs no kernel that makes it.
        const node = b.node("Cast", [constantOf(b, from, [2], [0, 1])], { to: dtypes[to].code });
        model.graph.addOutput(to === "float32" ? node.outputs[0]! : b.cast(node.outputs[0]!, "float32"));
        yield { op: "Cast", version, model, node, feeds: {}, expected: [0, 1] };
      }
}

function* control(): Generator<Probe> {
  for (const version of versionsOf("If")) {
    const { model, b, opset } = modelFor("If", version);
    const x = model.graph.input("x", "float32", [1]);
    const branch = (name: string) => {
      const g = new Graph(name, model.graph);
      g.addOutput(new Build(g, opset, name).op("Identity", [x]));
      return g;
    };
    const node = b.node("If", [b.constant(tensor("bool", [], [1]))], { then_branch: branch("yes"), else_branch: branch("no") });
    model.graph.addOutput(node.outputs[0]!);
    yield { op: "If", version, model, node, feeds: { x: tensor("float32", [1], [3]) }, expected: [3] };
  }
  for (const version of versionsOf("Loop")) {
    const { model, b, opset } = modelFor("Loop", version);
    const x = model.graph.input("x", "float32", [1]);
    const g = new Graph("body", model.graph);
    const [, go, v] = [g.input("i", "int64", []), g.input("go", "bool", []), g.input("v", "float32", [1])];
    const inner = new Build(g, opset, "body");
    g.addOutput(inner.op("Identity", [go]));
    g.addOutput(inner.op("Add", [v, v]));
    const node = b.node("Loop", [b.constant(tensor("int64", [], [2])), b.constant(tensor("bool", [], [1])), x], { body: g });
    model.graph.addOutput(node.outputs[0]!);
    yield { op: "Loop", version, model, node, feeds: { x: tensor("float32", [1], [3]) }, expected: [12] };
  }
  for (const version of versionsOf("Scan").filter((v) => v > 8)) {
    const { model, b, opset } = modelFor("Scan", version);
    const x = model.graph.input("x", "float32", [3, 1]);
    const g = new Graph("body", model.graph);
    const v = g.input("v", "float32", [1]);
    g.addOutput(new Build(g, opset, "body").op("Add", [v, v]));
    const node = b.node("Scan", [x], { body: g, num_scan_inputs: 1 });
    model.graph.addOutput(node.outputs[0]!);
    yield { op: "Scan", version, model, node, feeds: { x: tensor("float32", [3, 1], [1, 2, 3]) }, expected: [2, 4, 6] };
  }
}
