/** What onnxruntime-web 1.30.0 takes, measured: see scripts/probe.ts. */
import type { Measured } from "../runtime.ts";

const measured: Measured = {
  runtime: "onnxruntime-web 1.30.0",
  machine: "AMD EPYC, Node 20.20.2",
  facts: {
    opset: 26,
    ir: 13,
    saturates: 0,
    "io/bfloat16": 0,
    "io/float8e4m3fn": 0,
    "io/float8e5m2": 0,
    "io/int4": 1,
    "io/uint4": 1,
    "io/int2": 0,
    "io/uint2": 0,
    "sparse/int8": 1,
    "sparse/int16": 1,
    "sparse/int32": 1,
    "sparse/int64": 1,
    "blocked/int4": 0,
    "blocked/uint4": 0,
    "blocked/int2": 0,
    "blocked/uint2": 0,
    "blocked/int8": 0,
    "blocked/uint8": 0,
    "time/uint8 Conv / float32 Conv": 0.398,
    "time/int8 Conv / uint8 Conv": 1.01,
    "time/dynamic Conv / float32 Conv": 4.33,
    "time/uint8 depthwise Conv / float32 depthwise Conv": 1.76,
    "time/float16 Conv / float32 Conv": 1,
    "time/float16 MatMul / float32 MatMul": 0.993,
    "time/4-bit MatMulNBits of 1 rows / float32 MatMul": 22.6,
    "time/4-bit MatMulNBits of 1 rows at level 4 / float32 MatMul": 22.7,
    "time/4-bit MatMulNBits of 32 rows / float32 MatMul": 1.81,
    "time/4-bit MatMulNBits of 32 rows at level 4 / float32 MatMul": 1.8,
  },
  rows: `
Abs 6: ok float32,uint8,int8,uint16,int16,int32,int64,float64,uint32,uint64; cast float16
Abs 13: ok float32,uint8,int8,uint16,int16,int32,int64,float64,uint32,uint64; cast float16; none bfloat16
Acos 7: ok float32; cast float16; none float64
Acos 22: ok float32; cast float16; none float64,bfloat16
Acosh 9: ok float32; cast float16; none float64
Acosh 22: ok float32; cast float16; none float64,bfloat16
Asin 7: ok float32; cast float16; none float64
Asin 22: ok float32; cast float16; none float64,bfloat16
Asinh 9: ok float32; cast float16; none float64
Asinh 22: ok float32; cast float16; none float64,bfloat16
Atan 7: ok float32; cast float16; none float64
Atan 22: ok float32; cast float16; none float64,bfloat16
Atanh 9: ok float32; cast float16; none float64
Atanh 22: ok float32; cast float16; none float64,bfloat16
Ceil 6: ok float32,float64; cast float16
Ceil 13: ok float32,float64; cast float16; none bfloat16
Celu 12: ok float32
Cos 7: ok float32,float64; cast float16
Cos 22: ok float32,float64; cast float16; none bfloat16
Cosh 9: ok float32; cast float16; none float64
Cosh 22: ok float32; cast float16; none float64,bfloat16
Elu 6: ok float32; cast float16; none float64
Elu 22: ok float32; cast float16; none float64,bfloat16
Erf 9: ok float32; none uint8,int8,uint16,int16,int32,int64,float64,uint32,uint64; cast float16
Erf 13: ok float32; cast float16; none float64,bfloat16
Exp 6: ok float32,float64; cast float16
Exp 13: ok float32,float64; cast float16; none bfloat16
Floor 6: ok float32,float64; cast float16
Floor 13: ok float32,float64; cast float16; none bfloat16
Gelu 20: ok float32; cast float16; none float64,bfloat16
GlobalAveragePool 1: ok float32; cast float16; none float64
GlobalAveragePool 22: ok float32; cast float16; none float64,bfloat16
GlobalLpPool 2: ok float32; cast float16; none float64
GlobalLpPool 22: none float32,float16,float64,bfloat16
GlobalMaxPool 1: ok float32; cast float16; none float64
GlobalMaxPool 22: ok float32; cast float16; none float64,bfloat16
HardSigmoid 6: ok float32; cast float16; none float64
HardSigmoid 22: ok float32; cast float16; none float64,bfloat16
HardSwish 14: ok float32; cast float16; none float64
HardSwish 22: ok float32; cast float16; none float64,bfloat16
Hardmax 1,11: ok float32; cast float16; none float64
Hardmax 13: ok float32; cast float16; none float64,bfloat16
Identity 1: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64
Identity 13,14,16: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16
Identity 19: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz
Identity 21: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz; none uint4,int4
Identity 23: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz; none uint4,int4; untried float4e2m1
Identity 24: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz; none uint4,int4,float8e8m0; untried float4e2m1
Identity 25: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz; none uint4,int4,float8e8m0,uint2,int2; untried float4e2m1
IsInf 10: ok float32,float64
IsInf 20: ok float32,float16,float64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz
IsNaN 9: ok float32,float16,float64
IsNaN 13: ok float32,float16,float64; none bfloat16
IsNaN 20: ok float32,float16,float64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz
LeakyRelu 6: ok float32; cast float16; none float64
LeakyRelu 16: ok float32,float64; cast float16; none bfloat16
Log 6: ok float32,float64; cast float16
Log 13: ok float32,float64; cast float16; none bfloat16
LogSoftmax 1,11: ok float32,float64; cast float16
LogSoftmax 13: ok float32,float64; cast float16; none bfloat16
LpNormalization 1: ok float32,float64; cast float16
LpNormalization 22: ok float32,float64; cast float16; none bfloat16
MeanVarianceNormalization 9,13: ok float32
Mish 18: ok float32,float64; cast float16
Mish 22: ok float32; cast float16; none float64,bfloat16
Neg 6: ok float32,int8,int16,int32,int64,float64; cast float16
Neg 13: ok float32,int8,int16,int32,int64,float64; cast float16; none bfloat16
NonZero 9: ok float32,uint8,int32,int64,bool; none int8,uint16,int16,float64,uint32,uint64; cast float16
NonZero 13: ok float32,uint8,int32,int64,bool; none int8,uint16,int16,float64,uint32,uint64,bfloat16; cast float16
Not 1: ok bool
Reciprocal 6: ok float32,float64; cast float16
Reciprocal 13: ok float32,float64; cast float16; none bfloat16
Relu 6: ok float32,float64; cast float16
Relu 13: ok float32,float64; cast float16; none bfloat16
Relu 14: ok float32,int8,int32,float64; none int16,int64,bfloat16; cast float16
Round 11: ok float32,float16,float64
Round 22: ok float32,float16,float64; none bfloat16
Selu 6: ok float32; cast float16; none float64
Selu 22: ok float32; cast float16; none float64,bfloat16
Shape 1: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64
Shape 13,15: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16
Shape 19: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16; none float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz
Shape 21: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz; none uint4,int4
Shape 23: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz; none uint4,int4; untried float4e2m1
Shape 24: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz; none uint4,int4,float8e8m0; untried float4e2m1
Shape 25: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz; none uint4,int4,float8e8m0,uint2,int2; untried float4e2m1
Shrink 9: ok float32,uint8,int8,uint16,int16,int32,int64,float16,float64,uint32,uint64
Sigmoid 6: ok float32,float64; cast float16
Sigmoid 13: ok float32,float64; cast float16; none bfloat16
Sign 9: ok float32,uint8,int8,uint16,int16,int32,int64,float16,float64,uint32,uint64
Sign 13: ok float32,uint8,int8,uint16,int16,int32,int64,float16,float64,uint32,uint64,bfloat16
Sin 7: ok float32,float64; cast float16
Sin 22: ok float32,float64; cast float16; none bfloat16
Sinh 9: ok float32; cast float16; none float64
Sinh 22: ok float32; cast float16; none float64,bfloat16
Size 1: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float64,uint32,uint64; cast float16
Size 13: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float64,uint32,uint64; cast float16; none bfloat16
Size 19: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float64,uint32,uint64; cast float16; none bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz
Size 21: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float64,uint32,uint64; cast float16; none bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4
Size 23: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float64,uint32,uint64; cast float16; none bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4; untried float4e2m1
Size 24: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float64,uint32,uint64; cast float16; none bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float8e8m0; untried float4e2m1
Size 25: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float64,uint32,uint64; cast float16; none bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float8e8m0,uint2,int2; untried float4e2m1
Softmax 1,11: ok float32,float64; cast float16
Softmax 13: ok float32,float64; cast float16; none bfloat16
Softplus 1: ok float32; cast float16; none float64
Softplus 22: ok float32; cast float16; none float64,bfloat16
Softsign 1: ok float32; cast float16; none float64
Softsign 22: ok float32; cast float16; none float64,bfloat16
Sqrt 6: ok float32,float64; cast float16
Sqrt 13: ok float32,float64; cast float16; none bfloat16
Swish 24: ok float32,float64; cast float16; none bfloat16
Tan 7: ok float32; cast float16; none float64
Tan 22: ok float32; cast float16; none float64,bfloat16
Tanh 6: ok float32,float64; cast float16
Tanh 13: ok float32,float64; cast float16; none bfloat16
ThresholdedRelu 1,10: ok float32; cast float16; none float64
ThresholdedRelu 22: ok float32; cast float16; none float64,bfloat16
RandomNormalLike 1: ok float32,float64; none uint8,int8,uint16,int16,int32,int64,bool,uint32,uint64; cast float16
RandomNormalLike 22: none float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16
RandomUniformLike 1: ok float32,float64; none uint8,int8,uint16,int16,int32,int64,bool,uint32,uint64; cast float16
RandomUniformLike 22: none float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16
Bernoulli 15: ok float32,float64; cast float16
Bernoulli 22: none float32,float16,float64,bfloat16
Add 6,7: ok float32,int32,int64,float64,uint32,uint64; cast float16
Add 13: ok float32,int32,int64,float64,uint32,uint64; cast float16; none bfloat16
Add 14: ok float32,uint8,int8,uint16,int16,int32,int64,float64,uint32,uint64; cast float16; none bfloat16
And 1,7: ok bool
Div 6,7: ok float32,int32,int64,float64,uint32,uint64; cast float16
Div 13: ok float32,int32,int64,float64,uint32,uint64; cast float16; none bfloat16
Div 14: ok float32,uint8,int8,uint16,int16,int32,int64,float64,uint32,uint64; cast float16; none bfloat16
Equal 1,7: ok int32,int64,bool
Equal 11: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float64,uint32,uint64; cast float16
Equal 13,19: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float64,uint32,uint64; cast float16; none bfloat16
Greater 1,7: ok float32,float64; cast float16
Greater 9: ok float32,uint8,int8,uint16,int16,int32,int64,float64,uint32,uint64; cast float16
Greater 13: ok float32,uint8,int8,uint16,int16,int32,int64,float64,uint32,uint64; cast float16; none bfloat16
GreaterOrEqual 12: ok float32,uint8,int8,uint16,int16,int32,int64,float64,uint32,uint64; cast float16
GreaterOrEqual 16: ok float32,uint8,int8,uint16,int16,int32,int64,float64,uint32,uint64; cast float16; none bfloat16
Less 1,7: ok float32,float64; cast float16
Less 9: ok float32,uint8,int8,uint16,int16,int32,int64,float64,uint32,uint64; cast float16
Less 13: ok float32,uint8,int8,uint16,int16,int32,int64,float64,uint32,uint64; cast float16; none bfloat16
LessOrEqual 12: ok float32,uint8,int8,uint16,int16,int32,int64,float64,uint32,uint64; cast float16
LessOrEqual 16: ok float32,uint8,int8,uint16,int16,int32,int64,float64,uint32,uint64; cast float16; none bfloat16
Mul 6,7: ok float32,int32,int64,float64,uint32,uint64; cast float16
Mul 13: ok float32,int32,int64,float64,uint32,uint64; cast float16; none bfloat16
Mul 14: ok float32,uint8,int8,uint16,int16,int32,int64,float64,uint32,uint64; cast float16; none bfloat16
Or 1,7: ok bool
PRelu 6,7: ok float32; cast float16; none float64
PRelu 9: ok float32; none int32,int64,float64,uint32,uint64; cast float16
PRelu 16: ok float32,int32,int64,float64; cast float16; none uint32,uint64,bfloat16
Sub 6,7: ok float32,int32,int64,float64,uint32,uint64; cast float16
Sub 13: ok float32,int32,int64,float64,uint32,uint64; cast float16; none bfloat16
Sub 14: ok float32,uint8,int8,uint16,int16,int32,int64,float64,uint32,uint64; cast float16; none bfloat16
Xor 1,7: ok bool
BitwiseAnd 18: ok uint8,int8,uint16,int16,int32,int64,uint32,uint64
BitwiseOr 18: ok uint8,int8,uint16,int16,int32,int64,uint32,uint64
BitwiseXor 18: ok uint8,int8,uint16,int16,int32,int64,uint32,uint64
Max 6: ok float32; cast float16; none float64
Max 8: ok float32,float64; cast float16
Max 12: ok float32,uint8,int8,int32,int64,float16,float64,uint32,uint64; none uint16,int16
Max 13: ok float32,uint8,int8,int32,int64,float16,float64,uint32,uint64; none uint16,int16,bfloat16
Min 6: ok float32; cast float16; none float64
Min 8: ok float32,float64; cast float16
Min 12: ok float32,uint8,int8,int32,int64,float16,float64,uint32,uint64; none uint16,int16
Min 13: ok float32,uint8,int8,int32,int64,float16,float64,uint32,uint64; none uint16,int16,bfloat16
Mean 6,8: ok float32; cast float16; none float64
Mean 13: ok float32; cast float16; none float64,bfloat16
Sum 6,8: ok float32,float64; cast float16
Sum 13: ok float32,float64; cast float16; none bfloat16
ReduceL1 1,11: ok float32,int32,int64,float64; cast float16; none uint32,uint64
ReduceL1 13,18: ok float32,int32,int64,float64; cast float16; none uint32,uint64,bfloat16
ReduceL2 1,11: ok float32,int32,int64,float64; cast float16; none uint32,uint64
ReduceL2 13,18: ok float32,int32,int64,float64; cast float16; none uint32,uint64,bfloat16
ReduceLogSum 1,11: ok float32,int32,int64,float64; cast float16; none uint32,uint64
ReduceLogSum 13: ok float32,int32,int64,float64; cast float16; none uint32,uint64,bfloat16
ReduceLogSum 18: ok float32,int32,int64,float64; cast float16; none bfloat16
ReduceLogSumExp 1,11: ok float32,int32,int64,float64; cast float16; none uint32,uint64
ReduceLogSumExp 13: ok float32,int32,int64,float64; cast float16; none uint32,uint64,bfloat16
ReduceLogSumExp 18: ok float32,int32,int64,float64,uint32,uint64,bfloat16; cast float16
ReduceMax 1,11: ok float32,int32,int64,float64; cast float16; none uint32,uint64
ReduceMax 12: ok float32,uint8,int8,int32,int64,float64; cast float16; none uint32,uint64
ReduceMax 13,18: ok float32,uint8,int8,int32,int64,float64; cast float16; none uint32,uint64,bfloat16
ReduceMax 20: ok float32,uint8,int8,int32,int64,bool,float64; cast float16; none uint32,uint64,bfloat16
ReduceMean 1,11: ok float32,int32,int64,float64; cast float16; none uint32,uint64
ReduceMean 13,18: ok float32,int32,int64,float64; cast float16; none uint32,uint64,bfloat16
ReduceMin 1,11: ok float32,int32,int64,float64; cast float16; none uint32,uint64
ReduceMin 12: ok float32,uint8,int8,int32,int64,float64; cast float16; none uint32,uint64
ReduceMin 13,18: ok float32,uint8,int8,int32,int64,float64; cast float16; none uint32,uint64,bfloat16
ReduceMin 20: ok float32,uint8,int8,int32,int64,bool,float64; cast float16; none uint32,uint64,bfloat16
ReduceProd 1,11: ok float32,int32,int64,float64; cast float16; none uint32,uint64
ReduceProd 13,18: ok float32,int32,int64,float64; cast float16; none uint32,uint64,bfloat16
ReduceSum 1,11: ok float32,int32,int64,float64; cast float16; none uint32,uint64
ReduceSum 13: ok float32,int32,int64,float64; cast float16; none uint32,uint64,bfloat16
ReduceSumSquare 1,11: ok float32,int32,int64,float64; cast float16; none uint32,uint64
ReduceSumSquare 13,18: ok float32,int32,int64,float64; cast float16; none uint32,uint64,bfloat16
BitwiseNot 18: ok uint8,int8,uint16,int16,int32,int64,uint32,uint64
ArgMax 1,11,12: ok float32,uint8,int8,int32,int64,float64; none uint16,int16,uint32,uint64; cast float16
ArgMax 13: ok float32,uint8,int8,int32,int64,float64; none uint16,int16,uint32,uint64,bfloat16; cast float16
ArgMin 1,11,12: ok float32,uint8,int8,int32,int64,float64; none uint16,int16,uint32,uint64; cast float16
ArgMin 13: ok float32,uint8,int8,int32,int64,float64; none uint16,int16,uint32,uint64,bfloat16; cast float16
AffineGrid 20: ok float32,float64; fails float16; none bfloat16
Attention 23,24,25: ok float32,float16,float64; none bfloat16
AveragePool 1,7,10,11,19: ok float32; cast float16; none float64
AveragePool 22: ok float32; cast float16; none float64,bfloat16
BatchNormalization 6,7,9: ok float32,float64; cast float16
BatchNormalization 14,15: ok float32,float64; cast float16; none bfloat16
BitShift 11: ok uint8,uint32,uint64; none uint16
BlackmanWindow 17: ok any
HannWindow 17: ok any
HammingWindow 17: ok any
CenterCropPad 18: ok float32,uint8,int8,int32,int64,bool,float64,uint32,uint64; none uint16,int16,bfloat16; cast float16
Clip 6,11: ok float32; cast float16; none float64
Clip 12,13: ok float32,uint8,int8,int32,int64,float16,float64,uint32,uint64; none uint16,int16
Col2Im 18: ok float32; none uint8,int8,uint16,int16,int32,int64,bool,float64,uint32,uint64,bfloat16; cast float16
Compress 9,11: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64
Concat 4,11: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64
Concat 13: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16
Conv 1,11: ok float32; cast float16; none float64
Conv 22: ok float32; cast float16; none float64,bfloat16
ConvTranspose 1,11: ok float32; cast float16; none float64
ConvTranspose 22: ok float32; cast float16; none float64,bfloat16
CumProd 26: ok float32,int32,int64,float64,uint32,uint64; cast float16; none bfloat16
CumSum 11: ok float32,int32,int64,float64; none uint32,uint64
CumSum 14: ok float32,int32,int64,float64; cast float16; none uint32,uint64,bfloat16
DFT 17,20: ok float32,float64; cast float16; none bfloat16
DeformConv 19: ok float32,float64; cast float16
DeformConv 22: ok float32,float64; cast float16; none bfloat16
DepthToSpace 1: ok float32,float64; none uint8,int8,uint16,int16,int32,int64,bool,uint32,uint64; cast float16
DepthToSpace 11: ok float32,uint8,int8,float64; none uint16,int16,int32,int64,bool,uint32,uint64; cast float16
DepthToSpace 13: ok float32,uint8,int8,float64; none uint16,int16,int32,int64,bool,uint32,uint64,bfloat16; cast float16
SpaceToDepth 1: ok float32,uint8,int8,float64; none uint16,int16,int32,int64,bool,uint32,uint64; cast float16
SpaceToDepth 13: ok float32,uint8,int8,float64; none uint16,int16,int32,int64,bool,uint32,uint64,bfloat16; cast float16
Det 11: ok float32; cast float16; none float64
Det 22: ok float32; cast float16; none float64,bfloat16
Dropout 6,7,10: ok float32,float16,float64
Dropout 12: ok float32,float64; cast float16
Dropout 13: ok float32,float64; cast float16; none bfloat16
Dropout 22: ok float32,float64; cast float16; none bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz
DynamicQuantizeLinear 11: ok float32
Einsum 12: ok float32,int32,int64,float64; none uint8,int8,uint16,int16,uint32,uint64; cast float16
Expand 8: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64
Expand 13: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64; none bfloat16
EyeLike 9: ok float32,int32,int64,float64,uint64; none uint8,int8,uint16,int16,bool,uint32; cast float16
EyeLike 22: ok float32,int32,int64,float64,uint64; none uint8,int8,uint16,int16,bool,uint32,bfloat16; cast float16
Flatten 1: ok float32,float16,float64
Flatten 9,11: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64
Flatten 13: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16
Flatten 21: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16; none float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4
Flatten 23: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16; none float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4; untried float4e2m1
Flatten 24: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16; none float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float8e8m0; untried float4e2m1
Flatten 25: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16; none float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float8e8m0,uint2,int2; untried float4e2m1
GRU 3,7: ok float32/timewise; invalid uint8,int8,uint16,int16,int32,int64,bool,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2/timewise; cast float16/timewise; fails float64/timewise
GRU 14: ok float32/timewise; invalid uint8,int8,uint16,int16,int32,int64,uint32,uint64,bfloat16/timewise,batchwise bool,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2/timewise; cast float16/timewise; fails float64/timewise,batchwise float32,float16/batchwise
GRU 22: ok float32/timewise; invalid uint8,int8,uint16,int16,int32,int64,uint32,uint64/timewise,batchwise bool,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2/timewise; cast float16/timewise; fails float64/timewise,batchwise float32,float16/batchwise; none bfloat16/timewise,batchwise
LSTM 1,7: ok float32/timewise; invalid uint8,int8,uint16,int16,int32,int64,bool,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2/timewise; cast float16/timewise; fails float64/timewise
LSTM 14: ok float32/timewise; invalid uint8,int8,uint16,int16,int32,int64,uint32,uint64,bfloat16/timewise,batchwise bool,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2/timewise; cast float16/timewise; fails float64/timewise,batchwise float32,float16/batchwise
LSTM 22: ok float32/timewise; invalid uint8,int8,uint16,int16,int32,int64,uint32,uint64/timewise,batchwise bool,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2/timewise; cast float16/timewise; fails float64/timewise,batchwise float32,float16/batchwise; none bfloat16/timewise,batchwise
RNN 1,7: ok float32/timewise; invalid uint8,int8,uint16,int16,int32,int64,bool,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2/timewise; cast float16/timewise; none float64/timewise
RNN 14: ok float32/timewise; invalid uint8,int8,uint16,int16,int32,int64,uint32,uint64,bfloat16/timewise,batchwise bool,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2/timewise; cast float16/timewise; none float64/timewise,batchwise; fails float32,float16/batchwise
RNN 22: ok float32/timewise; invalid uint8,int8,uint16,int16,int32,int64,uint32,uint64/timewise,batchwise bool,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2/timewise; cast float16/timewise; none float64,bfloat16/timewise,batchwise; fails float32,float16/batchwise
Gather 1,11: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64
Gather 13: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16
GatherElements 11: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64
GatherElements 13: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16
GatherND 11,12: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64
GatherND 13: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16
Gemm 6,7: ok float32,float64; cast float16
Gemm 9,11: ok float32,float64; none int32,int64,uint32,uint64; cast float16
Gemm 13: ok float32,float64; none int32,int64,uint32,uint64,bfloat16; cast float16
GridSample 16,20: ok float32; none uint8,int8,uint16,int16,int32,int64,bool,float64,uint32,uint64; cast float16
GridSample 22: ok float32; none uint8,int8,uint16,int16,int32,int64,bool,float64,uint32,uint64,bfloat16; cast float16
GroupNormalization 18,21: ok float32,float64; cast float16; none bfloat16
InstanceNormalization 6: ok float32; cast float16; none float64
InstanceNormalization 22: ok float32; cast float16; none float64,bfloat16
LRN 1: ok float32; cast float16; none float64
LRN 13: ok float32; cast float16; none float64,bfloat16
LayerNormalization 1: ok float32,float16,float64
LayerNormalization 17: ok float32,float16,float64,bfloat16
RMSNormalization 23: ok float32,float16,float64; none bfloat16
LpPool 2,11,18: ok float32; cast float16; none float64
LpPool 22: ok float32; cast float16; none float64,bfloat16
MatMul 1: ok float32,float64; cast float16
MatMul 9: ok float32,int32,int64,float64,uint32,uint64; cast float16
MatMul 13: ok float32,int32,int64,float64,uint32,uint64; cast float16; none bfloat16
MatMulInteger 10: invalid float32/float32/tensor uint16/uint16/tensor int16/int16/tensor int32/int32/tensor int64/int64/tensor bool/bool/tensor float16/float16/tensor float64/float64/tensor uint32/uint32/tensor uint64/uint64/tensor bfloat16/bfloat16/tensor float8e4m3fn/float8e4m3fn/tensor float8e4m3fnuz/float8e4m3fnuz/tensor float8e5m2/float8e5m2/tensor float8e5m2fnuz/float8e5m2fnuz/tensor uint4/uint4/tensor int4/int4/tensor float4e2m1/float4e2m1/tensor float8e8m0/float8e8m0/tensor uint2/uint2/tensor int2/int2/tensor; ok uint8/uint8,int8/tensor,channel int8/int8,uint8/tensor,channel
MaxPool 1: ok float32; cast float16; none float64
MaxPool 8,10,11: ok float32,float64; cast float16
MaxPool 12: ok float32,uint8,int8,float64; cast float16
MaxPool 22: ok float32,uint8,int8,float64; cast float16; none bfloat16
MaxRoiPool 1: ok float32; cast float16; none float64
MaxRoiPool 22: none float32,float16,float64,bfloat16
MaxUnpool 9,11: ok float32; cast float16; none float64
MaxUnpool 22: ok float32; cast float16; none float64,bfloat16
Mod 10: ok float32,uint8,int8,uint16,int16,int32,int64,float16,float64,uint32,uint64
Mod 13: ok float32,uint8,int8,uint16,int16,int32,int64,float16,float64,uint32,uint64; none bfloat16
Multinomial 7: ok float32; cast float16; none float64
Multinomial 22: none float32,float16,float64,bfloat16
NegativeLogLikelihoodLoss 12,13: ok float32,float64; cast float16
NegativeLogLikelihoodLoss 22: ok float32,float64; cast float16; none bfloat16
SoftmaxCrossEntropyLoss 12,13: ok float32,float64; cast float16
NonMaxSuppression 10,11: ok float32
Pad 2: ok float32,float64; cast float16
Pad 11: ok float32,uint8,int8,int32,int64,float64,uint32,uint64; none uint16,int16; cast float16
Pad 13,18,19: ok float32,uint8,int8,int32,int64,bool,float64,uint32,uint64; none uint16,int16,bfloat16; cast float16
Pad 21: ok float32,uint8,int8,int32,int64,bool,float64,uint32,uint64; none uint16,int16,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4; cast float16
Pad 23: ok float32,uint8,int8,int32,int64,bool,float64,uint32,uint64; none uint16,int16,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4; cast float16; untried float4e2m1
Pad 24: ok float32,uint8,int8,int32,int64,bool,float64,uint32,uint64; none uint16,int16,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float8e8m0; cast float16; untried float4e2m1
Pad 25: ok float32,uint8,int8,int32,int64,bool,float64,uint32,uint64; none uint16,int16,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float8e8m0,uint2,int2; cast float16; untried float4e2m1
Range 11: ok float32,int16,int32,int64,float64
Reshape 5: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64
Reshape 13,14: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16
Reshape 19: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16; none float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz
Reshape 21: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz; none uint4,int4
Reshape 23: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz; none uint4,int4; untried float4e2m1
Reshape 24: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz; none uint4,int4,float8e8m0; untried float4e2m1
Reshape 25: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz; none uint4,int4,float8e8m0,uint2,int2; untried float4e2m1
Resize 10,11: ok float32,uint8,int8,int32; none uint16,int16,int64,bool,float64,uint32,uint64; cast float16
Resize 13,18,19: ok float32,uint8,int8,int32; none uint16,int16,int64,bool,float64,uint32,uint64,bfloat16; cast float16
Upsample 1,7,9: ok float32,uint8,int8,int32; none uint16,int16,int64,bool,float64,uint32,uint64; cast float16
Upsample 10: gone float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2
ReverseSequence 10: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64
RoiAlign 10,16: ok float32,float64; cast float16
RoiAlign 22: none float32,float16,float64,bfloat16
RotaryEmbedding 23: ok float32,float16; none bfloat16
STFT 17: ok float32,float64; cast float16; none bfloat16
Scatter 9: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64
Scatter 11: gone float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2
ScatterElements 11: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64
ScatterElements 13,16,18: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16
ScatterND 11: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64
ScatterND 13,16,18: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16
Slice 1,10,11: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64
Slice 13: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16
Split 2,11: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64
Split 13,18: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16
Squeeze 1,11: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64
Squeeze 13: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16
Squeeze 21: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16; none float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4
Squeeze 23: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16; none float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4; untried float4e2m1
Squeeze 24: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16; none float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float8e8m0; untried float4e2m1
Squeeze 25: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16; none float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float8e8m0,uint2,int2; untried float4e2m1
Unsqueeze 1,11: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64
Unsqueeze 13: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16
Unsqueeze 21: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16; none float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4
Unsqueeze 23: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16; none float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4; untried float4e2m1
Unsqueeze 24: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16; none float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float8e8m0; untried float4e2m1
Unsqueeze 25: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16; none float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float8e8m0,uint2,int2; untried float4e2m1
TensorScatter 24: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16; none float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float8e8m0; untried float4e2m1
Tile 6: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float64,uint32,uint64; cast float16
Tile 13: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float64,uint32,uint64; cast float16; none bfloat16
TopK 1,10: ok float32,float64; cast float16
TopK 11: ok float32,uint8,int8,int16,int32,int64,float64; none uint16,uint32,uint64; cast float16
TopK 24: ok float32,uint8,int8,int16,int32,int64,float64; none uint16,uint32,uint64,bfloat16; cast float16
Transpose 1: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64
Transpose 13: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16
Transpose 21: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4
Transpose 23: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4; untried float4e2m1
Transpose 24: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4; untried float4e2m1; none float8e8m0
Transpose 25: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,uint2,int2; untried float4e2m1; none float8e8m0
Trilu 14: ok float32,int32,int64,bool,float64; none uint8,int8,uint16,int16,uint32,uint64,bfloat16; cast float16
Unique 11: ok float32,int8,int64,float64; none uint8,uint16,int16,int32,bool,uint32,uint64; cast float16
Where 9: ok float32,uint8,int32,int64,float64; none int8,uint16,int16,bool,uint32,uint64; cast float16
Where 16: ok float32,uint8,int32,int64,float64; none int8,uint16,int16,bool,uint32,uint64,bfloat16; cast float16
com.microsoft.Gelu 1: ok float32; cast float16; none float64,bfloat16
com.microsoft.QuickGelu 1: ok float32,float64; cast float16; none bfloat16
com.microsoft.FastGelu 1: ok float32,float64; cast float16; none bfloat16
com.microsoft.BiasGelu 1: ok float32; cast float16; none float64,bfloat16
com.microsoft.FusedMatMul 1: ok float32,float64; cast float16; none bfloat16
com.microsoft.FusedGemm 1: ok float32; none int32,int64,float64,uint32,uint64; cast float16
com.microsoft.FusedConv 1: ok float32; cast float16; none float64
com.microsoft.SkipLayerNormalization 1: ok float32,float16,bfloat16
com.microsoft.SkipSimplifiedLayerNormalization 1: ok float32,float16,bfloat16
SimplifiedLayerNormalization 1: ok float32,float16,float64
com.microsoft.Attention 1: ok float32; cast float16; none bfloat16
com.microsoft.MultiHeadAttention 1: ok float32; cast float16; none bfloat16
com.microsoft.RotaryEmbedding 1: ok float32,float16; none bfloat16
Cast 6,9: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64/float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64; invalid float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64/bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2 bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2/float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2
Cast 13: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16/float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16; invalid float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16/float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2 float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2/float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2
Cast 19: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz/float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz; invalid float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz/uint4,int4,float4e2m1,float8e8m0,uint2,int2 uint4,int4,float4e2m1,float8e8m0,uint2,int2/float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2
Cast 21: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4/float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4; invalid float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4/float4e2m1,float8e8m0,uint2,int2 float4e2m1,float8e8m0,uint2,int2/float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2
Cast 23: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4/float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4; none float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4/float4e2m1 float4e2m1/float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1; invalid float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1/float8e8m0,uint2,int2 float8e8m0,uint2,int2/float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2
Cast 24: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float8e8m0/float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float8e8m0; none float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float8e8m0/float4e2m1 float4e2m1/float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0; invalid float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0/uint2,int2 uint2,int2/float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2
Cast 25: ok float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float8e8m0,uint2,int2/float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float8e8m0,uint2,int2; none float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float8e8m0,uint2,int2/float4e2m1 float4e2m1/float32,uint8,int8,uint16,int16,int32,int64,bool,float16,float64,uint32,uint64,bfloat16,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,uint4,int4,float4e2m1,float8e8m0,uint2,int2
Pow 1,7: ok float32/float32 float64/float64; invalid float32/uint8,int8,uint16,int16,int32,int64,float16,float64,uint32,uint64,bfloat16 uint8,int8,uint16,int16,int32,int64,uint32,uint64,bfloat16/float32,uint8,int8,uint16,int16,int32,int64,float16,float64,uint32,uint64,bfloat16 float16/float32,uint8,int8,uint16,int16,int32,int64,float64,uint32,uint64,bfloat16 float64/float32,uint8,int8,uint16,int16,int32,int64,float16,uint32,uint64,bfloat16; cast float16/float16
Pow 12: ok float32,int32,int64,float64/float32,int32,int64,float16,float64; none float32,int32,int64,float16,float64/uint8,int8,uint16,int16,uint32,uint64; invalid float32,int32,int64,float16,float64/bfloat16 uint8,int8,uint16,int16,uint32,uint64,bfloat16/float32,uint8,int8,uint16,int16,int32,int64,float16,float64,uint32,uint64,bfloat16; cast float16/float32,int32,int64,float16,float64
Pow 13: ok float32,int32,int64,float64/float32,int32,int64,float16,float64; none float32,int32,int64,float16,float64/uint8,int8,uint16,int16,uint32,uint64 bfloat16/float32,uint8,int8,uint16,int16,int32,int64,float16,float64,uint32,uint64; invalid float32,int32,int64,float16,float64,bfloat16/bfloat16 uint8,int8,uint16,int16,uint32,uint64/float32,uint8,int8,uint16,int16,int32,int64,float16,float64,uint32,uint64,bfloat16; cast float16/float32,int32,int64,float16,float64
Pow 15: ok float32,int32,int64,float64/float32,int32,int64,float16,float64; none float32,int32,int64,float16,float64/uint8,int8,uint16,int16,uint32,uint64,bfloat16 bfloat16/float32,uint8,int8,uint16,int16,int32,int64,float16,float64,uint32,uint64,bfloat16; invalid uint8,int8,uint16,int16,uint32,uint64/float32,uint8,int8,uint16,int16,int32,int64,float16,float64,uint32,uint64,bfloat16; cast float16/float32,int32,int64,float16,float64
OneHot 9,11: ok float32/float32/float32,float16 float32/int64/int64 int32/float32,int32/float32,float16 int64/float32/float32,int32,float16 int64/int32/float32,float16 int64/int64/float32,int64,float16; none float32/float32/int32,int64,uint8,float64,bool float32/int32,uint8/float32,int32,int64,uint8,float16,float64,bool float32/int64/float32,int32,uint8,float16,float64,bool int32/float32,int32/int32,int64,uint8,float64,bool int32/int64,uint8/float32,int32,int64,uint8,float16,float64,bool int64/float32/int64,uint8,float64,bool int64/int32/int32,int64,uint8,float64,bool int64/int64/int32,uint8,float64,bool int64/uint8/float32,int32,int64,uint8,float16,float64,bool uint8/float32,int32,int64,uint8/float32,int32,int64,uint8,float16,float64,bool
If 1,11,13,16,19,21,23,24,25: ok any
Loop 1,11,13,16,19,21,23,24,25: ok any
Scan 9,11,16,19,21,23,24,25: ok any
com.microsoft.MatMulNBits 1: fails float32,float16/1bit,3bit,5bit,6bit,7bit/block16,block64,block128,block256/none,packed/level0,level4 float32/1bit,3bit,5bit,6bit,7bit,8bit/block16,block32,block64,block128,block256/float32/level0 float32,float16/1bit,3bit,5bit,6bit,7bit/block32/none,packed/level0,level1,level2,level3,level4 float16/1bit,3bit,5bit,6bit,7bit,8bit/block16,block32,block64,block128,block256/float16/level0; ok float32,float16/2bit,4bit,8bit/block16,block64,block128,block256/none,packed/level0,level4 float32/2bit,4bit/block16,block32,block64,block128,block256/float32/level0 float32,float16/2bit,4bit,8bit/block32/none,packed/level0,level1,level2,level3,level4 float16/2bit,4bit/block16,block32,block64,block128,block256/float16/level0; none bfloat16/1bit,2bit,3bit,4bit,5bit,6bit,7bit,8bit/block16,block64,block128,block256/none,packed/level0,level4 bfloat16/1bit,2bit,3bit,4bit,5bit,6bit,7bit,8bit/block16,block32,block64,block128,block256/bfloat16/level0 bfloat16/1bit,2bit,3bit,4bit,5bit,6bit,7bit,8bit/block32/none,packed/level0,level1,level2,level3,level4
com.microsoft.MatMulBnb4 1: ok float32/fp4,nf4/block16,block32,block64,block128; cast float16/fp4,nf4/block16,block32,block64,block128; none bfloat16/fp4,nf4/block16,block32,block64,block128
com.microsoft.GatherBlockQuantized 1: ok int4,uint4/4bit/float32,float16/block16,block32,block64,block128 uint8/2bit,4bit,8bit/float32,float16/block16,block32,block64,block128; none int4,uint4/4bit/bfloat16/block16,block32,block64,block128 uint8/2bit,4bit,8bit/bfloat16/block16,block32,block64,block128
DequantizeLinear 10: ok int8,uint8,int32/float32/tensor; invalid int8,uint8,int32/float16,bfloat16/tensor,channel int8,uint8,int32/float32/channel int16,uint16,int4,uint4,int2,uint2,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,float4e2m1/float32,float16,bfloat16/tensor,channel
DequantizeLinear 13: ok int8,uint8,int32/float32/tensor,channel; invalid int8,uint8,int32/float16,bfloat16/tensor,channel int16,uint16,int4,uint4,int2,uint2,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,float4e2m1/float32,float16,bfloat16/tensor,channel
DequantizeLinear 19: ok int8,uint8,int32,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz/float32,float16/tensor,channel; none int8,uint8,int32,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz/bfloat16/tensor,channel; invalid int16,uint16,int4,uint4,int2,uint2,float4e2m1/float32,float16,bfloat16/tensor,channel
DequantizeLinear 21: ok int8,uint8,int16,uint16,int32,int4,uint4,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz/float32,float16/tensor,channel,block; none int8,uint8,int16,uint16,int32,int4,uint4,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz/bfloat16/tensor,channel,block; invalid int2,uint2,float4e2m1/float32,float16,bfloat16/tensor,channel,block
DequantizeLinear 23,24: ok int8,uint8,int16,uint16,int32,int4,uint4,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz/float32,float16/tensor,channel,block; none int8,uint8,int16,uint16,int32,int4,uint4,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz/bfloat16/tensor,channel,block float4e2m1/float32,float16,bfloat16/tensor,channel,block; invalid int2,uint2/float32,float16,bfloat16/tensor,channel,block
DequantizeLinear 25: ok int8,uint8,int16,uint16,int32,int4,uint4,int2,uint2,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz/float32,float16/tensor,channel,block; none int8,uint8,int16,uint16,int32,int4,uint4,int2,uint2,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz/bfloat16/tensor,channel,block float4e2m1/float32,float16,bfloat16/tensor,channel,block
QuantizeLinear 10: ok float32/int8,uint8/tensor; invalid float16,bfloat16/int8,uint8,int16,uint16,int4,uint4,int2,uint2,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,float4e2m1/tensor,channel float32/int8,uint8/channel float32/int16,uint16,int4,uint4,int2,uint2,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,float4e2m1/tensor,channel
QuantizeLinear 13: ok float32/int8,uint8/tensor,channel; invalid float16,bfloat16/int8,uint8,int16,uint16,int4,uint4,int2,uint2,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,float4e2m1/tensor,channel float32/int16,uint16,int4,uint4,int2,uint2,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,float4e2m1/tensor,channel
QuantizeLinear 19: ok float32,float16/int8,uint8,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz/tensor,channel; none bfloat16/int8,uint8,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz/tensor,channel; invalid float32,float16,bfloat16/int16,uint16,int4,uint4,int2,uint2,float4e2m1/tensor,channel
QuantizeLinear 21: ok float32,float16/int8,uint8,int16,uint16,int4,uint4,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz/tensor,channel,block; none bfloat16/int8,uint8,int16,uint16,int4,uint4,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz/tensor,channel,block; invalid float32,float16,bfloat16/int2,uint2,float4e2m1/tensor,channel,block
QuantizeLinear 23,24: ok float32,float16/int8,uint8,int16,uint16,int4,uint4,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz/tensor,channel,block; none bfloat16/int8,uint8,int16,uint16,int4,uint4,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,float4e2m1/tensor,channel,block float32/float4e2m1/tensor,channel,block; invalid float32,float16,bfloat16/int2,uint2/tensor,channel,block; untried float16/float4e2m1/tensor,channel,block
QuantizeLinear 25: ok float32/int8,uint8,int16,uint16,int4,uint4,int2,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz/tensor,channel,block float16/int8,uint8,int16,uint16,int4,uint4,int2,uint2,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz/tensor,channel,block float32/uint2/tensor,block; none bfloat16/int8,uint8,int16,uint16,int4,uint4,int2,uint2,float8e4m3fn,float8e4m3fnuz,float8e5m2,float8e5m2fnuz,float4e2m1/tensor,channel,block float32/float4e2m1/tensor,channel,block; wrong float32/uint2/channel; untried float16/float4e2m1/tensor,channel,block
com.microsoft.MatMulIntegerToFloat 1: ok uint8/uint8,int8/tensor,channel int8/int8/tensor,channel; none int8/uint8/tensor,channel
QLinearMatMul 10,21: ok uint8/uint8,int8/tensor,channel int8/int8/tensor,channel; none int8/uint8/tensor,channel
ConvInteger 10: ok uint8,int8/uint8,int8/tensor; fails uint8,int8/uint8,int8/channel
QLinearConv 10: ok uint8/uint8,int8/tensor,channel int8/int8/tensor,channel; none int8/uint8/tensor,channel
com.microsoft.DynamicQuantizeMatMul 1: ok float32/uint8,int8/tensor,channel
com.microsoft.QLinearAdd 1: ok uint8,int8
com.microsoft.QLinearMul 1: ok uint8,int8
com.microsoft.QLinearSigmoid 1: ok uint8,int8
com.microsoft.QLinearLeakyRelu 1: ok uint8,int8
com.microsoft.QLinearGlobalAveragePool 1: ok uint8,int8
com.microsoft.QLinearSoftmax 1: ok uint8,int8
com.microsoft.QLinearConcat 1: ok uint8,int8
`,
};
export default measured;
