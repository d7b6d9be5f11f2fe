/** ONNX Runtime in Node. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { env, InferenceSession, Tensor } from "onnxruntime-node";
import { type Model, weightBytes } from "../ir/graph.ts";
import { save } from "../onnx/file.ts";
import { limits } from "../onnx/limits.ts";
import { writeModel } from "../onnx/write.ts";

export const backend: "node" | "web" = "node";
export const version = env.versions.node ?? "";
export { Tensor };

/** A runtime session over the model or file; a model too large for a single file goes through a temporary folder. */
export async function create(model: Model | string, options: InferenceSession.SessionOptions): Promise<InferenceSession> {
  if (typeof model === "string") return InferenceSession.create(model, options);
  if (weightBytes(model) <= limits.inlineWeights) return InferenceSession.create(writeModel(model, { embed: true }), options);
  const folder = mkdtempSync(join(tmpdir(), "pith-"));
  try {
    const path = join(folder, "model.onnx");
    save(model, path, { external: "always" });
    return await InferenceSession.create(path, options);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
