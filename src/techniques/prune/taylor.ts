/** Taylor pruning: the weights go whose removal changes the loss least to first order. */
import { choice, int } from "../../data/params.ts";
import { numbersOf } from "../../tensor/tensor.ts";
import { gradients } from "../../train/derivatives.ts";
import { parseLoss } from "../../train/loss.ts";
import { defineTechnique } from "../technique.ts";
import { edges, pruneEdges, settings } from "./edges.ts";

export const taylor = defineTechnique({
  technique: "taylor",
  family: "prune",
  doc: "Removes the weights whose removal changes the loss least to first order: gradient times weight (unstructured).",
  paper:
    "Molchanov et al. 2017, Pruning Convolutional Neural Networks for Resource Efficient Inference; squared: Molchanov et al. 2019; mean: Lee et al. 2019 (SNIP)",
  params: {
    ...edges,
    form: choice(["absolute", "squared", "mean"], {
      doc: "of each example's gradient g and the weight w: mean of |g·w|, mean of (g·w)², or |mean of g·w|, which is nearly 0 where a net is trained",
    }),
    examples: int(1000, { min: 1, doc: "most training examples that gradients are taken of" }),
  },
  ...settings,
  needs: () => ["train"],
  apply: (model, p, context) =>
    pruneEdges(model, p, context, "taylor", {
      async scores(now, weights) {
        const { seed, threads, train } = context;
        const progress = (step: number, of: number) => context.progress({ what: "taylor: gradients", step, of });
        const values = weights.map((w) => w.value);
        const found = await gradients(now, values, train!, parseLoss(p.loss), {
          of: p.form,
          examples: p.examples,
          seed,
          threads,
          progress,
        });
        return found.map((g, i) => {
          const w = numbersOf(values[i]!.data!);
          return g.map((x, k) => (p.form === "squared" ? x * w[k]! ** 2 : Math.abs(x * w[k]!)));
        });
      },
    }),
});
