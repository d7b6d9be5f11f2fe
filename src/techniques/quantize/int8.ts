/** Weights and activations in 8-bit integers. */
import { subset } from "../../data/dataset.ts";
import { choice, flag, number, text, type ValuesOf } from "../../data/params.ts";
import { cloneModel, type Model } from "../../ir/graph.ts";
import { feed } from "../../runtime/feeds.ts";
import { observeShapes } from "../../runtime/shapes.ts";
import { liftConstants } from "../../transform/fold.ts";
import { fuse } from "../../transform/fuse.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { planChain } from "./chain.ts";
import { quantizeDynamically } from "./dynamic.ts";
import { layerErrors } from "./error.ts";
import { type Layer, layersOf, leave, plainGemm } from "./layers.ts";
import { calibrate, decide, movingBias, quantizeStatically } from "./static.ts";
import { dropWeight, storeWeights } from "./store.ts";

const params = {
  mode: choice(["dynamic", "static"], {
    doc: "dynamic: the range of an input is taken anew at each run, no data needed; static: fixed ranges from calibration data, which Convs need to get faster",
  }),
  granularity: choice(["channel", "tensor"], { doc: "a weight scale for each output channel, or one for the tensor" }),
  activations: choice(["asymmetric", "symmetric"], { doc: "static: ranges as they are, or centred on zero" }),
  calibration: choice(["minmax", "percentile"], { doc: "static: the whole range seen, or without the outermost elements" }),
  percentile: number(99.999, {
    min: 50,
    max: 100,
    doc: "static, calibration=percentile: share of the elements inside the range, in percent",
  }),
  target: choice(["cpu", "tensorrt"], {
    doc: "cpu: uint8 activations × int8 weights; tensorrt: int8 × int8 with zero point 0, static only",
  }),
  reduceRange: flag(false, { doc: "7-bit weights, for CPUs with AVX2 but without VNNI, whose 16-bit sums overflow" }),
  include: text("*", { doc: "only these nodes (globs on node and weight names, op:Type)" }),
  exclude: text("", { doc: "not these nodes" }),
  maxError: number(0.2, {
    min: 0,
    doc: "a layer whose relative error (measured in static mode, of the weights in dynamic) is larger stays float",
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
  const selected = { include: p.include, ...(p.exclude ? { exclude: p.exclude } : {}) };
  const probe = cloneModel(model);
  liftConstants(probe);
  if (layersOf(probe, selected).layers.length === 0) {
    context.note(
      `${p.mode}: the model has no Conv, Gemm or MatMul with constant float32 weights among the nodes selected; nothing was changed`,
    );
    return;
  }
  liftConstants(model);
  fuse(model, context.note);
  const { layers: found, left } = layersOf(model, selected);
  const layers = found.filter((l) => {
    const why = unfit(l, p);
    if (why) leave(left, why, l.node);
    return !why;
  });
  const opset = model.opsets.get("") ?? 1;
  for (const l of layers) plainGemm(l, opset);
  const done = p.mode === "static" ? await statically(model, layers, p, context, left) : dynamically(model, layers, p, left);
  for (const l of done) dropWeight(model, l, context.note);
  report(found.length, done, left, p, context);
}

/** Why a layer cannot, or should not, be quantized in this mode. */
function unfit(l: Layer, p: Int8Params): string | null {
  if (p.mode === "static") return l.node.graph.parent ? "in a subgraph, where no ranges can be observed" : null;
  if (l.op === "Conv" && !p.dynamicConv) return "a dynamic int8 Conv is several times slower than float; mode=static makes it faster";
  return null;
}

function dynamically(model: Model, layers: readonly Layer[], p: Int8Params, left: Map<string, string[]>): readonly Layer[] {
  const stored = storeWeights(layers, p);
  const good = layers.filter((l) => {
    const w = stored.get(l)!;
    if (w.error <= p.maxError) return true;
    leave(left, `8 bits change its weights by more than ${percent(p.maxError)}`, l.node);
    return false;
  });
  quantizeDynamically(good, stored, model.opsets.get("") ?? 1);
  return good;
}

async function statically(
  model: Model,
  layers: readonly Layer[],
  p: Int8Params,
  context: Context,
  left: Map<string, string[]>,
): Promise<readonly Layer[]> {
  if (layers.length === 0) return [];
  const data = (context.calibration ?? context.train)!;
  const [first] = feed(model, data, { batchSize: 1 });
  const shaped = await observeShapes(model, first!.feeds, { threads: context.threads });
  const ndims = new Map<string, number>();
  for (const v of shaped.graph.inputs) if (v.type?.shape) ndims.set(v.name, v.type.shape.length);
  for (const n of shaped.graph.nodes) for (const v of n.outputs) if (v?.type?.shape) ndims.set(v.name, v.type.shape.length);
  const options = {
    ...p,
    symmetric: p.activations === "symmetric",
    threads: context.threads,
    progress: (step: number, of: number) => context.progress({ what: "int8: calibrating", step, of }),
  };
  const chains = p.target === "cpu";
  const planned = (some: readonly Layer[]) => {
    const withBias = chains ? movingBias(some, (v) => ndims.get(v.name) ?? null) : new Set<Layer>();
    return { withBias, plan: planChain(model.graph, some, { withBias, chains }) };
  };
  let { plan, withBias } = planned(layers);
  const ranges = await calibrate(model, plan, data, options);
  let q = decide(layers, plan, ranges, withBias, options);
  const sample = subset(
    data,
    Array.from({ length: Math.min(data.length, 64) }, (_, i) => i),
  );
  const errors = await layerErrors(model, q, sample, context.threads);
  const good = layers.filter((l) => errors.get(l)! <= p.maxError);
  if (good.length < layers.length) {
    for (const l of layers)
      if (!good.includes(l))
        leave(left, `8 bits change its output by more than ${percent(p.maxError)} (${percent(errors.get(l)!)})`, l.node);
    for (const w of new Set(q.weights.values())) for (const v of [w.codes, w.scales]) v.graph.removeInitializer(v);
    ({ plan, withBias } = planned(good));
    q = decide(good, plan, ranges, withBias, options);
  }
  quantizeStatically(model, q);
  return good;
}

const percent = (x: number) => `${Number((100 * x).toPrecision(2))} %`;

function report(all: number, done: readonly Layer[], left: Map<string, string[]>, p: Int8Params, context: Context): void {
  const ops = new Map<string, number>();
  for (const l of done) ops.set(l.op, (ops.get(l.op) ?? 0) + 1);
  const what = [...ops].map(([op, n]) => `${n} ${op}`).join(", ");
  context.note(`${p.mode}: ${done.length} of ${all} layers in int8${what ? ` (${what})` : ""}`);
  for (const [why, names] of left) context.note(`stay float: ${listed(names)}: ${why}`);
}

function listed(names: readonly string[]): string {
  return names.length <= 5 ? names.join(", ") : `${names.slice(0, 4).join(", ")} and ${names.length - 4} more`;
}
