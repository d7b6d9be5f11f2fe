/** Weights as places in a short list of values. */
import { int, number, optional, text, type ValuesOf } from "../../data/params.ts";
import { cloneModel, type Model, produce, type Value } from "../../ir/graph.ts";
import { Build } from "../../ops/build.ts";
import { type DType, sizeOf } from "../../tensor/dtype.ts";
import { Fault } from "../../tensor/fault.ts";
import { floatsOf, tensor } from "../../tensor/tensor.ts";
import { liftConstants } from "../../transform/fold.ts";
import { upgrade } from "../../transform/upgrade.ts";
import { dropDefault, otherReader, raiseIrVersion, type Weight, weightsOf } from "../../transform/weights.ts";
import { leave } from "../left.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { kmeans } from "./kmeans.ts";
import { packElements, type Width } from "./packing.ts";

const params = {
  bits: int(4, { min: 1, max: 8, doc: "2^bits values for each weight tensor; stored in 2, 4 or 8 bits, the widths there are" }),
  include: text("*", { doc: "only these nodes (globs on node and weight names, op:Type)" }),
  exclude: text("", { doc: "not these nodes" }),
  smallest: int(1024, { min: 0, doc: "a weight of fewer elements stays as it is" }),
  maxError: optional(
    number(0.2, { min: 0, doc: "a weight that would change by more stays as it is: ‖W − Ŵ‖/‖W‖; null: 0.2, below 4 bits no bound" }),
  ),
} as const;

type Values = ValuesOf<typeof params>;

export const codebook = defineTechnique({
  technique: "codebook",
  family: "quantize",
  doc: "Gives the weights of a tensor 2^bits shared values, found by k-means, and stores for each weight which one.",
  paper: "Han et al. 2015, Deep Compression, section 3",
  params,
  neutral: { exclude: "*" },
  stronger: [{ bits: 8 }, { bits: 3 }],
  apply,
});

async function apply(model: Model, p: Values, context: Context): Promise<void> {
  const selected = { include: p.include, ...(p.exclude ? { exclude: p.exclude } : {}) };
  const left = new Map<string, string[]>();
  const look = cloneModel(model);
  liftConstants(look);
  const { wanted, all } = chosen(look, p, selected, left);
  let done = 0;
  if (wanted.length > 0) {
    const bits = widen(model, p, context.note);
    raiseIrVersion(model, 4);
    liftConstants(model);
    left.clear();
    const most = p.maxError ?? (p.bits < 4 ? Infinity : 0.2);
    const { wanted } = chosen(model, p, selected, left);
    for (const [i, w] of wanted.entries()) {
      context.progress({ what: "codebook", step: i, of: wanted.length });
      const error = share(model, w, p.bits, bits, most);
      if (error <= most) {
        done++;
        const other = otherReader(w);
        if (other) context.note(`"${w.value.name}" is read by ${other} too, which now has the same rounded weights`);
      } else
        for (const { node } of w.uses)
          leave(left, `${2 ** p.bits} values would change its weights by ${percent(error)} (more than ${percent(most)})`, node);
    }
  }
  context.note(
    all === 0
      ? "no weights among the nodes selected; nothing was changed"
      : `${done} of ${all} weights as places in lists of ${2 ** p.bits} values`,
  );
  for (const [why, names] of left) context.note(`stay as they are: ${names.join(", ")}: ${why}`);
}

function chosen(model: Model, p: Values, selected: { include: string; exclude?: string }, left: Map<string, string[]>) {
  const weights = weightsOf(model, selected);
  const wanted = weights.filter((w) => {
    const why = reason(w, p);
    if (why) for (const { node } of w.uses) leave(left, why, node);
    return !why;
  });
  return { wanted, all: weights.length };
}

function reason({ value }: Weight, p: Values): string | null {
  const n = sizeOf(value.data!.shape);
  if (n < p.smallest) return `fewer than ${p.smallest} weights (smallest)`;
  if ([...value.uses].some((u) => "graph" in u)) return "its weight is an output of the graph";
  return n <= 2 ** p.bits ? "it has no more weights than the list would have values" : null;
}

/** The width that places are stored in: 8 bits in any opset, 4 from opset 21 and 2 from opset 25, where the model can be raised to it. */
function widen(model: Model, p: Values, note: (line: string) => void): Width {
  const from = model.opsets.get("") ?? 1;
  const [width, opset] = p.bits > 4 ? ([8, 11] as const) : p.bits > 2 ? ([4, 21] as const) : ([2, 25] as const);
  if (from >= opset) return width;
  try {
    const rewritten = upgrade(model, opset);
    note(`opset ${from} → ${opset}, which Cast of uint${width} needs${rewritten.length ? ` (${rewritten.join(", ")})` : ""}`);
    return width;
  } catch (e) {
    if (!(e instanceof Fault)) throw e;
    note(`places take 8 bits, as ${width} need opset ${opset}, and ${e.message}`);
    return 8;
  }
}

/** Makes the weight the output of Gather(values, places) unless that would change it by more than `most`; returns by how much. */
function share(model: Model, { value }: Weight, bits: number, width: Width, most: number): number {
  const { dtype, shape } = value.data!;
  const w = floatsOf(value.data!);
  const { centroids, codes, error } = kmeans(w, 2 ** bits);
  const all = w.reduce((s, x) => s + x * x, 0);
  const relative = all > 0 ? Math.sqrt(error / all) : 0;
  if (!(relative <= most)) return relative;
  const { graph, name } = value;
  const b = new Build(graph, model.opsets.get("") ?? 1, name);
  const list: Value = graph.initializer(`${name}/values`, tensor(dtype, [centroids.length], centroids));
  const places = graph.initializer(`${name}/places`, {
    dtype: `uint${width}` as DType,
    shape,
    data: packElements(Uint8Array.from(codes), width, false),
  });
  const gather = b.node("Gather", [list, b.op("Cast", [places], { to: 6 })], { axis: 0 });
  const type = value.type;
  dropDefault(graph, value);
  graph.setData(value, null);
  produce(gather, value);
  value.type = type;
  return relative;
}

const percent = (x: number) => `${Number((100 * x).toPrecision(2))} %`;
