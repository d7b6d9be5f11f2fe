import { flag, int, number } from "../../data/params.ts";
import { liftConstants } from "../../transform/fold.ts";
import { labelled, training } from "../finetune.ts";
import { defineTechnique } from "../technique.ts";
import { columnwise } from "./columnwise.ts";
import { edges, holdAndTrain, report, selected, selection, settings } from "./edges.ts";
import { pruneLayers, solvable } from "./layers.ts";
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

export const sparsegpt = defineTechnique({
  technique: "sparsegpt",
  family: "prune",
  doc: "Removes weights layer by layer in one shot, and changes those that stay so that the outputs on calibration data stay near.",
  paper: "Frantar & Alistarh 2023, SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot",
  params,
  ...settings,
  needs: (p) => ((p.epochs ?? 0) > 0 ? ["calibration", "train"] : ["calibration"]),
  async apply(model, p, context) {
    const { damp, blockSize, sparsity } = p;
    const pattern = parsePattern(p.pattern);
    liftConstants(model);
    const weights = selected(model, p, "sparsegpt");
    const { pruned, keep } = await pruneLayers(model, solvable(model, weights, "sparsegpt", context), context, {
      what: "sparsegpt",
      passes: p.sequential ? p.passes : 1,
      solve: (w, { rows, columns }, { hessian }) => {
        const { weights, mask } = columnwise(w, rows, columns, hessian, { sparsity, pattern, damp, blockSize });
        return { weights, keep: mask };
      },
    });
    report(pruned, keep, p, context);
    const epochs = p.epochs ?? (context.train ? 3 : 0);
    if (epochs > 0 && pruned.length) await holdAndTrain(model, pruned, keep, p, context, { what: "sparsegpt", epochs });
  },
});
