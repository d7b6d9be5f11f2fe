/** Models on disk: load with lazily read external data, save beside and rename. Node only. */
import {
  closeSync,
  copyFileSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from "node:path";
import { type Model, weightBytes } from "../ir/graph.ts";
import { Fault } from "../tensor/fault.ts";
import type { LazyBytes, Tensor } from "../tensor/tensor.ts";
import { limits } from "./limits.ts";
import { readModel } from "./read.ts";
import type { ExternalReader } from "./tensor.ts";
import { isUntouched, type Pieces, writePieces } from "./write.ts";

/** Loads an ONNX file; external tensor data stays on disk until it is needed. Errors: unreadable, not ONNX, external data outside the model's folder. */
export function load(path: string): Model {
  let bytes: Uint8Array;
  try {
    const size = statSync(path).size;
    if (size > limits.fileBytes)
      throw new Fault(path, `is ${size} bytes; an ONNX file ends at 2 GiB (larger weights live in external data)`);
    bytes = readFileSync(path);
  } catch (e) {
    if (e instanceof Fault) throw e;
    const code = (e as NodeJS.ErrnoException).code;
    throw new Fault(
      path,
      code === "ENOENT" ? "no such file" : code === "EISDIR" ? "is a folder; an .onnx file was expected" : (e as Error).message,
      { cause: e },
    );
  }
  const folder = dirname(resolve(path));
  return readModel(bytes, { name: basename(path), folder, external: folderReader(folder) });
}

/** Reads external tensors of one folder; a location that leads out of it (also by a link) is refused. */
export function folderReader(folder: string): ExternalReader {
  const root = realpathSync(folder);
  return (location, offset, length) => {
    const path = inside(root, location);
    const size = statSync(path).size;
    if (offset + length > size)
      throw new Error(`external file "${location}" has ${size} bytes; bytes ${offset} to ${offset + length} were asked for`);
    return slice(path, offset, length);
  };
}

function inside(root: string, location: string): string {
  const wanted = resolve(root, location);
  if (isAbsolute(location) || !under(root, wanted)) throw new Error(`external location "${location}" leads out of the model's folder`);
  if (!existsSync(wanted)) throw new Error(`external file "${location}" is missing beside the model`);
  const real = realpathSync(wanted);
  if (!under(root, real)) throw new Error(`external location "${location}" is a link out of the model's folder`);
  return real;
}

function under(root: string, path: string): boolean {
  const r = relative(root, path);
  return r !== "" && r !== ".." && !r.startsWith(`..${sep}`) && !isAbsolute(r);
}

function slice(path: string, offset: number, byteLength: number): LazyBytes {
  return {
    byteLength,
    read() {
      const out = new Uint8Array(byteLength);
      const fd = openSync(path, "r");
      try {
        for (let at = 0; at < byteLength; ) {
          const n = readSync(fd, out, at, Math.min(byteLength - at, 1 << 30), offset + at);
          if (n === 0) throw new Fault(path, `ends before byte ${offset + byteLength}; it was longer when the model was loaded`);
          at += n;
        }
      } finally {
        closeSync(fd);
      }
      return out;
    },
  };
}

export interface SaveOptions {
  /** auto (default): weights go to `<file>.data` when the model came with external data or would pass 2 GiB; always or never to force it. */
  readonly external?: "auto" | "always" | "never";
}

/** Tensors smaller than this stay in the main file: ONNX Runtime needs shapes and axes inside. */
const externalFrom = 1024;

/**
 * Writes a model to `path` (and its weights to `<path>.data` where it must), beside first and then renamed. An untouched model is written
 * byte-identical, its external files copied along. Errors: a path that is one of the model's own input files.
 */
export function save(model: Model, path: string, options: SaveOptions = {}): void {
  const target = resolve(path);
  const folder = dirname(target);
  mkdirSync(folder, { recursive: true });
  const own = new Set(model.folder ? model.externalFiles.map((f) => resolve(model.folder!, f)) : []);
  if (own.has(target)) throw new Fault(path, "holds the input model's own weights; choose another name");
  const mode = options.external ?? "auto";
  if (mode === "auto" && isUntouched(model)) {
    const copies = model.folder === null || sameFolder(model.folder, folder) ? [] : model.externalFiles;
    for (const f of copies) {
      const to = join(folder, f);
      mkdirSync(dirname(to), { recursive: true });
      replace(to, (beside) => copyFileSync(join(model.folder!, f), beside));
    }
    replace(target, (beside) => writeAll(beside, writePieces(model)));
    return;
  }
  const external = mode === "always" || (mode === "auto" && (model.externalFiles.length > 0 || weightBytes(model) > limits.inlineWeights));
  const location = `${basename(target)}.data`;
  const data = join(folder, location);
  if (external && own.has(data)) throw new Fault(path, `would write its weights over the input's "${location}"; choose another name`);
  const chunks: Pieces = [];
  let offset = 0;
  const externalize = (_name: string, t: Tensor) => {
    if (!external || t.data.byteLength < externalFrom) return null;
    const pad = (64 - (offset % 64)) % 64;
    if (pad) chunks.push(new Uint8Array(pad));
    chunks.push(t.data);
    const place = { location, offset: offset + pad, length: t.data.byteLength };
    offset = place.offset + place.length;
    return place;
  };
  const pieces = writePieces(model, { externalize, embed: true });
  if (chunks.length) replace(data, (beside) => writeAll(beside, chunks));
  replace(target, (beside) => writeAll(beside, pieces));
}

function sameFolder(a: string, b: string): boolean {
  return realpathSync(a) === realpathSync(b);
}

/** Writes beside `path`, then renames; nothing half-written is left behind on an error. */
export function replace(path: string, write: (beside: string) => void): void {
  const beside = `${path}.${process.pid}.part`;
  try {
    write(beside);
    renameSync(beside, path);
  } catch (e) {
    rmSync(beside, { force: true });
    throw e;
  }
}

function writeAll(path: string, pieces: Pieces): void {
  const fd = openSync(path, "w");
  try {
    for (const p of pieces) {
      const bytes = p instanceof Uint8Array ? p : p.read();
      for (let at = 0; at < bytes.byteLength; ) at += writeSync(fd, bytes, at, Math.min(bytes.byteLength - at, 1 << 30));
    }
  } finally {
    closeSync(fd);
  }
}

/** Bytes a model takes on disk: its file and its external data. */
export function fileBytes(path: string): number {
  const model = load(path);
  const fd = openSync(path, "r");
  const main = fstatSync(fd).size;
  closeSync(fd);
  return model.externalFiles.reduce((n, f) => n + statSync(join(dirname(resolve(path)), f)).size, main);
}
