/** ONNX Runtime in a browser (WebAssembly). */
import { env, InferenceSession, Tensor } from "onnxruntime-web";
import type { Model } from "../ir/graph.ts";
import { limits } from "../onnx/limits.ts";
import { byteLength, joined } from "../onnx/pieces.ts";
import { writePieces } from "../onnx/write.ts";
import { Fault } from "../tensor/fault.ts";

export const backend: "node" | "web" = "web";
export const version = env.versions.web ?? "";
export { Tensor };

/** A runtime session over the model or the file at a URL. Errors: weights beyond what one file holds. */
export async function create(model: Model | string, options: InferenceSession.SessionOptions): Promise<InferenceSession> {
  if (typeof model === "string") return InferenceSession.create(model, { ...options, executionProviders: ["wasm"] });
  const pieces = writePieces(model, { embed: true });
  if (byteLength(pieces) > limits.inlineBytes) throw new Fault("session", "models above 2 GB do not fit a browser; use Node");
  return InferenceSession.create(joined(pieces), { ...options, executionProviders: ["wasm"] });
}
