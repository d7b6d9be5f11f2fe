/** A model's answers on a dataset, batch by batch. */
import type { Batch, Dataset } from "../data/dataset.ts";
import type { Model } from "../ir/graph.ts";
import { feed } from "../runtime/feeds.ts";
import { open } from "../runtime/session.ts";
import { dtypes, sizeOf } from "../tensor/dtype.ts";
import { bytesOf, type Tensor } from "../tensor/tensor.ts";

export interface PredictOptions {
  readonly threads?: number;
  /** Examples a run; default 32. */
  readonly batchSize?: number;
  /** Called after each batch with the examples done. */
  readonly progress?: (done: number, of: number) => void;
}

export interface Prediction {
  /** The tensor outputs in the model's order. */
  readonly outputs: readonly Tensor[];
  readonly names: readonly string[];
  /** Every array of the dataset for the same examples. */
  readonly batch: Batch;
  /** Examples in it. */
  readonly count: number;
}

/** Runs the model over the dataset in order. Where the model's fixed batch had to be filled up, the surplus is cut off again. Errors: see {@link feed}. */
export async function* predict(model: Model, data: Dataset, options: PredictOptions = {}): AsyncGenerator<Prediction> {
  const session = await open(model, { threads: options.threads, spinning: false });
  const names = session.outputs.flatMap((o) => (o.dtype ? [o.name] : []));
  try {
    let done = 0;
    for (const { feeds, batch, count, padded } of feed(model, data, { batchSize: options.batchSize })) {
      const results = await session.run(feeds, names);
      const cut = padded ? (t: Tensor) => rows(t, count) : (t: Tensor) => t;
      yield {
        outputs: names.map((n) => cut(results[n]!)),
        names,
        batch: padded ? Object.fromEntries(Object.entries(batch).map(([n, t]) => [n, cut(t)])) : batch,
        count,
      };
      done += count;
      options.progress?.(done, data.length);
    }
  } finally {
    await session.release();
  }
}

/** The first `count` rows. */
export function rows(t: Tensor, count: number): Tensor {
  const shape = [count, ...t.shape.slice(1)];
  if (t.strings) return { ...t, shape, strings: t.strings.slice(0, sizeOf(shape)) };
  return { dtype: t.dtype, shape, data: bytesOf(t).subarray(0, (sizeOf(shape) * dtypes[t.dtype].bits) / 8) };
}
