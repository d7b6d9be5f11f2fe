/** Measuring in a process of its own: what the sessions of two large models take there is not taken here, and is over afterwards. */
import { execFile } from "node:child_process";
import { basename } from "node:path";
import type { Finding } from "../lint/finding.ts";
import type { Measurement } from "../measure/measurement.ts";
import { measureCommand } from "./measure.ts";

export interface Apart {
  readonly before: readonly Measurement[];
  readonly after: readonly Measurement[];
  /** Why the result is not faster. */
  readonly findings: readonly Finding[];
  /** Why there are no figures. */
  readonly unmeasured: string | null;
}

/** Flags that pith measure has too, as they were given to this command. */
function given(argv: readonly string[]): string[] {
  const known = new Map(measureCommand.options.map((o) => [o.long, o]));
  const out: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const [flag] = argv[i]!.split("=", 1) as [string];
    const option = known.get(flag);
    if (!option || ["--json", "--quiet"].includes(flag)) continue;
    out.push(argv[i]!);
    if ((option.required || option.optional) && !argv[i]!.includes("=")) out.push(argv[++i]!);
  }
  return out;
}

/** `pith measure` of both files with this command's own flags, one second for each figure; no brotli, which takes minutes for a gigabyte. */
export function measureApart(before: string, after: string): Promise<Apart> {
  const flags = ["--seconds", "1", "--no-brotli", ...given(process.argv.slice(3)), "--json", "--quiet"];
  const args = [...process.execArgv, process.argv[1]!, "measure", before, after, ...flags];
  return new Promise((resolve) => {
    execFile(process.execPath, args, { maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      if (error) {
        const said = stderr
          .trim()
          .split("\n")
          .findLast((line) => line.startsWith("pith: "));
        const why = said?.slice("pith: ".length) ?? `the process that measured ${basename(after)} ended (${error.signal ?? error.code})`;
        return resolve({ before: [], after: [], findings: [], unmeasured: why });
      }
      const [was, is] = (JSON.parse(stdout) as { models: { measured: Measurement[]; findings: Finding[] }[] }).models;
      resolve({ before: was!.measured, after: is!.measured, findings: is!.findings, unmeasured: null });
    });
  });
}
