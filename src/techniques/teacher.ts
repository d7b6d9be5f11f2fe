/** What a teacher says of every example, computed once and kept beside the data. */
import { type Dataset, fromArrays } from "../data/dataset.ts";
import { mixed } from "../data/mix.ts";
import { cloneModel, type Model } from "../ir/graph.ts";
import { removeDead } from "../ir/walk.ts";
import { Build } from "../ops/build.ts";
import { inputsOf } from "../runtime/feeds.ts";
import { open } from "../runtime/session.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { floatsOf, wrap } from "../tensor/tensor.ts";
import { type Loss, parseLoss } from "../train/loss.ts";
import { scoresOf } from "../transform/scores.ts";
import { upgrade } from "../transform/upgrade.ts";
import { fewestPasses, passesOver } from "./finetune.ts";
import type { Context } from "./technique.ts";

/** Most that the teacher's answers may take in memory: beyond it the data should be given in parts. */
const most = 4 * 2 ** 30;

export interface TeacherOptions {
  /** Name of the new array. */
  readonly as: string;
  readonly threads?: number;
  readonly batchSize?: number;
  /** Of a teacher that ends in a Softmax or Sigmoid, what comes out of it. Default: what goes in, which is what kl compares with. */
  readonly probabilities?: boolean;
  readonly progress?: (done: number, of: number) => void;
}

/**
 * The dataset with one more array (or that one anew): the first output (logits, float32 [examples, …]) of `teacher` for each example; what goes into its
 * Softmax or Sigmoid, where it ends in one.
 * Errors: data that lacks one of the teacher's inputs, or an output whose first axis is not the batch.
 */
export async function withTeacher(data: Dataset, teacher: Model, options: TeacherOptions): Promise<Dataset> {
  const session = await open(options.probabilities ? teacher : withLogits(teacher), options.threads ? { threads: options.threads } : {});
  try {
    const batchSize = data.stackable ? (options.batchSize ?? 128) : 1;
    const output = session.outputs[0]!.name;
    let answers: Float32Array | null = null;
    let item: readonly number[] = [];
    for (let at = 0; at < data.length; at += batchSize) {
      const n = Math.min(batchSize, data.length - at);
      const batch = data.take(Array.from({ length: n }, (_, i) => at + i));
      const y = (await session.run(batch, [output]))[output]!;
      if (y.shape[0] !== n)
        throw new Fault("teacher", `its output "${output}" must have one row per example; got shape [${y.shape}] for ${n} examples`);
      if (!answers) {
        item = y.shape.slice(1);
        const length = data.length * sizeOf(item);
        if (length * 4 > most)
          throw new Fault(
            "teacher",
            `its answers would take ${(length * 4) / 2 ** 30} GiB; train on at most ${Math.floor(most / 4 / sizeOf(item))} examples at once`,
          );
        answers = new Float32Array(length);
      }
      if (sizeOf(y.shape) !== n * sizeOf(item)) throw new Fault("teacher", "its answers differ in shape from example to example");
      answers.set(floatsOf(y), at * sizeOf(item));
      options.progress?.(at + n, data.length);
    }
    const array = fromArrays({ [options.as]: wrap("float32", [data.length, ...item], answers!) });
    return {
      ...data,
      names: [...data.names.filter((n) => n !== options.as), options.as],
      take: (indices) => ({ ...data.take(indices), ...array.take(indices) }),
    };
  } finally {
    await session.release();
  }
}

/** What a net is trained on: examples with the answers that the loss takes. */
interface Lesson {
  readonly data: Dataset;
  readonly loss: Loss;
}

interface Lessons extends Lesson {
  /** Other examples with the teacher's answers, in place of `data` (or a part of it), for each pass after the first. */
  readonly fresh?: (data: Dataset, seed: number, pass: number) => Promise<Dataset>;
}

/**
 * The loss of that text, in which "teacher" is short for the divergence from what the original model says, and the data with the original's
 * answers where the loss needs them. null: crossEntropy where the data has labels, else teacher.
 */
export async function taught(data: Dataset, text: string | null, context: Context): Promise<Lesson> {
  const loss = (text ?? (data.names.includes("labels") ? "crossEntropy" : "teacher")).replace(/(^|[\s*])teacher(?=$|[\s:])/g, "$1kl");
  const soft = /(^|[\s*])kl(?=$|[\s:])/.test(loss);
  const needed = (soft || /=teacher\b/.test(loss)) && !data.names.includes("teacher");
  const progress = (step: number, of: number) => context.progress({ what: "teacher", step, of });
  const options = { as: "teacher", threads: context.threads, probabilities: !soft, progress };
  return { data: needed ? await withTeacher(data, context.original, options) : data, loss: parseLoss(loss) };
}

/**
 * {@link taught} for a net that was pruned; null: where the data has labels crossEntropy, unless it is gone over more than a few times: labels are soon
 * known by heart, the original's answers are not. Else teacher. With `mix`, where those answers are all it learns from and there are more than a few
 * passes, each is over new mixes of the examples ({@link mixed}), which the original answers too (function matching: Beyer et al. 2022).
 */
export async function retaught(data: Dataset, text: string | null, context: Context, mix: boolean): Promise<Lessons> {
  const few = passesOver(data.length) > fewestPasses;
  const lesson = await answered(data, text, context, few);
  const alone = lesson.loss.name === "kl" && !data.names.includes("teacher") && !/teacher=/.test(text ?? "");
  if (!(mix && few && alone && data.stackable)) return lesson;
  const names = inputsOf(context.original).map((v) => v.name);
  const fresh = (from: Dataset, seed: number, pass: number) =>
    withTeacher(mixed(from, names, seed, pass), context.original, { as: "teacher", threads: context.threads });
  return { ...lesson, fresh };
}

async function answered(data: Dataset, text: string | null, context: Context, few: boolean): Promise<Lesson> {
  if (text === null && data.names.includes("labels") && few)
    try {
      return await taught(data, "teacher", context);
    } catch (e) {
      // Its answers take too much memory, or are no rows of classes.
      if (!(e instanceof Fault && e.where === "teacher")) throw e;
      context.note(`trained by labels: ${e.message}`);
    }
  return taught(data, text, context);
}

/** The model with what goes into its final Softmax, LogSoftmax or Sigmoid as the output, where it has one. */
function withLogits(model: Model): Model {
  const clone = cloneModel(model);
  const { graph } = clone;
  const scores = () => scoresOf(Build.of(clone, "teacher"), graph.outputs[0]!);
  if (scores().squash === null) return model;
  // A Softmax before opset 13 has no axis of its own.
  upgrade(clone, Math.max(17, clone.opsets.get("") ?? 17));
  const { value } = scores();
  graph.setOutputs([value]);
  removeDead(graph);
  return clone;
}
