/** Storing a result sparsely, where its target takes that. */
import type { Model } from "../ir/graph.ts";
import type { Finding } from "../lint/finding.ts";
import { sparseOn } from "../lint/sparse.ts";
import type { SparseIndices } from "../onnx/sparse.ts";
import { sparsify } from "../transform/sparse.ts";

/** Makes the initializers that are smaller so be written sparsely, unless the target does not load them; says what was done, or why not. */
export function storeSparsely(model: Model, indices: SparseIndices, target = "node"): Finding {
  const asked = sparseOn(target, indices === "int64" ? "int64" : "int8");
  const basis = asked.basis;
  if (asked.refused) return { level: "warning", what: `left dense for ${target}, not stored sparsely: ${asked.refused}`, nodes: [], basis };
  const made = sparsify(model, { indices });
  if (made.length === 0)
    return {
      level: "note",
      what: "nothing is stored sparsely: no initializer has so many zeros that it would be smaller",
      nodes: [],
      basis,
    };
  const sum = (of: (s: (typeof made)[number]) => number) => made.reduce((n, s) => n + of(s), 0);
  const all = model.graph.initializers.size;
  return {
    level: "note",
    what: `stored sparsely: ${made.length} of ${all} initializers, ${sum((s) => s.sparse)} bytes instead of ${sum((s) => s.dense)}`,
    nodes: made.map((s) => s.name),
    basis,
  };
}
