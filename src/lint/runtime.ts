/** What is known of a runtime by measuring it: tables that scripts/probe.ts wrote. */
import node from "./runtimes/node.generated.ts";
import wasm from "./runtimes/wasm.generated.ts";

export interface Measured {
  /** "onnxruntime-node 1.30.0" */
  readonly runtime: string;
  /** What it was measured on. */
  readonly machine: string;
  /** Limits, accuracies and relative times by name. */
  readonly facts: Readonly<Record<string, number>>;
  /**
   * A line for each op and its versions: "Abs 6,13: ok float32,int8; none bfloat16", where "a,b/x,y" stands for the four variants a/x, a/y, b/x,
   * b/y. A type that an op's line does not name is none of its definition's.
   */
  readonly rows: string;
}

/**
 * What came of opening and running an op: ok; rough: right but for sums of 8-bit products; cast: computed in float32 between Casts that the
 * runtime puts in; none: no kernel; fails: refused for another reason; wrong: other numbers; gone: no longer an op of its opset; invalid: not
 * within ONNX's definition of the op; crash: the process ends; untried: could not be told.
 */
export type Outcome = "ok" | "rough" | "cast" | "none" | "fails" | "wrong" | "gone" | "invalid" | "crash" | "untried";

/** Op → version → variant → outcome. */
export type Rows = ReadonlyMap<string, ReadonlyMap<number, ReadonlyMap<string, Outcome>>>;

export const measured = { node, wasm } as const satisfies Readonly<Record<string, Measured>>;

const parsed = new Map<Measured, Rows>();

/** The rows of a table, parsed once. */
export function rowsOf(m: Measured): Rows {
  let rows = parsed.get(m);
  if (!rows) parsed.set(m, (rows = parse(m.rows)));
  return rows;
}

function parse(text: string): Rows {
  const rows = new Map<string, Map<number, Map<string, Outcome>>>();
  for (const line of text.trim().split("\n")) {
    const [head, outcomes] = line.split(": ") as [string, string];
    const [op, versions] = head.split(" ") as [string, string];
    const variants = new Map<string, Outcome>();
    for (const part of outcomes.split("; ")) {
      const [outcome, ...words] = part.split(" ") as [Outcome, ...string[]];
      for (const word of words) for (const v of expanded(word)) variants.set(v, outcome);
    }
    const known = rows.get(op) ?? new Map<number, Map<string, Outcome>>();
    rows.set(op, known);
    for (const v of versions.split(",")) known.set(Number(v), variants);
  }
  return rows;
}

/** "a,b/x" → "a/x", "b/x". */
function expanded(word: string): string[] {
  return word.split("/").reduce<string[]>((done, part) => {
    const choices = part.split(",");
    return done.length ? done.flatMap((d) => choices.map((c) => `${d}/${c}`)) : choices;
  }, []);
}
