/** Means over a dataset of what a graph with a model's loss computes for each weight, batch by batch. */
import { order } from "../data/batches.ts";
import type { Batch, Dataset } from "../data/dataset.ts";
import type { Model, Value } from "../ir/graph.ts";
import { removeDead } from "../ir/walk.ts";
import { Build } from "../ops/build.ts";
import { fixedBatch } from "../runtime/feeds.ts";
import { open } from "../runtime/session.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { floatsOf } from "../tensor/tensor.ts";
import type { Loss } from "./loss.ts";
import { type LossSite, lossSite } from "./losssite.ts";
import type { ByPlace } from "./places.ts";

export interface TotalOptions {
  /** Most examples that are looked at, drawn by the seed where there are more; default: all. */
  readonly examples?: number;
  /** Examples a run; default 64, fewer where a weight has more than half a million elements. */
  readonly batchSize?: number;
  readonly seed?: number;
  readonly threads?: number;
  /** Called after each batch with the examples done. */
  readonly progress?: (done: number, of: number) => void;
}

/** What is to be computed at a site. */
export interface Plan {
  readonly model: Model;
  /** By weight, what one run gives, of the weight's shape. */
  readonly values: ByPlace;
  /** What the plan's own inputs are fed with, run after run over the same batch, whose results are added; default: one run. */
  readonly runs?: (batch: number) => Iterable<Batch>;
}

const wide = 64;

/**
 * For each weight the mean, over batches by their size, of what `plan` gives for the loss of a batch (itself a mean), in the weight's own
 * layout. Memory is that of one batch. Errors: data that does not fit the model or the loss; an op without a gradient rule.
 */
export async function totals(
  model: Model,
  weights: readonly Value[],
  data: Dataset,
  loss: Loss,
  plan: (site: LossSite) => Plan | Promise<Plan>,
  options: TotalOptions = {},
): Promise<Float32Array<ArrayBuffer>[]> {
  const { threads } = options;
  const sums = weights.map((w) => new Float64Array(sizeOf(w.data!.shape)));
  const wanted = Math.min(data.length, options.examples ?? Infinity);
  if (!(wanted >= 1)) throw new Fault("derivatives", `need examples; got ${wanted}`);
  const indices = order(data.length, wanted < data.length ? (options.seed ?? 0) : undefined).subarray(0, wanted);
  const heaviest = sums.reduce((n, s) => Math.max(n, s.length), 1);
  const fitting = Math.max(1, Math.min(wide, Math.floor(2 ** 25 / heaviest)));
  const size = Math.min(wanted, data.stackable ? (fixedBatch(model) ?? options.batchSize ?? fitting) : 1);
  const whole = wanted - (wanted % size);
  const every = weights.map((_, i) => i);
  const passes = [
    { which: every, size, from: 0, to: whole },
    { which: every, size: wanted - whole, from: whole, to: wanted },
  ];
  let done = 0;
  for (const { which, size, from, to } of passes) {
    if (from === to) continue;
    const some = which.map((i) => weights[i]!);
    const site = await lossSite(model, some, data, loss, indices.subarray(from, from + size), threads);
    const { model: planned, values, runs } = await plan(site);
    const alone = which.filter((_, k) => values[k] === "alone");
    if (alone.length) passes.push({ which: alone, size: 1, from, to });
    const found = values.flatMap((v, k) => (v && v !== "alone" ? [{ v, into: sums[which[k]!]! }] : []));
    if (found.length === 0) continue;
    const names = fetchOnly(
      planned,
      found.map((f) => f.v),
    );
    const outputs = found.map(({ into }, i) => ({ name: names[i]!, into }));
    const session = await open(planned, { training: true, threads });
    try {
      for (let at = from, batch = 0; at < to; at += size, batch++) {
        const feeds = site.feeds(indices.subarray(at, at + size));
        for (const more of runs?.(batch) ?? [{}]) {
          const results = await session.run({ ...feeds, ...more });
          for (const { name, into } of outputs) {
            const x = floatsOf(results[name]!);
            for (let i = 0; i < into.length; i++) into[i]! += (size / wanted) * x[i]!;
          }
        }
        if (which === every) options.progress?.((done += size), wanted);
      }
    } finally {
      await session.release();
    }
  }
  return sums.map((s) => Float32Array.from(s));
}

/** Makes these the model's only outputs, each by a name of its own: none may be an input, nor stand twice. */
export function fetchOnly(model: Model, values: readonly Value[]): string[] {
  const b = Build.of(model, "totals");
  const outputs = values.map((v) => b.op("Identity", [v]));
  model.graph.setOutputs(outputs);
  removeDead(model.graph);
  return outputs.map((v) => v.name);
}
