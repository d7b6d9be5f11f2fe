/** Flags out of a technique's declared parameters. */
import { type Command, Option } from "commander";
import type { Step, Technique } from "../techniques/technique.ts";

const flagOf = (name: string) => name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`);

/** Adds a flag for every parameter but `omit`: learningRate becomes --learning-rate. */
export function withParams(command: Command, technique: Technique, omit: readonly string[] = []): Command {
  for (const [name, p] of Object.entries(technique.params)) {
    if (omit.includes(name)) continue;
    const flags = typeof p.default === "boolean" ? `--${flagOf(name)}` : `--${flagOf(name)} <value>`;
    command.addOption(new Option(flags, `${p.doc}: ${p.expects} (default: ${p.default})`));
  }
  return command;
}

/** The step with the flags that were given, and `more`. */
export function stepOf(
  technique: Technique,
  options: Readonly<Record<string, unknown>>,
  more: Readonly<Record<string, unknown>> = {},
): Step {
  const given = Object.keys(technique.params).flatMap((name) => (options[name] === undefined ? [] : [[name, options[name]] as const]));
  return technique.from({ ...Object.fromEntries(given), ...more });
}
