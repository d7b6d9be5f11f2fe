/** Measuring in Node: real files, brotli, workers and child processes. */
import { once } from "node:events";
import { createReadStream, mkdtempSync, rmSync } from "node:fs";
import { arch, availableParallelism, cpus, platform, release, tmpdir, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { createBrotliCompress, constants as zlib } from "node:zlib";
import type { Model } from "../ir/graph.ts";
import { fileBytes, load, makeFolder, save } from "../onnx/file.ts";
import { writePieces } from "../onnx/write.ts";
import { inspect } from "../runtime/inspect.node.ts";
import { engine } from "../runtime/session.ts";
import { startProcess, startThread } from "../runtime/thread.node.ts";
import { Fault } from "../tensor/fault.ts";
import type { Host } from "./host.ts";
import type { MemoryReport, MemoryTask } from "./memory.child.node.ts";
import type { LoadReport, LoadSlice, LoadTask } from "./throughput.thread.node.ts";

/** Brotli at quality 9, what a web server that compresses once would choose; in a thread of its own, memory constant. */
async function brotliBytes(chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<number> {
  const stream = createBrotliCompress({ params: { [zlib.BROTLI_PARAM_QUALITY]: 9 } });
  let n = 0;
  stream.on("data", (b: Uint8Array) => {
    n += b.byteLength;
  });
  const end = once(stream, "end");
  for await (const c of chunks) if (!stream.write(c)) await once(stream, "drain");
  stream.end();
  await end;
  return n;
}

/** Runs `use` with a file of the model's: its own where it lies on disk, else one in a temporary folder. */
async function withFile<T>(model: Model, use: (path: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "pith-"));
  try {
    const path = join(folder, "model.onnx");
    save(model, path);
    return await use(path);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Memory of a process without a model: measured once. */
let empty: Promise<number> | undefined;

/** Slices a measured time is cut into; their spread gives the interval. */
const slices = 10;
/** 97.5 % quantile of Student's t with 9 degrees of freedom. */
const t9 = 2.2621571628;

export const host: Host = {
  cores: availableParallelism(),

  processorTime() {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  },

  machine: () => ({
    processor: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    system: `${platform()} ${release()} ${arch()}`,
    runtime: `Node ${process.versions.node}, ${engine}`,
  }),

  load: async (path) => load(path),

  async bytes(model, path, brotli) {
    if (path !== null) {
      const files = [path, ...load(path).externalFiles.map((f) => join(dirname(path), f))];
      let compressed = 0;
      if (brotli) for (const f of files) compressed += await brotliBytes(createReadStream(f));
      return { file: fileBytes(path), brotli: brotli ? compressed : null };
    }
    const pieces = writePieces(model, { embed: true });
    const file = pieces.reduce((n, p) => n + p.byteLength, 0);
    if (!brotli) return { file, brotli: null };
    const read = (function* () {
      for (const p of pieces) if (p.byteLength) yield p instanceof Uint8Array ? p : p.read();
    })();
    return { file, brotli: await brotliBytes(read) };
  },

  async runsPerSecond(models, options) {
    const folder = mkdtempSync(join(tmpdir(), "pith-"));
    const groups: ReturnType<typeof startThread>[][] = [];
    try {
      for (const [i, { model, feeds }] of models.entries()) {
        const path = join(folder, `${i}`, "model.onnx");
        makeFolder(dirname(path));
        save(model, path);
        const task: LoadTask = { path, feeds, threads: options.threads };
        groups.push(Array.from({ length: options.concurrency }, () => startThread(import.meta.url, "throughput.thread.node", task)));
        await Promise.all(groups[i]!.map((w) => answer<"ready">(w)));
      }
      const rates: number[][] = models.map(() => []);
      const runs: number[] = models.map(() => 0);
      for (let slice = 0; slice < slices; slice++) {
        const order = models.map((_, i) => i);
        for (const i of slice % 2 ? order.reverse() : order) {
          // All of a model's workers start together, and end the run they are in.
          const load: LoadSlice = { start: Date.now() + 5, seconds: options.seconds / slices };
          for (const w of groups[i]!) w.postMessage(load);
          const reports = await Promise.all(groups[i]!.map((w) => answer<LoadReport>(w)));
          rates[i]!.push(reports.reduce((n, r) => n + r.runs / r.seconds, 0));
          runs[i]! += reports.reduce((n, r) => n + r.runs, 0);
        }
      }
      return rates.map((of, i) => {
        const value = of.reduce((a, b) => a + b, 0) / slices;
        const deviation = Math.sqrt(of.reduce((s, r) => s + (r - value) ** 2, 0) / (slices - 1));
        const half = (t9 * deviation) / Math.sqrt(slices);
        return { value, interval: [Math.max(0, value - half), value + half], n: runs[i]! };
      });
    } finally {
      await Promise.all(groups.flat().map((w) => w.terminate()));
      rmSync(folder, { recursive: true, force: true });
    }
  },

  peakMemory: (model, feeds, options) =>
    withFile(model, async (path) => {
      empty ??= inProcess({ path: null, feeds: {}, threads: 1, runs: 0 });
      const peak = await inProcess({ path, feeds, threads: options.threads, runs: options.runs });
      return { peak, empty: await empty };
    }),

  inspect,
};

/** The next message of a worker. Errors: those the worker died of. */
function answer<T>(w: ReturnType<typeof startThread>): Promise<T> {
  return new Promise((resolve, reject) => {
    const settle = () => {
      w.off("message", onMessage);
      w.off("error", onError);
      w.off("exit", onExit);
    };
    const onMessage = (m: T) => {
      settle();
      resolve(m);
    };
    const onError = (e: Error) => {
      settle();
      reject(new Fault("throughput", e.message.replace(/^session: /, ""), { cause: e }));
    };
    const onExit = (code: number) => onError(new Error(`a worker ended with code ${code}`));
    w.on("message", onMessage);
    w.on("error", onError);
    w.on("exit", onExit);
  });
}

async function inProcess(task: MemoryTask): Promise<number> {
  const child = startProcess(import.meta.url, "memory.child.node");
  const closed = once(child, "close");
  child.send(task);
  const report = await Promise.race([once(child, "message").then(([m]) => m as MemoryReport), closed.then(() => null)]);
  await closed;
  if (report === null)
    throw new Fault("memory", `the process that ran the model ended without an answer (${child.signalCode ?? child.exitCode})`);
  if ("error" in report) throw new Fault("memory", report.error);
  return report.peak;
}
