/** Initializers as sparse ones: fewer bytes where most weights are zero. */
import type { Model, Value } from "../ir/graph.ts";
import { allGraphs } from "../ir/walk.ts";
import { type SparseIndices, sparseIndicesOf, sparsely } from "../onnx/sparse.ts";
import { raiseIrVersion } from "./weights.ts";

/** An initializer that became sparse, and the bytes it takes in the file before and after. */
export interface Sparse {
  readonly name: string;
  readonly dense: number;
  readonly sparse: number;
}

/**
 * Makes each initializer, in subgraphs too, whose sparse form is smaller be written so; the others stay dense. To pith and to the runtime
 * they are the same tensors: zeros save bytes in the file, and neither time nor memory. One that is changed afterwards is dense again.
 * A float32 takes 4 bytes dense and 12 sparse, with narrow indices 5 to 8. The IR version becomes at least 6, which brought them.
 */
export function sparsify(model: Model, options: { readonly indices?: SparseIndices } = {}): Sparse[] {
  const { indices = "int64" } = options;
  const made: Sparse[] = [];
  for (const graph of allGraphs(model.graph))
    for (const v of graph.initializers) {
      const has = sparseIndicesOf(v.data!);
      if (has && (indices === "int64" || has !== "int64")) continue;
      const found = sparsely(v.name, v.data!, indices);
      if (!found) continue;
      v.data = found.tensor;
      made.push({ name: v.name, dense: found.dense, sparse: found.sparse });
    }
  if (made.length) raiseIrVersion(model, 6);
  return made;
}

/** Makes every initializer be written dense. Returns how many were not. */
export function densify(model: Model): number {
  const sparse = sparseInitializers(model);
  for (const v of sparse) v.data = { ...v.data!, source: undefined };
  return sparse.length;
}

/** The initializers that are written sparsely, subgraphs included. */
export function sparseInitializers(model: Model): Value[] {
  return [...allGraphs(model.graph)].flatMap((g) => [...g.initializers].filter((v) => sparseIndicesOf(v.data!)));
}
