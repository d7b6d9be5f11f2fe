/** Measuring in a browser: no files, no brotli, no worker sessions, no processes. */
import { writePieces } from "../onnx/write.ts";
import type { Host } from "./host.ts";

export const host: Host = {
  cores: globalThis.navigator?.hardwareConcurrency ?? 1,
  async bytes(model) {
    return { file: writePieces(model, { embed: true }).reduce((n, p) => n + p.byteLength, 0), brotli: null };
  },
  runsPerSecond: null,
  peakMemory: null,
};
