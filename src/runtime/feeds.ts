/** From a dataset to what a model is fed with: names, element types, shapes and fixed batches put right or refused in one line. */
import type { Batch, Dataset } from "../data/dataset.ts";
import type { Model, Value } from "../ir/graph.ts";
import { type DType, dtypes } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { numbersOf, type Tensor, tensor, valuesOf } from "../tensor/tensor.ts";

/** One batch of a dataset for one model. */
export interface Fed {
  /** Tensors by input name. */
  readonly feeds: Batch;
  /** Every array of the dataset for the same examples, targets among them. */
  readonly batch: Batch;
  /** Examples; where a fixed batch was filled up by repeating the last one, only the first `count` are real. */
  readonly count: number;
  readonly padded: boolean;
}

export interface FeedOptions {
  /** Examples a batch, asked for before each; a model with a fixed batch takes its own. Default 32. */
  readonly batchSize?: number | (() => number);
}

/**
 * The dataset in order, as feeds for `model`. Element types of the same kind are converted (float64 → float32, int32 → int64).
 * Errors: an input without an array, an array of another kind or shape, NaN.
 */
export function* feed(model: Model, data: Dataset, options: FeedOptions = {}): Generator<Fed> {
  const inputs = inputsOf(model);
  for (const v of inputs) {
    if (!data.names.includes(v.name))
      throw new Fault("data", `has no array "${v.name}", which the model takes; got ${data.names.join(", ") || "none"}`);
  }
  const fixed = data.stackable ? fixedBatch(model) : null;
  const wanted = options.batchSize ?? 32;
  for (let at = 0; at < data.length; ) {
    const size = !data.stackable ? 1 : (fixed ?? Math.max(1, typeof wanted === "function" ? wanted() : wanted));
    const count = Math.min(size, data.length - at);
    const padded = fixed !== null && count < size;
    const indices = Array.from({ length: padded ? size : count }, (_, i) => Math.min(at + i, data.length - 1));
    const batch = data.take(indices);
    const feeds: Record<string, Tensor> = {};
    for (const v of inputs) feeds[v.name] = fitting(v, batch[v.name]!, at);
    yield { feeds, batch, count, padded };
    at += count;
  }
}

/** The inputs that must be fed: those without a default. */
export function inputsOf(model: Model): Value[] {
  return model.graph.inputs.filter((v) => !v.data);
}

/** The batch size a model was exported with, if it is fixed: the first axis that all its inputs share (scalars aside). */
export function fixedBatch(model: Model): number | null {
  const firsts = new Set(inputsOf(model).flatMap((v) => (v.type?.shape?.length === 0 ? [] : [v.type?.shape?.[0]])));
  const [first] = firsts;
  return firsts.size === 1 && typeof first === "number" && first > 0 ? first : null;
}

/** The tensor as an input takes it, looked through for NaN. */
function fitting(v: Value, t: Tensor, at: number): Tensor {
  refuseNaN(v.name, t, (i) => at + i);
  return converted(v, t);
}

/** Errors: a NaN in a batch of floats, by the number `exampleOf` gives its row. */
export function refuseNaN(name: string, t: Tensor, exampleOf: (row: number) => number): void {
  if (t.dtype !== "float32" && t.dtype !== "float64") return;
  const values = valuesOf(t) as Float32Array;
  for (let i = 0; i < values.length; i++)
    if (Number.isNaN(values[i]))
      throw new Fault(`data: array "${name}"`, `holds NaN (example ${exampleOf(Math.floor(i / (values.length / (t.shape[0] || 1))))})`);
}

/** A batch's tensor in the element type that an input takes. Errors: a shape it does not take, a type of another kind. */
export function converted(v: Value, t: Tensor): Tensor {
  const where = `data: array "${v.name}"`;
  const type = v.type;
  if (type?.shape && (type.shape.length !== t.shape.length || type.shape.some((d, i) => typeof d === "number" && d !== t.shape[i]))) {
    throw new Fault(where, `a batch has the shape [${t.shape}]; the model takes [${type.shape.map((d) => d ?? "?")}]`);
  }
  if (!type || type.dtype === t.dtype) return t;
  if (kindOf(type.dtype) !== kindOf(t.dtype) || t.strings)
    throw new Fault(where, `is ${t.dtype}; the model takes ${type.dtype}: convert (and scale) it first`);
  return tensor(type.dtype, t.shape, numbersOf(t));
}

const kindOf = (d: DType) => (dtypes[d].kind === "u" ? "i" : dtypes[d].kind);
