/** Second moments of what layers read: the Hessians of their output errors, from calibration data. */
import type { Dataset } from "../data/dataset.ts";
import { cloneModel, type Model, type Value } from "../ir/graph.ts";
import { Build } from "../ops/build.ts";
import { type Observer, observe } from "../runtime/observe.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { floatsOf, tensor } from "../tensor/tensor.ts";
import { sampled } from "./sample.ts";
import type { WeightLayer } from "./weightlayers.ts";

/** Of rows x of a layer's input, as its matrix [rows = outputs, columns = inputs] meets them. */
export interface Moments {
  /** Rows seen. */
  readonly n: number;
  /** Σ xᵀx, [columns, columns]. */
  readonly hessian: Float64Array<ArrayBuffer>;
  /** Mean |x| by column. */
  readonly meanAbs: Float32Array<ArrayBuffer>;
}

/** Bytes of Hessians at a time. */
const perPass = 1e9;
/** Bytes of a Conv's patches at a time. */
const perRun = 256e6;
/** Rows that are enough, and examples that are taken whatever rows they have. */
const [enoughRows, fewest] = [16384, 128];

const sums: Observer<Float64Array<ArrayBuffer>> = {
  init: (shape) => new Float64Array(sizeOf(shape)),
  update(s, x) {
    const values = floatsOf(x);
    for (let i = 0; i < s.length; i++) s[i]! += values[i]!;
    return s;
  },
};

/** Why a layer's inputs cannot be gathered as rows of its matrix; null: they can. */
export function unseen(l: WeightLayer): string | null {
  if (l.op === "Gather") return "a table has no inputs";
  if (l.op === "ConvTranspose") return "a transposed Conv has no rows of inputs";
  if (l.op === "LSTM" || l.op === "GRU" || l.op === "RNN") return "a recurrent layer's own states are inputs too";
  if (l.op === "MatMul" && l.shape.length > 2) return "a batch of matrices has an input each";
  if (l.op === "Gemm" && l.node.int("transA")) return "its input is read transposed";
  if (l.op === "Conv" && (l.node.int("group") ?? 1) !== 1) return "the groups of a Conv have an input each";
  return null;
}

/**
 * Goes over the data in as many passes as keep the Hessians below 1 GB together, and hands the moments of each layer to `use` (which may rescale the model); null where
 * no row was seen. Layers of one input share them. Conv inputs are cut into patches. At most as many examples as give 16384 rows, at least 128.
 */
export async function withMoments(
  model: Model,
  layers: readonly WeightLayer[],
  data: Dataset,
  threads: number,
  use: (layer: WeightLayer, moments: Moments | null) => void,
): Promise<void> {
  const enough = await sampleFor(model, layers, data, threads);
  let pass: WeightLayer[] = [];
  let inputs = new Set<string>();
  let bytes = 0;
  const flush = async () => {
    if (pass.length)
      await gather(model, pass, enough, threads, momentsOf, (l, s) => {
        const k = l.matrix.columns;
        const n = s?.[k * k + k] ?? 0;
        const meanAbs = () => Float32Array.from(s!.subarray(k * k, k * k + k), (x) => x / n);
        use(l, n > 0 ? { n, hessian: s!.subarray(0, k * k).slice(), meanAbs: meanAbs() } : null);
      });
    [pass, inputs, bytes] = [[], new Set(), 0];
  };
  for (const l of layers) {
    const size = inputs.has(inputKey(l)) ? 0 : 8 * l.matrix.columns ** 2;
    if (bytes > 0 && bytes + size > perPass) await flush();
    pass.push(l);
    if (!inputs.has(inputKey(l))) bytes += size;
    inputs.add(inputKey(l));
  }
  await flush();
}

/** Of all rows that two layers of one weight read. May change `a`. */
export function together(a: Moments | null, b: Moments | null): Moments | null {
  if (!a || !b) return a ?? b;
  const n = a.n + b.n;
  b.hessian.forEach((x, i) => {
    a.hessian[i]! += x;
  });
  return { n, hessian: a.hessian, meanAbs: a.meanAbs.map((x, i) => (x * a.n + b.meanAbs[i]! * b.n) / n) };
}

/** Σ x² by column of each layer's matrix, the Hessian's diagonal alone, over the examples of {@link withMoments}; null where no row was seen. */
export async function inputSquares(
  model: Model,
  layers: readonly WeightLayer[],
  data: Dataset,
  threads: number,
): Promise<Map<WeightLayer, Float64Array | null>> {
  const out = new Map<WeightLayer, Float64Array | null>();
  const enough = await sampleFor(model, layers, data, threads);
  const squares = (b: Build, rows: Value) => b.sum(b.mul(rows, rows), [0], true);
  if (layers.length) await gather(model, layers, enough, threads, squares, (l, s) => out.set(l, s ?? null));
  return out;
}

/** Layers of equal key read the same rows. */
export function inputKey({ node, op }: WeightLayer): string {
  const x = node.inputs[0]!;
  const attrs = op === "Conv" ? [...node.attrs].map(([k, a]) => `${k}=${String(a.value)}`).sort() : [];
  return [op === "Conv" ? "Conv" : "", x.graph.name, x.name, ...attrs].join("|");
}

/** A layer's input as rows: [n, columns]. */
export function rowsOf(b: Build, l: WeightLayer, x: Value): Value {
  const floats = l.dtype === "float32" ? x : b.cast(x, "float32");
  const { columns } = l.matrix;
  if (l.op !== "Conv") return b.reshape(floats, [-1, columns]);
  // Patches by a Conv whose kernels pick one place each, in the order of the weight's inputs.
  const [, channels, ...window] = l.shape as [number, number, ...number[]];
  const places = sizeOf(window);
  const pick = new Float32Array(columns * places);
  for (let c = 0; c < columns; c++) pick[c * places + (c % places)] = 1;
  const attrs = Object.fromEntries(l.node.attrs);
  const kernels = b.constant(tensor("float32", [columns, 1, ...window], pick), "patches");
  const patches = b.op("Conv", [floats, kernels], { ...attrs, group: channels, kernel_shape: window });
  const space = window.map((_, i) => i + 2);
  return b.reshape(b.transpose(patches, [0, ...space, 1]), [-1, columns]);
}

/** As many of the examples as there is use for, and how many of them at a time keep the patches of Convs small. */
interface Sample {
  readonly data: Dataset;
  readonly batchSize: number;
}

async function sampleFor(model: Model, layers: readonly WeightLayer[], data: Dataset, threads: number): Promise<Sample> {
  const look = sampled(data, 4);
  const count: Observer<number> = { init: () => 0, update: (s, _, shape) => s + sizeOf(shape.slice(0, -1)) };
  // A Conv has a row for every place of its output.
  const places: Observer<number> = { init: () => 0, update: (s, _, shape) => s + shape[0]! * sizeOf(shape.slice(2)) };
  const dense = layers.filter((l) => l.op !== "Conv").map((l) => l.node.inputs[0]!);
  const convs = new Map(layers.filter((l) => l.op === "Conv").map((l) => [l.node.outputs[0]!, l.matrix.columns]));
  let [most, elements] = [1, 1];
  if (dense.length) for (const n of (await observe(model, dense, look, count, { threads })).values()) most = Math.max(most, n);
  if (convs.size)
    for (const [v, n] of await observe(model, convs.keys(), look, places, { threads })) {
      most = Math.max(most, n);
      elements = Math.max(elements, n * convs.get(v)!);
    }
  return {
    data: sampled(data, Math.max(fewest, Math.ceil((enoughRows * look.length) / most))),
    batchSize: Math.min(32, Math.max(1, Math.floor((perRun * look.length) / (4 * elements)))),
  };
}

/** Σ xᵀx, Σ |x| and the number of rows: [columns + 2, columns]. */
function momentsOf(b: Build, rows: Value, columns: number): Value {
  const gram = b.matmul(b.transpose(rows, [1, 0]), rows);
  const abs = b.sum(b.op("Abs", [rows]), [0], true);
  const n = b.cast(b.op("Gather", [b.op("Shape", [rows]), b.i64([0])]), "float32");
  return b.op("Concat", [gram, abs, b.expand(b.reshape(n, [1, 1]), [1, columns])], { axis: 0 });
}

/** Sums over the data of what `reduce` makes of each layer's rows, which adds up over batches. */
async function gather(
  model: Model,
  layers: readonly WeightLayer[],
  { data, batchSize }: Sample,
  threads: number,
  reduce: (b: Build, rows: Value, columns: number) => Value,
  use: (layer: WeightLayer, sum: Float64Array<ArrayBuffer> | undefined) => void,
): Promise<void> {
  const copies = new Map<Value, Value>();
  const probe = cloneModel(model, copies);
  const watched = new Map<string, Value>();
  // Now: `use` may change the model.
  const keys = layers.map(inputKey);
  for (const [i, l] of layers.entries()) {
    const key = keys[i]!;
    if (watched.has(key)) continue;
    const node = copies.get(l.node.outputs[0]!)!.producer!;
    const b = new Build(node.graph, probe.opsets.get("") ?? 1, "moments");
    watched.set(key, reduce(b, rowsOf(b, l, node.inputs[0]!), l.matrix.columns));
  }
  const seen = await observe(probe, watched.values(), data, sums, { threads, batchSize });
  for (const [i, l] of layers.entries()) use(l, seen.get(watched.get(keys[i]!)!));
}
