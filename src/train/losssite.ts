/** A model with its loss at its present weights, for batches of one size: what derivatives of any order are appended to. */
import type { Batch, Dataset } from "../data/dataset.ts";
import { cloneModel, type Model, type Value } from "../ir/graph.ts";
import { find, removeDead } from "../ir/walk.ts";
import { shapeOf } from "../ops/build.ts";
import { converted, fixedBatch, inputsOf, refuseNaN } from "../runtime/feeds.ts";
import { observeShapes } from "../runtime/shapes.ts";
import { sizeOf } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { fold, liftConstants } from "../transform/fold.ts";
import { upgrade } from "../transform/upgrade.ts";
import { attach, feedInstead } from "./graph.ts";
import { checkLabels, type Loss, type Root } from "./loss.ts";

/** All values have known shapes; each weight asked for is a float32 input. */
export interface LossSite {
  readonly model: Model;
  readonly loss: Value;
  readonly roots: readonly Root[];
  /** The weights asked for, in their order; null: the loss does not read it. */
  readonly weights: readonly (Value | null)[];
  /** Examples a batch. */
  readonly size: number;
  /** What the inputs are fed with, for a batch of examples. Errors: class numbers out of range, NaN. */
  feeds(indices: Uint32Array): Batch;
  /** The same for the batch that shapes were observed on. */
  readonly sample: Batch;
  /** The value that stands here for one the loss was attached to. */
  here(v: Value): Value;
  /** Whether the first axis of a value is that of the examples: it is as long as the batch, whatever that is. */
  byExample(v: Value): boolean;
  /** Whether each element of a value is of one example: there are as many more as there are examples. */
  grows(v: Value): boolean;
}

/** The site of `size` examples a batch, like those at `sample`. `model` stays as it is. Errors: data that does not fit the model or the loss. */
export async function lossSite(
  model: Model,
  weights: readonly Value[],
  data: Dataset,
  loss: Loss,
  sample: Uint32Array,
  threads?: number,
): Promise<LossSite> {
  const size = sample.length;
  const base = cloneModel(model);
  liftConstants(base);
  upgrade(base, Math.max(17, base.opsets.get("") ?? 17));
  const inputs = inputsOf(base);
  const take = (indices: Uint32Array): Batch => {
    const batch = { ...data.take(indices) };
    for (const v of inputs) {
      const t = batch[v.name];
      if (!t) continue;
      refuseNaN(v.name, t, (row) => indices[row]!);
      batch[v.name] = converted(v, t);
    }
    return batch;
  };
  const first = take(sample);
  const attached = attach(base, loss, first);
  removeDead(base.graph);
  const present = new Map<string, Tensor>();
  for (const { name } of weights) {
    const v = find(base.graph, name);
    if (v?.data && !present.has(name)) present.set(name, feedInstead(base, v));
  }
  const fed = (batch: Batch): Batch => ({
    ...Object.fromEntries(present),
    ...Object.fromEntries([...attached.arrays].map(([array, input]) => [input, batch[array]!])),
  });
  const fixed = fixedBatch(model);
  const site = await observeShapes(base, fed(first), { threads });
  const ofOne = new Map<string, readonly number[]>();
  if (size > 1 && fixed === null) {
    const one = await observeShapes(base, fed(take(sample.subarray(0, 1))), { threads });
    for (const n of one.graph.nodes) for (const o of n.outputs) if (o?.shape) ofOne.set(o.name, o.shape);
    for (const v of one.graph.inputs) if (v.shape) ofOne.set(v.name, v.shape);
  }
  await fold(site, { shapes: true, threads });
  const here = (v: Value) => find(site.graph, v.name)!;
  const pairs = attached.pairs.map((p) => ({ ...p, count: p.classes ? shapeOf(here(p.output)).at(p.classes.axis)! : 0 }));
  return {
    model: site,
    loss: here(attached.loss),
    roots: attached.roots,
    weights: weights.map((w) => (present.has(w.name) ? here(w) : null)),
    size,
    feeds(indices) {
      const batch = take(indices);
      for (const p of pairs) if (p.classes) checkLabels(p, p.count, batch, indices);
      return fed(batch);
    },
    sample: fed(first),
    here,
    byExample: (v) => size === 1 || (shapeOf(v)[0] === size && (fixed !== null || ofOne.get(v.name)?.[0] === 1)),
    grows(v) {
      const one = ofOne.get(v.name);
      return size === 1 || (one ? sizeOf(shapeOf(v)) === size * sizeOf(one) : shapeOf(v)[0] === size);
    },
  };
}
