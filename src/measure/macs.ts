/** Multiply-accumulates of one run. */
import type { Model } from "../ir/graph.ts";
import { allNodes } from "../ir/walk.ts";
import { opOf } from "../ops/index.ts";

/**
 * Multiply-accumulates of the nodes whose ops have a rule for it (products, convolutions, pooling, normalization), those in the branches
 * of an If that were taken among them; the model's values need shapes (see observeShapes). The body of a Loop or Scan, which runs as often
 * as its inputs say, is not counted, nor is element-wise work, as usual. null where no node could be counted.
 */
export function macsOf(shaped: Model): number | null {
  let total: number | null = null;
  for (const n of allNodes(shaped.graph)) {
    const macs = opOf(n)?.macs?.(n);
    if (macs !== undefined && macs !== null) total = (total ?? 0) + macs;
  }
  return total;
}
