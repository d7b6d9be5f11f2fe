/** Which file a model is. */
import type { Model } from "../ir/graph.ts";
import { writePieces } from "../onnx/write.ts";
import { sha256 } from "../tensor/sha256.ts";

/** SHA-256 of the model's file, as `sha256sum model.onnx` gives it where it is untouched; of external data only what the file says of it. */
export function fingerprint(model: Model): string {
  return sha256(
    (function* () {
      for (const p of writePieces(model)) yield p instanceof Uint8Array ? p : p.read();
    })(),
  );
}
