#!/usr/bin/env node
/** The command line: commands, exit codes, and the only place where errors are shown. */
import { Command, CommanderError } from "commander";
import { Refused } from "../recipe/compress.ts";
import { version } from "../recipe/version.ts";
import { Fault } from "../tensor/fault.ts";
import { compressCommand } from "./compress.ts";
import { distillCommand } from "./distill.ts";
import { helpOn, techniqueList } from "./help.ts";
import { lintCommand } from "./lint.ts";
import { loraCommand } from "./lora.ts";
import { measureCommand } from "./measure.ts";
import { show } from "./show.ts";
import { trainCommand } from "./train.ts";
import { transformersCommand } from "./transformers.ts";
import { Usage } from "./usage.ts";

/** 0 done · 1 wrong input or data, or a bug · 2 wrong usage · 3 refused by a gate · 4 lint found what will not load. */
const exit = { input: 1, usage: 2, refused: 3 } as const;

const program = new Command("pith")
  .description("Makes ONNX models smaller and faster, with the proof: quantize, prune, factorize, distill, fine-tune.")
  .version(version)
  .helpCommand(false)
  .addHelpText("after", () => `\n${techniqueList()}`)
  .configureOutput({
    outputError: (text, write) =>
      write(
        `pith: usage: ${text
          .replace(/^error: /, "")
          .trim()
          .replace(/\s*\n\s*/g, " ")}; pith help says what there is\n`,
      ),
  });

/** Errors of usage are thrown, not exited on: also from commands of commands. */
function prepared(command: Command): Command {
  for (const c of command.commands) prepared(c);
  return command.helpCommand(false).copyInheritedSettings(program).exitOverride();
}

for (const command of [
  show,
  compressCommand,
  trainCommand,
  distillCommand,
  loraCommand,
  measureCommand,
  lintCommand,
  transformersCommand,
  helpOn(program),
])
  program.addCommand(prepared(command));
program.exitOverride();

/** Says what went wrong: one line for whatever the caller can mend, a stack for bugs. */
function explain(e: unknown): number {
  if (e instanceof CommanderError) return e.exitCode === 0 ? 0 : exit.usage; // it has printed already
  const { code, syscall } = e as NodeJS.ErrnoException;
  if (e instanceof Fault || (code && syscall))
    process.stderr.write(`pith: ${(e as Error).message}${e instanceof Refused ? "; nothing was written" : ""}\n`);
  else process.stderr.write(`pith: this is a bug in pith, please report it:\n${(e as Error).stack ?? e}\n`);
  return e instanceof Usage ? exit.usage : e instanceof Refused ? exit.refused : exit.input;
}

try {
  await program.parseAsync();
} catch (e) {
  process.exitCode = explain(e);
}
