/** A worker of the throughput measurement: one session, one request after the other. */
import { parentPort, workerData } from "node:worker_threads";
import type { Batch } from "../data/dataset.ts";
import { open } from "../runtime/session.ts";

export interface LoadTask {
  readonly path: string;
  readonly feeds: Batch;
  readonly threads: number;
}
export interface LoadReport {
  /** Runs that ended in each tenth of the time. */
  readonly slices: readonly number[];
}

const { path, feeds, threads } = workerData as LoadTask;
const port = parentPort!;
const session = await open(path, { threads, spinning: false });
for (let i = 0; i < 3; i++) await session.run(feeds);

port.once("message", async ({ start, seconds }: { start: number; seconds: number }) => {
  while (Date.now() < start) await new Promise((r) => setTimeout(r, Math.max(0, start - Date.now())));
  const from = performance.now();
  const slice = (seconds * 1000) / 10;
  const slices = new Array<number>(10).fill(0);
  for (;;) {
    await session.run(feeds);
    const at = Math.floor((performance.now() - from) / slice);
    if (at >= slices.length) break;
    slices[at]!++;
  }
  port.postMessage({ slices } satisfies LoadReport);
  await session.release();
});
port.postMessage("ready");
