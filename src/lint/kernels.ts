/** Whether a measured runtime takes each node of a model. */
import type { Model } from "../ir/graph.ts";
import { allNodes, labelOf } from "../ir/walk.ts";
import type { Finding } from "./finding.ts";
import { type Measured, type Outcome, rowsOf } from "./runtime.ts";
import type { Types } from "./types.ts";
import { isCombined, opName, variantOf, versionOf } from "./variant.ts";

/** Domains whose ops the runtime has, whether or not they were measured. */
const known = new Set(["", "com.microsoft", "ai.onnx.ml", "com.microsoft.nchwc", "com.ms.internal.nhwc"]);

type Verdict = Omit<Finding, "nodes">;

/** One finding for all nodes that the same is to be said of. */
export function kernelFindings(model: Model, types: Types, m: Measured): Finding[] {
  const opset = model.opsets.get("") ?? 1;
  const found = new Map<string, { verdict: Verdict; nodes: string[] }>();
  const say = (verdict: Verdict, node: string) => {
    const key = `${verdict.level} ${verdict.what}`;
    const entry = found.get(key) ?? { verdict, nodes: [] };
    found.set(key, entry);
    entry.nodes.push(node);
  };
  const cast = new Map<string, string[]>();
  for (const node of allNodes(model.graph)) {
    const op = opName(node);
    const label = labelOf(node);
    const basis = `measured, ${m.runtime}`;
    if (!known.has(node.domain)) {
      say(
        { level: "error", what: `${op} is an op of a domain that the runtime does not have, unless a library of it is registered`, basis },
        label,
      );
      continue;
    }
    const version = versionOf(node, opset);
    const row = version === null ? undefined : rowsOf(m).get(op)?.get(version);
    const variant = variantOf(node, types);
    if (!row || variant === null) {
      // Constants and ops on strings and sequences were not measured; nothing speaks against them.
      if (node.domain === "" && version === null)
        say({ level: "error", what: `${op} is no op of opset ${opset}`, basis: "ONNX's definitions" }, label);
      continue;
    }
    const form = `${op}${node.domain ? "" : ` (version ${version})`} on ${variant.replaceAll("/", ", ")}`;
    const outcome: Outcome = row.get(variant) ?? (row.has("any") ? "ok" : isCombined(node) ? "untried" : "invalid");
    if (outcome === "cast") cast.set(op, [...(cast.get(op) ?? []), label]);
    const verdict = verdictOn(outcome, form, opset);
    if (verdict)
      say({ ...verdict, basis: outcome === "invalid" ? "ONNX's definitions" : outcome === "untried" ? "not measured" : basis }, label);
  }
  const out = [...found.values()].map(({ verdict, nodes }) => ({ ...verdict, nodes }));
  if (cast.size)
    out.push({
      level: "warning",
      what: `no float16 kernel for ${[...cast].map(([op, n]) => (n.length > 1 ? `${op} (${n.length} nodes)` : op)).join(", ")}: the runtime puts Casts around them and computes in float32; smaller, not faster`,
      nodes: [...cast.values()].flat(),
      basis: `measured, ${m.runtime}`,
    });
  return out;
}

function verdictOn(outcome: Outcome, form: string, opset: number): Omit<Verdict, "basis"> | null {
  switch (outcome) {
    case "none":
      // The runtime takes an Identity away before it looks for a kernel.
      return form.startsWith("Identity ") ? null : { level: "error", what: `no kernel for ${form}` };
    case "fails":
      return { level: "error", what: `the runtime refuses ${form}` };
    case "wrong":
      return { level: "error", what: `${form} gives wrong numbers` };
    case "crash":
      return { level: "error", what: `${form} ends the process` };
    case "gone":
      return { level: "error", what: `${form.split(" ")[0]} is no longer an op at opset ${opset}` };
    case "invalid":
      return { level: "error", what: `${form} is not within the op's definition at opset ${opset}` };
    case "rough":
      return { level: "note", what: `${form} sums products of 8-bit integers: faster, and some tenths of a percent off` };
    case "untried":
      return { level: "note", what: `${form} was not measured; pith lint --load tries the model itself` };
    case "ok":
    case "cast":
      return null;
  }
}
