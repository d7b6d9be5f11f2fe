/** Optimal Brain Damage: the weights go whose removal raises the loss least to second order, by the diagonal of its Hessian. */
import { choice, int, optional } from "../../data/params.ts";
import { numbersOf } from "../../tensor/tensor.ts";
import { gaussNewtonDiagonal, secondDerivatives } from "../../train/derivatives.ts";
import { parseLoss } from "../../train/loss.ts";
import { defineTechnique } from "../technique.ts";
import { edges, pruneEdges, settings } from "./edges.ts";

export const obd = defineTechnique({
  technique: "obd",
  family: "prune",
  doc: "Removes the weights of lowest saliency h·w²/2, with h the second derivative of the loss (Optimal Brain Damage, unstructured).",
  paper: "LeCun, Denker, Solla 1990, Optimal Brain Damage",
  params: {
    ...edges,
    form: choice(["lm", "exact"], {
      doc: "second derivatives without the terms of f″ (Levenberg-Marquardt: never negative), or with them (a negative one counts as 0)",
    }),
    sharing: choice(["weight", "connections"], {
      doc: "a weight used at many places: the derivative by the weight itself, or the sum over its uses as if each had one of its own (the paper's)",
    }),
    examples: int(1000, { min: 1, doc: "most training examples that second derivatives are taken of" }),
    probes: optional(
      int(16, {
        min: 1,
        doc: "runs a batch with random signs in place of one for each output (lm) or unit (exact); null: one each where those are few, else 16",
      }),
    ),
  },
  ...settings,
  needs: () => ["train"],
  apply: (model, p, context) =>
    pruneEdges(model, p, context, "obd", {
      async scores(now, weights) {
        const { seed, threads, train } = context;
        const progress = (step: number, of: number) => context.progress({ what: "obd: second derivatives", step, of });
        const values = weights.map((w) => w.value);
        const derivatives = p.form === "lm" ? gaussNewtonDiagonal : secondDerivatives;
        const options = {
          examples: p.examples,
          sharing: p.sharing,
          seed,
          threads,
          progress,
          ...(p.probes === null ? {} : { probes: p.probes }),
        };
        const h = await derivatives(now, values, train!, parseLoss(p.loss), options);
        return h.map((x, i) => {
          const w = numbersOf(values[i]!.data!);
          return x.map((v, k) => (Math.max(0, v) * w[k]! ** 2) / 2);
        });
      },
    }),
});
