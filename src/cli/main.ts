#!/usr/bin/env node
/** The command line: commands, exit codes, and the only place where errors are shown. */
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { Fault } from "../tensor/fault.ts";
import { show } from "./show.ts";

/** 0 done · 1 wrong input or data, or a bug · 2 wrong usage · 3 refused by a gate. */
const exit = { input: 1, usage: 2 } as const;

const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string };

const program = new Command("pith")
  .description("Makes ONNX models smaller and faster, with the proof: quantize, prune, factorize, distill, fine-tune.")
  .version(version)
  .showHelpAfterError("(pith --help says what there is)");

for (const command of [show]) program.addCommand(command.copyInheritedSettings(program).exitOverride());
program.exitOverride();

try {
  await program.parseAsync();
} catch (e) {
  if (e instanceof CommanderError) process.exitCode = e.exitCode === 0 ? 0 : exit.usage;
  else {
    process.stderr.write(
      e instanceof Fault ? `pith: ${e.message}\n` : `pith: a bug; please report it with what follows\n${(e as Error).stack ?? e}\n`,
    );
    process.exitCode = exit.input;
  }
}
