/** What ONNX and the runtime compute in 16-bit floats, by op: measured by scripts/halfops.ts with ONNX Runtime 1.30, types as in onnx 1.23's schemas. */
import type { Node } from "../../ir/graph.ts";

// Op, then the first opset in which its schema takes float16 where that is not the op's first. Not in it: Celu, NonMaxSuppression, Range and
// the ops on sequences (their schemas know no float16, or pass lists on), the other quantized ops (their scales are float32 and so is what
// they give); and what the runtime refuses: RandomNormal, RandomUniform and the windows, which it has in float32 alone (it puts casts around a node
// that takes float16, but these take none), AffineGrid and MeanVarianceNormalization (their bodies mix types at some opsets).
const table = `
Abs Acos Acosh Add ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Bernoulli Cast CastLike Ceil
Clip Col2Im Compress Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum:14 DFT DepthToSpace DequantizeLinear:19 Det Div Dropout Einsum Elu Equal:11
Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater
GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf:20
IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul Max MaxPool MaxRoiPool MaxUnpool
Mean Min Mish Mod Mul Multinomial Neg NonZero OneHot PRelu Pad Pow RMSNormalization RNN RandomNormalLike
RandomUniformLike Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign RotaryEmbedding Round STFT Scatter ScatterElements ScatterND Selu Shape Shrink
Sigmoid Sign SimplifiedLayerNormalization Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh
ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze Upsample Where
`;

/** Of ONNX Runtime's own ops, those that take float16. */
const microsoft = `
Attention BiasGelu EmbedLayerNormalization FastGelu FusedMatMul GatherBlockQuantized Gelu:9 GroupQueryAttention MatMulBnb4 MatMulNBits MultiHeadAttention QuickGelu
RotaryEmbedding SkipLayerNormalization SkipSimplifiedLayerNormalization
`;

const parsed = (entries: string): ReadonlyMap<string, number> =>
  new Map(
    entries
      .trim()
      .split(/\s+/)
      .map((entry) => {
        const [op, opset] = entry.split(":");
        return [op!, Number(opset ?? 1)] as const;
      }),
  );

/** Domain → op → the first opset of the default domain at which it takes float16. */
export const halfOps: ReadonlyMap<string, ReadonlyMap<string, number>> = new Map([
  ["", parsed(table)],
  ["com.microsoft", parsed(microsoft)],
]);

/** What transformers.js's converter keeps in float32 (its DEFAULT_OP_BLOCK_LIST): older loaders have no half kernels for these. */
export const transformersBlockList =
  "ArrayFeatureExtractor Binarizer CastMap CategoryMapper DictVectorizer FeatureVectorizer Imputer LabelEncoder LinearClassifier LinearRegressor Normalizer OneHotEncoder RandomUniformLike SVMClassifier SVMRegressor Scaler TreeEnsembleClassifier TreeEnsembleRegressor ZipMap NonMaxSuppression TopK RoiAlign Resize CumSum Min Max Upsample RandomNormalLike Cast".split(
    " ",
  );

/** Why a node cannot take and give 16-bit floats at this opset; null: it can. */
export function noHalf(node: Node, opset: number): string | null {
  const from = halfOps.get(node.domain)?.get(node.opType);
  const op = node.domain ? `${node.domain}.${node.opType}` : node.opType;
  if (from === undefined) return `no 16-bit ${op} is known`;
  return from > opset ? `${op} takes float16 from opset ${from} on; this is ${opset}` : null;
}

/** Ops whose first input may have any type: no Cast is needed before them. */
const takesAny = /^(Cast|CastLike|Shape|Size)$/;
/** Those too, if they say in which type they give their output. */
const takesAnyIfTyped = /^(RandomNormalLike|RandomUniformLike|EyeLike)$/;

/** How input `index` of an op that computes in half takes floats: like the others, as float32 always, or as they come. */
export function inputKind(node: Node, index: number): "half" | "float" | "any" {
  if (node.domain !== "") return "half";
  if (index === 0 && (takesAny.test(node.opType) || (takesAnyIfTyped.test(node.opType) && node.attrs.has("dtype")))) return "any";
  // The scales of a Resize are float32 in its schema; its regions may be either.
  if (node.opType === "Resize" || node.opType === "Upsample") return index === 0 ? "half" : "float";
  return "half";
}

/** How output `index` of an op that computes in half gives floats. */
export function outputKind(node: Node, index: number): "half" | "float" {
  // Mean and deviation are in the type the sums are taken in (stash_type: float32).
  return /^(RMS|Simplified)?LayerNormalization$/.test(node.opType) && index > 0 ? "float" : "half";
}

/** The attribute that says in which type an op gives its output, if it has one. */
export function typeAttribute(node: Node): string | null {
  if (node.domain !== "") return null;
  if (node.opType === "Cast") return "to";
  if (node.opType === "DequantizeLinear") return "output_dtype";
  return /^(RandomNormalLike|RandomUniformLike|EyeLike|Bernoulli)$/.test(node.opType) ? "dtype" : null;
}
