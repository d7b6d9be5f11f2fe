/** Mixed precision: every layer its own width, by what rounding it does to the outputs. */
import { type Dataset, subset } from "../../data/dataset.ts";
import { choice, flag, int, number, text, type ValuesOf } from "../../data/params.ts";
import { cloneModel, type Model, type Value } from "../../ir/graph.ts";
import { removeDead } from "../../ir/walk.ts";
import { named } from "../../lint/finding.ts";
import { accuracy, evaluate } from "../../measure/accuracy.ts";
import { byteLength } from "../../onnx/pieces.ts";
import { writePieces } from "../../onnx/write.ts";
import { Fault } from "../../tensor/fault.ts";
import { type Tensor, tensor } from "../../tensor/tensor.ts";
import { liftConstants } from "../../transform/fold.ts";
import { upgrade } from "../../transform/upgrade.ts";
import { raiseIrVersion } from "../../transform/weights.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { after, assign, moves, type Option, startOf } from "./assign.ts";
import { formsOf } from "./blockforms.ts";
import { type BlockCodes, type BlockScheme, dequantizeBlocks, groupsOf, hasZeroPoints } from "./blocks.ts";
import { elementsOf } from "./matrix.ts";
import { arranged, widthOf } from "./packing.ts";
import { blocksIn, codesIn, nearest, type Rounding } from "./rounding.ts";
import { type Change, type Divergence, type Sensitivity, type Slot, sensitivity } from "./sensitivity.ts";
import { dropFloats, readInitializers } from "./store.ts";
import { type WeightLayer, weightLayers } from "./weightlayers.ts";

const params = {
  widths: text("8,4,2", { doc: "bits of a code that a layer may get, of 8, 4, 3, 2; float32 always stays possible" }),
  groupSize: int(32, { min: 16, max: 256, doc: "inputs that share a scale: 16, 32, 64, 128 or 256" }),
  symmetric: flag(false, { doc: "no zero points: fewer bytes, more error" }),
  maxError: number(0.02, {
    min: 0,
    doc: "budget, where no other is given: relative error of the outputs on the data (for divergence=kl in nats)",
  }),
  maxDrop: number(0, { min: 0, doc: "budget instead: points of accuracy that may be lost on the training examples" }),
  bits: number(0, { min: 0, doc: "budget instead: bits a weight takes on average, scales included" }),
  bytes: int(0, { min: 0, doc: "budget instead: bytes of the file" }),
  sensitivity: choice(["outputs", "weights"], {
    doc: "outputs: each layer alone is rounded and the model run on the data; weights: by how much each weight is off, no data needed",
  }),
  divergence: choice(["relative", "kl"], { doc: "how outputs are compared: relative error, or KL divergence of their softmax" }),
  examples: int(64, { min: 1, doc: "examples of the data it is measured on" }),
  smallest: int(256, { min: 0, doc: "a layer with fewer weights stays float32" }),
  include: text("*", { doc: "only these nodes (globs on node and weight names, op:Type)" }),
  exclude: text("", { doc: "not these nodes" }),
} as const;

type MixedParams = ValuesOf<typeof params>;

export const mixed = defineTechnique({
  technique: "mixed",
  family: "quantize",
  doc: "Gives every layer's weights a width of its own, 8, 4 or 2 bits in blocks or float32, by what rounding them does to the outputs, under a budget.",
  paper:
    "Dong et al. 2020, HAWQ-V2 (sensitivities, here measured); Shoham and Gersho 1988, Efficient Bit Allocation for an Arbitrary Set of Quantizers",
  params,
  neutral: { exclude: "*" },
  stronger: [{ maxError: 0.001 }, { maxError: 0.3 }],
  needs: (p) => [
    ...(p.maxDrop ? (["train"] as const) : []),
    ...(p.sensitivity === "outputs" || budgetOf(p) === "maxError" ? (["calibration"] as const) : []),
  ],
  apply,
});

type Budget = "maxError" | "maxDrop" | "bits" | "bytes";

function budgetOf(p: MixedParams): Budget {
  return p.bytes ? "bytes" : p.bits ? "bits" : p.maxDrop ? "maxDrop" : "maxError";
}

/** Layers that take the same codes, and what they may get. */
interface Group {
  readonly name: string;
  readonly key: string;
  readonly layers: readonly WeightLayer[];
  readonly elements: number;
  readonly columns: number;
  /** Of the weight as it is. */
  readonly bytes: number;
  /** Where the weights are read, for each way of seeing them. */
  readonly slots: readonly (Slot & { readonly layer: WeightLayer })[];
}

async function apply(model: Model, p: MixedParams, context: Context): Promise<void> {
  const widths = widthsOf(p.widths);
  if (p.groupSize & (p.groupSize - 1)) throw new Fault("mixed", `groupSize must be 16, 32, 64, 128 or 256; got ${p.groupSize}`);
  liftConstants(model);
  const before = readInitializers(model);
  const { groups, left } = grouped(model, p);
  for (const [why, names] of left) context.note(`stay as they are: ${named(names)}: ${why}`);
  if (groups.length === 0) return context.note("no layers with weights to round among the nodes selected; nothing was changed");
  const round = nearest();
  const data = sampled(context.calibration ?? context.train, p.examples);
  const budget = budgetOf(p);
  const measuring = p.sensitivity === "outputs" || budget === "maxError";
  const probe = measuring
    ? await sensitivity(
        model,
        groups.flatMap((g) => g.slots),
        data!,
        { divergence: p.divergence as Divergence, threads: context.threads },
      )
    : null;
  try {
    const options = await optionsOf(groups, widths, p, round, probe, context);
    const chosen = await within(model, groups, options, p, { budget, probe, round, context });
    report(groups, options, chosen, p, context.note);
    dropFloats(write(model, widthByKey(groups, chosen), p, context.note), before, context.note);
  } finally {
    await probe?.release();
  }
}

function widthsOf(list: string): BlockScheme["bits"][] {
  const widths = list.split(",").map((w) => Number(w.trim()));
  const wrong = widths.find((w) => ![8, 4, 3, 2].includes(w));
  if (wrong !== undefined || new Set(widths).size < widths.length)
    throw new Fault("mixed", `widths must be some of 8, 4, 3 and 2, each once; got ${JSON.stringify(list)}`);
  return widths as BlockScheme["bits"][];
}

/** Blocks no larger than it takes for all columns. */
function schemeOf(bits: BlockScheme["bits"], columns: number, p: MixedParams): BlockScheme {
  let { groupSize } = p;
  while (groupSize > 16 && groupSize / 2 >= columns) groupSize /= 2;
  return { bits, groupSize, symmetric: p.symmetric };
}

/** Layers by the codes they share, and reasons for those left. */
function grouped(model: Model, p: MixedParams): { groups: Group[]; left: Map<string, string[]> } {
  const { layers, left } = weightLayers(model, { include: p.include, ...(p.exclude ? { exclude: p.exclude } : {}) });
  const byKey = new Map<string, WeightLayer[]>();
  for (const l of layers) byKey.set(l.key, [...(byKey.get(l.key) ?? []), l]);
  const stays = layers.some((l) => formOf(l) === "dequantized") ? refusal(model, p) : null;
  const groups: Group[] = [];
  const names = new Map<string, number>();
  for (const [key, shared] of byKey) {
    const [first] = shared as [WeightLayer];
    const { rows, columns } = first.matrix;
    const why =
      rows * columns < p.smallest
        ? `fewer than ${p.smallest} weights (smallest)`
        : stays && shared.some((l) => formOf(l) === "dequantized")
          ? stays
          : formOf(first) === null
            ? "its rows are no whole bytes of codes"
            : null;
    if (why) {
      left.set(why, [...(left.get(why) ?? []), first.weight.name]);
      continue;
    }
    const again = names.get(first.weight.name) ?? 0;
    names.set(first.weight.name, again + 1);
    const name = again ? `${first.weight.name} (${again + 1})` : first.weight.name;
    // Layers may see one matrix in two ways: a table as it is, and turned.
    const ways = new Map<string, WeightLayer[]>();
    for (const l of shared) ways.set(`${l.shape}`, [...(ways.get(`${l.shape}`) ?? []), l]);
    const slots = [...ways.values()].map((of, i) => ({
      name: i ? `${name}/${i}` : name,
      readers: of.map((l) => ({ node: l.node, input: l.use.input })),
      weights: () => seen(of[0]!, elementsOf(first.matrix)),
      layer: of[0]!,
    }));
    groups.push({
      name,
      key,
      layers: shared,
      elements: rows * columns,
      columns,
      bytes: rows * columns * (first.dtype === "float16" ? 2 : 4),
      slots,
    });
  }
  return { groups, left };
}

/** Why DequantizeLinear in blocks cannot be had; null: it can. */
function refusal(model: Model, p: MixedParams): string | null {
  const opset = widthsOf(p.widths).includes(2) ? 25 : 21;
  try {
    upgrade(cloneModel(model), opset);
    return null;
  } catch (e) {
    if (e instanceof Fault) return `needs DequantizeLinear of opset ${opset}, and ${e.message}`;
    throw e;
  }
}

/** A matrix [rows, columns] as the layer's nodes see it. */
function seen(layer: WeightLayer, values: Float32Array): Tensor {
  return tensor(layer.dtype, layer.shape, arranged(values, layer.matrix.columns, layer.layout));
}

/** What each way of seeing the weights would see of these codes. */
function trials(g: Group, codes: BlockCodes): [Slot, Tensor][] {
  const values = dequantizeBlocks(codes);
  return g.slots.map((s) => [s, seen(s.layer, values)]);
}

/** Spelled as MatMulNBits, GatherBlockQuantized or DequantizeLinear; null: cannot be. */
function formOf(l: WeightLayer): "nbits" | "gather" | "dequantized" | null {
  if (l.op === "Gather") return l.matrix.columns % 4 === 0 ? "gather" : null;
  return l.op !== "Conv" && l.shape.length === 2 ? "nbits" : "dequantized";
}

/** What each group costs and does at each width, float32 first. */
async function optionsOf(
  groups: readonly Group[],
  widths: readonly BlockScheme["bits"][],
  p: MixedParams,
  round: Rounding,
  probe: Sensitivity | null,
  context: Context,
): Promise<Option[][]> {
  const out: Option[][] = [];
  let done = 0;
  for (const g of groups) {
    const options: Option[] = [{ bits: 32, bytes: g.bytes, error: 0 }];
    for (const bits of widths) {
      const coded = round(g.layers, schemeOf(bits, g.columns, p));
      const error = p.sensitivity === "weights" ? coded.error ** 2 : await probe!.of(new Map(trials(g, codesIn(coded))));
      options.push({ bits, bytes: bytesOf(g, schemeOf(bits, g.columns, p)), error });
      context.progress({ what: "sensitivity", step: ++done, of: groups.length * widths.length });
    }
    out.push(options);
  }
  return out;
}

/** Bytes of codes, scales and zero points. */
function bytesOf({ layers }: Group, scheme: BlockScheme): number {
  const { rows, columns } = layers[0]!.matrix;
  const bits = widthOf(scheme.bits);
  const groups = groupsOf(columns, scheme.groupSize);
  const codes = formOf(layers[0]!) === "nbits" ? groups * scheme.groupSize : columns;
  const zeros = hasZeroPoints(scheme) ? Math.ceil((groups * bits) / 8) : 0;
  return rows * (Math.ceil((codes * bits) / 8) + groups * (layers[0]!.dtype === "float16" ? 2 : 4) + zeros);
}

interface Deciding {
  readonly budget: Budget;
  readonly probe: Sensitivity | null;
  readonly round: Rounding;
  readonly context: Context;
}

/** The option of each group. Errors: a budget that not even the fewest bits keep. */
async function within(
  model: Model,
  groups: readonly Group[],
  options: readonly Option[][],
  p: MixedParams,
  d: Deciding,
): Promise<Option[]> {
  const sum = (chosen: readonly Option[]) => chosen.reduce((n, o) => n + o.bytes, 0);
  const fewest = () => options.map((o) => o.reduce((a, b) => (b.bytes < a.bytes ? b : a)));
  if (d.budget === "bits") {
    const elements = groups.reduce((n, g) => n + g.elements, 0);
    const chosen = assign(options, (p.bits * elements) / 8);
    if (!chosen)
      throw new Fault(
        "mixed",
        `bits=${p.bits} cannot be kept: with all layers at their fewest bits it is ${((sum(fewest()) * 8) / elements).toFixed(2)} a weight, scales included`,
      );
    return chosen;
  }
  if (d.budget === "bytes") return inFile(model, groups, options, p);
  // Down the path as far as what is measured allows.
  const all = moves(options);
  const good = d.budget === "maxDrop" ? await byAccuracy(model, groups, p, d) : byError(groups, p, d);
  let [low, high] = [0, all.length];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    d.context.progress({ what: "searching", step: all.length - (high - low), of: all.length });
    if (await good(after(options, all, middle))) low = middle;
    else high = middle - 1;
  }
  return low ? after(options, all, low) : startOf(options);
}

/** All groups' weights as the options round them. */
function changed(groups: readonly Group[], chosen: readonly Option[], p: MixedParams, round: Rounding): Change {
  const change = new Map<Slot, Tensor>();
  groups.forEach((g, i) => {
    const { bits } = chosen[i]!;
    if (bits === 32) return;
    const codes = codesIn(round(g.layers, schemeOf(bits as BlockScheme["bits"], g.columns, p)));
    for (const [slot, weights] of trials(g, codes)) change.set(slot, weights);
  });
  return change;
}

function byError(groups: readonly Group[], p: MixedParams, { probe, round }: Deciding) {
  return async (chosen: readonly Option[]) => {
    const off = await probe!.of(changed(groups, chosen, p, round));
    return (p.divergence === "relative" ? Math.sqrt(off) : off) <= p.maxError;
  };
}

async function byAccuracy(model: Model, groups: readonly Group[], p: MixedParams, { round, context }: Deciding) {
  const of = async (m: Model) => (await evaluate(m, context.train!, accuracy(), { threads: context.threads })).measurement.value;
  const before = await of(model);
  return async (chosen: readonly Option[]) => {
    const copies = new Map<Value, Value>();
    const clone = cloneModel(model, copies);
    for (const [slot, weights] of changed(groups, chosen, p, round)) {
      const v = clone.graph.initializer(`${slot.name}/trial`, weights);
      for (const { node, input } of slot.readers) copies.get(node.outputs[0]!)!.producer!.setInput(input, v);
    }
    return before - (await of(clone)) <= p.maxDrop;
  };
}

/** Fits the file itself: what it takes beside weights is only known once it is written. */
function inFile(model: Model, groups: readonly Group[], options: readonly Option[][], p: MixedParams): Option[] {
  let room = p.bytes;
  for (let round = 0; round < 8; round++) {
    const chosen = assign(options, room);
    if (!chosen) break;
    const clone = cloneModel(model);
    write(clone, widthByKey(groups, chosen), p, () => {});
    removeDead(clone.graph);
    const size = byteLength(writePieces(clone, { embed: true }));
    if (size <= p.bytes) return chosen;
    room = chosen.reduce((n, o) => n + o.bytes, 0) - (size - p.bytes);
  }
  throw new Fault("mixed", `a file of ${p.bytes} bytes cannot be kept with these layers and widths`);
}

function widthByKey(groups: readonly Group[], chosen: readonly Option[]): Map<string, BlockScheme["bits"]> {
  return new Map(groups.flatMap((g, i) => (chosen[i]!.bits === 32 ? [] : [[g.key, chosen[i]!.bits as BlockScheme["bits"]] as const])));
}

/** Puts the layers on codes of the widths given, raising the opset where DequantizeLinear must. */
function write(
  model: Model,
  widths: ReadonlyMap<string, BlockScheme["bits"]>,
  p: MixedParams,
  note: (line: string) => void,
): WeightLayer[] {
  const layersNow = () =>
    weightLayers(model, { include: p.include, ...(p.exclude ? { exclude: p.exclude } : {}) }).layers.filter((l) => widths.has(l.key));
  const dq = layersNow().filter((l) => formOf(l) === "dequantized");
  const opset = dq.some((l) => widths.get(l.key) === 2) ? 25 : dq.length ? 21 : 7;
  const from = model.opsets.get("") ?? 1;
  if (opset > from) {
    upgrade(model, opset);
    note(`opset ${from} → ${opset}, which ${dq.length ? "weights of Convs in blocks need" : "an Add needs"}`);
  }
  raiseIrVersion(model, 4);
  const forms = formsOf(model);
  const round = nearest();
  const byKey = new Map<string, WeightLayer[]>();
  for (const l of layersNow()) byKey.set(l.key, [...(byKey.get(l.key) ?? []), l]);
  for (const [key, layers] of byKey) {
    const coded = round(layers, schemeOf(widths.get(key)!, layers[0]!.matrix.columns, p));
    const tied = layers.some((l) => formOf(l) === "nbits");
    for (const l of layers) {
      const form = formOf(l);
      if (form === "nbits") forms.nbits(l, blocksIn(coded), 0);
      else if (form === "gather") forms.gather(l, blocksIn(coded), tied && l.matrix.columns % blocksIn(coded).groupSize === 0);
      else forms.dequantized(l, codesIn(coded), false, false);
    }
  }
  return [...byKey.values()].flat();
}

function sampled(data: Dataset | null, most: number): Dataset | null {
  if (!data || data.length <= most) return data;
  return subset(
    data,
    Array.from({ length: most }, (_, i) => Math.floor((i * data.length) / most)),
  );
}

/** Widths by number of layers, what was kept and why, and the most fragile. */
function report(
  groups: readonly Group[],
  options: readonly Option[][],
  chosen: readonly Option[],
  p: MixedParams,
  note: (line: string) => void,
): void {
  const counts = new Map<number, number>();
  for (const o of chosen) counts.set(o.bits, (counts.get(o.bits) ?? 0) + 1);
  const bytes = chosen.reduce((n, o) => n + o.bytes, 0);
  const elements = groups.reduce((n, g) => n + g.elements, 0);
  const width = (bits: number) => (bits === 32 ? "as it was" : `in ${bits} bits`);
  const list = [...counts].sort((a, b) => a[0] - b[0]).map(([bits, n]) => `${n} ${width(bits)}`);
  note(`${groups.length} weights: ${list.join(", ")}; ${((bytes * 8) / elements).toFixed(2)} bits a weight, scales included`);
  const said = (o: Option) =>
    p.sensitivity === "weights"
      ? `off by ${percent(Math.sqrt(o.error))} itself`
      : p.divergence === "kl"
        ? `KL ${o.error.toPrecision(2)}`
        : `outputs off by ${percent(Math.sqrt(o.error))}`;
  const least = Math.min(...chosen.map((o) => o.bits));
  const kept = groups.flatMap((g, i) => {
    const [is, next] = [chosen[i]!, [...options[i]!].sort((a, b) => b.bits - a.bits).find((o) => o.bits < chosen[i]!.bits)];
    return is.bits > least && next ? [{ name: g.name, is, next }] : [];
  });
  for (const { name, is, next } of kept.sort((a, b) => b.next.error - a.next.error).slice(0, 20))
    note(`${name} ${is.bits === 32 ? "stays as it was" : `gets ${is.bits} bits`}: alone in ${next.bits} bits, ${said(next)}`);
}

const percent = (x: number) => `${+(100 * x).toPrecision(2)} %`;
