/** What measuring needs of the machine: all of it in Node, little in a browser. Which one is chosen by the import "#host". */
import type { Batch } from "../data/dataset.ts";
import type { Model } from "../ir/graph.ts";
import type { Interval } from "./interval.ts";
import type { Ran } from "./slowness.ts";

export interface LoadOptions {
  /** Requests under way at once, each in a worker with a session of its own. */
  readonly concurrency: number;
  /** Intra-op threads of each session. */
  readonly threads: number;
  /** How long each model is measured, after warm-up. */
  readonly seconds: number;
}

export interface Loaded {
  readonly model: Model;
  readonly feeds: Batch;
}

export interface Host {
  /** What figures were taken on: processor, cores, memory, system, runtime. */
  readonly machine: () => Record<string, string | number>;
  /** A model by its path (a URL in a browser). */
  readonly load: (path: string) => Promise<Model>;
  /** Logical cores this process may use. */
  readonly cores: number;
  /** Milliseconds of processor time that this process took so far, all its threads together; null where nobody tells. */
  readonly processorTime: (() => number) | null;
  /** Bytes as a file (with its external data), and what brotli at quality 9 makes of them (null: not asked for, or not here). `path`: where the model lies on disk, if it does. */
  readonly bytes: (model: Model, path: string | null, brotli: boolean) => Promise<{ file: number; brotli: number | null }>;
  /** Runs a second of each model under load, in alternating slices of the time, and 95 % intervals; null where there are no workers for it. */
  readonly runsPerSecond:
    | ((models: readonly Loaded[], options: LoadOptions) => Promise<{ value: number; interval: Interval; n: number }[]>)
    | null;
  /** Highest resident set, in bytes, of a process of its own that loads the model and runs the feeds `runs` times; and of one that only loads the runtime. */
  readonly peakMemory:
    | ((model: Model, feeds: Batch, options: { threads: number; runs: number }) => Promise<{ peak: number; empty: number }>)
    | null;
  /** The graph that the runtime makes of the model, and a profile of `seconds` of runs. */
  readonly inspect: ((model: Model, feeds: Batch, options: { threads: number; seconds: number }) => Promise<Ran>) | null;
}
