/** One small node of every op that may compute in 16-bit floats, and of those that may not: what the probe and the test of the table run. */
import { type AttrInput, float, type Model, newModel, type Value } from "../../src/ir/graph.ts";
import { open } from "../../src/runtime/session.ts";
import { type DType, dtypes, sizeOf } from "../../src/tensor/dtype.ts";
import { random } from "../../src/tensor/random.ts";
import { integersOf, numbersOf, type Tensor, tensor } from "../../src/tensor/tensor.ts";

/** A float input of that shape, with numbers from `within` (default: normal ones); a constant; or none. */
type Input = { readonly float: readonly number[]; readonly within?: readonly [number, number] } | Tensor | null;

export interface Sample {
  readonly inputs: readonly Input[];
  readonly attrs?: Readonly<Record<string, AttrInput>>;
  readonly outputs?: number;
  readonly domain?: string;
  /** Default 21. */
  readonly opset?: number;
  /** Its numbers are drawn anew each run. */
  readonly random?: true;
}

const f = (...shape: number[]): Input => ({ float: shape });
const p = (...shape: number[]): Input => ({ float: shape, within: [0.25, 0.9] });
const t = (dtype: DType, shape: readonly number[], values: readonly number[]): Input => tensor(dtype, shape, values);
const i = (...ints: number[]): Input => t("int64", [ints.length], ints);
const s = (int: number): Input => t("int64", [], [int]);
const op = (inputs: readonly Input[], attrs: Sample["attrs"] = {}, more: Omit<Sample, "inputs" | "attrs"> = {}): Sample => ({
  inputs,
  attrs,
  ...more,
});
const ms = (inputs: readonly Input[], attrs: Sample["attrs"] = {}, outputs = 1) => op(inputs, attrs, { outputs, domain: "com.microsoft" });

const each = (names: string, sample: Sample) => Object.fromEntries(names.split(" ").map((n) => [n, sample]));
const x = f(2, 6);
const image = f(1, 4, 6, 6);

export const samples: Readonly<Record<string, Sample>> = {
  ...each(
    "Abs Asinh Atan Ceil Clip Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish Hardmax Identity IsInf IsNaN LeakyRelu LogSoftmax LpNormalization Mish Neg NonZero Relu Round Selu Shape Shrink Sigmoid Sign Sin Sinh Size Softmax Softplus Softsign Tan Tanh ThresholdedRelu Transpose Flatten Dropout Trilu ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare ArgMax ArgMin",
    op([x]),
  ),
  Swish: op([x], {}, { opset: 24 }),
  ...each("Acos Asin Atanh Log Reciprocal Sqrt ReduceLogSum", op([p(2, 6)])),
  Acosh: op([{ float: [2, 6], within: [1.1, 3] }]),
  ...each("Add Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mul Sub Sum", op([x, x])),
  Mod: op([p(2, 6), p(2, 6)], { fmod: 1 }),
  Pow: op([p(2, 6), f(1)]),
  PRelu: op([x, f(6)]),
  Where: op([t("bool", [6], [1, 0, 1, 0, 1, 0]), x, x]),
  GridSample: op([image, f(1, 3, 3, 2)]),
  AveragePool: op([image], { kernel_shape: [2, 2] }),
  MaxPool: op([image], { kernel_shape: [2, 2] }, { outputs: 2 }),
  LpPool: op([image], { kernel_shape: [2, 2] }),
  MaxUnpool: op([f(1, 1, 2, 2), t("int64", [1, 1, 2, 2], [5, 7, 13, 15])], { kernel_shape: [2, 2], strides: [2, 2] }),
  MaxRoiPool: op([image, t("float32", [1, 5], [0, 0, 0, 3, 3])], { pooled_shape: [1, 1] }),
  RoiAlign: op([image, p(1, 4), i(0)], { output_height: 2, output_width: 2 }),
  ...each("GlobalAveragePool GlobalMaxPool GlobalLpPool", op([image])),
  BatchNormalization: op([image, f(4), f(4), f(4), p(4)]),
  InstanceNormalization: op([image, f(4), f(4)]),
  GroupNormalization: op([image, f(4), f(4)], { num_groups: 2 }),
  LayerNormalization: op([x, f(6), f(6)], {}, { outputs: 3 }),
  SimplifiedLayerNormalization: op([x, f(6)]),
  RMSNormalization: op([x, f(6)], {}, { opset: 23 }),
  LRN: op([image], { size: 3 }),
  Bernoulli: op([p(2, 6)], {}, { random: true }),
  Cast: op([x], { to: 1 }),
  CastLike: op([x, x]),
  Col2Im: op([f(1, 4, 9), i(4, 4), i(2, 2)]),
  Compress: op([x, t("bool", [2], [1, 0])], { axis: 0 }),
  Concat: op([x, x], { axis: 1 }),
  Constant: op([], { value: tensor("float32", [2], [1, 2]) }),
  ConstantOfShape: op([i(2, 3)], { value: tensor("float32", [1], [0.5]) }),
  Conv: op([image, f(3, 4, 3, 3), f(3)]),
  ConvTranspose: op([image, f(4, 3, 3, 3), f(3)]),
  CumSum: op([x, s(1)]),
  DFT: op([f(1, 8, 1), null, s(1)]),
  STFT: op([f(1, 16, 1), s(4), f(8)]),
  DequantizeLinear: op(
    [
      t(
        "int4",
        [4, 4],
        Array.from({ length: 16 }, (_, k) => k - 8),
      ),
      p(2, 4),
    ],
    { block_size: 2, axis: 0 },
  ),
  DepthToSpace: op([image], { blocksize: 2 }),
  SpaceToDepth: op([image], { blocksize: 2 }),
  Det: op([f(3, 3)]),
  Einsum: op([x, x], { equation: "ij,kj->ik" }),
  Expand: op([f(1, 6), i(3, 6)]),
  EyeLike: op([x], { dtype: 1 }),
  GRU: op([f(3, 1, 4), f(1, 9, 4), f(1, 9, 3), f(1, 18)], { hidden_size: 3 }, { outputs: 2 }),
  LSTM: op([f(3, 1, 4), f(1, 12, 4), f(1, 12, 3), f(1, 24)], { hidden_size: 3 }, { outputs: 3 }),
  RNN: op([f(3, 1, 4), f(1, 3, 4), f(1, 3, 3), f(1, 6)], { hidden_size: 3 }, { outputs: 2 }),
  Gather: op([x, i(1, 0)]),
  GatherElements: op([f(3), i(1, 0)]),
  GatherND: op([f(3), t("int64", [1, 1], [1])]),
  Gemm: op([x, f(6, 3), f(3)]),
  MatMul: op([x, f(6, 3)]),
  Multinomial: op([x], { sample_size: 3 }, { random: true }),
  OneHot: op([i(0, 1), s(3), f(2)]),
  Pad: op([x, i(0, 1, 0, 1), f()]),
  ...each("RandomNormalLike RandomUniformLike", op([x], {}, { random: true })),
  Reshape: op([x, i(3, 4)]),
  Resize: op([image, null, t("float32", [4], [1, 1, 2, 2])], { mode: "nearest" }),
  Upsample: op([image, t("float32", [4], [1, 1, 2, 2])], {}, { opset: 9 }),
  ReverseSequence: op([x, i(2, 1, 1, 1, 2, 2)]),
  RotaryEmbedding: op([f(1, 2, 3, 4), f(1, 3, 2), f(1, 3, 2)], {}, { opset: 23 }),
  Scatter: op([f(3), i(1), f(1)], {}, { opset: 10 }),
  ScatterElements: op([f(3), i(1), f(1)]),
  ScatterND: op([f(3, 2), t("int64", [1, 1], [1]), f(1, 2)]),
  Slice: op([x, i(0, 1), i(2, 4)]),
  Split: op([x], { axis: 1, num_outputs: 2 }, { outputs: 2 }),
  Squeeze: op([f(1, 3), i(0)]),
  Tile: op([x, i(1, 2)]),
  TopK: op([x, i(2)], {}, { outputs: 2 }),
  Unique: op([x], {}, { outputs: 4 }),
  Unsqueeze: op([x, i(0)]),
  // ONNX Runtime's own.
  "com.microsoft.BiasGelu": ms([x, f(6)]),
  "com.microsoft.FastGelu": ms([x, f(6)]),
  "com.microsoft.Gelu": ms([x]),
  "com.microsoft.QuickGelu": ms([x]),
  "com.microsoft.FusedMatMul": ms([x, f(6, 3)], { alpha: float(0.5) }),
  "com.microsoft.SkipLayerNormalization": ms([f(1, 2, 6), f(1, 2, 6), f(6), f(6)]),
  "com.microsoft.SkipSimplifiedLayerNormalization": ms([f(1, 2, 6), f(1, 2, 6), f(6)]),
  "com.microsoft.EmbedLayerNormalization": ms([t("int32", [1, 2], [1, 0]), null, f(3, 6), f(4, 6), null, f(6), f(6)], {}, 2),
  "com.microsoft.Attention": ms([f(1, 2, 8), f(8, 24), f(24)], { num_heads: 2 }),
  "com.microsoft.MultiHeadAttention": ms([f(1, 2, 8), f(1, 2, 8), f(1, 2, 8)], { num_heads: 2 }),
  "com.microsoft.GroupQueryAttention": ms(
    [f(1, 2, 16), f(1, 2, 16), f(1, 2, 16), null, null, t("int32", [1], [1]), t("int32", [1], [2])],
    { num_heads: 2, kv_num_heads: 2 },
    3,
  ),
  "com.microsoft.RotaryEmbedding": ms([f(1, 2, 8), i(0), f(3, 4), f(3, 4)]),
  "com.microsoft.MatMulNBits": ms(
    [
      f(2, 32),
      t(
        "uint8",
        [3, 1, 16],
        Array.from({ length: 48 }, (_, k) => k),
      ),
      p(3),
    ],
    { K: 32, N: 3, bits: 4, block_size: 32 },
  ),
  "com.microsoft.MatMulBnb4": ms(
    [
      f(2, 64),
      t(
        "uint8",
        [96],
        Array.from({ length: 96 }, (_, k) => k),
      ),
      p(3),
    ],
    { K: 64, N: 3, block_size: 64, quant_type: 1 },
  ),
  "com.microsoft.GatherBlockQuantized": ms(
    [
      t(
        "int4",
        [4, 16],
        Array.from({ length: 64 }, (_, k) => (k % 16) - 8),
      ),
      i(1, 0),
      p(4, 1),
    ],
    {
      block_size: 16,
      gather_axis: 0,
      quantize_axis: 1,
    },
  ),
  // Ops that no schema has in 16 bits, or that the runtime has no kernel for and puts no casts around.
  ...each("HannWindow HammingWindow BlackmanWindow", op([s(8)], { output_datatype: 1 })),
  ...each("RandomNormal RandomUniform", op([], { shape: [2, 3], dtype: 1 }, { random: true })),
  AffineGrid: op([f(1, 2, 3), i(1, 2, 4, 4)], {}, { opset: 20 }),
  MeanVarianceNormalization: op([image], {}, { opset: 18 }),
  Celu: op([x]),
  NonMaxSuppression: op([f(1, 3, 4), f(1, 1, 3)]),
  Range: op([t("float32", [], [0]), t("float32", [], [3]), t("float32", [], [1])]),
  DynamicQuantizeLinear: op([x], {}, { outputs: 3 }),
};

/** The node alone in a model, its floats of type `dtype`; feeds by name, drawn from the op's name, of numbers that 16 bits hold. */
export function modelOf(
  name: string,
  dtype: "float32" | "float16",
  at?: number,
): { readonly model: Model; readonly feeds: Record<string, Tensor> } {
  const { inputs, attrs = {}, outputs = 1, domain = "" } = samples[name]!;
  const opset = at ?? samples[name]!.opset ?? 21;
  const model = newModel(name, opset, opset > 21 ? 11 : 10);
  if (domain) model.opsets.set(domain, 1);
  const { graph } = model;
  const r = random(1, name);
  const feeds: Record<string, Tensor> = {};
  const opType = name.replace("com.microsoft.", "");
  const values = inputs.map((input, k): Value | null => {
    if (!input) return null;
    if ("dtype" in input) {
      const scales = /^(Resize|Upsample)$/.test(opType);
      return graph.initializer(`c${k}`, input.dtype === "float32" && !scales ? inType(input, dtype) : input);
    }
    const into = new Float32Array(sizeOf(input.float));
    const drawn = tensor("float16", input.float, input.within ? r.fillUniform(into, ...input.within) : r.fillNormal(into));
    const v = graph.input(`x${k}`, dtype, input.float);
    feeds[v.name] = inType(drawn, dtype);
    return v;
  });
  const retyped = Object.fromEntries(Object.entries(attrs).map(([k, a]) => [k, retype(k, a, dtype)]));
  const node = graph.append(opType, values, { name, attrs: retyped, outputs, domain });
  for (const o of node.outputs) if (o) graph.addOutput(o);
  return { model, feeds };
}

const inType = (x: Tensor, dtype: DType) => (x.dtype === dtype ? x : tensor(dtype, x.shape, numbersOf(x)));

function retype(name: string, a: AttrInput, dtype: DType): AttrInput {
  if (/^(to|dtype|output_datatype)$/.test(name)) return dtypes[dtype].code;
  return typeof a === "object" && "dtype" in a ? inType(a as Tensor, dtype) : a;
}

/** The runtime takes a node in float32 but not in float16. */
export class Refused extends Error {}

/** Runs the op's node in both types. Errors: {@link Refused}; what the runtime says against the float32 one. Returns the largest difference, relative to the largest number. */
export async function difference(name: string, opset?: number): Promise<number> {
  const want = await run(name, "float32", opset);
  const got = await run(name, "float16", opset).catch((e: Error) => {
    throw new Refused(e.message);
  });
  let worst = 0;
  want.forEach((x, k) => {
    const y = got[k]!;
    if (x.length !== y.length) throw new Error(`output ${k} has ${y.length} elements instead of ${x.length}`);
    const most = Math.max(...x.map(Math.abs), 1e-30);
    x.forEach((v, i) => {
      worst = Math.max(worst, Object.is(v, y[i]) ? 0 : Math.abs(v - y[i]!) / most);
    });
  });
  return worst;
}

async function run(name: string, dtype: "float32" | "float16", opset?: number): Promise<number[][]> {
  const { model, feeds } = modelOf(name, dtype, opset);
  const session = await open(model, { threads: 1 });
  try {
    return Object.values(await session.run(feeds)).map(integersOf);
  } finally {
    await session.release();
  }
}
