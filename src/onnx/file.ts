/** Models on disk: load with lazily read external data, save beside and rename. Node only. */
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from "node:path";
import type { Model } from "../ir/graph.ts";
import { Fault } from "../tensor/fault.ts";
import type { LazyBytes } from "../tensor/tensor.ts";
import { limits } from "./limits.ts";
import { byteLength, type Pieces } from "./pieces.ts";
import { readModel } from "./read.ts";
import type { ExternalReader } from "./tensor.ts";
import { isUntouched, type Place, writePieces } from "./write.ts";

/** Loads an ONNX file; external tensor data stays on disk until it is needed. Errors: unreadable, not ONNX, external data outside the model's folder. */
export function load(path: string): Model {
  const bytes = attempt(path, "cannot be read", () => {
    const stat = statSync(path);
    if (stat.isDirectory()) throw new Fault(path, "is a folder; an .onnx file was expected");
    if (!stat.isFile()) throw new Fault(path, "is no regular file");
    if (stat.size > limits.fileBytes)
      throw new Fault(path, `is ${stat.size} bytes; an ONNX file ends at 2 GiB (larger weights live in external data)`);
    const read = readFileSync(path);
    return new Uint8Array(read.buffer, read.byteOffset, read.byteLength);
  });
  const folder = realpathSync(dirname(resolve(path)));
  return readModel(bytes, { name: basename(path), folder, external: folderReader(folder) });
}

/** What the system says against `path`, in one line. */
function attempt<T>(path: string, what: string, action: () => T): T {
  try {
    return action();
  } catch (e) {
    const { code, message } = e as NodeJS.ErrnoException;
    if (e instanceof Fault || !code) throw e;
    throw new Fault(path, code === "ENOENT" ? `${what}: no such file or folder` : `${what}: ${message}`, { cause: e });
  }
}

/** Reads external tensors of one folder; a location that leads out of it (also by a link) is refused. Tensors over the same bytes share them. */
export function folderReader(folder: string): ExternalReader {
  const root = realpathSync(folder);
  const files = new Map<string, { path: string; stat: Stats }>();
  const slices = new Map<string, LazyBytes>();
  return (location, offset, length) => {
    let file = files.get(location);
    if (!file) {
      const path = inside(root, location);
      files.set(location, (file = { path, stat: statSync(path) }));
      if (!file.stat.isFile()) throw new Error(`external file "${location}" is no regular file`);
    }
    const { size } = file.stat;
    if (offset + length > size)
      throw new Error(`external file "${location}" has ${size} bytes; bytes ${offset} to ${offset + length} were asked for`);
    const key = `${offset} ${length} ${file.path}`;
    let bytes = slices.get(key);
    if (!bytes) slices.set(key, (bytes = slice(file.path, file.stat, offset, length)));
    return bytes;
  };
}

function inside(root: string, location: string): string {
  const wanted = resolve(root, location);
  if (location.includes("\0")) throw new Error("external location holds a zero byte");
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

function slice(path: string, then: Stats, offset: number, byteLength: number): LazyBytes {
  return {
    byteLength,
    file: { path, offset },
    read(start = 0, end = byteLength, into) {
      const out = into ?? new Uint8Array(end - start);
      const fd = attempt(path, "cannot be read", () => openSync(path, "r"));
      try {
        const now = fstatSync(fd);
        if (now.size !== then.size || now.mtimeMs !== then.mtimeMs || now.ino !== then.ino)
          throw new Fault(path, "was changed since the model that uses it was loaded");
        for (let at = 0; at < out.byteLength; ) {
          const n = readSync(fd, out, at, Math.min(out.byteLength - at, 1 << 30), offset + start + at);
          if (n === 0) throw new Fault(path, `ends before byte ${offset + end}; it was longer when the model was loaded`);
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
  /** auto (default): weights go to `<file>.data` when the model came with external data or would pass 2 GiB; large: only then; always or never to force it. */
  readonly external?: "auto" | "large" | "always" | "never";
  /** External files: their names beside the model's by number from 0 (default: one, `<file>.data`), and the bytes at which the next one begins. */
  readonly chunks?: { readonly name: (index: number) => string; readonly bytes: number };
}

/** Tensors smaller than this stay in the main file: ONNX Runtime needs shapes and axes inside. */
const externalFrom = 1024;

/**
 * Writes a model to `path` (and its weights to `<path>.data` where it must), beside first and then renamed. An untouched model is written
 * byte-identical, its external files copied along. Errors: a path that is one of the model's own weight files; what the system refuses.
 */
export function save(model: Model, path: string, options: SaveOptions = {}): void {
  const target = resolve(path);
  const folder = dirname(target);
  attempt(path, "cannot be written", () => makeFolder(folder));
  const { external = "auto" } = options;
  if (external === "auto" && isUntouched(model)) {
    replace(model, [...externalCopies(model, folder), [target, writePieces(model)]]);
    return;
  }
  const whole = external === "always" ? null : writePieces(model, { embed: true });
  if (
    whole &&
    (external === "never" || ((external === "large" || model.externalFiles.length === 0) && byteLength(whole) <= limits.inlineBytes))
  ) {
    if (byteLength(whole) > limits.fileBytes)
      throw new Fault(path, `would be ${byteLength(whole)} bytes, and an ONNX file ends at 2 GiB; allow external data`);
    replace(model, [[target, whole]]);
    return;
  }
  const { place, files } = dataFiles(options.chunks ?? { name: () => `${basename(target)}.data`, bytes: Infinity });
  const main = writePieces(model, { place });
  replace(model, [...files.map(({ name, pieces }) => [join(folder, name), pieces] as const), [target, main]]);
}

/** Lays tensors out in files, each at a multiple of 64 bytes and whole; tensors over the same bytes share their place. A tensor larger than a file may be has one to itself. */
export function dataFiles({ name, bytes }: NonNullable<SaveOptions["chunks"]>): {
  readonly place: Place;
  readonly files: readonly { readonly name: string; readonly pieces: Pieces }[];
} {
  const files: { name: string; pieces: Pieces }[] = [];
  const placed = new Map<Uint8Array | LazyBytes, { location: string; offset: number; length: number }>();
  let end = Infinity;
  const place: Place = ({ data }) => {
    const length = data.byteLength;
    if (length < externalFrom) return null;
    let at = placed.get(data);
    if (!at) {
      if (end + 63 + length > bytes || files.length === 0) {
        files.push({ name: name(files.length), pieces: [] });
        end = 0;
      }
      const { name: location, pieces } = files.at(-1)!;
      const pad = (64 - (end % 64)) % 64;
      if (pad) pieces.push(new Uint8Array(pad));
      pieces.push(data);
      placed.set(data, (at = { location, offset: end + pad, length }));
      end = at.offset + length;
    }
    return at;
  };
  return { place, files };
}

/** External files of an untouched model, for where it is saved. Errors: another file of that name is there. */
function externalCopies(model: Model, folder: string): Files {
  const from = model.folder;
  if (from === null || realpathSync(from) === realpathSync(folder)) return [];
  return model.externalFiles.flatMap((f): Files => {
    const to = join(folder, f);
    const content = wholeFile(join(from, f));
    if (existsSync(to)) {
      if (sameContent(content, wholeFile(to))) return [];
      throw new Fault(to, "is there already and is another file than the model's own; choose another folder");
    }
    attempt(to, "cannot be written", () => makeFolder(dirname(to)));
    return [[to, [content]]];
  });
}

/** Makes a folder and what is missing above it; returns those made, outermost first. (Node's own recursive mkdir never returns inside /proc.) */
export function makeFolder(path: string): string[] {
  if (existsSync(path)) return [];
  const made = makeFolder(dirname(path));
  mkdirSync(path);
  return [...made, path];
}

function wholeFile(path: string): LazyBytes {
  const stat = statSync(path);
  return slice(path, stat, 0, stat.size);
}

function sameContent(a: LazyBytes, b: LazyBytes): boolean {
  if (a.byteLength !== b.byteLength) return false;
  for (let at = 0; at < a.byteLength; at += chunk) {
    const end = Math.min(at + chunk, a.byteLength);
    if (Buffer.compare(a.read(at, end), b.read(at, end)) !== 0) return false;
  }
  return true;
}

type Files = readonly (readonly [path: string, content: Pieces])[];

/**
 * Writes all files beside their places and only then renames them; nothing half-written is left behind on an error.
 * Errors: a place that is a file which the model's tensors are still read from, and which would be destroyed.
 */
function replace(model: Model, files: Files): void {
  const idOf = (path: string) => {
    const s = attempt(path, "cannot be reached", () => statSync(path, { throwIfNoEntry: false }));
    return s && `${s.dev}:${s.ino}`;
  };
  const own = new Set(model.folder === null ? [] : model.externalFiles.map((f) => idOf(join(model.folder!, f))));
  for (const [, content] of files) for (const p of content) if (!(p instanceof Uint8Array) && p.file) own.add(idOf(p.file.path));
  for (const [path] of files) {
    checkReplaceable(path);
    const id = idOf(path);
    if (id && own.has(id)) throw new Fault(path, "holds weights that the model is still read from; choose another name");
  }
  const part = (path: string) => `${path}.${process.pid}.part`;
  try {
    for (const [path, content] of files) attempt(path, "cannot be written", () => writeAll(part(path), content));
    for (const [path] of files) attempt(path, "cannot be written", () => renameSync(part(path), path));
  } catch (e) {
    for (const [path] of files) rmSync(part(path), { force: true });
    throw e;
  }
}

/** What is written is renamed to `path`: a folder, or a device such as /dev/null, would be lost. Errors: there is one. */
export function checkReplaceable(path: string): void {
  const there = attempt(path, "cannot be reached", () => statSync(path, { throwIfNoEntry: false }));
  if (there?.isDirectory()) throw new Fault(path, "is a folder; a file name was expected");
  if (there && !there.isFile()) throw new Fault(path, "is no regular file, and would be replaced by one; choose another name");
}

/** Writes a small file (a record, a page, a configuration), or nothing: beside, then renamed; its folder is made. */
export function writeBytes(path: string, content: Uint8Array | string): void {
  checkReplaceable(path);
  makeFolder(dirname(resolve(path)));
  const part = `${path}.${process.pid}.part`;
  try {
    writeFileSync(part, content);
    renameSync(part, path);
  } catch (e) {
    rmSync(part, { force: true });
    throw e;
  }
}

/** Lazy pieces are read and written in chunks of this many bytes. */
const chunk = 1 << 24;

function writeAll(path: string, pieces: Pieces): void {
  const fd = openSync(path, "w");
  const room = new Uint8Array(Math.min(chunk, Math.max(0, ...pieces.map((p) => (p instanceof Uint8Array ? 0 : p.byteLength)))));
  try {
    for (const p of pieces) {
      for (let at = 0; at < p.byteLength; ) {
        const end = Math.min(at + (p instanceof Uint8Array ? 1 << 30 : chunk), p.byteLength);
        const bytes = p instanceof Uint8Array ? p.subarray(at, end) : p.read(at, end, room.subarray(0, end - at));
        for (let done = 0; done < bytes.byteLength; ) done += writeSync(fd, bytes, done);
        at = end;
      }
    }
  } finally {
    closeSync(fd);
  }
}

/** Bytes a model takes on disk: its file and its external data. */
export function fileBytes(path: string): number {
  const model = load(path);
  return model.externalFiles.reduce((n, f) => n + statSync(join(dirname(resolve(path)), f)).size, statSync(path).size);
}
