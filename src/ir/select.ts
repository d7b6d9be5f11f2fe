/** Selectors: globs on node and weight names plus op types. */
import { Fault } from "../tensor/fault.ts";
import type { Graph, Node } from "./graph.ts";
import { allNodes, labelOf } from "./walk.ts";

/**
 * A comma list (or array) of patterns. A pattern is a glob on names (`*` any run, `?` one character), `op:Type` for an op type
 * (a glob too), or either with a leading `!` to take away again. A list of only `!` patterns starts from everything.
 */
export type Selector = string | readonly string[];

/** A glob as a regular expression on the whole name. */
export function glob(pattern: string): RegExp {
  const escaped = pattern
    .replace(/[.+^${}()|[\]\\]/g, "\\$&")
    .replace(/\*+/g, ".*")
    .replace(/\?/g, ".");
  return new RegExp(`^${escaped}$`, "s");
}

/** A predicate on (names, op type): true where any of the names matches. Errors: an empty pattern. */
export function matcher(selector: Selector): (names: readonly string[], opType?: string) => boolean {
  const patterns = (typeof selector === "string" ? selector.split(",") : selector).map((p) => p.trim());
  const rules = patterns.map((p) => {
    const negative = p.startsWith("!");
    const body = negative ? p.slice(1) : p;
    if (!body)
      throw new Fault("selector", `an empty pattern in "${patterns.join(",")}"; a glob like "*attn*" or "op:MatMul" would be right`);
    return body.startsWith("op:") ? { negative, op: glob(body.slice(3)), name: null } : { negative, op: null, name: glob(body) };
  });
  const onlyNegative = rules.length > 0 && rules.every((r) => r.negative);
  return (names, opType = "") => {
    let hit = onlyNegative;
    for (const r of rules) {
      if (r.op ? r.op.test(opType) : names.some((n) => r.name!.test(n))) hit = !r.negative;
    }
    return hit;
  };
}

/** The nodes a selector names, by node name, by the name of any initializer they read, or by op type; subgraphs included. */
export function select(graph: Graph, selector: Selector): Node[] {
  const matches = matcher(selector);
  const out: Node[] = [];
  for (const n of allNodes(graph)) {
    if (matches(namesOf(n), n.opType)) out.push(n);
  }
  return out;
}

/** The names a selector may know a node by: its own and those of its initializers. */
export function namesOf(node: Node): string[] {
  return [labelOf(node), ...node.inputs.filter((v) => v?.data).map((v) => v!.name)];
}
