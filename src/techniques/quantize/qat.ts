/** Quantization-aware training: weights and activations are rounded while the net learns, on the graph that ships. */
import { choice, int, optional, text, type ValuesOf } from "../../data/params.ts";
import { cloneModel, type Model, type Value } from "../../ir/graph.ts";
import { sorted } from "../../ir/walk.ts";
import { observe } from "../../runtime/observe.ts";
import { type Histogram, histogram } from "../../runtime/observers.ts";
import { sizeOf } from "../../tensor/dtype.ts";
import { Fault } from "../../tensor/fault.ts";
import { liftConstants } from "../../transform/fold.ts";
import { fuse } from "../../transform/fuse.ts";
import { holdZeros, mergeMasks } from "../../transform/mask.ts";
import { upgrade } from "../../transform/upgrade.ts";
import { raiseIrVersion } from "../../transform/weights.ts";
import { fineTune, training } from "../finetune.ts";
import { leave } from "../left.ts";
import { sampled, shapes } from "../sample.ts";
import { taught } from "../teacher.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { planChain } from "./chain.ts";
import { type Fakes, insertFakes, namesOf, type Width } from "./fakes.ts";
import { asGemms, plainGemm } from "./gemm.ts";
import { type Found, inputOf, type Layer, layersOf } from "./layers.ts";
import { opsetFor, ship, storedIn } from "./shipped.ts";
import { dropFloats, readInitializers } from "./store.ts";

const params = {
  weightBits: int(8, { min: 2, max: 8, doc: "bits of the weights" }),
  activationBits: int(8, { min: 0, max: 8, doc: "bits of what the layers read, at least 2; 0: float, only weights are quantized" }),
  endBits: int(8, {
    min: 2,
    max: 8,
    doc: "at least so many bits for the first and the last layer, weights and inputs, as the papers do below 8",
  }),
  method: choice(["lsq", "ste"], {
    doc: "lsq: scales are learned with the weights (Esser et al. 2020); ste: scales stay as calibrated, gradients go straight through the rounding",
  }),
  granularity: choice(["channel", "tensor"], { doc: "a weight scale for each output channel, or one for the tensor" }),
  activations: choice(["asymmetric", "symmetric"], { doc: "ranges as they are, or centred on zero" }),
  storage: choice(["packed", "int8"], {
    doc: "packed: weights of 3 and 4 bits as int4 (opset 21), of 2 bits as int2 (opset 25); int8: a byte each, for older runtimes",
  }),
  loss: optional(
    text("", {
      doc: "the loss, such as crossEntropy:labels=y or teacher (KL divergence from the original model's outputs, no labels needed); null: crossEntropy where the data has labels, else teacher",
    }),
  ),
  epochs: int(5, { min: 0, doc: "passes over the training data; 0: rounded without training" }),
  include: text("*", { doc: "only these nodes (globs on node and weight names, op:Type)" }),
  exclude: text("", { doc: "not these nodes" }),
  ...training,
} as const;

type Values = ValuesOf<typeof params>;

export const qat = defineTechnique({
  technique: "qat",
  family: "quantize",
  doc: "Trains Conv, Gemm and MatMul with weights and inputs of 2 to 8 bits, scales included, and stores them as integers.",
  paper: "Esser et al. 2020, Learned Step Size Quantization; Jacob et al. 2018; Bengio et al. 2013 (straight-through)",
  params,
  neutral: { exclude: "*" },
  stronger: [
    { weightBits: 8, epochs: 0 },
    { weightBits: 4, endBits: 4, epochs: 0 },
  ],
  needs: (p) => (p.epochs > 0 ? ["train"] : p.activationBits > 0 ? ["calibration"] : []),
  apply,
});

/** Ranges are seen on so many examples. */
const calibrated = 512;

async function apply(model: Model, p: Values, context: Context): Promise<void> {
  if (p.activationBits === 1) throw new Fault("qat", "activationBits must be 0 or from 2 to 8; got 1");
  const selected = { include: p.include, ...(p.exclude ? { exclude: p.exclude } : {}) };
  const probe = cloneModel(model);
  liftConstants(probe);
  const first = trainable(layersOf(probe, selected));
  if (first.layers.length === 0) return report([], new Map(), first, null, p, context.note);
  raise(model, p, widthsOf(probe, first.layers, p), context.note);
  raiseIrVersion(model, 4);
  liftConstants(model);
  fuse(model, context.note);
  const before = readInitializers(model);
  const found = trainable(layersOf(model, selected));
  const opset = model.opsets.get("")!;
  for (const l of found.layers) plainGemm(l, opset);

  let layers: readonly Layer[] = found.layers;
  const integers = p.activationBits > 0;
  const data = context.calibration ?? context.train;
  const shape = data ? await shapes(model, data, context.threads) : () => null;
  const ndim = (v: Value) => shape(v)?.length ?? null;
  if (integers) layers = asGemms(layers, ndim, opset);
  const plan = integers ? planChain(model.graph, layers, true) : null;
  const roots = [...new Set(plan?.values.values() ?? [])];
  const seen: ReadonlyMap<Value, Histogram> = roots.length
    ? await observe(model, roots, sampled(data!, calibrated), histogram(), {
        threads: context.threads,
        progress: (step, of) => context.progress({ what: "calibration", step, of }),
      })
    : new Map();
  const now = integers ? await shapes(model, data!, context.threads) : () => null;
  const widths = widthsOf(model, layers, p);
  const fakes = insertFakes(model, layers, plan, seen, {
    widths,
    granularity: p.granularity,
    symmetric: p.activations === "symmetric",
    learn: p.method === "lsq" && p.epochs > 0,
    elements: (v) => sizeOf(now(v) ?? []),
    ndim,
  });
  dropFloats(layers, before, context.note);
  if (p.epochs > 0) await train(model, fakes, p, context);
  await ship(model, fakes, { packed: p.storage === "packed", integers, threads: context.threads });
  report(layers, widths, found, fakes, p, context.note);
}

/** Layers that training reaches. */
function trainable({ layers, left }: Found): Found {
  return {
    left,
    layers: layers.filter((l) => {
      if (!l.node.graph.parent) return true;
      leave(left, "in a subgraph, which training does not reach", l.node);
      return false;
    }),
  };
}

/** The bits of each layer: the first and the last that run have `endBits` at least. */
function widthsOf(model: Model, layers: readonly Layer[], p: Values): Map<Layer, Width> {
  const order = new Map(sorted(model.graph).map((n, i) => [n, i]));
  const run = layers.toSorted((a, z) => order.get(a.node)! - order.get(z.node)!);
  // Layers that read one value are one step of the net, such as query, key and value.
  const ends = new Set([run[0], run.at(-1)].map((l) => l && inputOf(l)));
  const bits = (at: Layer, b: number) => (b > 0 && ends.has(inputOf(at)) ? Math.max(b, p.endBits) : b);
  return new Map(layers.map((l) => [l, { weight: bits(l, p.weightBits), input: bits(l, p.activationBits) }]));
}

/** Raises the opset to what the stored weights need. Errors: an op that stands in the way, by name. */
function raise(model: Model, p: Values, widths: ReadonlyMap<Layer, Width>, note: (line: string) => void): void {
  const from = model.opsets.get("") ?? 1;
  const to = Math.max(...[...widths.values()].map((w) => opsetFor[storedIn(w.weight, p.storage === "packed")]));
  if (from >= to) return;
  try {
    const rewritten = upgrade(model, to);
    note(`opset ${from} → ${to}, which the weights' type needs${rewritten.length ? ` (${rewritten.join(", ")})` : ""}`);
  } catch (e) {
    if (!(e instanceof Fault)) throw e;
    const way = to > 13 ? "; storage=int8 needs 13" : "";
    throw new Fault("qat", `needs opset ${to}, the model has ${from}${way}; ${e.message}`, { cause: e });
  }
}

async function train(model: Model, fakes: Fakes, p: Values, context: Context): Promise<void> {
  const { learned, settings } = namesOf(fakes);
  const { data, loss } = await taught(context.train!, p.loss, context);
  // What an earlier step pruned stays pruned.
  const masks = holdZeros(
    model,
    fakes.weights.map((w) => w.master),
  );
  await fineTune(model, p, context, {
    what: "qat",
    epochs: p.epochs,
    loss,
    data,
    trainable: ["*", ...learned],
    frozen: [...settings, ...masks.map((m) => m.value.name)],
  });
  mergeMasks(masks);
}

function report(
  layers: readonly Layer[],
  widths: ReadonlyMap<Layer, Width>,
  { left }: Found,
  fakes: Fakes | null,
  p: Values,
  note: (line: string) => void,
): void {
  if (!fakes) note("no Conv, Gemm or MatMul with constant float32 weights among the nodes selected; nothing was changed");
  const kinds = new Map<string, number>();
  for (const l of layers) {
    const { weight, input } = widths.get(l)!;
    const kind = `${weight}-bit weights, ${input ? `${input}-bit` : "float"} inputs`;
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  }
  for (const [kind, n] of kinds) note(`${n} ${n === 1 ? "layer" : "layers"}: ${kind}`);
  let [bytes, before] = [0, 0];
  for (const w of fakes?.weights ?? []) {
    const n = sizeOf(w.shape);
    const bits = { int8: 8, int4: 4, int2: 2 }[storedIn(w.bits, p.storage === "packed")];
    bytes += Math.ceil((n * bits) / 8);
    before += 4 * n;
  }
  if (fakes) note(`weights: ${bytes} bytes in place of ${before}`);
  for (const [why, names] of left)
    note(`stay float: ${names.length <= 5 ? names.join(", ") : `${names.slice(0, 4).join(", ")} and ${names.length - 4} more`}: ${why}`);
}
