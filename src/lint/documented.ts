/** What runtimes take that cannot be measured here, as their own documents say. None of it was tried. */
import type { DType } from "../tensor/dtype.ts";

export interface Documented {
  /** What an op that is not listed means: an error, or (a warning) only that it runs elsewhere. */
  readonly missing: "error" | "warning";
  /** What becomes of such ops, in words. */
  readonly otherwise: string;
  /** The document, with the version it is of. */
  readonly document: string;
  /** Opsets it takes, from … to. */
  readonly opsets?: readonly [number, number];
  /** Newest IR version. */
  readonly ir?: number;
  /** Ops it takes, each with the opsets of its definitions where not all since 7: "CumSum@11", "GridSample@16-19". null: no list. */
  readonly ops: string | null;
  /** Ops it takes by the element types it takes them with, instead of `ops`. */
  readonly typed?: readonly (readonly [types: string, ops: string])[];
  /** Element types that it has none of. */
  readonly refused?: readonly DType[];
  /** Why sparse initializers are not taken, and by what; without it ONNX Runtime loads the file, and makes them dense before anything else sees them. */
  readonly sparse?: { readonly refused: string; readonly basis: string };
  /** What else is demanded. */
  readonly demands?: readonly ("zeroPoint0" | "fixedShapes")[];
}

const cpu = "ONNX Runtime runs these on the CPU instead, and copies in and out";

export const documented: Readonly<Record<string, Documented>> = {
  webgpu: {
    missing: "warning",
    otherwise: cpu,
    document: "onnxruntime-web 1.30.0, docs/webgpu-operators.md",
    ops: `
      Abs Acos Acosh@9 Add ArgMax ArgMin Asin Asinh@9 Atan Atanh@9 com.microsoft.Attention AveragePool BatchNormalization
      com.microsoft.BiasAdd com.microsoft.BiasSplitGelu Cast Ceil Clip Concat Conv ConvTranspose Cos Cosh@9 CumSum@11 DFT@17
      DepthToSpace@11 DequantizeLinear@10 Div Einsum@12 Elu Equal Erf@9 Exp Expand@8 com.microsoft.FastGelu Flatten Floor
      com.microsoft.FusedConv Gather com.microsoft.GatherBlockQuantized GatherElements@11 GatherND@11 Gelu@20 com.microsoft.Gelu
      Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual@12 GridSample@16-19 com.microsoft.GroupQueryAttention
      HardSigmoid HardSwish@14 If InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual@12 Log MatMul
      com.microsoft.MatMulNBits MaxPool Mul com.microsoft.MultiHeadAttention Neg Not Pad Pow com.microsoft.QuickGelu Range@11
      Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
      ReduceSumSquare Relu Reshape Resize@10 com.microsoft.RotaryEmbedding ScatterND@11 Shape Sigmoid SimplifiedLayerNormalization
      Sin Sinh@9 com.microsoft.SkipLayerNormalization com.microsoft.SkipSimplifiedLayerNormalization Slice Softmax Split Sqrt
      Squeeze Sub Tan Tanh ThresholdedRelu@10 Tile Transpose Unsqueeze Where@9
    `,
  },
  webnn: {
    missing: "warning",
    otherwise: cpu,
    document: "onnxruntime-web 1.30.0, docs/webnn-operators.md",
    ops: `
      Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Clip Concat Conv ConvInteger@10 ConvTranspose Cos
      CumSum@11 Div DepthToSpace DequantizeLinear@10 Dropout DynamicQuantizeLinear@11 Einsum@12 Elu Equal Erf Exp Expand@8 Flatten
      Floor Gather com.microsoft.GatherBlockQuantized GatherElements@11 GatherND@11 Gelu@20 Gemm GlobalAveragePool GlobalMaxPool
      Greater GreaterOrEqual@12 com.microsoft.GroupQueryAttention GRU HardSigmoid HardSwish@14 Identity InstanceNormalization
      IsNaN@9 IsInf@10 LayerNormalization LeakyRelu Less LessOrEqual@12 Log LpNormalization LpPool LRN LSTM MatMul
      MatMulInteger@10 com.microsoft.MatMulNBits Max MaxPool Min Mul com.microsoft.MultiHeadAttention Neg Not Or Pad Pow PRelu
      QuantizeLinear@10 Reciprocal Round@11 ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
      ReduceSumSquare Relu Reshape Resize@11 RotaryEmbedding@23 ScatterElements@11 ScatterND@11 Shape SimplifiedLayerNormalization
      Sigmoid Sign@9 com.microsoft.SkipLayerNormalization com.microsoft.SkipSimplifiedLayerNormalization Softplus Softsign Sin
      Slice Softmax Split Sqrt Squeeze Sub Tan Tanh Tile Transpose Trilu@14 Unsqueeze Where Xor
    `,
  },
  tensorrt: {
    missing: "error",
    otherwise: "the parser refuses these, and ONNX Runtime's TensorRT provider leaves them to another one",
    document: "onnx-tensorrt, docs/operators.md (TensorRT 10.0)",
    opsets: [9, 20],
    ops: null,
    typed: [
      [
        "float32 float16 bfloat16 int32 int64",
        `
          Abs Add ArgMax ArgMin DepthToSpace Div Equal Greater GreaterOrEqual IsNaN Less LessOrEqual Max Min Mod Mul Neg Pad Range
          ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu
          Scatter ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum TopK
        `,
      ],
      [
        "float32 float16 bfloat16",
        `
          Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Clip Conv ConvTranspose Cos Cosh CumSum
          Dropout Einsum Elu Erf Exp Floor Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool GroupNormalization GRU HardSigmoid
          HardSwish Hardmax ImageScaler InstanceNormalization IsInf LayerNormalization LeakyRelu Log LogSoftmax LRN LSTM
          LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization ParametricSoftplus Pow PRelu QuantizeLinear RandomNormal
          RandomNormalLike RandomUniform RandomUniformLike Reciprocal Resize RNN Round ScaledTanh Scan Selu Sigmoid Sin Sinh
          Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu Upsample
        `,
      ],
      [
        "bool",
        `
          And Not Or Xor
        `,
      ],
      [
        "float32 float16 bfloat16 int32 int64 uint8 bool",
        `
          Cast CastLike
        `,
      ],
      [
        "float32 float16 bfloat16 int32 int64 bool",
        `
          Concat Constant ConstantOfShape Expand EyeLike Flatten Gather GatherElements GatherND Identity If Loop OneHot Reshape
          ReverseSequence Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where
        `,
      ],
      [
        "float32 float16",
        `
          DeformConv GridSample Mish NonMaxSuppression NonZero RoiAlign
        `,
      ],
      [
        "int8 float8e4m3fn int4",
        `
          DequantizeLinear
        `,
      ],
      [
        "float32 float16 bfloat16 int8 int32 int64",
        `
          Gelu
        `,
      ],
      [
        "float32 float16 bfloat16 float8e4m3fn int32 int64",
        `
          Mean
        `,
      ],
    ],
    sparse: { refused: "the parser reads dense initializers alone", basis: "onnx-tensorrt, ModelImporter.cpp" },
    demands: ["zeroPoint0"],
  },
  coreml: {
    missing: "warning",
    otherwise: cpu,
    document: "onnxruntime, coreml_supported_mlprogram_ops.md (MLProgram)",
    ops: `
      Add ArgMax AveragePool Cast Ceil Clip Concat Conv ConvTranspose Cos DepthToSpace Div Elu Erf Exp GatherND Gelu Gemm
      GlobalAveragePool GlobalMaxPool GridSample GroupNormalization HardSigmoid Identity InstanceNormalization LayerNormalization
      LeakyRelu MatMul Max MaxPool Mul PRelu Pow Range Reciprocal ReduceMax ReduceMean ReduceSum Relu Reshape Resize Round Shape
      Sigmoid Sin Slice Softmax Softplus Split Sqrt Squeeze Sub Tanh Tile Transpose Unsqueeze com.microsoft.FusedConv
      com.microsoft.QuickGelu
    `,
  },
  qnn: {
    missing: "warning",
    otherwise: cpu,
    document: "onnxruntime, docs/execution-providers/QNN-ExecutionProvider.md (QNN 2.22)",
    ops: `
      Abs Add And ArgMax ArgMin Asin Atan AveragePool BatchNormalization Cast Clip Concat Conv ConvTranspose Cos DepthToSpace
      DequantizeLinear Div Elu Equal Exp Expand Flatten Floor Gather Gelu Gemm GlobalAveragePool Greater GreaterOrEqual GridSample
      HardSwish InstanceNormalization LRN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization MatMul Max
      MaxPool Min Mul Neg Not Or PRelu Pad Pow QuantizeLinear ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Resize
      Round Sigmoid Sign Sin Slice Softmax SpaceToDepth Split Sqrt Squeeze Sub Tanh Tile TopK Transpose Unsqueeze Where
      com.microsoft.DequantizeLinear com.microsoft.Gelu com.microsoft.QuantizeLinear
    `,
    demands: ["fixedShapes"],
  },
  nnapi: {
    missing: "warning",
    otherwise: cpu,
    document: "onnxruntime, docs/execution-providers/NNAPI-ExecutionProvider.md",
    ops: `
      Abs Add AveragePool BatchNormalization Cast Clip Concat Conv DepthToSpace DequantizeLinear Div Elu Exp Flatten Floor Gather
      Gemm GlobalAveragePool GlobalMaxPool Identity LRN LeakyRelu Log MatMul Max MaxPool Min Mul Neg PRelu Pad Pow QLinearConv
      QLinearMatMul QuantizeLinear ReduceMean Relu Reshape Resize Sigmoid Sin Slice Softmax Split Sqrt Squeeze Sub Tanh Transpose
      Unsqueeze com.microsoft.QLinearAdd com.microsoft.QLinearAveragePool com.microsoft.QLinearSigmoid
    `,
  },
  "transformers.js@2": {
    missing: "error",
    otherwise: "its runtime has no such ops",
    document: "huggingface/transformers.js issue 847 (IR 8) and onnxruntime, docs/reference/compatibility (onnxruntime-web 1.14: opset 18)",
    opsets: [7, 18],
    ir: 8,
    ops: null,
    sparse: { refused: "nothing says that its runtime takes them", basis: "onnxruntime-web 1.14 was not tried" },
  },
};
