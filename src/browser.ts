/** pith as a library, as far as it needs no files: what a browser gets. Node's entry, index.ts, adds those. */

export { batches } from "./data/batches.ts";
export { type Batch, type Dataset, fromArrays, fromFeeds, subset } from "./data/dataset.ts";
export { readIdx, writeIdx } from "./data/idx.ts";
export { jitter } from "./data/jitter.ts";
export { readNpy, writeNpy } from "./data/npy.ts";
export { readNpz, writeNpz } from "./data/npz.ts";
export { choice, flag, int, number, optional, text } from "./data/params.ts";
export { cast, layout, meanStd, preprocess, preprocessing, reshape, scale } from "./data/preprocess.ts";
export { readSafetensors, writeSafetensors } from "./data/safetensors.ts";
export { split } from "./data/split.ts";
export { check } from "./ir/check.ts";
export type { Attr, Dim, Graph, Model, Node, TensorType, Value } from "./ir/graph.ts";
export { cloneModel, newModel } from "./ir/graph.ts";
export { printGraph, printModel } from "./ir/print.ts";
export { type Selector, select } from "./ir/select.ts";
export type { Finding } from "./lint/finding.ts";
export { lint, targets } from "./lint/lint.ts";
export { accuracy, change, type Evaluation, evaluate, type Metric, mse as mseMetric, perplexity } from "./measure/accuracy.ts";
export { characterError, ctcGreedy, encodeText } from "./measure/ctc.ts";
export { fidelity } from "./measure/fidelity.ts";
export { latency } from "./measure/latency.ts";
export { type MeasureOptions, measureModels, peakMemory, sizes, throughput, throughputs } from "./measure/measure.ts";
export type { Measurement } from "./measure/measurement.ts";
export { slowness } from "./measure/slowness.ts";
export { lenet5 } from "./nets/lenet5.ts";
export { lenet300, mlp } from "./nets/mlp.ts";
export { resnet20 } from "./nets/resnet20.ts";
export { transformer } from "./nets/transformer.ts";
export { readModel } from "./onnx/read.ts";
export type { SparseIndices } from "./onnx/sparse.ts";
export { writeModel } from "./onnx/write.ts";
export { Build } from "./ops/build.ts";
export { type CompressOptions, compress, Refused } from "./recipe/compress.ts";
export { parseRecipe, parseStep, type Recipe, type RecipeJson, recipeJson, stepText } from "./recipe/recipe.ts";
export type { Gate, Run, StepRecord } from "./recipe/run.ts";
export { version } from "./recipe/version.ts";
export { comparison } from "./report/comparison.ts";
export { page } from "./report/page.ts";
export { progressText } from "./report/progress.ts";
export { type Summary, summarize } from "./report/summary.ts";
export { type Column, table } from "./report/table.ts";
export { type Observer, observe } from "./runtime/observe.ts";
export { columnNorm, type Histogram, histogram, minMax, percentile, secondMoment } from "./runtime/observers.ts";
export { open, type Port, type Session, type SessionOptions } from "./runtime/session.ts";
export { observeShapes, sampleFeeds } from "./runtime/shapes.ts";
export { outputError } from "./techniques/hessian.ts";
export * from "./techniques/index.ts";
export {
  type Adapter,
  insert as insertAdapter,
  merge as mergeAdapter,
  scaled as scaledAdapter,
  unmerge as unmergeAdapter,
} from "./techniques/lora/adapter.ts";
export { trainAdapter } from "./techniques/lora/lora.ts";
export { readPeft, writePeft } from "./techniques/lora/peft.ts";
// The algorithms of quantization by themselves, on matrices and histograms.
export { type AdaroundOptions, adaround } from "./techniques/quantize/adaround.ts";
export { awqScales, scaledHessian } from "./techniques/quantize/awq.ts";
export { expectedCorrection, measuredCorrection } from "./techniques/quantize/biascorrection.ts";
export { type BlockCodes, type BlockScheme, dequantizeBlocks, roundToNearest } from "./techniques/quantize/blocks.ts";
export { entropyRange } from "./techniques/quantize/entropy.ts";
export { equalization } from "./techniques/quantize/equalize.ts";
export { decodeFloats, encodeFloats, type FloatBlocks } from "./techniques/quantize/floatcodes.ts";
export { type GptqOptions, gptq } from "./techniques/quantize/gptq.ts";
export { type HqqOptions, hqq } from "./techniques/quantize/hqq.ts";
export { type Codebook, kmeans } from "./techniques/quantize/kmeans.ts";
export { type PackedBlocks, packBlocks, unpackBlocks } from "./techniques/quantize/packing.ts";
export { type Affine, affine, quantizeBias } from "./techniques/quantize/scheme.ts";
export { smoothScales } from "./techniques/quantize/smoothquant.ts";
export { squaredErrorRange } from "./techniques/quantize/squarederror.ts";
export type { Context, Progress, Step, Technique } from "./techniques/technique.ts";
export { defineTechnique } from "./techniques/technique.ts";
export { Fault } from "./tensor/fault.ts";
export { random } from "./tensor/random.ts";
export { numbersOf, type Tensor, tensor } from "./tensor/tensor.ts";
export { type Checkpoint, readCheckpoint, writeCheckpoint } from "./train/checkpoint.ts";
export { type Epoch, type FitOptions, type Fitted, fit } from "./train/fit.ts";
export { crossEntropy, kl, mse, parseLoss, sum } from "./train/loss.ts";
export { adam, adamw, parseOptimizer, sgd } from "./train/optimizer.ts";
export { parseSchedule, type Schedule, schedules } from "./train/schedule.ts";
export { grad } from "./transform/grad.ts";
export { type Sparse, sparsify } from "./transform/sparse.ts";
