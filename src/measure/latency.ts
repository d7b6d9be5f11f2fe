/** How long one run takes, for several models side by side. */
import type { Batch } from "../data/dataset.ts";
import type { Model } from "../ir/graph.ts";
import { open, type Session, type SessionOptions } from "../runtime/session.ts";
import { quantile, quantileInterval } from "./interval.ts";
import type { Measurement } from "./measurement.ts";

export interface LatencyOptions {
  /** Intra-op threads of each session; default 1. */
  readonly threads?: number;
  /** Aim for this long a measurement of each model; default 2. Slow models take longer: every round has its least number of runs. */
  readonly seconds?: number;
  /** Rounds at least; six are what a 95 % interval of a median needs. Default 6. */
  readonly rounds?: number;
  /** Further session config entries. */
  readonly config?: SessionOptions["config"];
  readonly progress?: (round: number, of: number) => void;
  /** What times are read from, in milliseconds; default: the wall clock. */
  readonly clock?: () => number;
}

/** Runs at the head of each block that are not counted: caches still hold the other model. */
const dropped = 2;
/** Runs in a block at least. */
const leastRuns = 12;
/** A block of fast runs goes on at least so long, in milliseconds: one interruption must not fill it. */
const leastBlock = 20;

/**
 * Latency of each model on its feeds: medians, 95th and 99th percentiles, and the speed-up over the first model.
 *
 * All models are open in one process with spinning off (an idle session's spinning threads slow the others), warmed up, and run in
 * alternating blocks of at least 12 runs whose first two are dropped; the order turns round every other round, so that drift hits all alike.
 * The median is that of the block medians; the tails are of all counted runs, the 99th percentile only where there are a hundred.
 * Intervals are order-statistic ones; that of a tail ends at the slowest run seen. The speed-up is the median over rounds of
 * (the first model's block median / this one's): above 1 is faster. `n` counts runs, and for the speed-up rounds.
 */
export async function latency(
  models: readonly { readonly model: Model; readonly feeds: Batch }[],
  options: LatencyOptions = {},
): Promise<Measurement[][]> {
  const { threads = 1, seconds = 2, rounds: least = 6, config, clock = () => performance.now() } = options;
  const sessions: Session[] = [];
  try {
    for (const { model } of models) sessions.push(await open(model, { threads, spinning: false, config }));
    // Warm-up, and a guess at the time of one run.
    const sizes: number[] = [];
    let rounds = least;
    for (const [i, s] of sessions.entries()) {
      const { feeds } = models[i]!;
      await block(s, feeds, 2, clock);
      const typical = Math.max(1e-3, Math.min(...(await block(s, feeds, 3, clock))));
      const runs = Math.max(leastRuns, Math.ceil(leastBlock / typical));
      sizes.push(runs);
      rounds = Math.max(rounds, Math.min(60, Math.round((seconds * 1000) / (runs * typical))));
    }
    const times: number[][] = models.map(() => []);
    const medians: number[][] = models.map(() => []);
    for (let round = 0; round < rounds; round++) {
      const order = models.map((_, i) => i);
      for (const i of round % 2 ? order.reverse() : order) {
        const counted = (await block(sessions[i]!, models[i]!.feeds, sizes[i]!, clock)).slice(dropped);
        times[i]!.push(...counted);
        medians[i]!.push(quantile(counted.sort(ascending), 0.5));
      }
      options.progress?.(round + 1, rounds);
    }
    return models.map((m, i) => report(times[i]!, medians[i]!, medians[0]!, i > 0, { threads, batch: batchOf(m.feeds) }));
  } finally {
    for (const s of sessions) await s.release();
  }
}

async function block(session: Session, feeds: Batch, runs: number, clock: () => number): Promise<number[]> {
  const times = new Array<number>(runs);
  for (let i = 0; i < runs; i++) {
    const start = clock();
    await session.run(feeds);
    times[i] = clock() - start;
  }
  return times;
}

function report(
  times: number[],
  medians: readonly number[],
  reference: readonly number[],
  compared: boolean,
  at: Readonly<Record<string, number>>,
): Measurement[] {
  const sorted = times.sort(ascending);
  const n = sorted.length;
  const of = (percentile: number, q: number, samples: readonly number[]): Measurement => ({
    metric: "latency",
    value: quantile(samples, q),
    unit: "ms",
    n,
    interval: quantileInterval(samples, q),
    at: { percentile, ...at },
  });
  const out = [of(50, 0.5, [...medians].sort(ascending)), of(95, 0.95, sorted)];
  if (n >= 100) out.push(of(99, 0.99, sorted));
  if (compared) {
    const ratios = medians.map((m, r) => reference[r]! / m).sort(ascending);
    out.push({ metric: "speedup", value: quantile(ratios, 0.5), unit: "×", n: ratios.length, interval: quantileInterval(ratios, 0.5), at });
  }
  return out;
}

const ascending = (a: number, b: number) => a - b;

/** The first axis of the first input. */
export function batchOf(feeds: Batch): number {
  return Object.values(feeds)[0]?.shape[0] ?? 1;
}
