/** pith help: commands, and techniques out of their own declarations. */
import { Command } from "commander";
import type { Params } from "../data/params.ts";
import { preprocessings } from "../data/preprocess.ts";
import { stepText, techniques } from "../recipe/recipe.ts";
import { wrap } from "../report/format.ts";
import type { Technique } from "../techniques/technique.ts";
import { losses } from "../train/loss.ts";
import { optimizers } from "../train/optimizer.ts";
import { schedules } from "../train/schedule.ts";
import { dataHelp } from "./data.ts";
import { bold, print } from "./terminal.ts";
import { Usage } from "./usage.ts";

export function helpOn(program: Command): Command {
  return new Command("help")
    .description("help on a command, on data, a technique, a loss, an optimizer, a schedule or a preprocessing")
    .argument("[subject]", "its name; without it, what there is")
    .action((subject?: string) => {
      if (subject === undefined) return print(`${program.helpInformation().trimEnd()}\n\n${techniqueList()}`);
      if (subject === "data") return print(dataHelp);
      const command = program.commands.find((c) => c.name() === subject);
      if (command) return print(command.helpInformation().trimEnd());
      const technique = Object.hasOwn(techniques, subject) ? techniques[subject] : undefined;
      if (technique) return print(techniqueHelp(technique));
      for (const [kind, table] of Object.entries(parts))
        if (Object.hasOwn(table, subject)) return print(partHelp(kind, subject, (table as Readonly<Record<string, Part>>)[subject]!));
      const names = [...program.commands.map((c) => c.name()), ...Object.keys(techniques), ...Object.values(parts).flatMap(Object.keys)];
      throw new Usage(`there is no help on "${subject}"; there is on data, ${names.join(", ")}`);
    });
}

interface Part {
  readonly doc: string;
  readonly params: Params;
}

/** What else is called by name with parameters. */
const parts = { loss: losses, optimizer: optimizers, schedule: schedules, preprocessing: preprocessings } as const;

function partHelp(kind: string, name: string, { doc, params }: Part): string {
  return [`${bold(name)} (${kind})`, "", ...wrap(doc, width - 2).map((l) => `  ${l}`), "", "Parameters", parameterList(params)].join("\n");
}

function parameterList(params: Params): string {
  const entries = Object.entries(params).map(([name, p]) => [name, `${p.doc}. Takes ${p.expects}; default ${text(p.default)}`] as const);
  return entries.length ? definitions(entries) : "  none";
}

const width = Math.min(process.stdout.columns || 100, 110);

/** Terms and what they mean, side by side. */
function definitions(entries: readonly (readonly [term: string, text: string])[]): string {
  const indent = Math.max(0, ...entries.map(([term]) => term.length)) + 4;
  return entries
    .map(([term, text]) => `  ${term.padEnd(indent - 2)}${wrap(text, width - indent).join(`\n${" ".repeat(indent)}`)}`)
    .join("\n");
}

/** All techniques by family, one a line. */
export function techniqueList(): string {
  const list = definitions(Object.values(techniques).map((t) => [t.technique, t.doc]));
  return `Techniques (pith help <technique> says more):\n${list}`;
}

/** A technique's page. */
export function techniqueHelp(t: Technique): string {
  const example = t.stronger?.[1] ?? {};
  const none = "none" in t.neutral && typeof t.neutral.none === "string" ? t.neutral.none : null;
  const needs = t.needs?.(t(example).params as never) ?? [];
  const neutral =
    none === null
      ? `It changes nothing at ${Object.entries(t.neutral)
          .map(([k, v]) => `${k}=${text(v)}`)
          .join(",")}.`
      : `No setting leaves a model as it is: ${none}.`;
  return [
    `${bold(t.technique)} (${t.family})`,
    "",
    ...wrap(t.doc, width - 2).map((l) => `  ${l}`),
    ...wrap(`Source: ${t.paper}`, width - 2).map((l) => `  ${l}`),
    "",
    "Parameters",
    parameterList(t.params),
    "",
    ...wrap(neutral, width - 2).map((l) => `  ${l}`),
    "",
    "As a command, and in a recipe",
    `  pith compress model.onnx -o small.onnx --step ${quoted(stepText(t(example)))}${needs.map((n) => ` --${n} ${n}.npz`).join("")}`,
    `  { "steps": [${JSON.stringify({ technique: t.technique, ...example })}] }`,
  ].join("\n");
}

/** A value as it is written; nothing would read as a mistake. */
function text(value: unknown): string {
  return value === "" ? "empty" : String(value);
}

/** Quoted for a shell where it must be. */
function quoted(word: string): string {
  return /^[\w:=.,-]+$/.test(word) ? word : `'${word}'`;
}
