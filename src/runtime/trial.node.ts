/** Whether a runtime opens a model file: tried in a process of its own, which neither a crash nor the memory it takes can hurt. */
import { once } from "node:events";
import { startProcess } from "./thread.node.ts";
import type { TrialReport, TrialTask } from "./trial.child.node.ts";

/**
 * null where ONNX Runtime in Node, or its WebAssembly build (run in Node, on one thread), opens the file; else what it says, in one line.
 * The WebAssembly build is given the one file: external data is not read.
 */
export async function trial(path: string, target: "node" | "wasm"): Promise<string | null> {
  const child = startProcess(import.meta.url, "trial.child.node");
  const closed = once(child, "close");
  child.send({ path, target } satisfies TrialTask);
  const report = await Promise.race([once(child, "message").then(([m]) => m as TrialReport), closed.then(() => null)]);
  if (report === null) return `the process ended without an answer (${child.signalCode ?? child.exitCode})`;
  await closed;
  return report.refused;
}
