/** Magnitude pruning: the smallest weights go (Han et al. 2015), at once or step by step, the rest trained on. */
import { choice, int, number, optional, text } from "../../data/params.ts";
import type { Model } from "../../ir/graph.ts";
import { Fault } from "../../tensor/fault.ts";
import { numbersOf } from "../../tensor/tensor.ts";
import { liftConstants } from "../../transform/fold.ts";
import { insertMask, type Mask, mergeMasks, zeroed } from "../../transform/mask.ts";
import { dropDefault, type Weight, weightsOf } from "../../transform/weights.ts";
import { fineTune, labelled, training } from "../finetune.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { select } from "./pattern.ts";
import { scheduled } from "./schedule.ts";

export const magnitude = defineTechnique({
  technique: "magnitude",
  family: "prune",
  doc: "Removes the weights of smallest magnitude (unstructured): zeros that storage can leave out.",
  paper: "Han et al. 2015, Learning both Weights and Connections; cubic schedule: Zhu & Gupta 2017",
  params: {
    sparsity: number(0.9, { min: 0, max: 1, doc: "fraction of the weights removed" }),
    scope: choice(["global", "layer"], { doc: "compare all weights, or each layer's among themselves" }),
    schedule: choice(["oneshot", "iterative", "cubic"], {
      doc: "remove all at once, in rounds of pruning and training, or gradually while training",
    }),
    rounds: int(5, { min: 1, doc: "rounds of the iterative schedule" }),
    ramp: number(0.6, { min: 0, max: 1, doc: "share of the training over which the cubic schedule removes" }),
    every: int(20, { min: 1, doc: "training steps between two removals of the cubic schedule" }),
    epochs: optional(int(3, { min: 0, doc: "passes over the training data; null: 3 where there is some, else 0" })),
    include: optional(text("*", { doc: "only layers this selector matches" })),
    exclude: optional(text("", { doc: "not layers this selector matches" })),
    loss: labelled,
    ...training,
  },
  neutral: { sparsity: 0, epochs: 0 },
  stronger: [
    { sparsity: 0.5, epochs: 0 },
    { sparsity: 0.9, epochs: 0 },
  ],
  needs: (p) => (p.schedule !== "oneshot" || (p.epochs ?? 0) > 0 ? ["train"] : []),
  async apply(model, p, context) {
    liftConstants(model);
    const weights = weightsOf(model, { ...(p.include ? { include: p.include } : {}), ...(p.exclude ? { exclude: p.exclude } : {}) });
    if (weights.length === 0) throw new Fault("magnitude", "no weight of a Conv, Gemm or MatMul is selected");
    const epochs = p.epochs ?? (context.train ? 3 : 0);
    const tune = { what: "magnitude", loss: p.loss };
    if (p.schedule !== "oneshot" && epochs === 0)
      throw new Fault("magnitude", `the ${p.schedule} schedule removes while it trains; epochs must be at least 1`);
    if (p.schedule === "cubic") {
      const masks = weights.map((w) => insertMask(model, w.value, new Uint8Array(numbersOf(w.value.data!).length).fill(1)));
      let keep: Uint8Array[] = [];
      const onStep = ({ step, of, values }: { step: number; of: number; values(name: string): Float32Array }) => {
        const ramp = Math.max(1, Math.floor(p.ramp * of));
        if (step > ramp || (step % p.every !== 0 && step !== ramp)) return;
        keep = select(
          scores(masks.map((m) => [values(m.weight.name), values(m.value.name)])),
          scheduled("cubic", p.sparsity, step, ramp),
          p.scope,
        );
        masks.forEach((m, i) => {
          values(m.value.name).set(keep[i]!);
        });
      };
      await fineTune(model, p, context, { ...tune, epochs, live: masks.map((m) => m.value.name), onStep, keepFrom: p.ramp });
      mergeMasks(masks);
      remove(weights, keep, context);
    } else {
      const rounds = p.schedule === "iterative" ? p.rounds : 1;
      for (let round = 1; round <= rounds; round++) {
        const keep = select(
          scores(weights.map((w) => [numbersOf(w.value.data!)])),
          scheduled(p.schedule, p.sparsity, round, rounds),
          p.scope,
        );
        remove(weights, keep, round === rounds ? context : null);
        if (epochs > 0)
          await trainMasked(model, weights, keep, (masks) =>
            fineTune(model, p, context, { ...tune, epochs: epochs / rounds, round, frozen: masks }),
          );
      }
    }
  },
});

/** |w|, of entries already masked 0. */
function scores(layers: readonly (readonly ArrayLike<number>[])[]) {
  return layers.map(([w, mask]) => {
    const out = new Float32Array(w!.length);
    for (let i = 0; i < out.length; i++) out[i] = mask && mask[i] === 0 ? 0 : Math.abs(w![i]!);
    return { scores: out, rows: 1, columns: out.length };
  });
}

/** Zeroes what is not kept; with a context, notes how much of each layer is left. */
function remove(weights: readonly Weight[], keep: readonly Uint8Array[], context: Context | null): void {
  weights.forEach(({ value }, i) => {
    value.graph.setData(value, zeroed(value, keep[i]!));
    if (dropDefault(value.graph, value)) context?.note(`"${value.name}" is no longer an input that callers may override`);
    const kept = keep[i]!.reduce((n, k) => n + k, 0);
    context?.note(`${value.name} [${value.shape}]: ${kept} of ${keep[i]!.length} kept (${((100 * kept) / keep[i]!.length).toFixed(1)} %)`);
  });
}

/** Runs a training with the masks in the graph, and takes them out again. */
async function trainMasked(
  model: Model,
  weights: readonly Weight[],
  keep: readonly Uint8Array[],
  train: (names: string[]) => Promise<unknown>,
) {
  const masks: Mask[] = weights.map((w, i) => insertMask(model, w.value, keep[i]!));
  await train(masks.map((m) => m.value.name));
  mergeMasks(masks);
}
