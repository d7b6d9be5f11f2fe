/** In which order layers can be done so that each one's inputs already come from those done before it. */
import type { Model, Value } from "../ir/graph.ts";
import { allNodes, reads, sorted } from "../ir/walk.ts";
import type { WeightLayer } from "./weightlayers.ts";

/**
 * The layers by the number of others on the longest way to them, first the nearest to the inputs: none of a stage depends on another of it.
 * Those inside a subgraph count as where its node stands. Stages that follow each other are joined until there are at most `most`.
 */
export function stagesOf(model: Model, layers: readonly WeightLayer[], most: number): WeightLayer[][] {
  const byNode = new Map<unknown, WeightLayer[]>();
  for (const l of layers) byNode.set(l.node, [...(byNode.get(l.node) ?? []), l]);
  const depths = new Map<Value, number>();
  const stages: WeightLayer[][] = [];
  for (const node of sorted(model.graph)) {
    const inside = [node, ...node.subgraphs.flatMap((g) => [...allNodes(g)])].flatMap((n) => byNode.get(n) ?? []);
    let depth = 0;
    for (const v of reads(node)) depth = Math.max(depth, depths.get(v) ?? 0);
    if (inside.length) {
      stages[depth] = [...(stages[depth] ?? []), ...inside];
      depth++;
    }
    for (const o of node.outputs) if (o) depths.set(o, depth);
  }
  const count = Math.min(most, stages.length);
  return Array.from({ length: count }, (_, i) =>
    stages.slice(Math.floor((i * stages.length) / count), Math.floor(((i + 1) * stages.length) / count)).flat(),
  );
}
