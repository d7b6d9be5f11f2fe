/** Random pruning: the control that every other importance has to beat. */
import { sizeOf } from "../../tensor/dtype.ts";
import { random } from "../../tensor/random.ts";
import { defineTechnique } from "../technique.ts";
import { edges, needsOf, pruneEdges, settings } from "./edges.ts";

export const randomPrune = defineTechnique({
  technique: "randomPrune",
  family: "prune",
  doc: "Removes weights at random (unstructured): the control that tells what an importance is worth.",
  paper: "a control, as in Frankle & Carbin 2019, The Lottery Ticket Hypothesis",
  params: edges,
  ...settings,
  needs: needsOf,
  apply: (model, p, context) =>
    pruneEdges(model, p, context, "randomPrune", {
      // A weight's scores are the same at every removal.
      scores: (_, weights, { seed }) =>
        weights.map(({ value }) => random(seed, `prune/${value.name}`).fillUniform(new Float32Array(sizeOf(value.data!.shape)))),
    }),
});
