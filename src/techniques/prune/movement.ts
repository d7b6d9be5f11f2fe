/** Movement pruning: while fine-tuning, the weights go that move towards zero. */
import { sizeOf } from "../../tensor/dtype.ts";
import { training } from "../finetune.ts";
import { defineTechnique } from "../technique.ts";
import { edges, pruneEdges } from "./edges.ts";

/**
 * Scores S = −Σ w·∂L/∂w′ over the training steps, with w′ = w·mask: higher where a step makes a weight larger (Sanh, Wolf, Rush 2020,
 * eq. 3 and 4, hard top-v). w·∂L/∂w′ is the gradient of the mask, so that removed weights go on being scored, and come back as they were.
 */
export const movement = defineTechnique({
  technique: "movement",
  family: "prune",
  doc: "Removes, while fine-tuning, the weights that training moves towards zero (unstructured): for pretrained nets on a new task.",
  paper: "Sanh, Wolf, Rush 2020, Movement Pruning: Adaptive Sparsity by Fine-Tuning",
  params: {
    sparsity: edges.sparsity,
    scope: edges.scope,
    pattern: edges.pattern,
    ramp: edges.ramp,
    every: edges.every,
    epochs: edges.epochs,
    include: edges.include,
    exclude: edges.exclude,
    loss: edges.loss,
    ...training,
  },
  neutral: { sparsity: 0, learningRate: 0 },
  stronger: [
    { sparsity: 0.5, epochs: 1 },
    { sparsity: 0.9, epochs: 1 },
  ],
  needs: () => ["train"],
  apply(model, p, context) {
    const moved = new Map<string, Float64Array>();
    const scoreOf = (name: string, n: number) => {
      const s = moved.get(name) ?? new Float64Array(n);
      moved.set(name, s);
      return s;
    };
    return pruneEdges(
      model,
      { ...p, refine: "none", spread: 0, schedule: "cubic", rounds: 1, rewind: 0, lastRate: 1 },
      context,
      "movement",
      {
        returns: true,
        watch(step, masks) {
          for (const { weight, value } of masks) {
            const g = step.gradient(value.name);
            if (!g) continue;
            const s = scoreOf(weight.name, g.length);
            for (let i = 0; i < s.length; i++) s[i]! -= g[i]!;
          }
        },
        scores(_, weights) {
          const all = weights.map(({ value }) => scoreOf(value.name, sizeOf(value.data!.shape)));
          // Scores are ≥ 0 and only their order counts.
          const least = all.reduce((m, s) => s.reduce((a, x) => Math.min(a, x), m), 0);
          return all.map((s) => Float32Array.from(s, (x) => x - least));
        },
      },
    );
  },
});
