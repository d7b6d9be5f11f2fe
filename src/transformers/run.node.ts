/** Runs a model file on sets of inputs: here, or where it is large in a process of its own. */
import { once } from "node:events";
import type { Batch } from "../data/dataset.ts";
import { fileBytes } from "../onnx/file.ts";
import { open } from "../runtime/session.ts";
import { startProcess } from "../runtime/thread.node.ts";
import { Fault } from "../tensor/fault.ts";
import type { RunReport, RunTask } from "./run.child.node.ts";

/** Files of more bytes run in a process of their own. */
const large = 200e6;

/** The outputs for each set of inputs. Errors: what the runtime says; a process that ended without an answer. */
export async function run(path: string, sets: readonly Batch[], threads: number): Promise<readonly Batch[]> {
  if (fileBytes(path) > large) return inProcess({ path, sets, threads });
  const session = await open(path, { threads, spinning: false });
  try {
    const out: Batch[] = [];
    for (const feeds of sets) out.push(await session.run(feeds));
    return out;
  } finally {
    await session.release();
  }
}

/** As {@link run}, always in a process of its own. */
export async function inProcess(task: RunTask): Promise<readonly Batch[]> {
  const child = startProcess(import.meta.url, "run.child.node");
  const closed = once(child, "close");
  child.send(task);
  const report = await Promise.race([once(child, "message").then(([m]) => m as RunReport), closed.then(() => null)]);
  await closed;
  if (report === null)
    throw new Fault("session", `the process that ran the model ended without an answer (${child.signalCode ?? child.exitCode})`);
  if ("error" in report) throw new Fault("session", report.error.replace(/^session: /, ""));
  return report.outputs;
}
