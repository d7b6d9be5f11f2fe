/** pith lint: what runtimes make of a model. */
import { basename } from "node:path";
import { Command } from "commander";
import { type Finding, named, sortedFindings } from "../lint/finding.ts";
import { lint, targetOf, targets } from "../lint/lint.ts";
import { load } from "../onnx/file.ts";
import { wrap } from "../report/format.ts";
import { trial } from "../runtime/trial.node.ts";
import { bold, dim, print } from "./terminal.ts";
import { parser } from "./usage.ts";

interface Options {
  readonly target: readonly string[];
  readonly load?: true;
  readonly json?: true;
}

/** Exit code where a target has an error. */
const refused = 4;

export const lintCommand = new Command("lint")
  .description(
    "what runtimes make of a model: ops, types and widths that have no kernel, or a slow one; exit code 4 where it will not load",
  )
  .argument("<models...>", "ONNX files")
  .option(
    "--target <names>",
    `runtimes, of ${targets.join(", ")}`,
    parser((text) => text.split(",").map((t) => targetOf(t.trim()))),
    ["node"],
  )
  .option("--load", "open the files too, in a process of their own (node and wasm)")
  .option("--json", "as JSON")
  .action(async (paths: readonly string[], options: Options) => {
    const reports = [];
    for (const path of paths)
      for (const target of options.target) {
        const findings = lint(load(path), target);
        if (options.load && (target === "node" || target === "wasm")) findings.unshift(await tried(path, target));
        reports.push({ file: basename(path), target, findings: sortedFindings(findings) });
      }
    print(options.json ? JSON.stringify(reports, null, 2) : reports.map((r) => text(r.file, r.target, r.findings)).join("\n\n"));
    if (reports.some((r) => r.findings.some((f) => f.level === "error"))) process.exitCode = refused;
  });

async function tried(path: string, target: "node" | "wasm"): Promise<Finding> {
  const said = await trial(path, target);
  const basis = "tried now, on this machine";
  return said === null
    ? { level: "note", what: "it loads", nodes: [], basis }
    : { level: "error", what: `it does not load: ${said}`, nodes: [], basis };
}

const width = Math.min(process.stdout.columns || 120, 120);

/** Findings under the file's and the target's name, one paragraph each. */
function text(file: string, target: string, findings: readonly Finding[]): string {
  const counted = (["error", "warning", "note"] as const).flatMap((level) => {
    const n = findings.filter((f) => f.level === level).length;
    return n ? [`${n} ${level}${n > 1 ? "s" : ""}`] : [];
  });
  const head = `${bold(file)} on ${bold(target)}: ${counted.join(", ") || "nothing to say"}`;
  const lines = findings.flatMap((f) => {
    const about = f.nodes.length ? `${f.nodes.length > 1 ? `${f.nodes.length} nodes: ` : ""}${named(f.nodes)}` : "";
    return [
      ...wrap(f.what, width - 11).map((line, i) => `  ${(i ? "" : f.level).padEnd(9)}${line}`),
      ...wrap([about, f.basis].filter(Boolean).join(" · "), width - 11).map((line) => `${" ".repeat(11)}${dim(line)}`),
    ];
  });
  return [head, ...lines].join("\n");
}
