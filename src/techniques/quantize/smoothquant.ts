/** SmoothQuant: what is hard to quantize in a layer's inputs is moved into its weights. */
import { flag, number, text, type ValuesOf } from "../../data/params.ts";
import { cloneModel, type Model, type Value } from "../../ir/graph.ts";
import { matcher, namesOf } from "../../ir/select.ts";
import { allNodes } from "../../ir/walk.ts";
import { Build } from "../../ops/build.ts";
import { type Observer, observe } from "../../runtime/observe.ts";
import { Fault } from "../../tensor/fault.ts";
import { floatsOf } from "../../tensor/tensor.ts";
import { liftConstants } from "../../transform/fold.ts";
import { shapes } from "../sample.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { channelMaxima, type Reader, readersOf, rescale } from "./rescale.ts";

/**
 * Xiao et al. 2022, eq. 4: s_j = max|X_j|^α / max|W_j|^(1−α), what the inputs are divided and the weights multiplied by; 1 where a channel
 * of either is 0 throughout.
 */
export function smoothScales(inputs: Float32Array, weights: Float32Array, alpha: number): Float32Array<ArrayBuffer> {
  if (inputs.length !== weights.length) throw new Fault("smoothquant", `maxima of ${inputs.length} channels; got ${weights.length}`);
  return Float32Array.from(inputs, (x, j) => {
    const w = weights[j]!;
    return x > 0 && w > 0 && x < Infinity ? Math.min(1e5, Math.max(1e-5, x ** alpha / w ** (1 - alpha))) : 1;
  });
}

const params = {
  alpha: number(0.5, { min: 0, max: 1, doc: "how much of the difficulty the weights take over: 0 none, 1 all" }),
  mul: flag(false, { doc: "a Mul before layers where nothing that makes their input can take the factors (costs time)" }),
  include: text("*", { doc: "only these nodes (globs on node and weight names, op:Type)" }),
  exclude: text("", { doc: "not these nodes" }),
} as const;

export const smoothquant = defineTechnique({
  technique: "smoothquant",
  family: "quantize",
  doc: "Divides the channels of layers' inputs by factors that even them out, and multiplies the weights by them: outputs stay, int8 loses less.",
  paper: "Xiao et al. 2022, SmoothQuant",
  params,
  neutral: { exclude: "*" },
  needs: () => ["calibration"],
  apply,
});

const maxima: Observer<Float32Array> = {
  init: () => new Float32Array(0),
  update: (s, x) => Float32Array.from(floatsOf(x), (v, i) => Math.max(s[i] ?? 0, v)),
};

async function apply(model: Model, p: ValuesOf<typeof params>, context: Context): Promise<void> {
  liftConstants(model);
  const include = matcher(p.include);
  const exclude = p.exclude ? matcher(p.exclude) : () => false;
  const values = new Map<Value, Reader[]>();
  for (const n of allNodes(model.graph)) {
    const x = n.inputs[0];
    if (!x || x.data || values.has(x)) continue;
    const chosen = readersOf(x).filter(({ node }) => {
      const names = [...namesOf(node), node.inputs[1]!.name];
      return include(names, node.opType) && !exclude(names, node.opType);
    });
    if (chosen.length) values.set(x, chosen);
  }
  const data = context.calibration ?? context.train!;
  const { threads } = context;
  const shapeOf = values.size ? await shapes(model, data, threads) : () => null;
  const copies = new Map<Value, Value>();
  const probe = cloneModel(model, copies);
  const watched = new Map<Value, Value>();
  for (const [v, [first]] of values) {
    const copy = copies.get(v)!;
    const b = new Build(copy.graph, probe.opsets.get("") ?? 1, "smooth");
    const n = shapeOf(v)?.length ?? (first!.axis === 1 ? first!.weight.value.data!.shape.length : null);
    if (n === null) continue;
    const axes = Array.from({ length: n }, (_, i) => i).filter((i) => i !== (first!.axis < 0 ? n - 1 : first!.axis));
    watched.set(v, b.reduce("ReduceMax", b.op("Abs", [copy]), axes, false));
  }
  const seen = await observe(probe, watched.values(), data, maxima, {
    threads,
    progress: (step, of) => context.progress({ what: "smoothquant", step, of }),
  });
  const left: string[] = [];
  let [inSource, byMul] = [0, 0];
  for (const [v, readers] of values) {
    const x = seen.get(watched.get(v)!);
    const weights = readers.map((r) => channelMaxima(r.weight));
    const most = weights[0]!.map((_, j) => Math.max(...weights.map((w) => w[j]!)));
    const how = x?.length === most.length ? rescale(v, smoothScales(x, most, p.alpha), { readers, mul: p.mul }) : null;
    if (how === "source") inSource++;
    else if (how === "mul") byMul++;
    else left.push(v.name);
  }
  context.note(`${inSource + byMul} of ${values.size} inputs of layers smoothed${byMul ? `, ${byMul} of them by a Mul` : ""}`);
  if (left.length)
    context.note(
      `left as they are: ${left.slice(0, 5).join(", ")}${left.length > 5 ? ` and ${left.length - 5} more` : ""}: nothing that makes them can take the factors${p.mul ? "" : " (mul=true would put a Mul)"}`,
    );
}
