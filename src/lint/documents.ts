/** A model held against what a runtime's documents say. */
import type { Model } from "../ir/graph.ts";
import { allNodes, constantOf, labelOf } from "../ir/walk.ts";
import { numbersOf } from "../tensor/tensor.ts";
import type { Documented } from "./documented.ts";
import type { Finding } from "./finding.ts";
import type { Types } from "./types.ts";
import { opName, versionOf } from "./variant.ts";

/** Op → from which to which version of its definition, and the types it takes (null: not said). */
function listed(d: Documented): Map<string, { from: number; to: number; types: ReadonlySet<string> | null }> {
  const out = new Map<string, { from: number; to: number; types: ReadonlySet<string> | null }>();
  const add = (text: string, types: ReadonlySet<string> | null) => {
    for (const word of text.trim().split(/\s+/)) {
      const [op, range = "1"] = word.split("@") as [string, string?];
      const [from, to] = range.split("-");
      out.set(op, { from: Number(from), to: to ? Number(to) : Number.POSITIVE_INFINITY, types });
    }
  };
  if (d.ops) add(d.ops, null);
  for (const [types, ops] of d.typed ?? []) add(ops, types === "any" ? null : new Set(types.split(" ")));
  return out;
}

export function documentFindings(model: Model, types: Types, d: Documented): Finding[] {
  const opset = model.opsets.get("") ?? 1;
  const basis = `documented, ${d.document}`;
  const out: Finding[] = [];
  const table = listed(d);
  /** What is not listed, and the nodes of it. */
  const missing = new Map<string, string[]>();
  const push = (what: string, node: string) => missing.set(what, [...(missing.get(what) ?? []), node]);
  if (table.size)
    for (const node of allNodes(model.graph)) {
      const op = opName(node);
      if (op === "Constant") continue;
      const row = table.get(op);
      const version = versionOf(node, opset);
      if (!row || (node.domain === "" && version !== null && (opset < row.from || version > row.to))) {
        push(row ? `${op} at opset ${opset}` : op, labelOf(node));
        continue;
      }
      const type = types(node.inputs[0]);
      if (row.types && type && !row.types.has(type)) push(`${op} on ${type}`, labelOf(node));
    }
  if (missing.size) {
    const what = [...missing].map(([op, n]) => (n.length > 1 ? `${op} (${n.length} nodes)` : op)).join(", ");
    out.push({ level: d.missing, what: `not listed: ${what}; ${d.otherwise}`, nodes: [...missing.values()].flat(), basis });
  }
  if (d.demands?.includes("zeroPoint0")) {
    const off = [...allNodes(model.graph)].filter((n) => {
      const zero = /^(De)?[qQ]uantizeLinear$/.test(n.opType) ? constantOf(n.inputs[2]) : null;
      return zero !== null && numbersOf(zero).some((z) => z !== 0);
    });
    if (off.length)
      out.push({
        level: "error",
        what: "zero points must be 0; int8's target=tensorrt writes such models",
        nodes: off.map(labelOf),
        basis,
      });
  }
  if (d.demands?.includes("fixedShapes")) {
    const open = model.graph.inputs.filter((v) => !v.data && !v.shape);
    if (open.length) out.push({ level: "error", what: "inputs must have fixed shapes", nodes: open.map((v) => v.name), basis });
  }
  return out;
}
