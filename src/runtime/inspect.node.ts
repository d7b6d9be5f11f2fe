/** What the runtime makes of a model and where its time goes: the optimized graph, and a profile. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Batch } from "../data/dataset.ts";
import type { Model } from "../ir/graph.ts";
import { stored } from "../ir/walk.ts";
import { readModel } from "../onnx/read.ts";
import { create } from "./ort.node.ts";
import { toOrt } from "./session.ts";

/** Time of a node that ran, per run of the model. */
export interface NodeTime {
  readonly name: string;
  readonly op: string;
  readonly ms: number;
}

export interface Inspection {
  /** The graph that ran, after all fusions; its weights are gone. null: too large to be written out. */
  readonly graph: Model | null;
  readonly times: readonly NodeTime[];
}

/** Weights beyond this are not written out once more. */
const most = 1e9;

/** Runs the model for `seconds` under the runtime's profiler (at least three times). Errors: those of opening and running it. */
export async function inspect(model: Model, feeds: Batch, options: { threads: number; seconds: number }): Promise<Inspection> {
  const folder = mkdtempSync(join(tmpdir(), "pith-inspect-"));
  try {
    let bytes = 0;
    for (const s of stored(model.graph)) bytes += s.tensor.data.byteLength;
    const path = join(folder, "optimized.onnx");
    const session = await create(model, {
      intraOpNumThreads: options.threads,
      logSeverityLevel: 4,
      enableProfiling: true,
      profileFilePrefix: join(folder, "profile"),
      extra: { session: { intra_op: { allow_spinning: "0" } } },
      ...(bytes <= most ? { optimizedModelFilePath: path } : {}),
    });
    const given = Object.fromEntries(session.inputNames.map((name) => [name, toOrt(feeds[name]!)]));
    let runs = 0;
    const start = performance.now();
    while (runs < 3 || performance.now() - start < options.seconds * 1000) {
      await session.run(given);
      runs++;
    }
    session.endProfiling();
    await session.release();
    const profile = readdirSync(folder).find((f) => f.startsWith("profile"))!;
    const graph = bytes <= most ? readModel(readFileSync(path)) : null;
    return { graph, times: timesOf(JSON.parse(readFileSync(join(folder, profile), "utf8")), runs) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Event {
  readonly cat: string;
  readonly name: string;
  /** Microseconds. */
  readonly dur: number;
  readonly args?: { readonly op_name?: string };
}

/** Sums over the runs; the first run, which warms up, counts with the others. */
function timesOf(events: readonly Event[], runs: number): NodeTime[] {
  const sums = new Map<string, { name: string; op: string; ms: number }>();
  for (const { cat, name, dur, args } of events) {
    if (cat !== "Node" || !name.endsWith("_kernel_time")) continue;
    const op = args?.op_name ?? "?";
    const key = `${op} ${name}`;
    const entry = sums.get(key) ?? { name: name.slice(0, -"_kernel_time".length), op, ms: 0 };
    sums.set(key, { ...entry, ms: entry.ms + dur / 1000 / runs });
  }
  return [...sums.values()];
}
