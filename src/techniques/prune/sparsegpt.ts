/** SparseGPT: weights go layer by layer in one shot, and what stays of each layer makes up for what went (Frantar & Alistarh 2023). */
import type { Dataset } from "../../data/dataset.ts";
import { flag, int, number, type ValuesOf } from "../../data/params.ts";
import type { Model } from "../../ir/graph.ts";
import { labelOf } from "../../ir/walk.ts";
import { Fault } from "../../tensor/fault.ts";
import { tensor } from "../../tensor/tensor.ts";
import { liftConstants } from "../../transform/fold.ts";
import { dropDefault, otherReader, type Weight } from "../../transform/weights.ts";
import { labelled, training } from "../finetune.ts";
import { leave } from "../left.ts";
import { elementsOf } from "../matrix.ts";
import { type Moments, unseen, withMoments } from "../moments.ts";
import { stagesOf } from "../stages.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { readersOf, type WeightLayer, weightLayers } from "../weightlayers.ts";
import { columnwise } from "./columnwise.ts";
import { edges, holdAndTrain, report, selected, selection, settings } from "./edges.ts";
import { layoutOf, scattered } from "./layout.ts";
import { parsePattern } from "./pattern.ts";

const params = {
  sparsity: number(0.5, { min: 0, max: 1, doc: "fraction of each layer's weights removed" }),
  pattern: selection.pattern,
  damp: number(0.1, { min: 0, doc: "added to the diagonal of each layer's Hessian, as a share of its mean (0.01 in the paper)" }),
  blockSize: int(32, { min: 1, doc: "inputs among whose weights those that go are chosen together (128 in the paper)" }),
  sequential: flag(false, {
    doc: "layers see inputs from already pruned ones, as in the paper; false: all from the model as it was, in one pass over the data",
  }),
  passes: int(32, { min: 1, doc: "most passes over the data of sequential=true; where layers are more, some share one" }),
  epochs: edges.epochs,
  include: selection.include,
  exclude: selection.exclude,
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
  ...settings,
  needs: (p) => ((p.epochs ?? 0) > 0 ? ["calibration", "train"] : ["calibration"]),
  async apply(model, p, context) {
    parsePattern(p.pattern);
    liftConstants(model);
    const weights = selected(model, p, "sparsegpt");
    const { seen, left } = solvable(model, weights);
    if (seen.size === 0) throw new Fault("sparsegpt", `no selected weight has inputs that can be gathered: ${[...left.keys()].join("; ")}`);
    const masks = await pruneLayers(model, seen, p, context);
    for (const [why, names] of left) context.note(`stay as they are: ${names.join(", ")}: ${why}`);
    const pruned = [...masks.keys()];
    const keep = [...masks.values()];
    report(pruned, keep, p, context);
    const epochs = p.epochs ?? (context.train ? 3 : 0);
    if (epochs > 0 && pruned.length) await holdAndTrain(model, pruned, keep, p, context, { what: "sparsegpt", epochs });
  },
});

/** The layers of each weight whose inputs can be gathered, all of which see it alike; and reason → names of the weights without. */
function solvable(model: Model, weights: readonly Weight[]): { seen: Map<Weight, WeightLayer[]>; left: Map<string, string[]> } {
  const { layers, left: refused } = weightLayers(model);
  const why = new Map([...refused].flatMap(([reason, names]) => names.map((n) => [n, reason] as const)));
  const seen = new Map<Weight, WeightLayer[]>();
  const left = new Map<string, string[]>();
  for (const w of weights) {
    const { own, alike } = readersOf(layers, w);
    const shown = own.filter((l) => unseen(l) === null);
    const other = otherReader(w);
    if (other) leave(left, `${other} reads the weight too`, w.uses[0]!.node);
    else if (!alike) leave(left, "its readers see the weight differently", w.uses[0]!.node);
    else if (shown.length) seen.set(w, shown);
    else
      leave(
        left,
        own.length ? unseen(own[0]!)! : (why.get(labelOf(w.uses[0]!.node)) ?? "its inputs are not rows of a matrix"),
        w.uses[0]!.node,
      );
  }
  return { seen, left };
}

/** Solves layer by layer; the masks in the weights' stored layouts. */
async function pruneLayers(
  model: Model,
  seen: ReadonlyMap<Weight, readonly WeightLayer[]>,
  p: Values,
  context: Context,
): Promise<Map<Weight, Uint8Array<ArrayBuffer>>> {
  const { note, progress, threads } = context;
  const data: Dataset = (context.calibration ?? context.train)!;
  const pattern = parsePattern(p.pattern);
  const masks = new Map<Weight, Uint8Array<ArrayBuffer>>();
  const owner = new Map([...seen].flatMap(([w, layers]) => layers.map((l) => [l, w] as const)));
  const bad: string[] = [];
  const few: string[] = [];
  const solve = (w: Weight, l: WeightLayer, moments: Moments | null) => {
    progress({ what: "sparsegpt", step: masks.size + bad.length, of: seen.size });
    const { rows, columns } = l.matrix;
    if (!moments?.hessian.every(Number.isFinite)) {
      bad.push(w.value.name);
      return;
    }
    if (moments.n < columns) few.push(w.value.name);
    const { damp, blockSize, sparsity } = p;
    const sparse = columnwise(elementsOf(l.matrix), rows, columns, moments.hessian, { sparsity, pattern, damp, blockSize });
    const layout = layoutOf(w)!;
    const { graph, data: before } = w.value;
    graph.setData(w.value, tensor(before!.dtype, before!.shape, scattered(sparse.weights, layout)));
    if (dropDefault(graph, w.value)) note(`"${w.value.name}" is no longer an input that callers may override`);
    masks.set(w, scattered(sparse.mask, layout));
  };
  // A weight of several layers is done once, with what all of them read, when the first one's turn has come.
  const first = new Map([...seen.values()].map((layers) => [layers[0]!, layers]));
  const stages = stagesOf(model, [...first.keys()], p.sequential ? p.passes : 1);
  for (const stage of stages) {
    const sums = new Map<Weight, { count: number; moments: Moments | null }>();
    await withMoments(
      model,
      stage.flatMap((l) => first.get(l)!),
      data,
      threads,
      (l, m) => {
        const w = owner.get(l)!;
        const sum = sums.get(w) ?? { count: 0, moments: null };
        sum.moments = together(sum.moments, m);
        sums.set(w, sum);
        if (++sum.count === seen.get(w)!.length) solve(w, l, sum.moments);
      },
    );
  }
  progress({ what: "sparsegpt", step: seen.size, of: seen.size });
  note(
    stages.length === 1
      ? "all inputs from the model as it was"
      : `inputs from the layers pruned before, in ${stages.length} passes over the data`,
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
