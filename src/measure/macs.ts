/** Multiply-accumulates of one run. */
import type { Model } from "../ir/graph.ts";
import { opOf } from "../ops/index.ts";

/**
 * Multiply-accumulates of the top graph's nodes whose ops have a rule for it (products, convolutions, pooling, normalization); the model's
 * values need shapes (see observeShapes). Element-wise work is not counted, as usual. null where no node could be counted.
 */
export function macsOf(shaped: Model): number | null {
  let total: number | null = null;
  for (const n of shaped.graph.nodes) {
    const macs = opOf(n)?.macs?.(n);
    if (macs !== undefined && macs !== null) total = (total ?? 0) + macs;
  }
  return total;
}
