/** Nets whose weights take two or three values, trained as such, stored in one or two bits. */
import { choice, flag, int, optional, text, type ValuesOf } from "../../data/params.ts";
import { cloneModel, type Model, type Node, type Value } from "../../ir/graph.ts";
import { labelOf, removeDead, sorted } from "../../ir/walk.ts";
import { Build } from "../../ops/build.ts";
import { open } from "../../runtime/session.ts";
import { floatsOf, tensor } from "../../tensor/tensor.ts";
import type { Step } from "../../train/fit.ts";
import { kl } from "../../train/loss.ts";
import { estimateStatistics } from "../../train/statistics.ts";
import { liftConstants } from "../../transform/fold.ts";
import { fuse } from "../../transform/fuse.ts";
import { upgrade } from "../../transform/upgrade.ts";
import { dropDefault, otherReader, raiseIrVersion, transposed, type Weight, weightsOf } from "../../transform/weights.ts";
import { fineTune, training } from "../finetune.ts";
import { withTeacher } from "../teacher.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { weightLayers } from "../weightlayers.ts";
import { formsOf } from "./blockforms.ts";
import { storeDigits, storeNBits } from "./digits.ts";
import { signed, signInput } from "./signs.ts";

const params = {
  weights: choice(["binary", "ternary"], { doc: "two values, −α and +α, in 1 bit each; or three, with 0, in 1.6 bits" }),
  scaling: choice(["channel", "tensor", "none"], {
    doc: "α for each output channel, for the tensor, or 1 (BinaryConnect: for nets with BatchNormalization)",
  }),
  activations: choice(["float", "binary", "scaled"], {
    doc: "inputs of the layers: as they are; their signs; or their signs times the mean magnitude of what each output reads (XNOR-Net's K). The model's own inputs stay",
  }),
  stochastic: flag(false, {
    doc: "binary: signs are drawn with probability (w + 1)/2 at each training step; the file holds the likelier ones",
  }),
  store: choice(["digits", "nbits"], {
    doc: "digits: 1 bit a weight (ternary 1.6), unpacked once when the runtime loads the model, then as fast and large as floats; nbits: 2 bits for MatMul and Gemm, which ONNX Runtime multiplies as they are (MatMulNBits), and digits for Conv",
  }),
  keep: choice(["none", "first", "last", "both"], { doc: "the first and last layer that stay float" }),
  epochs: optional(int(10, { min: 0, doc: "passes over the training data; null: 10 where there is some, else 0" })),
  include: optional(text("*", { doc: "only layers this selector matches" })),
  exclude: optional(text("", { doc: "not layers this selector matches" })),
  loss: text("crossEntropy", {
    doc: "the loss with the targets, such as crossEntropy:labels=y, or teacher: what the original model says, without labels",
  }),
  ...training,
} as const;

type BinaryParams = ValuesOf<typeof params>;

export const binary = defineTechnique({
  technique: "binary",
  family: "quantize",
  doc: "Trains a net whose weights (and activations, if wanted) take two or three values, and stores them in as few bits.",
  paper: "Courbariaux, Bengio, David 2015, BinaryConnect; Rastegari et al. 2016, XNOR-Net; Li, Zhang, Liu 2016, Ternary Weight Networks",
  params,
  neutral: { exclude: "*" },
  stronger: [
    { weights: "ternary", epochs: 0 },
    { weights: "binary", epochs: 0 },
  ],
  needs: (p) => ((p.epochs ?? 0) > 0 ? ["train"] : []),
  apply,
});

/** A weight that becomes signs: the axis of its output channels. */
interface Layer {
  readonly weight: Weight;
  readonly axis: number;
}

async function apply(model: Model, p: BinaryParams, context: Context): Promise<void> {
  liftConstants(model);
  const layers = select(model, p, context.note);
  if (layers.length === 0) return;
  if ((model.opsets.get("") ?? 1) < 13) {
    const rewritten = upgrade(model, 13);
    context.note(`opset 13, which binary needs${rewritten.length ? ` (${rewritten.join(", ")})` : ""}`);
  }
  const spelled = await trainSigns(model, layers, p, context);
  const nodes = layers.flatMap((l) => l.weight.uses.map((u) => u.node));
  const values = await evaluate(
    model,
    spelled.map((s) => s.y),
    context.threads,
  );
  spelled.forEach(({ value, y }, i) => {
    y.replaceUses(value);
    if (dropDefault(model.graph, value)) context.note(`"${value.name}" is no longer an input that callers may override`);
    model.graph.setData(value, tensor("float32", value.shape!, values[i]!));
  });
  removeDead(model.graph);
  for (const n of [...model.graph.nodes]) {
    if (n.domain !== "pith" || n.opType !== "StraightThrough") continue;
    n.outputs[0]!.replaceUses(n.inputs[1]!);
    model.graph.remove(n);
  }
  // Scales and BatchNormalizations go into the two or three values themselves, which differ by channel then.
  fuse(model, context.note);
  raiseIrVersion(model, 4);
  store(model, new Set(nodes), p, context.note);
}

function store(model: Model, nodes: ReadonlySet<Node>, p: BinaryParams, note: (line: string) => void): void {
  if (p.store === "nbits") {
    const forms = formsOf(model);
    for (const l of weightLayers(model).layers)
      if (nodes.has(l.node) && (l.op === "MatMul" || l.op === "Gemm") && l.shape.length === 2) storeNBits(forms, l, note);
  }
  const b = Build.of(model, "binary");
  for (const w of weightsOf(model)) if (w.uses.some((u) => nodes.has(u.node))) storeDigits(b, w, channelAxis(w, model) as number, note);
}

/** A latent weight and what its readers see of it. */
interface Spelled {
  readonly value: Value;
  readonly y: Value;
}

/** Lets the layers read signs, and trains the latent weights behind them: the model as training sees it. */
export async function trainSigns(model: Model, layers: readonly Layer[], p: BinaryParams, context: Context): Promise<Spelled[]> {
  const nodes = layers.flatMap((l) => l.weight.uses.map((u) => u.node));
  const b = Build.of(model, "binary");
  const frozen = p.activations === "float" ? [] : signInputs(b, nodes, p, context.note);
  const spelled = layers.map(({ weight: { value }, axis }) => {
    const seen = [...value.uses];
    const y = signed(b, value, axis, p);
    y.type = { dtype: "float32", shape: value.shape! };
    for (const use of seen) if ("node" in use) use.node.setInput(use.index, y);
    return { value, y };
  });
  await train(
    model,
    p,
    context,
    spelled.map((s) => s.value.name),
    frozen,
  );
  return spelled;
}

/** The layers that become binary; those that cannot are named. */
export function select(model: Model, p: BinaryParams, note: (line: string) => void): Layer[] {
  const found = weightsOf(model, { ...(p.include ? { include: p.include } : {}), ...(p.exclude ? { exclude: p.exclude } : {}) });
  const order = new Map(sorted(model.graph).map((n, i) => [n, i]));
  const at = (w: Weight) => Math.min(...w.uses.map((u) => order.get(u.node) ?? Infinity));
  const all = found.toSorted((a, c) => at(a) - at(c));
  const layers: Layer[] = [];
  all.forEach((weight, i) => {
    const kept =
      (i === 0 && (p.keep === "first" || p.keep === "both")) || (i === all.length - 1 && (p.keep === "last" || p.keep === "both"));
    const axis = kept ? `kept (keep=${p.keep})` : channelAxis(weight, model);
    if (typeof axis === "number") layers.push({ weight, axis });
    else note(`"${weight.value.name}" stays float: ${axis}`);
  });
  note(
    layers.length
      ? `${layers.length} of ${all.length} weights ${p.weights}`
      : "no weight of a Conv, Gemm or MatMul is selected; nothing was changed",
  );
  return layers;
}

/** The axis of the output channels in a stored weight, or why it cannot be signs. */
function channelAxis(weight: Weight, model: Model): number | string {
  const { value, uses } = weight;
  if (value.graph !== model.graph || uses.some((u) => u.node.graph !== model.graph))
    return "it is read in a subgraph, which is not trained";
  if (value.data!.dtype !== "float32") return `it is ${value.data!.dtype}; float32 is trained`;
  const other = otherReader(weight);
  if (other) return `it is also read by ${other}`;
  const axes = new Set<number | string>();
  for (const use of uses) {
    const { node } = use;
    const flipped = transposed(use);
    if (node.domain !== "" || !["Conv", "Gemm", "MatMul"].includes(node.opType))
      axes.add(`${node.opType} is none of Conv, Gemm and MatMul`);
    else if (flipped === null || (flipped && node.opType === "Conv")) axes.add(`"${labelOf(node)}" reads it in another shape`);
    else if (node.opType === "Conv") axes.add(0);
    else if (value.data!.shape.length !== 2) axes.add(`it has ${value.data!.shape.length} dimensions; a matrix has 2`);
    else axes.add(Number((node.opType === "Gemm" && node.int("transB") === 1) === flipped));
  }
  const [axis] = axes;
  return axes.size === 1 ? axis! : "its readers differ in which axis are its outputs";
}

/** Signs in the place of the layers' inputs, but for those that read the model's own; returns the names of constants that are not trained. */
function signInputs(b: Build, nodes: readonly Node[], p: BinaryParams, note: (line: string) => void): string[] {
  const out: string[] = [];
  for (const node of new Set(nodes)) {
    if (readsInput(node.inputs[0]!)) {
      note(`"${labelOf(node)}" reads the model's input, which stays float`);
      continue;
    }
    const relu = reluBefore(node.inputs[0]!);
    if (relu) {
      // Behind it all signs would be +1: the sign takes its place.
      relu.outputs[0]!.replaceUses(relu.inputs[0]!);
      relu.graph.remove(relu);
    }
    out.push(...signInput(b, node, p.activations === "scaled").map((v) => v.name));
  }
  return out;
}

/** The Relu that a value comes from, read by nothing else on the way. */
function reluBefore(v: Value): Node | null {
  const n = v.producer;
  if (n?.domain !== "" || v.uses.size !== 1) return null;
  if (n.opType === "Relu") return n;
  return passing.has(n.opType) || n.opType === "MaxPool" ? reluBefore(n.inputs[0]!) : null;
}

const passing = new Set(["Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast"]);

function readsInput(v: Value): boolean {
  if (!v.producer) return true;
  return v.producer.domain === "" && passing.has(v.producer.opType) && readsInput(v.producer.inputs[0]!);
}

/** Trains latent weights, keeps them within ±1 (binary: farther ones would never change their sign again), takes statistics anew. */
async function train(model: Model, p: BinaryParams, context: Context, latent: readonly string[], frozen: readonly string[]): Promise<void> {
  const epochs = p.epochs ?? (context.train ? 10 : 0);
  if (epochs === 0) return;
  const { threads, seed } = context;
  const teacher = p.loss === "teacher";
  const data = teacher ? await withTeacher(context.train!, context.original, { as: "teacher", threads }) : context.train!;
  const clip = ({ values }: Step) => {
    for (const name of latent) {
      const w = values(name);
      for (let i = 0; i < w.length; i++) {
        if (w[i]! > 1) w[i] = 1;
        else if (w[i]! < -1) w[i] = -1;
      }
    }
  };
  await fineTune(model, p, context, {
    what: "binary",
    epochs,
    data,
    loss: teacher ? kl({ teacher: "teacher" }) : p.loss,
    batchStatistics: true,
    ...(p.weights === "binary" ? { onStep: clip } : {}),
    ...(frozen.length ? { frozen } : {}),
  });
  await estimateStatistics(model, context.train!, { batchSize: Math.max(256, p.batchSize), seed, threads });
}

/** Values of the graph that depend on no input. */
async function evaluate(model: Model, values: readonly Value[], threads: number): Promise<Float32Array[]> {
  const map = new Map<Value, Value>();
  const probe = cloneModel(model, map);
  const { graph } = probe;
  graph.setOutputs(values.map((v) => map.get(v)!));
  removeDead(graph);
  graph.inputs.length = 0;
  const session = await open(probe, { threads, spinning: false });
  try {
    const out = await session.run({});
    return values.map((v) => floatsOf(out[v.name]!));
  } finally {
    await session.release();
  }
}
