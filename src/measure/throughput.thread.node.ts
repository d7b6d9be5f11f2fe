/** A worker of the throughput measurement: one session, one request after the other, for as long as each message says. */
import { parentPort, workerData } from "node:worker_threads";
import type { Batch } from "../data/dataset.ts";
import { open } from "../runtime/session.ts";

export interface LoadTask {
  readonly path: string;
  readonly feeds: Batch;
  readonly threads: number;
}
/** One slice of load: when to start (Date.now), and how long to begin new runs. */
export interface LoadSlice {
  readonly start: number;
  readonly seconds: number;
}
export interface LoadReport {
  /** Runs that ended, at least one, and how long they took together. */
  readonly runs: number;
  readonly seconds: number;
}

const { path, feeds, threads } = workerData as LoadTask;
const port = parentPort!;
const session = await open(path, { threads, spinning: false });
for (let i = 0; i < 3; i++) await session.run(feeds);

port.on("message", async ({ start, seconds }: LoadSlice) => {
  while (Date.now() < start) await new Promise((r) => setTimeout(r, Math.max(0, start - Date.now())));
  const from = performance.now();
  let [runs, took] = [0, 0];
  while (took < seconds) {
    await session.run(feeds);
    runs++;
    took = (performance.now() - from) / 1000;
  }
  port.postMessage({ runs, seconds: took } satisfies LoadReport);
});
port.postMessage("ready");
