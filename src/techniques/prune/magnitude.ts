/** Magnitude pruning: the smallest weights go (Han et al. 2015), at once or step by step, the rest trained on. */
import { numbersOf } from "../../tensor/tensor.ts";
import { defineTechnique } from "../technique.ts";
import { edges, needsOf, pruneEdges, settings } from "./edges.ts";

export const magnitude = defineTechnique({
  technique: "magnitude",
  family: "prune",
  doc: "Removes the weights of smallest magnitude (unstructured): zeros that storage can leave out.",
  paper:
    "Han et al. 2015, Learning both Weights and Connections; cubic: Zhu & Gupta 2017; lottery: Frankle & Carbin 2019; dynamic: Guo et al. 2016",
  params: edges,
  ...settings,
  needs: needsOf,
  apply: (model, p, context) =>
    pruneEdges(model, p, context, "magnitude", {
      scores: (_, weights) => weights.map(({ value }) => Float32Array.from(numbersOf(value.data!), Math.abs)),
    }),
});
