/** Floats that count: shapes, positions and indices, which 16 bits hold exactly up to 2048 only. */
import type { Graph, Node, Value } from "../../ir/graph.ts";
import { allGraphs, sorted } from "../../ir/walk.ts";
import { type DType, dtypes, sizeOf } from "../../tensor/dtype.ts";

/** Constants of more elements are weights. */
const few = 256;

/**
 * The nodes that compute on integers in floats, from integer inputs and small constants alone, on the way to what needs them exact: integers
 * again, the scales of a Resize, a Range, or the angles of Sin and Cos (which 16 bits put off by whole turns). Sin and Cos are among them.
 */
export function countingNodes(graph: Graph, types: ReadonlyMap<Value, DType | null>): Set<Node> {
  const counts = new Set<Value>();
  const float = (v: Value | null): v is Value => v !== null && types.get(v) === "float32";
  const integer = (v: Value | null) => v !== null && /[iub]/.test(dtypes[types.get(v) ?? "string"].kind);
  const from = (n: Node): boolean => {
    if (n.domain !== "" || n.subgraphs.length || n.inputs.length === 0) return false;
    const floats = n.inputs.filter(float);
    if (n.opType === "Gather" && n.inputs[0]?.data) return false;
    if (n.opType === "Range") return floats.length > 0 && floats.every((v) => counts.has(v) || isFew(v));
    if (floats.length === 0) return n.opType === "Cast" && integer(n.inputs[0]!);
    return floats.some((v) => counts.has(v)) && floats.every((v) => counts.has(v) || isFew(v));
  };
  const isFew = (v: Value): boolean => {
    if (v.data) return sizeOf(v.data.shape) <= few;
    const p = v.producer;
    if (p?.domain !== "" || p.subgraphs.length) return false;
    return p.opType === "Constant" || (p.inputs.some(float) && p.inputs.every((u) => !float(u) || isFew(u)));
  };
  for (const g of allGraphs(graph)) for (const n of sorted(g)) if (from(n)) for (const o of n.outputs) if (float(o)) counts.add(o);
  const kept = new Set<Node>();
  const keep = (v: Value) => {
    const p = v.producer;
    if (!p || kept.has(p) || !counts.has(v)) return;
    kept.add(p);
    for (const u of p.inputs) if (float(u)) keep(u);
  };
  for (const v of counts) {
    for (const use of v.uses) {
      if (!("node" in use)) continue;
      const { node, index } = use;
      const exact =
        node.opType === "Range" ||
        (node.opType === "Cast" && /[iu]/.test(dtypes[types.get(node.outputs[0]!) ?? "string"].kind)) ||
        (/^(Resize|Upsample)$/.test(node.opType) && index > 0) ||
        /^(Sin|Cos)$/.test(node.opType);
      if (!exact) continue;
      keep(v);
      if (/^(Sin|Cos)$/.test(node.opType)) kept.add(node);
    }
  }
  return kept;
}
