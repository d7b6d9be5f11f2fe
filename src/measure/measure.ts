/** All figures of several models, side by side. */
import { host } from "#host";
import { type Batch, type Dataset, fromFeeds, subset } from "../data/dataset.ts";
import { cloneModel, type Model } from "../ir/graph.ts";
import { feed, fixedBatch } from "../runtime/feeds.ts";
import { observeShapes, sampleFeeds } from "../runtime/shapes.ts";
import { Fault } from "../tensor/fault.ts";
import { densify, sparsify } from "../transform/sparse.ts";
import { accuracy, change, type Evaluation, evaluate, type Metric } from "./accuracy.ts";
import { fidelity } from "./fidelity.ts";
import { batchOf, latency } from "./latency.ts";
import { macsOf } from "./macs.ts";
import type { Measurement } from "./measurement.ts";
import { countParameters } from "./parameters.ts";

export interface Measured {
  /** Used in messages. */
  readonly name: string;
  readonly model: Model;
  /** Where it lies on disk, if it does: its real files are then counted. */
  readonly path?: string;
}

export interface MeasureOptions {
  /** Examples: for the metric, for fidelity, and as inputs of timed runs. Without it inputs are random and nothing is said of accuracy. */
  readonly data?: Dataset | null;
  /** Default: accuracy where the data has `labels`. null: none. */
  readonly metric?: Metric | null;
  /** Compare outputs with the first model's, on random inputs where there is no data. Default: where there is no metric. */
  readonly fidelity?: boolean;
  /** Batch sizes to time. Default: 1, or the batch a model is fixed to. */
  readonly batch?: readonly number[];
  /** Intra-op threads for latency; default 1. */
  readonly threads?: number;
  /** Seconds aimed at for each model and timed figure; default 2. 0: no latency and no throughput. */
  readonly seconds?: number;
  /** Numbers of simultaneous requests for throughput. Default: none. Each takes its own copy of the model. Node only. */
  readonly concurrency?: readonly number[];
  /** Peak memory, in a process of its own. Default false. Node only. */
  readonly memory?: boolean;
  /** Bytes after brotli, quality 9. Default true (Node only): about a second for 5 MB. */
  readonly brotli?: boolean;
  /** Shapes of inputs that a model leaves open, where there is no data. */
  readonly shape?: Readonly<Record<string, readonly number[]>>;
  readonly seed?: number;
  readonly progress?: (what: string, done: number, of: number) => void;
}

/**
 * Measures all models: sizes, parameters, multiply-accumulates, the metric, closeness to the first model, latency in alternating blocks,
 * throughput, peak memory; what does not apply is left out. One list per model, in the given order; the first model is what the others
 * are compared with. Errors: those of each measurement, with the model's name.
 */
export async function measureModels(models: readonly Measured[], options: MeasureOptions = {}): Promise<Measurement[][]> {
  const out: Measurement[][] = models.map(() => []);
  const { data = null, threads = 1, seconds = 2, concurrency = [], progress = () => {} } = options;
  const metric = options.metric === undefined ? (data?.names.includes("labels") ? accuracy() : null) : options.metric;
  const [first] = models;
  if (!first) return out;
  const each = async (what: string, run: (m: Measured, i: number) => Promise<void>) => {
    for (const [i, m] of models.entries()) {
      progress(what, i, models.length);
      await named(m, () => run(m, i));
    }
    progress(what, models.length, models.length);
  };

  await each("size", async (m, i) => {
    out[i]!.push(...(await sizes(m.model, { path: m.path, brotli: options.brotli })));
  });
  await each("macs", async (m, i) => {
    const feeds = feedsFor(m.model, options, null);
    const macs = macsOf(await observeShapes(m.model, feeds, { threads: host.cores }));
    if (macs !== null) out[i]!.push({ metric: "macs", value: macs, unit: "", n: 0, interval: null, at: { batch: batchOf(feeds) } });
  });
  if (data && metric) {
    let reference: Evaluation | null = null;
    await each(metric.metric, async (m, i) => {
      const e = await evaluate(m.model, data, metric, { threads: host.cores });
      out[i]!.push(e.measurement);
      if (reference) out[i]!.push(change(reference, e));
      reference ??= e;
    });
  }
  if (models.length > 1 && (options.fidelity ?? !(data && metric))) {
    await each("fidelity", async (m, i) => {
      if (i === 0) return;
      const figures = await fidelity(first.model, m.model, data ?? samples(first.model, options), { threads: host.cores });
      out[i]!.push(...(data ? figures : figures.map((f) => ({ ...f, at: { data: "random" } }))));
    });
  }
  if (seconds > 0) {
    for (const batch of options.batch ?? [null]) {
      const timed: { model: Model; feeds: Batch }[] = [];
      for (const m of models) timed.push(await named(m, async () => ({ model: m.model, feeds: feedsFor(m.model, options, batch) })));
      const times = await latency(timed, { threads, seconds, progress: (round, of) => progress("latency", round, of) });
      times.forEach((t, i) => {
        out[i]!.push(...t);
      });
      for (const k of concurrency) {
        progress("throughput", 0, 1);
        const rates = await throughputs(timed, { concurrency: k, seconds });
        rates.forEach((r, i) => {
          out[i]!.push(r);
        });
        progress("throughput", 1, 1);
      }
    }
  }
  if (options.memory) {
    await each("memory", async (m, i) => {
      out[i]!.push(...(await peakMemory(m.model, feedsFor(m.model, options, options.batch?.[0] ?? null), { threads })));
    });
  }
  return out;
}

/**
 * file: bytes on disk, external data included; sparse: with sparse initializers where those are smaller (the file's own bytes where none
 * is); dense: without any, where the file has some; brotli and sparseBrotli: the same as a web server would send them (quality 9);
 * parameters; nonZero. All are counted, not sampled, on files that were written.
 */
export async function sizes(model: Model, options: { path?: string; brotli?: boolean } = {}): Promise<Measurement[]> {
  const exact = (metric: string, value: number, unit: string): Measurement => ({ metric, value, unit, n: 0, interval: null });
  const compressed = options.brotli ?? true;
  const { file, brotli } = await host.bytes(model, options.path ?? null, compressed);
  const forms = { sparse: cloneModel(model), dense: cloneModel(model) };
  const sparse = sparsify(forms.sparse).length ? await host.bytes(forms.sparse, null, compressed) : { file, brotli };
  const dense = densify(forms.dense) ? (await host.bytes(forms.dense, null, false)).file : null;
  const { parameters, nonZero } = countParameters(model);
  return [
    exact("file", file, "B"),
    ...(dense === null ? [] : [exact("dense", dense, "B")]),
    exact("sparse", sparse.file, "B"),
    ...(brotli === null ? [] : [exact("brotli", brotli, "B")]),
    ...(sparse.brotli === null ? [] : [exact("sparseBrotli", sparse.brotli, "B")]),
    exact("parameters", parameters, ""),
    exact("nonZero", nonZero, ""),
  ];
}

export interface ThroughputOptions {
  readonly concurrency: number;
  readonly threads?: number;
  /** Seconds for each model; default 2. */
  readonly seconds?: number;
}

/**
 * Examples a second with `concurrency` requests under way at once: as many workers for each model, each with a session of its own and
 * max(1, ⌊cores / concurrency⌋) threads, after warm-up. The models take turns, a tenth of the time each, in an order that turns round; a
 * run that is under way at the end of a slice is waited for and counts with its time. The interval is Student's over the tenths. Every
 * model is in memory `concurrency` times. Errors: a browser.
 */
export async function throughputs(
  models: readonly { readonly model: Model; readonly feeds: Batch }[],
  options: ThroughputOptions,
): Promise<Measurement[]> {
  if (!host.runsPerSecond) throw new Fault("throughput", "needs worker threads; it is measured in Node only");
  const { concurrency, threads = Math.max(1, Math.floor(host.cores / concurrency)), seconds = 2 } = options;
  const rates = await host.runsPerSecond(models, { concurrency, threads, seconds });
  return rates.map(({ value, interval, n }, i) => {
    const batch = batchOf(models[i]!.feeds);
    return {
      metric: "throughput",
      value: value * batch,
      unit: "1/s",
      n,
      interval: [interval[0] * batch, interval[1] * batch],
      at: { concurrency, threads, batch },
    };
  });
}

/** {@link throughputs} of one model. */
export async function throughput(model: Model, feeds: Batch, options: ThroughputOptions): Promise<Measurement> {
  return (await throughputs([{ model, feeds }], options))[0]!;
}

/**
 * peakMemory: the highest resident set (RSS) of a process of its own that loads the model and runs it three times. The process by itself,
 * with the runtime loaded and no model, is given beside it as `emptyMemory`. Errors: a browser.
 */
export async function peakMemory(model: Model, feeds: Batch, options: { threads?: number; runs?: number } = {}): Promise<Measurement[]> {
  if (!host.peakMemory) throw new Fault("memory", "needs a process of its own; it is measured in Node only");
  const { threads = 1, runs = 3 } = options;
  const { peak, empty } = await host.peakMemory(model, feeds, { threads, runs });
  const at = { threads, batch: batchOf(feeds) };
  return [
    { metric: "peakMemory", value: peak, unit: "B", n: 1, interval: null, at },
    { metric: "emptyMemory", value: empty, unit: "B", n: 1, interval: null },
  ];
}

/**
 * What a model is timed on: `batch` examples of the data (from the start again where it has fewer), or random ones.
 * `batch` null: one, or as many as the model is fixed to. Errors: another batch than the one it is fixed to.
 */
export function feedsFor(model: Model, { data, shape, seed }: MeasureOptions, batch: number | null): Batch {
  const fixed = fixedBatch(model);
  if (batch !== null && fixed !== null && batch !== fixed) throw new Fault(`batch ${batch}`, `the model is fixed to a batch of ${fixed}`);
  if (!data) return sampleFeeds(model, { shape, seed, batch: batch ?? 1 });
  if (data.length === 0) throw new Fault("data", "holds no example");
  if (!data.stackable && batch !== null && batch !== 1)
    throw new Fault(`batch ${batch}`, "the data's examples have shapes of their own and run one at a time");
  const size = data.stackable ? (batch ?? fixed ?? 1) : 1;
  const some = subset(
    data,
    Array.from({ length: size }, (_, i) => i % data.length),
  );
  return feed(model, some, { batchSize: size }).next().value!.feeds;
}

/** A few random examples, for want of data. */
function samples(model: Model, { shape, seed = 0 }: MeasureOptions): Dataset {
  return fromFeeds(Array.from({ length: 8 }, (_, i) => sampleFeeds(model, { shape, seed: seed + i })));
}

/** Faults of `run` with the model's name in front. */
async function named<T>(m: Measured, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (e) {
    throw e instanceof Fault ? new Fault(m.name, e.message, { cause: e }) : e;
  }
}
