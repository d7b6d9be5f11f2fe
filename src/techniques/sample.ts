/** What a part of the data tells: enough for errors and shapes, quick for sets of any size. */
import { type Dataset, subset } from "../data/dataset.ts";
import type { Model, Value } from "../ir/graph.ts";
import { feed } from "../runtime/feeds.ts";
import { observeShapes } from "../runtime/shapes.ts";

/** The shape of any value for one example, read off a run on the first. */
export async function shapes(model: Model, data: Dataset, threads: number): Promise<(v: Value) => readonly number[] | null> {
  const [first] = feed(model, data, { batchSize: 1 });
  const { graph } = await observeShapes(model, first!.feeds, { threads });
  const known = new Map<string, readonly number[]>();
  for (const v of [...graph.inputs, ...[...graph.nodes].flatMap((n) => n.outputs)]) if (v?.shape) known.set(v.name, v.shape);
  return (v) => known.get(v.name) ?? null;
}

/** The first `most` examples. */
export function sampled(data: Dataset, most: number): Dataset {
  return subset(
    data,
    Array.from({ length: Math.min(data.length, most) }, (_, i) => i),
  );
}
