/** What a dtype's recipe depends on, read off a model. */
import type { Model } from "../ir/graph.ts";
import { allNodes } from "../ir/walk.ts";
import { weightsOf } from "../transform/weights.ts";
import type { Facts } from "./dtypes.ts";

export function factsOf(model: Model, modelType: string): Facts {
  const ops = new Set<string>();
  const tables = new Set<string>();
  for (const n of allNodes(model.graph)) {
    ops.add(n.opType);
    const table = n.opType === "Gather" && n.domain === "" ? n.inputs[0] : null;
    if (table?.data?.shape.length === 2) tables.add(table.name);
  }
  const layers = weightsOf(model).map((w) => w.value.name);
  return { modelType, ops, tied: layers.filter((name) => tables.has(name)), tables: [...tables] };
}
