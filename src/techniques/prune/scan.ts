/** How much each layer can lose: layers pruned one at a time, and the sparsities that follow. */
import { type Dataset, subset } from "../../data/dataset.ts";
import { split } from "../../data/split.ts";
import { cloneModel, type Model } from "../../ir/graph.ts";
import { random } from "../../tensor/random.ts";
import { attach } from "../../train/graph.ts";
import { parseLoss } from "../../train/loss.ts";
import { zeroed } from "../../transform/mask.ts";
import { upgrade } from "../../transform/upgrade.ts";
import { type Weight, weightsOf } from "../../transform/weights.ts";
import { type Cost, moves } from "../assign.ts";
import { type Slot, sensitivity } from "../sensitivity.ts";
import type { Context } from "../technique.ts";
import { choose } from "./choose.ts";

export interface Scan {
  readonly sparsity: number;
  readonly pattern: string;
  readonly loss: string;
  readonly holdOut: number;
}

/** A layer with that share of its weights removed, all others whole. */
export interface Trial {
  readonly sparsity: number;
  /** What that adds to the loss, or the relative error of the outputs. */
  readonly error: number;
}

/** Shares of the weights that a layer keeps: powers of the share that all keep together. */
const powers = [0.25, 0.5, 0.75, 1, 1.25, 1.5];
/** Examples it is measured on: many where layers are few. */
const examples = (layers: number) => Math.max(64, Math.min(512, Math.round(8192 / layers)));

/**
 * Sparsities by layer that remove the wanted share of all weights at the least harm, as far as the harms of layers add up: each layer is
 * pruned alone, by these scores, to six sparsities around the wanted one, and scored by the loss on held-out training examples (all of them
 * where none are held out), or without training data by the change of the outputs on calibration data. Notes what it finds.
 */
export async function sparsities(
  model: Model,
  weights: readonly Weight[],
  scores: readonly Float32Array[],
  p: Scan,
  context: Context,
): Promise<number[]> {
  if (p.sparsity === 0) return weights.map(() => 0);
  const { train, calibration, seed, threads } = context;
  const held = train && p.holdOut > 0 ? split(train, { fraction: p.holdOut, seed }).held : train;
  const data = drawn((held ?? calibration)!, examples(weights.length), seed);
  const probed = cloneModel(model);
  if (train) {
    upgrade(probed, Math.max(17, probed.opsets.get("") ?? 17));
    attach(probed, parseLoss(p.loss), data.take([0]));
  }
  const copies = new Map(weightsOf(probed).map((w) => [w.value.name, w.value]));
  const slots = weights.map(({ value: { name, data: t } }): Slot => {
    const readers = [...copies.get(name)!.uses].flatMap((u) => ("node" in u ? [{ node: u.node, input: u.index }] : []));
    return { name, readers, weights: () => t! };
  });
  const probe = await sensitivity(probed, slots, data, { divergence: train ? "rise" : "relative", threads });
  try {
    const trials: Trial[][] = [];
    for (const [i, w] of weights.entries()) {
      const of: Trial[] = [{ sparsity: 0, error: 0 }];
      for (const power of powers) {
        const wanted = 1 - (1 - p.sparsity) ** power;
        const choice = { scope: "layer", pattern: p.pattern, sparsity: wanted } as const;
        const [keep] = choose([w], [scores[i]!], choice, { at: (s) => s, before: null });
        const error = await probe.of(new Map([[slots[i]!, zeroed(w.value, keep!)]]));
        of.push({ sparsity: 1 - keep!.reduce((n, k) => n + k, 0) / keep!.length, error });
        context.progress({ what: "sensitivity", step: powers.length * i + of.length - 1, of: powers.length * weights.length });
      }
      trials.push(of);
    }
    const sizes = scores.map((s) => s.length);
    const found = spread(trials, sizes, p.sparsity);
    const said = (e: number) =>
      train ? `loss ${e < 0 ? "−" : "+"}${+Math.abs(e).toPrecision(2)}` : `outputs off by ${percent(Math.sqrt(e))}`;
    context.note(`sensitivity on ${data.length} ${held && held !== train ? "held-out " : ""}examples, each layer pruned alone:`);
    weights.forEach(({ value }, i) => {
      const tried = trials[i]!.slice(1).map((t) => `${percent(t.sparsity)}: ${said(t.error)}`);
      context.note(`${value.name} gets ${percent(found[i]!)}; ${tried.join(", ")}`);
    });
    return found;
  } finally {
    await probe.release();
  }
}

/**
 * Sparsities whose sum over layers of `sizes` weights is the wanted share of all, and whose errors (linear between the trials, on their
 * lower convex hull) are least in sum. Trials begin with nothing removed.
 */
export function spread(trials: readonly (readonly Trial[])[], sizes: readonly number[], sparsity: number): number[] {
  const kept = [...sizes];
  let above = sizes.reduce((n, s) => n + s, 0) * sparsity;
  const costs = trials.map((of, i) => of.map((t): Cost => ({ bytes: (1 - t.sparsity) * sizes[i]!, error: t.error })));
  for (const { layer, to } of moves(costs)) {
    const step = Math.min(above, kept[layer]! - to.bytes);
    kept[layer]! -= step;
    above -= step;
  }
  return kept.map((k, i) => 1 - k / sizes[i]!);
}

/** So many of the examples, by the seed. */
function drawn(data: Dataset, most: number, seed: number): Dataset {
  if (data.length <= most) return data;
  return subset(
    data,
    [...random(seed, "sensitivity").permutation(data.length).subarray(0, most)].sort((a, b) => a - b),
  );
}

const percent = (x: number) => `${+(100 * x).toPrecision(3)} %`;
