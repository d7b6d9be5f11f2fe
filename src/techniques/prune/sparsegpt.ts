/** SparseGPT: weights go layer by layer in one shot, and what stays of each layer makes up for what went (Frantar & Alistarh 2023). */
import type { Dataset } from "../../data/dataset.ts";
import { flag, int, number, optional, text, type ValuesOf } from "../../data/params.ts";
import type { Model, Node, Value } from "../../ir/graph.ts";
import { Fault } from "../../tensor/fault.ts";
import { tensor } from "../../tensor/tensor.ts";
import { liftConstants } from "../../transform/fold.ts";
import { insertMask, mergeMasks } from "../../transform/mask.ts";
import { dropDefault, otherReader, type WeightOptions } from "../../transform/weights.ts";
import { fineTune, labelled, training } from "../finetune.ts";
import { leave } from "../left.ts";
import { elementsOf } from "../matrix.ts";
import { type Moments, unseen, withMoments } from "../moments.ts";
import { stagesOf } from "../stages.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { placesOf, type WeightLayer, weightLayers } from "../weightlayers.ts";
import { columnwise } from "./columnwise.ts";
import { parsePattern } from "./pattern.ts";

const params = {
  sparsity: number(0.5, { min: 0, max: 1, doc: "fraction of each layer's weights removed" }),
  pattern: text("free", {
    doc: "free; 2:4 (of 4 neighbours along the inputs at most 2 stay, whatever the sparsity); 4x4, 1x8, 16x1 (blocks of outputs x inputs go or stay whole)",
  }),
  damp: number(0.01, { min: 0, doc: "added to the diagonal of each layer's Hessian, as a share of its mean" }),
  blockSize: int(128, { min: 1, doc: "inputs among whose weights those that go are chosen together" }),
  sequential: flag(true, {
    doc: "layers see inputs from already pruned ones; false: all from the model as it was, in one pass over the data",
  }),
  passes: int(32, { min: 1, doc: "most passes over the data of sequential=true; where layers are more, some share one" }),
  epochs: int(0, { min: 0, doc: "passes over the training data afterwards, what is removed staying so" }),
  include: optional(text("*", { doc: "only layers this selector matches" })),
  exclude: optional(text("", { doc: "not layers this selector matches" })),
  loss: labelled,
  ...training,
};
type Values = ValuesOf<typeof params>;

export const sparsegpt = defineTechnique({
  technique: "sparsegpt",
  family: "prune",
  doc: "Removes weights layer by layer in one shot, and changes those that stay so that the outputs on calibration data stay near.",
  paper: "Frantar & Alistarh 2023, SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot",
  params,
  neutral: { sparsity: 0 },
  stronger: [{ sparsity: 0.5 }, { sparsity: 0.9 }],
  needs: (p) => (p.epochs > 0 ? ["calibration", "train"] : ["calibration"]),
  async apply(model, p, context) {
    liftConstants(model);
    const { shared, left } = prunable(model, {
      ...(p.include ? { include: p.include } : {}),
      ...(p.exclude ? { exclude: p.exclude } : {}),
    });
    for (const [why, names] of left) context.note(`stay as they are: ${names.join(", ")}: ${why}`);
    if (shared.size === 0) throw new Fault("sparsegpt", "no weight of a Conv, Gemm or MatMul whose inputs can be gathered is selected");
    const masks = await pruneLayers(model, shared, p, context);
    if (p.epochs === 0 || masks.size === 0) return;
    const inserted = [...masks].map(([value, keep]) => insertMask(model, value, keep));
    const frozen = inserted.map((m) => m.value.name);
    await fineTune(model, p, context, { what: "sparsegpt", epochs: p.epochs, loss: p.loss, frozen });
    mergeMasks(inserted);
  },
});

/** Weights with the layers that read them, all alike and from inputs that can be gathered; and reason → names of the others. */
function prunable(model: Model, selected: WeightOptions): { shared: Map<Value, WeightLayer[]>; left: Map<string, string[]> } {
  const { layers, left } = weightLayers(model, selected);
  const shared = new Map<Value, WeightLayer[]>();
  for (const l of layers) if (l.op !== "Gather") shared.set(l.weight, [...(shared.get(l.weight) ?? []), l]);
  for (const [value, all] of shared) {
    const seen = all.filter((l) => unseen(l) === null);
    const other = otherReader({ value, uses: all.map((l) => l.use) });
    const why =
      seen.length === 0
        ? unseen(all[0]!)
        : other
          ? `${other} reads the weight too`
          : all.some((l) => l.key !== all[0]!.key)
            ? "its readers see the weight differently"
            : null;
    if (why) {
      shared.delete(value);
      for (const node of new Set<Node>(all.map((l) => l.node))) leave(left, why, node);
    } else shared.set(value, seen);
  }
  return { shared, left };
}

/** Solves layer by layer; the masks in the weights' own layouts. */
async function pruneLayers(
  model: Model,
  shared: ReadonlyMap<Value, readonly WeightLayer[]>,
  p: Values,
  context: Context,
): Promise<Map<Value, Uint8Array>> {
  const { note, progress, threads } = context;
  const data: Dataset = (context.calibration ?? context.train)!;
  const pattern = parsePattern(p.pattern);
  const masks = new Map<Value, Uint8Array>();
  const bad: string[] = [];
  const few: string[] = [];
  let [gone, all] = [0, 0];
  const solve = (l: WeightLayer, moments: Moments | null) => {
    progress({ what: "sparsegpt", step: masks.size + bad.length, of: shared.size });
    const { rows, columns } = l.matrix;
    if (!moments?.hessian.every(Number.isFinite)) {
      bad.push(l.weight.name);
      return;
    }
    if (moments.n < columns) few.push(l.weight.name);
    const { damp, blockSize, sparsity } = p;
    const sparse = columnwise(elementsOf(l.matrix), rows, columns, moments.hessian, { sparsity, pattern, damp, blockSize });
    const places = placesOf(l);
    const stored = new Float32Array(places.length);
    const keep = new Uint8Array(places.length);
    places.forEach((at, i) => {
      stored[at] = sparse.weights[i]!;
      keep[at] = sparse.mask[i]!;
      gone += 1 - keep[at];
    });
    all += keep.length;
    const { graph, data: before } = l.weight;
    graph.setData(l.weight, tensor(before!.dtype, before!.shape, stored));
    if (dropDefault(graph, l.weight)) note(`"${l.weight.name}" is no longer an input that callers may override`);
    masks.set(l.weight, keep);
  };
  // A weight of several layers is done once, with what all of them read, when the first one's turn has come.
  const first = new Map([...shared.values()].map((layers) => [layers[0]!, layers]));
  const stages = stagesOf(model, [...first.keys()], p.sequential ? p.passes : 1);
  for (const stage of stages) {
    const layers = stage.flatMap((l) => first.get(l)!);
    const sums = new Map<Value, { seen: number; moments: Moments | null }>();
    await withMoments(model, layers, data, threads, (l, m) => {
      const sum = sums.get(l.weight) ?? { seen: 0, moments: null };
      sum.moments = together(sum.moments, m);
      sums.set(l.weight, sum);
      if (++sum.seen === shared.get(l.weight)!.length) solve(l, sum.moments);
    });
  }
  progress({ what: "sparsegpt", step: shared.size, of: shared.size });
  note(
    `${gone} of ${all} weights of ${masks.size} layers removed, in ${stages.length === 1 ? "one pass" : `${stages.length} passes`} over the data`,
  );
  if (bad.length) note(`stay as they are: ${bad.join(", ")}: their inputs were not seen, or are not all finite`);
  if (few.length) note(`fewer rows of calibration data than inputs, more would serve better: ${few.join(", ")}`);
  return masks;
}

function together(a: Moments | null, b: Moments | null): Moments | null {
  if (!a || !b) return a ?? b;
  const n = a.n + b.n;
  b.hessian.forEach((x, i) => {
    a.hessian[i]! += x;
  });
  return { n, hessian: a.hessian, meanAbs: a.meanAbs.map((x, i) => (x * a.n + b.meanAbs[i]! * b.n) / n) };
}
