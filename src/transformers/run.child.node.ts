/** A process of its own that runs one large model file and sends its outputs back: what a crash or a peak of memory does there is over afterwards. */
import type { Batch } from "../data/dataset.ts";
import { open } from "../runtime/session.ts";

export interface RunTask {
  readonly path: string;
  readonly sets: readonly Batch[];
  readonly threads: number;
}
export type RunReport = { readonly outputs: readonly Batch[] } | { readonly error: string };

process.once("message", async ({ path, sets, threads }: RunTask) => {
  let report: RunReport;
  try {
    const session = await open(path, { threads });
    const outputs: Batch[] = [];
    for (const feeds of sets) outputs.push(await session.run(feeds));
    report = { outputs };
  } catch (e) {
    report = { error: (e as Error).message };
  }
  process.send!(report, () => process.disconnect());
});
