/** A process of its own for peak memory: what is resident at most while one model is loaded and run, and nothing else. */
import { writeFileSync } from "node:fs";
import type { Batch } from "../data/dataset.ts";
import { open } from "../runtime/session.ts";

export interface MemoryTask {
  /** null: load the runtime alone. */
  readonly path: string | null;
  readonly feeds: Batch;
  readonly threads: number;
  readonly runs: number;
}
export type MemoryReport = { readonly peak: number } | { readonly error: string };

/** Starts the peak anew at what is resident now, so that what loading this program took does not hide the model (Linux only, from 4.0). */
function forget(): void {
  try {
    writeFileSync("/proc/self/clear_refs", "5");
  } catch {
    // Elsewhere the peak includes the start of the process, in the empty one as well.
  }
}

process.once("message", async ({ path, feeds, threads, runs }: MemoryTask) => {
  let report: MemoryReport;
  forget();
  try {
    if (path !== null) {
      const session = await open(path, { threads });
      for (let i = 0; i < runs; i++) await session.run(feeds);
    }
    // maxRSS comes in kilobytes.
    report = { peak: process.resourceUsage().maxRSS * 1024 };
  } catch (e) {
    report = { error: (e as Error).message };
  }
  process.send!(report, () => process.disconnect());
});
