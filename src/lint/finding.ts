/** What stands out about a model on a runtime, or about a result. */

export interface Finding {
  /** error: it does not load, or computes something else; warning: it runs, but slower or elsewhere; note: worth knowing. */
  readonly level: "error" | "warning" | "note";
  /** One line, with what to do about it where there is something. */
  readonly what: string;
  /** Nodes it is about, by name; empty: the whole model. */
  readonly nodes: readonly string[];
  /** What it rests on: "measured, onnxruntime-node 1.30.0", "documented, …", "the file". */
  readonly basis: string;
}

const severity = { error: 0, warning: 1, note: 2 } as const;

/** Errors first. */
export function sortedFindings(findings: readonly Finding[]): Finding[] {
  return [...findings].sort((a, b) => severity[a.level] - severity[b.level]);
}

/** Nodes in short: "a, b, c and 4 more". */
export function named(nodes: readonly string[], most = 3): string {
  const shown = nodes.slice(0, most).join(", ");
  return nodes.length > most ? `${shown} and ${nodes.length - most} more` : shown;
}
