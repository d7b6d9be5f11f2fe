/** pith help: commands, and techniques out of their own declarations. */
import { Command } from "commander";
import { stepText, techniques } from "../recipe/recipe.ts";
import { table } from "../report/table.ts";
import type { Technique } from "../techniques/technique.ts";
import { bold, print } from "./terminal.ts";
import { Usage } from "./usage.ts";

export function helpOn(program: Command): Command {
  return new Command("help")
    .description("help on a command or a technique")
    .argument("[subject]", "a command or a technique; without it, what there is")
    .action((subject?: string) => {
      if (subject === undefined) return print(`${program.helpInformation().trimEnd()}\n\n${techniqueList()}`);
      const command = program.commands.find((c) => c.name() === subject);
      if (command) return print(command.helpInformation().trimEnd());
      const technique = Object.hasOwn(techniques, subject) ? techniques[subject] : undefined;
      if (technique) return print(techniqueHelp(technique));
      const names = [...program.commands.map((c) => c.name()), ...Object.keys(techniques)];
      throw new Usage(`there is no help on "${subject}"; there is on ${names.join(", ")}`);
    });
}

/** All techniques, one a line, by family. */
export function techniqueList(): string {
  const rows = Object.values(techniques).map((t) => [t.technique, t.family, t.doc]);
  return `Techniques (pith help <technique> says more):\n${table([{ title: "name" }, { title: "family" }, { title: "what it does" }], rows, "  ")}`;
}

/** A technique's page. */
export function techniqueHelp(t: Technique): string {
  const rows = Object.entries(t.params).map(([name, p]) => [name, String(p.default), p.expects, p.doc]);
  const example = t.stronger?.[0] ?? {};
  const none = "none" in t.neutral && typeof t.neutral.none === "string" ? t.neutral.none : null;
  const needs = t.needs?.(t(example).params as never) ?? [];
  return [
    `${bold(t.technique)} (${t.family})`,
    "",
    `  ${t.doc}`,
    `  Source: ${t.paper}`,
    "",
    rows.length
      ? table([{ title: "parameter" }, { title: "default" }, { title: "takes" }, { title: "what it is" }], rows, "  ")
      : "  It takes no parameters.",
    "",
    none === null
      ? `  It changes nothing at ${Object.entries(t.neutral)
          .map(([k, v]) => `${k}=${v}`)
          .join(",")}.`
      : `  No setting leaves a model as it is: ${none}`,
    "",
    `  pith compress model.onnx -o small.onnx --step '${stepText(t(example))}'${needs.map((n) => ` --${n} ${n}.npz`).join("")}`,
    `  { "steps": [${JSON.stringify({ technique: t.technique, ...example })}] }`,
  ].join("\n");
}
