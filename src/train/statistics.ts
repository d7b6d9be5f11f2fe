/** Running statistics of BatchNormalizations taken anew, from the weights as they are in the end. */
import { order } from "../data/batches.ts";
import { type Dataset, subset } from "../data/dataset.ts";
import { cloneModel, type Model } from "../ir/graph.ts";
import { find, removeDead } from "../ir/walk.ts";
import { feed } from "../runtime/feeds.ts";
import { open } from "../runtime/session.ts";
import { floatsOf } from "../tensor/tensor.ts";
import { liftConstants } from "../transform/fold.ts";
import { upgrade } from "../transform/upgrade.ts";
import { useBatchStatistics } from "./graph.ts";
import { writeBack } from "./weights.ts";

const most = 16_384;

export interface StatisticsOptions {
  readonly batchSize: number;
  /** Which examples are taken where there are more than 16,384. */
  readonly seed: number;
  readonly threads?: number;
}

/**
 * Sets the mean and variance of every BatchNormalization to those of its inputs over `data` (16,384 examples of it), where each batch is normalized by
 * its own statistics, as in training: mean = E[m], variance = E[v + m²] − mean² over batches of equal size; an incomplete last batch is left
 * out. Returns how many there are.
 */
export async function estimateStatistics(model: Model, data: Dataset, { batchSize, seed, threads }: StatisticsOptions): Promise<number> {
  const probe = cloneModel(model);
  liftConstants(probe);
  upgrade(probe, Math.max(17, probe.opsets.get("") ?? 17));
  const statistics = useBatchStatistics(probe);
  if (statistics.length === 0) return 0;
  const { graph } = probe;
  graph.setOutputs(statistics.map((s) => find(graph, s.output)!));
  removeDead(graph);
  const sums = statistics.map((s) => new Float64Array(s.initial.length));
  const session = await open(probe, threads ? { threads } : {});
  let batches = 0;
  try {
    for (const { feeds, count } of feed(probe, subset(data, order(data.length, seed, 0).subarray(0, most)), { batchSize })) {
      if (batches > 0 && count < batchSize) break;
      const out = await session.run(feeds);
      batches++;
      // Mean and variance stand in pairs.
      for (let i = 0; i < statistics.length; i += 2) {
        const [m, v] = [floatsOf(out[statistics[i]!.output]!), floatsOf(out[statistics[i + 1]!.output]!)];
        for (let c = 0; c < m.length; c++) {
          sums[i]![c]! += m[c]!;
          sums[i + 1]![c]! += v[c]! + m[c]! ** 2;
        }
      }
    }
  } finally {
    await session.release();
  }
  for (let i = 0; i < statistics.length; i += 2) {
    const mean = sums[i]!.map((s) => s / batches);
    const variance = sums[i + 1]!.map((s, c) => Math.max(0, s / batches - mean[c]! ** 2));
    writeBack(model, statistics[i]!.name, Float32Array.from(mean));
    writeBack(model, statistics[i + 1]!.name, Float32Array.from(variance));
  }
  return statistics.length / 2;
}
