/** What a model really runs as: the graph ONNX Runtime makes of it when it loads it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { InferenceSession } from "onnxruntime-node";
import type { Model } from "../src/ir/graph.ts";
import { allNodes } from "../src/ir/walk.ts";
import { load } from "../src/onnx/file.ts";
import { writeModel } from "../src/onnx/write.ts";

/** Nodes by op type after all of the runtime's optimizations, subgraphs included. */
export async function kernels(model: Model): Promise<Record<string, number>> {
  const folder = mkdtempSync(join(tmpdir(), "pith-kernels-"));
  try {
    const path = join(folder, "optimized.onnx");
    const session = await InferenceSession.create(writeModel(model, { embed: true }), {
      graphOptimizationLevel: "all",
      optimizedModelFilePath: path,
      logSeverityLevel: 4,
    });
    await session.release();
    const count: Record<string, number> = {};
    for (const n of allNodes(load(path).graph)) count[n.opType] = (count[n.opType] ?? 0) + 1;
    return count;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
