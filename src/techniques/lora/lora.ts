/** LoRA: the model stays, two thin matrices beside each chosen layer learn the task. */
import { flag, int, number, optional, text, type ValuesOf } from "../../data/params.ts";
import { cloneModel, type Model } from "../../ir/graph.ts";
import type { Fitted } from "../../train/fit.ts";
import { liftConstants } from "../../transform/fold.ts";
import { fineTune, labelled, training } from "../finetune.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { type Adapter, extract, insert, merge, newAdapter } from "./adapter.ts";
import { selectTargets } from "./target.ts";

const params = {
  targets: text("*", { doc: "the layers that get an adapter, a selector on module, node and weight names: '*q*,*v*'" }),
  exclude: optional(text("", { doc: "not layers this selector matches" })),
  rank: int(8, { min: 1, doc: "columns of the two matrices" }),
  alpha: number(16, { min: 0, doc: "the adapter counts alpha / rank" }),
  rslora: flag(false, { doc: "alpha / √rank instead (rsLoRA)" }),
  dropout: number(0, { min: 0, max: 0.99, doc: "share of the adapter's inputs that training leaves out" }),
  epochs: int(3, { min: 0, doc: "passes over the training data" }),
  merge: flag(true, { doc: "fold the trained adapter into the weights; else it stays beside them" }),
  loss: labelled,
  ...training,
  learningRate: number(3e-3, { min: 0, doc: "step size, before the schedule; adapters take larger ones than whole weights" }),
};

export type LoraParams = ValuesOf<typeof params>;

export const lora = defineTechnique({
  technique: "lora",
  family: "lora",
  doc: "Adapts the model to the training data by low-rank updates of MatMul and Gemm layers alone.",
  paper: "Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models",
  params,
  neutral: { epochs: 0 },
  needs: (p) => (p.epochs > 0 ? ["train"] : []),
  async apply(model, p, context) {
    const { adapter } = await trainAdapter(model, p, context);
    if (p.merge) for (const line of merge(model, adapter)) context.note(line);
    else insert(model, adapter);
  },
});

/** Trains an adapter on the context's examples; `model` itself keeps every weight (those in Constant nodes become initializers). */
export async function trainAdapter(
  model: Model,
  p: LoraParams,
  context: Context,
): Promise<{ readonly adapter: Adapter; readonly fitted: Fitted | null }> {
  liftConstants(model);
  const targets = selectTargets(model, p.targets, p.exclude);
  const fresh = newAdapter(targets, p, context.seed);
  const trained = fresh.pairs.reduce((n, { a, b }) => n + a.data.byteLength / 4 + b.data.byteLength / 4, 0);
  context.note(`rank ${p.rank} beside ${targets.length} layers, ${trained} parameters: ${targets.map((t) => t.module).join(", ")}`);
  if (p.epochs === 0) return { adapter: fresh, fitted: null };
  const tuned = cloneModel(model);
  const inserted = insert(tuned, fresh, p.dropout);
  const names = inserted.flatMap(({ a, b }) => [a, b]);
  const fitted = await fineTune(tuned, p, context, { what: "lora", epochs: p.epochs, loss: p.loss, trainable: names });
  return { adapter: extract(tuned, fresh, inserted), fitted };
}
