/** ONNX Runtime in Node. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { env, InferenceSession, Tensor } from "onnxruntime-node";
import type { Model } from "../ir/graph.ts";
import { save } from "../onnx/file.ts";
import { limits } from "../onnx/limits.ts";
import { byteLength, joined } from "../onnx/pieces.ts";
import { type Place, writePieces } from "../onnx/write.ts";

export const backend: "node" | "web" = "node";
export const version = env.versions.node ?? "";
export { Tensor };

/**
 * A runtime session over the model or file. Tensors that still are in a model's external files are read from there by the runtime itself;
 * a model too large without them goes through a temporary folder.
 */
export async function create(model: Model | string, options: InferenceSession.SessionOptions): Promise<InferenceSession> {
  if (typeof model === "string") return InferenceSession.create(model, options);
  const folder = model.externalFiles.length > 0 ? model.folder : null;
  const place: Place = ({ data }) => {
    if (folder === null || data instanceof Uint8Array || !data.file) return null;
    const location = relative(folder, data.file.path);
    return location.startsWith("..") ? null : { location, offset: data.file.offset, length: data.byteLength };
  };
  const pieces = writePieces(model, folder === null ? {} : { place });
  if (byteLength(pieces) <= limits.inlineBytes) {
    const settings = folder === null ? options : { ...options, extra: inFolder(options.extra, folder) };
    return InferenceSession.create(joined(pieces), settings);
  }
  const temporary = mkdtempSync(join(tmpdir(), "pith-"));
  try {
    const path = join(temporary, "model.onnx");
    save(model, path, { external: "always" });
    return await InferenceSession.create(path, options);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** Tells the runtime where the external files are of a model that is given as bytes. */
function inFolder(extra: Record<string, unknown> | undefined, folder: string): Record<string, unknown> {
  return { ...extra, session: { ...(extra?.session as object | undefined), model_external_initializers_file_folder_path: folder } };
}
