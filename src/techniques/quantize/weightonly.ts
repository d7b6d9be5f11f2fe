/** Weights in 8 to 1 bits, computed with in floats. */
import { choice, flag, int, number, optional, text, type ValuesOf } from "../../data/params.ts";
import { cloneModel, type Model, type Value } from "../../ir/graph.ts";
import { sizeOf } from "../../tensor/dtype.ts";
import { Fault } from "../../tensor/fault.ts";
import { foldValues, liftConstants } from "../../transform/fold.ts";
import { upgrade } from "../../transform/upgrade.ts";
import { raiseIrVersion } from "../../transform/weights.ts";
import { leave } from "../left.ts";
import { elementsOf } from "../matrix.ts";
import { sampled } from "../sample.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { computedWeights, type WeightLayer, weightLayers } from "../weightlayers.ts";
import { rescaleForAwq } from "./activationaware.ts";
import { formsOf } from "./blockforms.ts";
import type { BlockScheme } from "./blocks.ts";
import { relativeErrors } from "./error.ts";
import { decodeFloats, encodeFloats, type FloatBlocks } from "./floatcodes.ts";
import { learnedCodes } from "./learned.ts";
import { widthOf } from "./packing.ts";
import { blocksIn, type Coded, codesIn, nearest, type Rounding } from "./rounding.ts";
import { roundToHalf } from "./slabs.ts";
import { dropFloats, readInitializers } from "./store.ts";

const params = {
  type: choice(["int4", "int8", "int3", "int2", "ternary", "binary", "nf4", "fp4"], {
    doc: "what a weight becomes: an integer (3 bits are stored in 4, 1 bit in 2, as the runtime has no others), −1, 0 or 1, ±1, or a 4-bit float, each times its block's scale",
  }),
  algorithm: choice(["rtn", "gptq", "awq", "hqq", "adaround"], {
    doc: "how codes are found: the nearest (rtn), or such that the layer's output (gptq, awq, adaround: on calibration data) or weights (hqq) come nearer; not for nf4 and fp4",
  }),
  blockSize: optional(
    int(32, {
      min: 0,
      max: 1024,
      doc: "weights that share a scale: 16, 32, 64, …; 0: all of an output channel; null: 32, and 64 for nf4 and fp4",
    }),
  ),
  symmetric: flag(true, { doc: "scales alone, or a zero point for each block too" }),
  format: choice(["auto", "nbits", "dq"], {
    doc: "nbits: MatMulNBits and MatMulBnb4 of ONNX Runtime; dq: ONNX's DequantizeLinear; auto: nbits where it goes, dq for the rest",
  }),
  embeddings: choice(["tied", "all", "none"], {
    doc: "tables that Gather reads (GatherBlockQuantized): those that a layer shares, so that the file holds them once, all, or none",
  }),
  conv: flag(true, { doc: "Convs too: their weights are made float again at each run" }),
  accuracyLevel: int(0, {
    min: 0,
    max: 4,
    doc: "MatMulNBits: least precision it may compute in (1 fp32, 2 fp16, 3 bf16, 4 int8); 0: not said",
  }),
  include: text("*", { doc: "only these nodes (globs on node and weight names, op:Type)" }),
  exclude: text("", { doc: "not these nodes" }),
  smallest: int(256, { min: 0, doc: "a weight of fewer elements stays float: what stands around it would take more than it saves" }),
  maxError: optional(
    number(0.2, {
      min: 0,
      doc: "a layer whose output would change by more stays float: relative error, on the data (without data that of its weights); null: 0.2, below 4 bits no bound",
    }),
  ),
} as const;

type Values = ValuesOf<typeof params>;

export const weightOnly = defineTechnique({
  technique: "weightOnly",
  family: "quantize",
  doc: "Stores the weights of MatMul, Gemm, Conv, LSTM, GRU and embeddings in 8, 4, 3, 2 or 1 bits with a scale for each block, and computes in floats.",
  paper:
    "Frantar et al. 2022 (GPTQ); Lin et al. 2023 (AWQ); Badri, Shaji 2023 (HQQ); Nagel et al. 2020 (AdaRound); Dettmers et al. 2023, QLoRA (NF4, blocks); Rastegari et al. 2016 (binary); Li et al. 2016 (ternary); ONNX Runtime's MatMulNBits",
  params,
  neutral: { exclude: "*" },
  stronger: [{ type: "int8" }, { type: "int4" }],
  needs: ({ algorithm }) => (algorithm === "rtn" || algorithm === "hqq" ? [] : ["calibration"]),
  apply,
});

/** How a layer is spelled. */
type Form = "nbits" | "bnb4" | "gather" | "dq";

/** Floats in blocks of a 4-bit type, or integer codes. */
type Stored = ({ readonly floats: FloatBlocks } & Pick<Coded, "error">) | ({ readonly floats: null } & Coded);

interface Planned {
  readonly forms: ReadonlyMap<WeightLayer, Form>;
  readonly left: Map<string, string[]>;
  readonly all: number;
}

async function apply(model: Model, p: Values, context: Context): Promise<void> {
  checkParams(p);
  const selected = { include: p.include, ...(p.exclude ? { exclude: p.exclude } : {}) };
  const look = cloneModel(model);
  liftConstants(look);
  await foldValues(look, computedWeights(look, selected), { threads: context.threads });
  const first = plan(look, p, selected, null);
  if (first.forms.size === 0) return report(first, new Set(), p, context.note);
  const refused = raise(model, [...first.forms], p, context.note);
  raiseIrVersion(model, 4);
  liftConstants(model);
  if (p.algorithm === "awq") {
    const data = (context.calibration ?? context.train)!;
    const schemeFor = (l: WeightLayer) => schemeOf(l.matrix.columns, p);
    const layers = [...plan(model, p, selected, refused).forms.keys()];
    await rescaleForAwq(model, layers, { data, threads: context.threads, schemeOf: schemeFor, note: context.note });
  }
  const before = readInitializers(model);
  await foldValues(model, computedWeights(model, selected), { threads: context.threads });
  const planned = plan(model, p, selected, refused);
  const groups = new Map<string, WeightLayer[]>();
  for (const l of planned.forms.keys()) groups.set(l.key, [...(groups.get(l.key) ?? []), l]);
  const stored = await codesOfAll(model, groups, p, context);
  const done = new Set<WeightLayer>();
  const errors = await errorsOf(model, planned, stored, p, context);
  const most = p.maxError ?? (isCoarse(p) ? Infinity : 0.2);
  const forms = formsOf(model);
  const shared = sharedOf(planned, (l) => errors.get(l)! <= most);
  for (const [l, form] of planned.forms) {
    const e = errors.get(l)!;
    if (!(e <= most)) leave(planned.left, `${p.type} would change its output by ${percent(e)} (more than ${percent(most)})`, l.node);
    else {
      write(forms, l, form, stored.get(l.key)!, p, shared);
      done.add(l);
    }
  }
  dropFloats([...done], before, context.note);
  report(planned, done, p, context.note);
}

function checkParams(p: Values): void {
  const size = sizeOfBlock(p);
  if (size !== 0 && (size < 16 || size & (size - 1)))
    throw new Fault("weightOnly", `blockSize must be 0 or a power of two from 16; got ${size}`);
  if (size > 256 && p.format !== "dq" && !isFloat4(p))
    throw new Fault("weightOnly", `MatMulNBits takes blocks of 16, 32, 64, 128 or 256; give one of those, or format=dq; got ${size}`);
  if (isFloat4(p) && p.algorithm !== "rtn")
    throw new Fault("weightOnly", `${p.type} is rounded to nearest only; algorithm=rtn would be right; got ${p.algorithm}`);
  if (isFloat4(p) && p.format === "dq")
    throw new Fault("weightOnly", `${p.type} has no DequantizeLinear; format=nbits or auto would be right`);
  if (size === 0 && (p.format === "nbits" || isFloat4(p)))
    throw new Fault("weightOnly", `${isFloat4(p) ? p.type : "format=nbits"} takes blocks; give blockSize 16, 32, 64, …`);
}

const isFloat4 = (p: Values): boolean => p.type === "nf4" || p.type === "fp4";
const isCoarse = (p: Values): boolean => ["int3", "int2", "ternary", "binary"].includes(p.type);
const sizeOfBlock = (p: Values): number => p.blockSize ?? (isFloat4(p) ? 64 : 32);
const bitsOf = { int8: 8, int4: 4, int3: 3, int2: 2, ternary: 2, binary: 1 } as const;

/** The scheme of a layer: a block no larger than it takes for all its columns. */
function schemeOf(columns: number, p: Values): BlockScheme {
  if (p.type === "nf4" || p.type === "fp4") throw new Fault("weightOnly", `${p.type} is no integer`);
  const size = sizeOfBlock(p);
  let groupSize = size || columns;
  while (size && groupSize > 16 && groupSize / 2 >= columns) groupSize /= 2;
  return { bits: bitsOf[p.type], groupSize, symmetric: p.symmetric, ternary: p.type === "ternary" };
}

/** What becomes of which layer. `refused`: why nothing can be spelled with DequantizeLinear. */
function plan(model: Model, p: Values, selected: { include: string; exclude?: string }, refused: string | null): Planned {
  const { layers, left } = weightLayers(model, selected);
  const forms = new Map<WeightLayer, Form>();
  const keys = new Set<string>();
  const put = (l: WeightLayer, form: Form | string) => {
    if (form === "dq" && refused) leave(left, refused, l.node);
    else if (form === "nbits" || form === "bnb4" || form === "gather" || form === "dq") {
      forms.set(l, form);
      keys.add(`${l.weight.graph.name}|${l.weight.name}`);
    } else leave(left, form, l.node);
  };
  let all = 0;
  for (const l of layers) {
    if (l.op === "Gather") continue;
    all++;
    put(l, formOf(l, p));
  }
  for (const l of layers) {
    if (l.op !== "Gather" || p.embeddings === "none") continue;
    if (p.embeddings === "tied" && !keys.has(`${l.weight.graph.name}|${l.weight.name}`)) continue;
    all++;
    put(l, tableForm(l, p));
  }
  return { forms, left, all };
}

function formOf(l: WeightLayer, p: Values): Form | string {
  if (sizeOf(l.shape) < p.smallest) return `fewer than ${p.smallest} weights (smallest)`;
  if ((l.op === "Conv" || l.op === "ConvTranspose") && !p.conv) return "conv=false";
  const matrix = l.op !== "Conv" && l.shape.length === 2;
  if (isFloat4(p)) return matrix ? "bnb4" : `MatMulBnb4 takes matrices only, and ${p.type} has no other form`;
  if (matrix && p.format !== "dq" && sizeOfBlock(p) !== 0) return "nbits";
  return p.format === "nbits" ? "MatMulNBits takes matrices only (format=auto would use DequantizeLinear)" : "dq";
}

function tableForm(l: WeightLayer, p: Values): Form | string {
  const { columns } = l.matrix;
  if (sizeOf(l.shape) < p.smallest) return `fewer than ${p.smallest} weights (smallest)`;
  if (isFloat4(p)) return `a table has no form in ${p.type}`;
  if (p.format === "dq" || sizeOfBlock(p) === 0) return "dq";
  const bits = widthOf(bitsOf[p.type as keyof typeof bitsOf]);
  return (columns * bits) % 8 === 0 ? "gather" : `its rows of ${columns} are no whole number of bytes in ${bits} bits`;
}

/**
 * Raises the opset to what the forms need: for DequantizeLinear 13 per channel in 8 bits, 21 in blocks and in 4 bits, 25 in 2 bits; 7 for
 * the Add behind a Gemm. Returns why it could not (then those layers stay). Errors: where format=dq, which leaves nothing else.
 */
function raise(model: Model, forms: readonly (readonly [WeightLayer, Form])[], p: Values, note: (line: string) => void): string | null {
  const from = model.opsets.get("") ?? 1;
  const dq = forms.some(([, form]) => form === "dq");
  const needed = dq ? opsetOfDequantize(forms, p) : 7;
  const to = (opset: number) => {
    if (from >= opset) return;
    const rewritten = upgrade(model, opset);
    note(
      `opset ${from} → ${opset}, which ${dq ? `DequantizeLinear of ${p.type}` : "Add"} needs${rewritten.length ? ` (${rewritten.join(", ")})` : ""}`,
    );
  };
  try {
    to(needed);
    return null;
  } catch (e) {
    if (!(e instanceof Fault)) throw e;
    if (!dq || p.format === "dq") throw new Fault("weightOnly", `needs opset ${needed}, the model has ${from}; ${e.message}`, { cause: e });
    to(7);
    return `needs DequantizeLinear of opset ${needed}, and ${e.message}`;
  }
}

function opsetOfDequantize(forms: readonly (readonly [WeightLayer, Form])[], p: Values): number {
  const bits = isFloat4(p) ? 4 : widthOf(bitsOf[p.type as keyof typeof bitsOf]);
  const perChannel = forms.every(([l, form]) => form !== "dq" || isPerChannel(l, p));
  const half = forms.some(([l, form]) => form === "dq" && l.dtype === "float16");
  return bits === 2 ? 25 : bits === 4 || !perChannel ? 21 : half ? 19 : 13;
}

/** One scale for each output, on the axis of the outputs: batches of matrices have them on two. */
const isPerChannel = (l: WeightLayer, p: Values): boolean => sizeOfBlock(p) === 0 && (l.op === "Conv" || l.shape.length === 2);

/** What each key's weight becomes. */
async function codesOfAll(
  model: Model,
  groups: ReadonlyMap<string, readonly WeightLayer[]>,
  p: Values,
  context: Context,
): Promise<Map<string, Stored>> {
  const stored = new Map<string, Stored>();
  const round = nearest();
  const progress = (step: number, of: number) => context.progress({ what: "weightOnly", step, of });
  if (p.algorithm === "rtn") {
    let step = 0;
    for (const [key, layers] of groups) {
      progress(step++, groups.size);
      stored.set(key, codesOf(layers, p, round));
    }
    return stored;
  }
  const data = context.calibration ?? context.train;
  const schemeFor = (l: WeightLayer) => schemeOf(l.matrix.columns, p);
  const { threads, note } = context;
  const options = { algorithm: p.algorithm, groups, schemeOf: schemeFor, nearest: round, data, threads, progress, note };
  for (const [key, c] of await learnedCodes(model, options)) stored.set(key, { floats: null, ...c });
  return stored;
}

function codesOf(layers: readonly WeightLayer[], p: Values, round: Rounding): Stored {
  const [l] = layers;
  const { matrix } = l!;
  if (p.type !== "nf4" && p.type !== "fp4") return { floats: null, ...round(layers, schemeOf(matrix.columns, p)) };
  const w = elementsOf(matrix);
  const floats = encodeFloats(w, sizeOfBlock(p), p.type);
  if (l!.dtype === "float16") roundToHalf(floats.absmax);
  const back = decodeFloats(floats, w.length, sizeOfBlock(p), p.type);
  let [wrong, all] = [0, 0];
  for (let i = 0; i < w.length; i++) {
    wrong += (w[i]! - back[i]!) ** 2;
    all += w[i]! ** 2;
  }
  return { floats, error: all > 0 ? Math.sqrt(wrong / all) : 0 };
}

/** Keys of tables that Gather and another layer read alike. */
function sharedOf({ forms }: Planned, accepted: (l: WeightLayer) => boolean): ReadonlySet<string> {
  const tables = new Set([...forms.keys()].filter((l) => l.op === "Gather" && accepted(l)).map((l) => l.key));
  return new Set([...forms.keys()].filter((l) => l.op !== "Gather" && accepted(l) && tables.has(l.key)).map((l) => l.key));
}

function write(forms: ReturnType<typeof formsOf>, l: WeightLayer, form: Form, s: Stored, p: Values, shared: ReadonlySet<string>): void {
  if (s.floats) forms.bnb4(l, s.floats, sizeOfBlock(p), p.type as "nf4" | "fp4");
  else if (form === "nbits") forms.nbits(l, blocksIn(s), p.accuracyLevel);
  else if (form === "dq") forms.dequantized(l, codesIn(s), isPerChannel(l, p), shared.has(l.key));
  else {
    const blocks = blocksIn(s);
    // A short last block has columns that a gathered row must not.
    forms.gather(l, blocks, shared.has(l.key) && blocks.columns % blocks.groupSize === 0);
  }
}

/** The error of each layer: of its output on the data, where there is some and the layer is no subgraph's; else of its weights. */
async function errorsOf(
  model: Model,
  planned: Planned,
  stored: ReadonlyMap<string, Stored>,
  p: Values,
  context: Context,
): Promise<Map<WeightLayer, number>> {
  const errors = new Map([...planned.forms.keys()].map((l) => [l, stored.get(l.key)!.error]));
  const data = context.calibration ?? context.train;
  if (!data) return errors;
  const map = new Map<Value, Value>();
  const probe = cloneModel(model, map);
  const forms = formsOf(probe);
  const pairs: { of: WeightLayer; got: Value; wanted: Value }[] = [];
  for (const [l, form] of planned.forms) {
    // A recurrent layer may give its last states alone.
    const at = l.node.outputs.findIndex((o) => o !== null);
    if (l.node.graph.parent || l.op === "Gather") continue;
    const wanted = map.get(l.node.outputs[at]!)!;
    const twin = wanted.producer!;
    const outputs = twin.outputs.map((o) => o?.name ?? "");
    const copy = probe.graph.append(twin.opType, twin.inputs, { name: twin.name, attrs: Object.fromEntries(twin.attrs), outputs });
    const got = copy.outputs[at]!;
    write(forms, { ...l, node: copy, weight: map.get(l.weight)! }, form, stored.get(l.key)!, p, new Set());
    pairs.push({ of: l, got, wanted });
  }
  if (pairs.length) for (const [l, e] of await relativeErrors(probe, pairs, sampled(data, 64), context.threads)) errors.set(l, e);
  return errors;
}

function report({ all, left }: Planned, done: ReadonlySet<WeightLayer>, p: Values, note: (line: string) => void): void {
  const ops = new Map<string, number>();
  for (const l of done) ops.set(l.op, (ops.get(l.op) ?? 0) + 1);
  const what = [...ops].map(([op, n]) => `${n} ${op}`).join(", ");
  if (all === 0 && left.size === 0) note("no layer with constant float weights among the nodes selected; nothing was changed");
  else note(`${done.size} of ${all} weights in ${p.type}${what ? ` (${what})` : "; nothing was changed"}`);
  for (const [why, names] of left) note(`stay float: ${listed(names)}: ${why}`);
}

const percent = (x: number) => `${Number((100 * x).toPrecision(2))} %`;

function listed(names: readonly string[]): string {
  return names.length <= 5 ? names.join(", ") : `${names.slice(0, 4).join(", ")} and ${names.length - 4} more`;
}
