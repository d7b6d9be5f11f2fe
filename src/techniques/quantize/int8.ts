/** Weights and activations in 8-bit integers. */
import { choice, flag, int, number, optional, text, type ValuesOf } from "../../data/params.ts";
import { cloneModel, type Model, type Value } from "../../ir/graph.ts";
import { allNodes } from "../../ir/walk.ts";
import { sizeOf } from "../../tensor/dtype.ts";
import { Fault } from "../../tensor/fault.ts";
import { liftConstants } from "../../transform/fold.ts";
import { fuse } from "../../transform/fuse.ts";
import { upgrade } from "../../transform/upgrade.ts";
import { raiseIrVersion } from "../../transform/weights.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { calibrate, methods } from "./calibration.ts";
import { planChain } from "./chain.ts";
import { quantizeDynamically } from "./dynamic.ts";
import { errorsOf, onDecidedScales, onRunningScales } from "./error.ts";
import { asGemms, plainGemm } from "./gemm.ts";
import { type Found, type Layer, layersOf, leave } from "./layers.ts";
import { toOperators } from "./qoperator.ts";
import { sampled, shapes } from "./sample.ts";
import { intTypes } from "./scheme.ts";
import { decide, quantizeStatically } from "./static.ts";
import { dropFloats, dropUnused, readInitializers, storeWeights } from "./store.ts";
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
  include: text("*", { doc: "only these nodes (globs on node and weight names, op:Type)" }),
  exclude: text("", { doc: "not these nodes" }),
  maxError: number(0.2, {
    min: 0,
    doc: "a layer whose output would change by more stays float: relative error, measured on the data (without data that of its weights)",
  }),
  smallest: int(256, {
    min: 0,
    doc: "a Gemm or MatMul with fewer weights stays float: its own nodes would take more bytes and time than 8 bits save",
  }),
  dynamicConv: flag(false, { doc: "dynamic: Convs too, although that makes them several times slower" }),
} as const;

type Int8Params = ValuesOf<typeof params>;

export const int8 = defineTechnique({
  technique: "int8",
  family: "quantize",
  doc: "Computes Conv, Gemm and MatMul with constant weights in 8-bit integers, a quarter of the bytes and up to four times the speed.",
  paper: "Jacob et al. 2018, Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
  params,
  neutral: { exclude: "*" },
  needs: (p) => (p.mode === "static" ? ["calibration"] : []),
  apply,
});

async function apply(model: Model, p: Int8Params, context: Context): Promise<void> {
  const widths = widthsOf(p);
  const selected = { include: p.include, ...(p.exclude ? { exclude: p.exclude } : {}) };
  const probe = cloneModel(model);
  liftConstants(probe);
  let found = sorted(layersOf(probe, selected), p);
  if (found.static.length + found.dynamic.length === 0) return report([], found, context.note);
  const caution = cautionOf(widths, p);
  if (caution) context.note(caution);
  raise(model, p, context.note);
  raiseIrVersion(model, 4);
  liftConstants(model);
  fuse(model, context.note);
  const before = readInitializers(model);
  found = sorted(layersOf(model, selected), p);
  for (const l of [...found.static, ...found.dynamic]) plainGemm(l, opsetOf(model));
  const done = [
    ...(await statically(model, found.static, p, context, found.left)),
    ...(await dynamically(model, found.dynamic, p, context, found.left)),
  ];
  dropFloats(done, before, context.note);
  if (p.format === "qoperator") for (const line of toOperators(model)) context.note(line);
  if ([...allNodes(model.graph)].some((n) => n.domain === "com.microsoft") && !model.opsets.has("com.microsoft"))
    model.opsets.set("com.microsoft", 1);
  report(done, found, context.note);
}

interface Sorted {
  readonly static: readonly Layer[];
  readonly dynamic: readonly Layer[];
  readonly left: Map<string, string[]>;
  /** All layers found. */
  readonly all: number;
}

/** The layers by what is to become of them. */
function sorted({ layers, left }: Found, p: Int8Params): Sorted {
  const ways: Record<"static" | "dynamic", Layer[]> = { static: [], dynamic: [] };
  for (const l of layers) {
    const way = wayOf(l, p);
    if (way === "static" || way === "dynamic") ways[way].push(l);
    else leave(left, way, l.node);
  }
  return { ...ways, left, all: layers.length };
}

/**
 * Raises the opset to what the result needs: 13 for DequantizeLinear per channel, else 11 (DynamicQuantizeLinear, Gemm without C).
 * Errors: an op that stands in the way, by name.
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

function report(done: readonly Layer[], { all, left }: Sorted, note: (line: string) => void): void {
  const ops = new Map<string, number>();
  for (const l of done) ops.set(l.op, (ops.get(l.op) ?? 0) + 1);
  const what = [...ops].map(([op, n]) => `${n} ${op}`).join(", ");
  if (all === 0) note("no Conv, Gemm or MatMul with constant float32 weights among the nodes selected; nothing was changed");
  else note(`${done.length} of ${all} layers in int8${what ? ` (${what})` : "; nothing was changed"}`);
  for (const [why, names] of left) note(`stay float: ${listed(names)}: ${why}`);
}

const opsetOf = (model: Model) => model.opsets.get("") ?? 1;

/** How a layer is quantized, or why it is not. Inside a subgraph no ranges can be observed: what can go dynamic there does. */
function wayOf(l: Layer, p: Int8Params): "static" | "dynamic" | string {
  if (l.op !== "Conv" && sizeOf(l.weight.data!.shape) < p.smallest) return `fewer than ${p.smallest} weights (smallest)`;
  const inner = l.node.graph.parent !== null;
  if (p.mode === "static" && !inner) return "static";
  if (p.target === "tensorrt") return "in a subgraph, where no ranges can be observed";
  if (l.op !== "Conv" || (p.mode === "dynamic" && p.dynamicConv)) return "dynamic";
  return inner
    ? "a Conv in a subgraph: dynamic int8 would make it several times slower, and ranges for static cannot be observed there"
    : "dynamic int8 would make a Conv several times slower; mode=static makes it faster";
}

async function dynamically(
  model: Model,
  layers: readonly Layer[],
  p: Int8Params,
  context: Context,
  left: Map<string, string[]>,
): Promise<readonly Layer[]> {
  if (layers.length === 0) return [];
  const stored = storeWeights(layers, { ...widthsOf(p), oneZero: true });
  const errors = new Map([...stored].map(([l, w]) => [l, w.error]));
  const data = context.calibration ?? context.train;
  const top = new Map([...stored].filter(([l]) => !l.node.graph.parent));
  if (data && top.size) {
    for (const [l, e] of await errorsOf(model, top, sampled(data, 64), context.threads, onRunningScales)) errors.set(l, e);
  }
  const good = accepted(layers, errors, p, left);
  quantizeDynamically(good, stored, opsetOf(model));
  dropUnused(stored);
  return good;
}

async function statically(
  model: Model,
  found: readonly Layer[],
  p: Int8Params,
  context: Context,
  left: Map<string, string[]>,
): Promise<readonly Layer[]> {
  if (found.length === 0) return [];
  const data = (context.calibration ?? context.train)!;
  const widths = widthsOf(p);
  const shape = await shapes(model, data, context.threads);
  const ndim = (v: Value) => shape(v)?.length ?? null;
  const layers = asGemms(found, ndim, opsetOf(model));
  const options = {
    ...widths,
    calibration: p.calibration,
    percentile: p.percentile,
    threads: context.threads,
    progress: (step: number, of: number) => context.progress({ what: "calibration", step, of }),
  };
  const plan = planChain(model.graph, layers, widths.chains);
  const ranges = await calibrate(model, new Set([...plan.values.keys(), ...plan.values.values()]), data, options);
  let q = decide(layers, plan, ranges, options);
  const good = accepted(layers, await errorsOf(model, q.weights, sampled(data, 64), context.threads, onDecidedScales(q)), p, left);
  if (good.length < layers.length) {
    dropUnused(q.weights);
    q = decide(good, planChain(model.graph, good, widths.chains), ranges, options);
  }
  quantizeStatically(model, q, ndim);
  return good;
}

/** The layers whose error is small enough; the others are left, and named. */
function accepted(layers: readonly Layer[], errors: ReadonlyMap<Layer, number>, p: Int8Params, left: Map<string, string[]>): Layer[] {
  return layers.filter((l) => {
    const e = errors.get(l)!;
    if (e <= p.maxError) return true;
    leave(left, `8 bits would change its output by ${percent(e)} (more than ${percent(p.maxError)})`, l.node);
    return false;
  });
}

const percent = (x: number) => `${Number((100 * x).toPrecision(2))} %`;

function listed(names: readonly string[]): string {
  return names.length <= 5 ? names.join(", ") : `${names.slice(0, 4).join(", ")} and ${names.length - 4} more`;
}
