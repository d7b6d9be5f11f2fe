/** The one way models run. */

import type { InferenceSession } from "onnxruntime-common";
import * as ort from "#runtime";
import type { Batch } from "../data/dataset.ts";
import type { Model } from "../ir/graph.ts";
import type { DType } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { type Tensor, valuesOf, wrap } from "../tensor/tensor.ts";
import { expectFit, type Port, passes, portOf, unpassable } from "./port.ts";

export type { Port } from "./port.ts";

/** The engine: "onnxruntime-node 1.30.0". */
export const engine = `onnxruntime-${ort.backend} ${ort.version}`;

export interface SessionOptions {
  /** Intra-op threads; default: the runtime's own choice. */
  readonly threads?: number;
  /** Graph optimization level; default all. */
  readonly optimization?: "disabled" | "basic" | "extended" | "all";
  /** false for measuring: an idle session's spinning threads slow the other one. Default true. */
  readonly spinning?: boolean;
  /** Session for training: no memory pattern, denormals as zero, no integer kernels in the place of QuantizeLinear and DequantizeLinear. */
  readonly training?: boolean;
  /** Further session config entries, as ONNX Runtime names them ("session.disable_quant_qdq": "1"). */
  readonly config?: Readonly<Record<string, string>>;
}

export interface Session {
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  /**
   * Runs once; `fetch` names the outputs wanted (default: all that are tensors); what `feeds` holds beside the inputs is left alone.
   * Errors: an input that is missing or of another type or shape, one with a value inside the model, an output that is no tensor.
   */
  run(feeds: Batch, fetch?: readonly string[]): Promise<Record<string, Tensor>>;
  /**
   * A run over fixed memory: tensors over `feeds` are read anew each time the result is called, and outputs are written into the
   * memory of `into` (views of one WebAssembly memory, for training). Never let an output alias an input.
   */
  bind(feeds: Batch, into: Batch): () => Promise<void>;
  release(): Promise<void>;
}

/** Opens a session over a model, or over an ONNX file (in a browser: its URL). Errors: what ONNX Runtime says against the model, in one line. */
export async function open(model: Model | string, options: SessionOptions = {}): Promise<Session> {
  const config: Record<string, string> = { ...options.config };
  if (options.spinning === false) config["session.intra_op.allow_spinning"] = "0";
  if (options.training) Object.assign(config, { "session.set_denormal_as_zero": "1", "session.disable_quant_qdq": "1" });
  const settings: InferenceSession.SessionOptions = {
    graphOptimizationLevel: options.optimization ?? "all",
    enableMemPattern: !options.training,
    // Errors are thrown; they need not be printed too.
    logSeverityLevel: 4,
    extra: nested(config),
    ...(options.threads ? { intraOpNumThreads: options.threads } : {}),
  };
  let session: InferenceSession;
  try {
    session = await ort.create(model, settings);
  } catch (e) {
    const port = /^Unsupported data type/.test(firstLine(e)) && typeof model !== "string" ? unpassable(model) : null;
    const what = port && `"${port.name}" is ${port.type!.dtype}, which this runtime does not pass in or out; cast it inside the model`;
    throw new Fault("session", what ?? firstLine(e), { cause: e });
  }
  const run = async (feeds: Record<string, ort.Tensor>, fetches: readonly string[] | Record<string, ort.Tensor>) => {
    try {
      return await session.run(feeds, fetches as InferenceSession.FetchesType);
    } catch (e) {
      throw new Fault("session", firstLine(e), { cause: e });
    }
  };
  const inputs = session.inputMetadata.map(portOf);
  const outputs = session.outputMetadata.map(portOf);
  const tensors = outputs.filter(passes).map((o) => o.name);
  const defaults = new Set(typeof model === "string" ? [] : model.graph.inputs.filter((v) => v.data).map((v) => v.name));
  const fed = (feeds: Batch) => {
    for (const name of Object.keys(feeds))
      if (defaults.has(name))
        throw new Fault("session", `input "${name}" has a value inside the model, which this runtime cannot override; set it in the model`);
    const given: Record<string, ort.Tensor> = {};
    for (const input of inputs) {
      const t = feeds[input.name];
      if (!t) throw new Fault("session", `input "${input.name}" was not given; the model takes ${inputs.map((i) => i.name).join(", ")}`);
      expectFit("input", input, t);
      given[input.name] = toOrt(t);
    }
    return given;
  };
  const byName = new Map(outputs.map((o) => [o.name, o]));
  const output = (name: string) => {
    const port = byName.get(name);
    if (!port) throw new Fault("session", `there is no output "${name}"; the model gives ${outputs.map((o) => o.name).join(", ")}`);
    if (!passes(port)) throw new Fault("session", `output "${name}" is no tensor, or of a type that this runtime does not hand out`);
    return port;
  };
  return {
    inputs,
    outputs,
    async run(feeds, fetch = tensors) {
      for (const name of fetch) output(name);
      const results = await run(fed(feeds), fetch);
      return Object.fromEntries(fetch.map((name) => [name, fromOrt(results[name]!)]));
    },
    bind(feeds, into) {
      const given = fed(feeds);
      for (const [name, t] of Object.entries(into)) expectFit("output", output(name), t);
      if (ort.backend === "node") {
        const fetches = Object.fromEntries(Object.entries(into).map(([name, t]) => [name, toOrt(t)]));
        return async () => void (await run(given, fetches));
      }
      // The web build leaves preallocated outputs as they are and would hand them back unwritten.
      const names = Object.keys(into);
      return async () => {
        const results = await run(given, names);
        for (const name of names) (valuesOf(into[name]!) as Float32Array).set(results[name]!.data as Float32Array);
      };
    },
    release: () => session.release(),
  };
}

/** "a.b.c" → { a: { b: { c } } }: the form session config entries take in `extra`. */
function nested(config: Record<string, string>): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(config)) {
    const parts = key.split(".");
    let at = out;
    for (const p of parts.slice(0, -1)) at = at[p] = (at[p] as Record<string, unknown> | undefined) ?? {};
    at[parts.at(-1)!] = value;
  }
  return out;
}

function firstLine(e: unknown): string {
  return (e instanceof Error ? e.message : String(e)).split("\n")[0]!;
}

const decoder = new TextDecoder();

/** A runtime tensor over the same memory (where alignment allows). */
export function toOrt(t: Tensor): ort.Tensor {
  if (t.strings)
    return new ort.Tensor(
      "string",
      t.strings.map((s) => decoder.decode(s)),
      t.shape as number[],
    );
  return new ort.Tensor(t.dtype as "float32", valuesOf(t) as Float32Array, t.shape as number[]);
}

function fromOrt(t: ort.Tensor): Tensor {
  const dtype = t.type as DType;
  if (dtype === "string") {
    const encoder = new TextEncoder();
    return { dtype, shape: t.dims, data: new Uint8Array(0), strings: (t.data as string[]).map((s) => encoder.encode(s)) };
  }
  return wrap(dtype, t.dims, t.data as Float32Array);
}
