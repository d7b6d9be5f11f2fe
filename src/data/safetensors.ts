/** The safetensors format: a JSON header and the tensors' bytes, with the reference implementation's rules. */
import { byteLengthOf, type DType } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { bytesOf, type Tensor } from "../tensor/tensor.ts";
import { limits } from "./limits.ts";

const codes: Readonly<Record<string, DType>> = {
  F64: "float64",
  F32: "float32",
  F16: "float16",
  BF16: "bfloat16",
  I64: "int64",
  I32: "int32",
  I16: "int16",
  I8: "int8",
  U64: "uint64",
  U32: "uint32",
  U16: "uint16",
  U8: "uint8",
  BOOL: "bool",
  F8_E4M3: "float8e4m3fn",
  F8_E5M2: "float8e5m2",
};

export interface Safetensors {
  /** By name, in the order of their bytes. */
  readonly tensors: ReadonlyMap<string, Tensor>;
  /** The file's `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * Reads a safetensors file; the tensors are views of `bytes`. Errors: a header that is too long, is not JSON or describes a tensor
 * wrongly; bytes that overlap, leave a gap, or are not exactly the file's.
 */
export function readSafetensors(bytes: Uint8Array, where = "safetensors"): Safetensors {
  const fault = (what: string) => new Fault(where, what);
  if (bytes.length < 8) throw fault("is too short for a safetensors file");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
  if (length > limits.safetensorsHeader) throw fault(`claims a header of ${length} bytes; the limit is ${limits.safetensorsHeader}`);
  if (8 + length > bytes.length) throw fault(`claims a header of ${length} bytes, but the file ends after ${bytes.length - 8}`);
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(8, 8 + length)));
  } catch (e) {
    throw new Fault(where, "has a header that is not JSON", { cause: e });
  }
  if (bytes[8] !== 0x7b || !isObject(header)) throw fault("has a header that is not a JSON object");
  const body = bytes.subarray(8 + length);
  const metadata = new Map<string, string>();
  const entries: { name: string; dtype: DType; shape: number[]; from: number; to: number }[] = [];
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") {
      for (const [k, v] of isObject(entry) ? Object.entries(entry) : [["", entry]]) {
        if (typeof v !== "string") throw fault("has __metadata__ that is not text by name");
        metadata.set(k as string, v);
      }
      continue;
    }
    const wrong = (what: string) => new Fault(`${where}: ${name}`, what);
    const e = isObject(entry) ? entry : {};
    const dtype = typeof e.dtype === "string" && Object.hasOwn(codes, e.dtype) ? codes[e.dtype]! : null;
    if (!dtype) throw wrong(`has dtype ${JSON.stringify(e.dtype)}; one of ${Object.keys(codes).join(", ")} would be right`);
    if (!isSizes(e.shape) || e.shape.length > limits.dims) throw wrong("has no proper shape");
    if (!Number.isSafeInteger(e.shape.reduce((n, d) => n * Math.max(d, 1), 16))) throw wrong(`claims the shape [${e.shape}]`);
    if (!isSizes(e.data_offsets) || e.data_offsets.length !== 2) throw wrong("has no proper data_offsets");
    const [from, to] = e.data_offsets as [number, number];
    const need = byteLengthOf(dtype, e.shape);
    if (to - from !== need) throw wrong(`claims bytes ${from} to ${to}; ${dtype}[${e.shape}] takes ${need}`);
    if (to > body.length) throw wrong(`claims bytes ${from} to ${to} of ${body.length}`);
    entries.push({ name, dtype, shape: e.shape, from, to });
  }
  entries.sort((a, b) => a.from - b.from || a.to - b.to);
  let at = 0;
  for (const e of entries) {
    if (e.from !== at)
      throw new Fault(
        `${where}: ${e.name}`,
        `starts at byte ${e.from}, where ${at} would be right (tensors must not overlap or leave gaps)`,
      );
    at = e.to;
  }
  if (at !== body.length) throw fault(`holds ${body.length} bytes of tensors; its header describes ${at}`);
  return {
    tensors: new Map(entries.map((e) => [e.name, { dtype: e.dtype, shape: e.shape, data: body.subarray(e.from, e.to) }])),
    metadata,
  };
}

/** A safetensors file as the reference implementation orders it: wider elements first, then by name, so that every tensor is aligned. Errors: an element type the format lacks. */
export function writeSafetensors(
  tensors: ReadonlyMap<string, Tensor> | Readonly<Record<string, Tensor>>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const names = Object.keys(codes);
  const entries = [...(tensors instanceof Map ? tensors : Object.entries(tensors as Record<string, Tensor>))].map(([name, t]) => {
    const code = names.find((c) => codes[c] === t.dtype);
    if (!code) throw new Fault("safetensors", `has no element type ${t.dtype} (tensor "${name}"); float32 would be right`);
    if (name === "__metadata__") throw new Fault("safetensors", 'a tensor cannot be named "__metadata__"');
    return { name, code, t, width: byteLengthOf(t.dtype, [1]) };
  });
  entries.sort((a, b) => b.width - a.width || (a.name < b.name ? -1 : 1));
  const header: [string, unknown][] = [];
  const meta = Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1));
  if (meta.length) header.push(["__metadata__", Object.fromEntries(meta)]);
  let at = 0;
  for (const { name, code, t } of entries) {
    header.push([name, { dtype: code, shape: t.shape, data_offsets: [at, (at += t.data.byteLength)] }]);
  }
  // Written by hand and not from one object, whose integer-like keys would come first.
  const text = new TextEncoder().encode(`{${header.map(([k, v]) => `${JSON.stringify(k)}:${JSON.stringify(v)}`).join(",")}}`);
  const start = 8 + Math.ceil(text.length / 8) * 8;
  const out = new Uint8Array(start + at).fill(0x20, 8, start);
  new DataView(out.buffer).setUint32(0, start - 8, true);
  out.set(text, 8);
  at = start;
  for (const { t } of entries) {
    out.set(bytesOf(t), at);
    at += t.data.byteLength;
  }
  return out;
}

function isObject(x: unknown): x is Record<string, unknown> {
  return typeof x === "object" && x !== null && !Array.isArray(x);
}

function isSizes(x: unknown): x is number[] {
  return Array.isArray(x) && x.every((d) => Number.isSafeInteger(d) && d >= 0);
}
