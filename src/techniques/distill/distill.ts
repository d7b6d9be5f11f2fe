/** Knowledge distillation: a student learns what a teacher says (Hinton et al. 2015). */
import { flag, int, number, optional, text } from "../../data/params.ts";
import { kl, type Loss, parseLoss, sum } from "../../train/loss.ts";
import { holdZeros, mergeMasks } from "../../transform/mask.ts";
import { fineTune, labelled, training } from "../finetune.ts";
import { withTeacher } from "../teacher.ts";
import { defineTechnique } from "../technique.ts";

export const distill = defineTechnique({
  technique: "distill",
  family: "distill",
  doc: "Trains the model (or another, smaller one) on a teacher's softened predictions and the labels: α·T²·KL(teacher/T ‖ student/T) + (1 − α)·loss.",
  paper: "Hinton, Vinyals, Dean 2015, Distilling the Knowledge in a Neural Network",
  params: {
    teacher: optional(text("", { doc: "file of the teacher; null: the model before the first step" })),
    student: optional(text("", { doc: "file of the student that takes the model's place; null: the model itself wins accuracy back" })),
    temperature: number(4, { min: 0.01, doc: "T: divides both logits; higher tells more of the wrong classes" }),
    alpha: number(0.9, { min: 0, max: 1, doc: "weight of the teacher against the labels; 1 needs no labels" }),
    epochs: int(5, { min: 0, doc: "passes over the training data" }),
    scratch: flag(false, { doc: "the student is untrained: BatchNormalization learns its statistics" }),
    loss: labelled,
    ...training,
  },
  neutral: { epochs: 0 },
  needs: (p) => (p.epochs > 0 ? ["train"] : []),
  async apply(model, p, context) {
    if (p.student !== null) Object.assign(model, await context.load(p.student));
    if (p.epochs === 0) return;
    const teacher = p.teacher !== null ? await context.load(p.teacher) : context.original;
    const data = await withTeacher(context.train!, teacher, {
      as: "teacher",
      threads: context.threads,
      progress: (step, of) => context.progress({ what: "teacher", step, of }),
    });
    const soft = kl.from({ temperature: p.temperature, teacher: "teacher" });
    const loss: Loss =
      p.alpha === 1
        ? soft
        : sum([
            [p.alpha, soft],
            [1 - p.alpha, parseLoss(p.loss)],
          ]);
    // What an earlier step pruned stays pruned.
    const masks = p.scratch ? [] : holdZeros(model);
    const frozen = masks.map((m) => m.value.name);
    await fineTune(model, p, context, {
      what: "distill",
      epochs: p.epochs,
      loss,
      data,
      batchStatistics: p.scratch,
      ...(frozen.length ? { frozen } : {}),
    });
    mergeMasks(masks);
  },
});
