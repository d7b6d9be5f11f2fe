/** Measuring in a browser: no files, no brotli, no worker sessions, no processes. */
import { readModel } from "../onnx/read.ts";
import { writePieces } from "../onnx/write.ts";
import { engine } from "../runtime/session.ts";
import { Fault } from "../tensor/fault.ts";
import type { Host } from "./host.ts";

export const host: Host = {
  machine: () => ({
    processor: globalThis.navigator?.userAgent ?? "unknown",
    cores: globalThis.navigator?.hardwareConcurrency ?? 1,
    runtime: engine,
  }),
  async load(path) {
    const response = await fetch(path);
    if (!response.ok) throw new Fault(path, `could not be fetched (${response.status} ${response.statusText})`);
    return readModel(new Uint8Array(await response.arrayBuffer()), { name: path });
  },
  cores: globalThis.navigator?.hardwareConcurrency ?? 1,
  processorTime: null,
  async bytes(model) {
    return { file: writePieces(model, { embed: true }).reduce((n, p) => n + p.byteLength, 0), brotli: null };
  },
  runsPerSecond: null,
  peakMemory: null,
  inspect: null,
};
