/** One measured figure. */
export interface Measurement {
  /** e.g. "accuracy", "latency", "file", "brotli", "parameters", "nonZero", "throughput". */
  readonly metric: string;
  readonly value: number;
  /** "%", "ms", "B", "1/s", "" … */
  readonly unit: string;
  /** Samples behind the figure; 0 for what is counted and not sampled. */
  readonly n: number;
  /** 95 % interval; null: exact. */
  readonly interval: readonly [number, number] | null;
  /** What it was measured under: percentile, threads, batch, concurrency … */
  readonly at?: Readonly<Record<string, number | string>>;
}
