/** Runs in a browser worker: every message names one check; the answer is what it computed. */
import { checks } from "./checks.ts";

self.onmessage = async ({ data }: MessageEvent<{ name: string; bytes: Uint8Array }>) => {
  try {
    self.postMessage({ value: await checks[data.name]!(data.bytes) });
  } catch (e) {
    self.postMessage({ error: e instanceof Error ? `${e.message}\n${e.stack}` : String(e) });
  }
};
