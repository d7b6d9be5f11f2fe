/** A process of its own that opens one model, which may end it. */
import { readFileSync } from "node:fs";
import { open } from "./session.ts";

export interface TrialTask {
  readonly path: string;
  readonly target: "node" | "wasm";
}
/** null: it opened. */
export type TrialReport = { readonly refused: string | null };

async function tried({ path, target }: TrialTask): Promise<string | null> {
  try {
    if (target === "node") await (await open(path)).release();
    else {
      const { env, InferenceSession } = await import("onnxruntime-web");
      env.wasm.numThreads = 1;
      const options = { executionProviders: ["wasm"], logSeverityLevel: 4 } as const;
      await (await InferenceSession.create(new Uint8Array(readFileSync(path)), options)).release();
    }
    return null;
  } catch (e) {
    return (e as Error).message.replace(/^session: /, "").split("\n")[0]!;
  }
}

process.once("message", async (task: TrialTask) => {
  const report: TrialReport = { refused: await tried(task) };
  process.send!(report, () => process.disconnect());
});
