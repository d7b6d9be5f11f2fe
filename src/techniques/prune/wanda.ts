/** Wanda: weights of small magnitude on small inputs go, with nothing but a look at the inputs (Sun et al. 2023). */
import { choice, number } from "../../data/params.ts";
import type { Model } from "../../ir/graph.ts";
import { numbersOf } from "../../tensor/tensor.ts";
import type { Weight } from "../../transform/weights.ts";
import { inputSquares, unseen } from "../moments.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { readersOf, type WeightLayer, weightLayers } from "../weightlayers.ts";
import { edges, needsOf, pruneEdges, settings } from "./edges.ts";
import { layoutOf } from "./layout.ts";

/**
 * |w_ij|·‖x_j‖₂ (eq. 1), ‖x_j‖ over all rows of calibration data that weight's layers read; compared within the row i of one output (section 4.1):
 * that is the paper's technique, and refine=none leaves it at that. By default the masks are then refined (refinement.ts).
 */
export const wanda = defineTechnique({
  technique: "wanda",
  family: "prune",
  doc: "Removes the weights of smallest magnitude times input norm, compared output by output, then refines the choice by the curvature of the loss; takes calibration data and no training.",
  paper:
    "Sun et al. 2023, A Simple and Effective Pruning Approach for Large Language Models; refine: Zimmer et al. 2025, SparseSwaps, with the curvature of van der Ouderaa et al. 2023, The LLM Surgeon, and the bound of Yin et al. 2024, OWL",
  params: {
    ...edges,
    sparsity: number(0.5, { min: 0, max: 1, doc: edges.sparsity.doc }),
    refine: choice(["none", "swaps", "loss"], { default: "loss", doc: `${edges.refine.doc}; none: the paper's own` }),
    scope: choice(["global", "layer", "row", "sensitivity"], { default: "row", doc: edges.scope.doc }),
  },
  ...settings,
  needs: (p) => ["calibration", ...needsOf({ ...p, refine: "none" })],
  async apply(model, p, context) {
    const said = new Set<string>();
    const note = (line: string) => {
      if (!said.has(line)) context.note(line);
      said.add(line);
    };
    await pruneEdges(model, p, context, "wanda", { scores: (now, weights) => scoresOf(now, weights, { ...context, note }) });
  },
});

async function scoresOf(model: Model, weights: readonly Weight[], { note, ...context }: Context): Promise<Float32Array[]> {
  const all = weightLayers(model).layers;
  const readers = new Map<Weight, WeightLayer[]>();
  for (const w of weights) {
    const { own, alike } = readersOf(all, w);
    readers.set(w, alike ? own.filter((l) => unseen(l) === null) : []);
  }
  const squares = await inputSquares(model, [...readers.values()].flat(), (context.calibration ?? context.train)!, context.threads);
  const plain: string[] = [];
  const scores = weights.map((w) => {
    const out = Float32Array.from(numbersOf(w.value.data!), Math.abs);
    const seen = readers.get(w)!.flatMap((l) => squares.get(l) ?? []);
    const layout = layoutOf(w);
    if (seen.length === 0 || !layout) {
      plain.push(w.value.name);
      return out;
    }
    const { order, columns } = layout;
    const norms = seen[0]!.map((_, j) => Math.sqrt(seen.reduce((sum, s) => sum + s[j]!, 0)));
    for (let i = 0; i < out.length; i++) out[order ? order[i]! : i]! *= norms[i % columns]!;
    return out;
  });
  if (plain.length) note(`by magnitude alone, as their inputs cannot be gathered or were not seen: ${plain.join(", ")}`);
  return scores;
}
