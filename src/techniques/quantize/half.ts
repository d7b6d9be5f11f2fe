/** Weights, and where the runtime can, activations in 16-bit floats. */
import { choice, flag, int, optional, text, type ValuesOf } from "../../data/params.ts";
import { cloneModel, type Model, type Node, type Value } from "../../ir/graph.ts";
import { matcher, namesOf } from "../../ir/select.ts";
import { allNodes, labelOf } from "../../ir/walk.ts";
import { functionsOf } from "../../onnx/read.ts";
import { sizeOf } from "../../tensor/dtype.ts";
import { Fault } from "../../tensor/fault.ts";
import { type Half, narrow } from "../../tensor/half.ts";
import { elementTypes } from "../../transform/elementtypes.ts";
import { liftConstants } from "../../transform/fold.ts";
import { inlineFunctions } from "../../transform/inline.ts";
import { upgrade } from "../../transform/upgrade.ts";
import { raiseIrVersion } from "../../transform/weights.ts";
import { sampled } from "../sample.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { type Constant, constants } from "./extremes.ts";
import { transformersBlockList } from "./halfops.ts";
import { halve } from "./halve.ts";
import { figure, holdExtremes, holdIntegers, holdOverflow, listed } from "./holds.ts";
import { type Sites, saveCasts, sitesOf, small } from "./sites.ts";
import { verify } from "./verify.ts";

const params = {
  dtype: choice(["float16", "bfloat16"], {
    doc: "float16: 11 bits of precision, numbers up to 65504; bfloat16: 8 bits, the range of float32",
  }),
  compute: optional(
    choice(["half", "float32"], {
      doc: "half: activations too; float32: 16 bits are storage alone, with one Cast behind each weight. Default: half for float16, float32 for bfloat16, of which ONNX Runtime's CPU has no kernels",
    }),
  ),
  keepIO: flag(true, { doc: "the model's inputs and outputs stay float32" }),
  exclude: text("", { doc: "these nodes stay float32 (globs on node and weight names, op:Type)" }),
  blockOps: text("", { doc: "op types, by comma, that stay float32 beside those that ONNX does not define in 16 bits" }),
  compat: choice(["none", "transformers"], {
    doc: "transformers: the op types that transformers.js's converter keeps in float32, and its bounds on weights: magnitudes from 1e-7 to 1e4",
  }),
  outOfRange: choice(["keep", "clamp"], {
    doc: "nodes whose constants 16 bits cannot hold stay float32, or the constants become the nearest number there is",
  }),
  scan: int(256, { min: 0, doc: "examples on which every value's magnitude is looked at first, where there are data; 0: none" }),
} as const;

type HalfParams = ValuesOf<typeof params>;

export const half = defineTechnique({
  technique: "half",
  family: "quantize",
  doc: "Stores weights in 16-bit floats, half the bytes, and computes in them where their range allows.",
  paper: "Micikevicius et al. 2018, Mixed Precision Training; Kalamkar et al. 2019, A Study of BFLOAT16 for Deep Learning Training",
  params,
  neutral: { exclude: "*" },
  stronger: [{ exclude: "*" }, {}],
  apply,
});

async function apply(model: Model, p: HalfParams, context: Context): Promise<void> {
  const to = p.dtype;
  const computes = (p.compute ?? (to === "float16" ? "half" : "float32")) === "half";
  if (to === "bfloat16" && !p.keepIO)
    throw new Fault("half", "the runtime's binding passes no bfloat16 in or out; keepIO=true would be right; got keepIO=false");
  prepare(model, to, context.note);
  const before = cloneModel(model);
  const data = context.calibration ?? context.train;
  const nodes = [...allNodes(model.graph)];
  const types = elementTypes(model);
  const excluded = p.exclude ? matcher(p.exclude) : () => false;
  const named = new Set(p.blockOps.split(",").map((op) => op.trim()));
  const theirs = new Set(p.compat === "transformers" ? transformersBlockList : []);
  const unwanted = (n: Node) => (excluded(namesOf(n), n.opType) ? "excluded" : named.has(n.opType) ? "named in blockOps" : null);
  const sites = sitesOf(model, types, {
    keepIO: p.keepIO,
    opset: model.opsets.get("") ?? 1,
    blocked: (n) =>
      computes ? (unwanted(n) ?? (theirs.has(n.opType) ? "transformers.js keeps it in float32" : null)) : "16 bits are storage alone",
  });
  holdIntegers(model, types, sites);

  const stored = [...constants(model.graph, to)];
  const bounded = holdExtremes(stored, sites, { ...p, computes }, context.note);
  if (computes && to === "float16") await holdOverflow(model, stored, bounded, sites, p.scan, context);
  const forced = new Map(nodes.map((n) => [n, sites.around(n).some((s) => s.why !== null)]));
  if (computes) saveCasts(sites);

  const found = new Map(stored.map((c) => [c.value, c.found]));
  const changed = new Set<Value>();
  const large = computes ? 1024 : small;
  const dropped = halve(model, sites, {
    to,
    narrow(v, t) {
      changed.add(v);
      return narrow(t, to, bounded.get(v) ?? null);
    },
    store: (v) =>
      p.compat === "none" &&
      sizeOf(v.data!.shape) > large &&
      (found.get(v)!.beyond === 0 || bounded.has(v)) &&
      [...v.uses].every((u) => "node" in u && !unwanted(u.node) && !integer.test(u.node.opType)),
  });
  report(model, { nodes, sites, forced, changed, found, dropped, computes, to }, context.note);
  if (data && changed.size) await verify(before, model, sampled(data, 64), context);
}

/** Ops that want their scales as they are, so that the runtime sees what it fuses. */
const integer = /quantize|QLinear|Integer|NBits|Bnb4/i;

/** Functions in place of their calls, constants as initializers, an opset in which the type exists. */
function prepare(model: Model, to: Half, note: Context["note"]): void {
  if (functionsOf(model).length) {
    try {
      const done = inlineFunctions(model);
      note(`model-local functions were put in place of their calls: ${[...done.keys()].join(", ")}`);
    } catch (e) {
      if (!(e instanceof Fault)) throw e;
      note(`model-local functions stay as they are, in float32: ${e.message}`);
    }
  }
  const least = to === "bfloat16" ? 13 : 7;
  const opset = model.opsets.get("") ?? least;
  if (opset < least) {
    upgrade(model, least);
    note(`opset ${opset} → ${least}, which ${to} needs`);
  }
  raiseIrVersion(model, 4);
  liftConstants(model);
}

interface Result {
  readonly nodes: readonly Node[];
  readonly sites: Sites;
  readonly forced: ReadonlyMap<Node, boolean>;
  readonly changed: ReadonlySet<Value>;
  readonly found: ReadonlyMap<Value, Constant["found"]>;
  readonly dropped: readonly string[];
  readonly computes: boolean;
  readonly to: Half;
}

function report(model: Model, r: Result, note: Context["note"]): void {
  const { sites: s, to } = r;
  const types = elementTypes(model);
  const isCast = (n: Node) =>
    n.opType === "Cast" && [n.inputs[0]!, n.outputs[0]!].every((v) => types.get(v) === to || types.get(v) === "float32");
  const casts = [...allNodes(model.graph)].filter(isCast).length;
  const readsFloat = (n: Node) => n.inputs.some((v, index) => v && s.floats.has(v) && s.reader({ node: n, index }));
  const floating = r.nodes.filter((n) => readsFloat(n) || n.outputs.some((v) => v && s.floats.has(v)));
  const halved = floating.filter((n) => s.around(n).some((site) => site.half)).length;
  const nothing = r.changed.size === 0 && halved === 0;
  if (nothing) note("no float32 weights or nodes that can be changed among those selected; nothing was");
  else if (r.computes) note(`${halved} of ${floating.length} nodes on floats compute in ${to}, with ${casts} casts between`);
  else note(`${r.changed.size} weights stored in ${to}, computed in float32`);
  const left = new Map<string, string[]>();
  for (const n of r.computes ? floating : []) {
    const site = s.around(n).find((x) => x.why);
    if (!site?.why) continue;
    left.set(site.why, [...(left.get(site.why) ?? []), `${labelOf(n)}${site.figure ? ` (${site.figure})` : ""}`]);
  }
  for (const [why, names] of left) note(`stay float32: ${listed(names)}: ${why}`);
  const beyond = [...r.found].filter(
    ([v, f]) => !r.computes && v.data?.dtype === "float32" && f.beyond > 0 && sizeOf(v.data.shape) > small,
  );
  if (beyond.length) note(`stay float32: ${listed(beyond.map(([v, f]) => `"${v.name}" (${figure(f.largest)})`))}: beyond the range`);
  const saved = floating.filter((n) => !r.forced.get(n) && !s.around(n).some((site) => site.half)).length;
  if (r.computes && saved) note(`${saved} light nodes stay float32 between those, which saves casts`);
  let [vanishing, nonZero] = [0, 0];
  for (const v of r.changed) {
    vanishing += r.found.get(v)?.vanishing ?? 0;
    nonZero += r.found.get(v)?.nonZero ?? 0;
  }
  if (vanishing) note(`${vanishing} of ${nonZero} non-zero weights become 0 (${Number(((100 * vanishing) / nonZero).toPrecision(2))} %)`);
  if (r.dropped.length) note(`were inputs with a default and are constants now: ${r.dropped.join(", ")}`);
  if (r.computes && !nothing) note("16-bit floats save bytes, and time on GPUs; ONNX Runtime's CPU gains none from them");
}
