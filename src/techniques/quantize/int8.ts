/** Weights and activations in 8-bit integers. */
import { choice, flag, int, number, optional, text, type ValuesOf } from "../../data/params.ts";
import { cloneModel, type Model, type Node, type Value } from "../../ir/graph.ts";
import { allNodes, labelOf } from "../../ir/walk.ts";
import { Fault } from "../../tensor/fault.ts";
import { foldValues, liftConstants } from "../../transform/fold.ts";
import { fuse } from "../../transform/fuse.ts";
import { upgrade } from "../../transform/upgrade.ts";
import { raiseIrVersion } from "../../transform/weights.ts";
import { leave } from "../left.ts";
import { sampled, shapes } from "../sample.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { calibrate, methods } from "./calibration.ts";
import { tailOf } from "./chain.ts";
import { quantizeDynamically } from "./dynamic.ts";
import { errorsOf, onDecidedScales, onRunningScales } from "./error.ts";
import { asGemms, plainGemm } from "./gemm.ts";
import { inputOf, type Layer, layersOf, outputOf } from "./layers.ts";
import { correctedBiases } from "./meanerror.ts";
import { harmfulLayers, outputError } from "./outputerror.ts";
import { toOperators } from "./qoperator.ts";
import { quantizeRecurrent, type RecurrentFound, recurrentNodes, recurrentWeights } from "./recurrent.ts";
import { saturation, saturationNote } from "./saturation.ts";
import { type Affine, intTypes } from "./scheme.ts";
import { decide, partsOf, quantizeStatically, valuesOf } from "./static.ts";
import { dropFloats, dropUnused, readInitializers, type StoredWeight, storeWeights } from "./store.ts";
import { accepted, looped, percent, report, type Sorted, sortLayers, wayOf } from "./ways.ts";
import { cautionOf, widthsOf } from "./widths.ts";

const params = {
  mode: choice(["dynamic", "static"], {
    doc: "dynamic: the range of an input is taken anew at each run, no data needed; static: fixed ranges from calibration data, which Convs need to get faster",
  }),
  granularity: choice(["channel", "tensor"], { doc: "a weight scale for each output channel, or one for the tensor" }),
  activations: choice(["asymmetric", "symmetric"], { doc: "static: ranges as they are, or centred on zero" }),
  calibration: choice(methods, {
    doc: "static, how the data decide a range. minmax: the whole range seen; movingAverage, mean: averages of the examples' ranges; percentile: without the outermost elements; entropy: the least information lost; mse: the least squared error",
  }),
  percentile: number(99.999, {
    min: 50,
    max: 100,
    doc: "static, calibration=percentile: share of the elements inside the range, in percent",
  }),
  activationType: optional(
    choice(intTypes, { doc: "static: codes of activations; null: uint8, for tensorrt int8. 16 bits are more exact, no faster on CPUs" }),
  ),
  weightType: choice(["int8", "uint8", "int16", "uint16"], { doc: "codes of weights" }),
  weights: choice(["symmetric", "asymmetric"], {
    doc: "weights centred on zero, or with a zero point (for Convs and dynamic one that all channels share)",
  }),
  format: choice(["qdq", "qoperator"], {
    doc: "static: layers between QuantizeLinear and DequantizeLinear, which the runtime fuses; or its own integer operators (QLinearConv, QGemm …) in the file",
  }),
  minRange: number(0, { min: 0, doc: "static: a narrower range of activations is widened to this" }),
  target: choice(["cpu", "tensorrt"], {
    doc: "cpu: uint8 activations × int8 weights; tensorrt: int8 × int8 with zero point 0, static only",
  }),
  reduceRange: flag(false, { doc: "7-bit weights, for CPUs with AVX2 but without VNNI, whose 16-bit sums overflow" }),
  biasCorrection: flag(true, {
    doc: "static: what rounding shifts the mean of each channel by, measured on the data, is taken back in the biases of Conv and Gemm, one pass over 32 examples for each layer",
  }),
  include: text("*", { doc: "only these nodes (globs on node and weight names, op:Type)" }),
  exclude: text("", { doc: "not these nodes" }),
  maxError: number(0.2, {
    min: 0,
    doc: "a layer whose output would change by more stays float: relative error, measured on the data (without data that of its weights)",
  }),
  maxOutputError: optional(
    number(0.05, {
      min: 0,
      doc: "the layers that harm most stay float until the model's outputs change by no more than this on 16 examples: each is tried alone, which takes a while",
    }),
  ),
  smallest: int(256, {
    min: 0,
    doc: "a Gemm or MatMul with fewer weights stays float: its own nodes would take more bytes and time than 8 bits save",
  }),
  depthwise: flag(false, { doc: "static, on CPUs: depthwise Convs too, for fewer bytes; they gain no speed, and small nets lose some" }),
  dynamicConv: flag(false, { doc: "dynamic: Convs too, although that makes them several times slower" }),
} as const;

type Int8Params = ValuesOf<typeof params>;

export const int8 = defineTechnique({
  technique: "int8",
  family: "quantize",
  doc: "Computes Conv, Gemm, MatMul and LSTM with constant weights in 8-bit integers, a quarter of the bytes and up to four times the speed.",
  paper: "Jacob et al. 2018, Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
  params,
  neutral: { exclude: "*" },
  needs: (p) => (p.mode === "static" || p.maxOutputError !== null ? ["calibration"] : []),
  apply,
});

async function apply(model: Model, p: Int8Params, context: Context): Promise<void> {
  const original = cloneModel(model);
  const given = context.calibration ?? context.train;
  const data = given && sampled(given, 16);
  let spared = new Set<string>();
  if (p.maxOutputError !== null && data) {
    const quiet: Context = { ...context, note: () => {}, progress: () => {} };
    const errorOf = async (quantized: ReadonlySet<string>) => {
      if (quantized.size === 0) return 0;
      const trial = cloneModel(original);
      await quantize(trial, p, quiet, (name) => quantized.has(name));
      return outputError(original, trial, data, context.threads);
    };
    const names = [...(await quantize(cloneModel(original), p, quiet, () => true)).keys()];
    const found = await harmfulLayers(names, p.maxOutputError, errorOf, (step, of) => context.progress({ what: "sensitivity", step, of }));
    spared = new Set(found.map((f) => f.name));
    if (found.length)
      context.note(
        `stay float for maxOutputError, by how much each alone changes the outputs: ${found.map((f) => `${f.name} ${percent(f.harm)}`).join(", ")}`,
      );
  }
  const errors = await quantize(model, p, context, (name) => !spared.has(name));
  if (!data || errors.size === 0) return;
  const error = await outputError(original, model, data, context.threads);
  if (error <= noted && p.maxOutputError === null) return;
  const worst = [...errors].sort(([, a], [, b]) => b - a).slice(0, 3);
  const blame = `; the layers that change most by themselves are ${worst.map(([name, e]) => `${name} (${percent(e)})`).join(", ")}; maxOutputError would keep the most harmful ones float${p.mode === "static" && !p.biasCorrection ? ", biasCorrection often wins some of it back" : ""}`;
  context.note(`the outputs change by ${percent(error)} on ${data.length} examples${p.maxOutputError === null ? blame : ""}`);
}

/** A change of the outputs above which a note says so. */
const noted = 0.05;

/** Quantizes the layers whose names `wanted` admits. Returns the error of each layer done. */
async function quantize(
  model: Model,
  p: Int8Params,
  context: Context,
  wanted: (name: string) => boolean,
): Promise<ReadonlyMap<string, number>> {
  const widths = widthsOf(p);
  const selected = { include: p.include, ...(p.exclude ? { exclude: p.exclude } : {}) };
  const recurrent = () =>
    p.target === "cpu" ? recurrentNodes(model, p.include, p.exclude) : { nodes: [], left: new Map<string, Node[]>() };
  const probe = cloneModel(model);
  liftConstants(probe);
  await foldValues(probe, recurrentWeights(probe), { threads: context.threads });
  let found = sortLayers(layersOf(probe, selected), p);
  const nothing = found.static.length + found.dynamic.length === 0;
  const errors = new Map<string, number>();
  if (nothing && recurrentNodes(probe, p.include, p.exclude).nodes.length === 0) {
    report([], addRecurrent(found, recurrent()), context.note);
    return errors;
  }
  const caution = cautionOf(widths, p);
  if (caution) context.note(caution);
  if (!nothing) raise(model, p, context.note);
  raiseIrVersion(model, 4);
  liftConstants(model);
  await foldValues(model, recurrentWeights(model), { threads: context.threads });
  fuse(model, context.note);
  const before = readInitializers(model);
  found = sortLayers(layersOf(model, selected), p);
  const whole = recurrent();
  found = addRecurrent(found, whole);
  const admitted = (l: Layer) => wanted(labelOf(l.node));
  for (const l of [...found.static, ...found.dynamic]) plainGemm(l, opsetOf(model));
  const work: Work = { model, p, context, left: found.left, errors };
  const { done: static_, unseen } = await statically(work, found.static.filter(admitted));
  const rest: Layer[] = [];
  for (const l of unseen) {
    const way = wayOf(l, p, true);
    if (way === "dynamic") rest.push(l);
    else leave(found.left, way, l.node);
  }
  const done = [...static_, ...(await dynamically(work, [...found.dynamic.filter(admitted), ...rest]))];
  const data = context.calibration ?? context.train;
  const nodes = whole.nodes.filter((n) => wanted(labelOf(n)));
  const lstms = await quantizeRecurrent(model, nodes, data && sampled(data, 64), { ...p, threads: context.threads }, found.left);
  for (const [n, e] of lstms) errors.set(labelOf(n), e);
  dropFloats(done, before, context.note);
  if (p.format === "qoperator") for (const line of toOperators(model)) context.note(line);
  if ([...allNodes(model.graph)].some((n) => n.domain === "com.microsoft") && !model.opsets.has("com.microsoft"))
    model.opsets.set("com.microsoft", 1);
  report([...done.map((l) => l.op), ...[...lstms].map(() => "LSTM")], found, context.note);
  return errors;
}

/** What a way to integers works on. */
interface Work {
  readonly model: Model;
  readonly p: Int8Params;
  readonly context: Context;
  readonly left: Map<string, string[]>;
  /** Filled with the error of each layer that is quantized. */
  readonly errors: Map<string, number>;
}

/** Counts recurrent nodes among the layers, and leaves those that have no kernel. */
function addRecurrent(found: Sorted, { nodes, left }: RecurrentFound): Sorted {
  let all = found.all + nodes.length;
  for (const [why, names] of left) {
    for (const n of names) leave(found.left, why, n);
    all += names.length;
  }
  return { ...found, all };
}

/**
 * Raises the opset to what the result needs: 13 for DequantizeLinear per channel and integer operators, else 11 (DynamicQuantizeLinear,
 * Gemm without C). Errors: an op that stands in the way, by name.
 */
function raise(model: Model, p: Int8Params, note: (line: string) => void): void {
  const from = opsetOf(model);
  const to = p.mode === "static" && (p.granularity === "channel" || p.format === "qoperator") ? 13 : 11;
  if (from >= to) return;
  try {
    const rewritten = upgrade(model, to);
    note(`opset ${from} → ${to}, which int8 needs${rewritten.length ? ` (${rewritten.join(", ")})` : ""}`);
  } catch (e) {
    if (!(e instanceof Fault)) throw e;
    throw new Fault("int8", `needs opset ${to}, the model has ${from}; ${e.message}`, { cause: e });
  }
}

const opsetOf = (model: Model) => model.opsets.get("") ?? 1;

async function dynamically({ model, p, context, left, errors: all }: Work, layers: readonly Layer[]): Promise<readonly Layer[]> {
  if (layers.length === 0) return [];
  const stored = storeWeights(layers, { ...widthsOf(p), oneZero: true });
  const errors = new Map([...stored].map(([l, w]) => [l, w.error]));
  const data = context.calibration ?? context.train;
  const visible = new Map([...stored].filter(([l]) => !looped(l.node.graph)));
  if (data && visible.size) {
    for (const [l, e] of await errorsOf(model, visible, sampled(data, 64), context.threads, onRunningScales)) errors.set(l, e);
  }
  const good = accepted(layers, errors, p.maxError, left, all);
  const kept = new Set(good);
  await warnOfClipping(model, new Map([...visible].filter(([l]) => kept.has(l))), () => null, p, context);
  quantizeDynamically(good, stored, opsetOf(model));
  dropUnused(stored);
  return good;
}

/** The layers done, and those that could not be because they never ran on the data. */
async function statically(
  { model, p, context, left, errors: all }: Work,
  found: readonly Layer[],
): Promise<{ readonly done: readonly Layer[]; readonly unseen: readonly Layer[] }> {
  if (found.length === 0) return { done: [], unseen: [] };
  const data = (context.calibration ?? context.train)!;
  const widths = widthsOf(p);
  const shape = await shapes(model, data, context.threads);
  const ndim = (v: Value) => shape(v)?.length ?? null;
  const layers = asGemms(found, ndim, opsetOf(model));
  const ranges = await calibrate(model, valuesOf(partsOf(layers, widths.chains)), data, {
    ...widths,
    calibration: p.calibration,
    percentile: p.percentile,
    threads: context.threads,
    progress: (step: number, of: number) => context.progress({ what: "calibration", step, of }),
  });
  const ran = new Set(
    layers.filter((l) => ranges.has(inputOf(l)) && (l.op !== "Conv" || !widths.chains || ranges.has(tailOf(outputOf(l)).value))),
  );
  const [seen, unseen] = [layers.filter((l) => ran.has(l)), layers.filter((l) => !ran.has(l))];
  let q = decide(partsOf(seen, widths.chains), ranges, widths);
  const errors = new Map([...q.weights].map(([l, w]) => [l, w.error]));
  for (const [l, e] of await errorsOf(model, q.weights, sampled(data, 64), context.threads, onDecidedScales(q))) errors.set(l, e);
  let good = accepted(seen, errors, p.maxError, left, all);
  if (good.length < seen.length) {
    dropUnused(q.weights);
    q = decide(partsOf(good, widths.chains), ranges, widths);
  }
  if (p.biasCorrection) {
    const biases = await correctedBiases(model, q, widths.chains, sampled(data, 32), ndim, {
      threads: context.threads,
      progress: (step, of) => context.progress({ what: "bias correction", step, of }),
    });
    dropUnused(q.weights);
    good = good.map((l) => ({ ...l, bias: biases.get(l) ?? l.bias }));
    q = decide(partsOf(good, widths.chains), ranges, widths);
  }
  const inputs = new Map(q.parts.flatMap(({ layers, affines }) => layers.map((l) => [l, affines.get(inputOf(l))!])));
  await warnOfClipping(model, q.weights, (l) => inputs.get(l)!, p, context);
  quantizeStatically(opsetOf(model), q, ndim);
  return { done: good, unseen };
}

/** Notes the layers whose sums would clip on older CPUs, from four examples. */
async function warnOfClipping(
  model: Model,
  weights: ReadonlyMap<Layer, StoredWeight>,
  inputs: (l: Layer) => Affine | null,
  p: Int8Params,
  context: Context,
): Promise<void> {
  const data = context.calibration ?? context.train;
  const { activationType, weightType } = widthsOf(p);
  if (!data || p.reduceRange || p.target !== "cpu" || activationType !== "uint8" || weightType !== "int8" || weights.size === 0) return;
  const line = saturationNote(await saturation(model, weights, inputs, sampled(data, 4), context.threads));
  if (line) context.note(line);
}
