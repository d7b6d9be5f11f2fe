/** pith distill: a student learns from a teacher. */
import { Command } from "commander";
import { distill } from "../techniques/index.ts";
import type { Technique } from "../techniques/technique.ts";
import { type ApplyOptions, applySteps, withApply } from "./apply.ts";
import { stepOf, withParams } from "./params.ts";

const technique = distill as unknown as Technique;
const given = ["teacher", "student"];

const command = new Command("distill")
  .description("trains a student on a teacher's predictions and the labels")
  .argument("<teacher>", "an ONNX file")
  .argument("<student>", "an ONNX file: the net to be trained");
withParams(withApply(command), technique, given).action(run);

export { command as distillCommand };

async function run(teacher: string, student: string, options: ApplyOptions & Record<string, unknown>): Promise<void> {
  // The teacher is the original: it is what the student is measured against.
  await applySteps("distill", teacher, [stepOf(technique, options, { student })], options, [student]);
}
