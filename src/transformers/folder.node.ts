/** A model folder in the layout of transformers.js: what is read of it, and how results come into it. */
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { load, makeFolder, writeBytes } from "../onnx/file.ts";
import { Fault } from "../tensor/fault.ts";
import { sessionsIn } from "./dtypes.ts";
import type { Config } from "./inputs.ts";

export interface ModelFolder {
  readonly path: string;
  readonly config: Config;
  readonly modelType: string;
  /** Session files in onnx/ without ".onnx": "model", or "encoder_model", "decoder_model_merged" … */
  readonly sessions: readonly string[];
}

/** Reads a folder. Errors: no folder, no config.json, not JSON, no session files in onnx/. */
export function readFolder(path: string): ModelFolder {
  if (!existsSync(path) || !statSync(path).isDirectory())
    throw new Fault(path, "is no folder; a model's, with config.json and onnx/model.onnx, was expected");
  const config = readJson(join(path, "config.json"));
  const onnx = join(path, "onnx");
  const sessions = existsSync(onnx) ? sessionsIn(readdirSync(onnx)) : [];
  if (sessions.length === 0) {
    const loose = readdirSync(path).filter((f) => f.endsWith(".onnx"));
    throw new Fault(
      path,
      `holds no session files: transformers.js looks for onnx/<name>.onnx${loose.length ? `; move ${loose.join(", ")} into ${onnx}` : ""}`,
    );
  }
  const modelType = typeof config.model_type === "string" ? config.model_type : "";
  return { path, config, modelType, sessions };
}

function readJson(path: string): Record<string, unknown> {
  if (!existsSync(path)) throw new Fault(path, "is missing; transformers.js reads the model's type from it");
  let raw: unknown;
  try {
    raw = JSON.parse(readFileSync(path, "utf8"));
  } catch (e) {
    throw new Fault(path, `is not JSON: ${(e as Error).message}`, { cause: e });
  }
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) throw new Fault(path, "must be a JSON object");
  return raw as Record<string, unknown>;
}

/** Name of external data number `index` of a session file. */
export function chunkName(file: string, index: number): string {
  return `${file}_data${index ? `_${index}` : ""}`;
}

/** A session file and its external data, as they lie in `onnx`. */
export function filesOf(onnx: string, file: string): string[] {
  if (!existsSync(onnx)) return [];
  return readdirSync(onnx).filter((f) => f === file || f.replace(/_\d+$/, "") === `${file}_data`);
}

/** Moves a finished session file with its data from `from` into `onnx`; what had its names is removed first. */
export function install(from: string, onnx: string, file: string): void {
  for (const old of filesOf(onnx, file)) rmSync(join(onnx, old));
  // The data first: a session file is there only when all it needs is.
  for (const f of readdirSync(from).sort((a, b) => Number(a === file) - Number(b === file))) renameSync(join(from, f), join(onnx, f));
}

/** Copies the folder's own files (config, tokenizer …, not those of onnx/) to another one, those that are not there. */
export function copyRest(from: string, to: string): void {
  makeFolder(resolve(to));
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const target = join(to, entry.name);
    if (entry.isFile() && !entry.name.endsWith(".onnx") && !existsSync(target)) copyFileSync(join(from, entry.name), target);
  }
}

/** A JSON file, or nothing. */
export function writeJson(path: string, content: object, indent: number): void {
  writeBytes(path, `${JSON.stringify(content, null, indent)}\n`);
}

/**
 * Tells the loader, in config.json's "transformers.js_config", which files have how many pieces of external data. Nothing is written where the
 * loader already knows. Returns whether it was changed.
 */
export function declareExternalData(folder: ModelFolder, target: string, chunks: ReadonlyMap<string, number>): boolean {
  const config = readJson(join(target, "config.json"));
  const custom = (config["transformers.js_config"] ?? {}) as Record<string, unknown>;
  const before = custom.use_external_data_format;
  const map: Record<string, unknown> =
    typeof before === "object" && before !== null
      ? { ...before }
      : // One number for all files: those that have data keep it by their base.
        Object.fromEntries(
          folder.sessions
            .filter(() => Boolean(before))
            .filter((s) => load(join(folder.path, "onnx", `${s}.onnx`)).externalFiles.length > 0)
            .map((s) => [`${s}.onnx`, Number(before)]),
        );
  const known = (file: string, base: string) => {
    if (typeof before !== "object" || before === null) return Number(before ?? 0);
    const own = (before as Record<string, unknown>)[file] ?? (before as Record<string, unknown>)[base];
    return Number(own ?? 0);
  };
  let changed = false;
  for (const [file, count] of chunks) {
    const base = folder.sessions.filter((s) => file.startsWith(s)).sort((a, b) => b.length - a.length)[0]!;
    if (known(file, base) === count) continue;
    map[file] = count;
    changed = true;
  }
  if (!changed) return false;
  writeJson(join(target, "config.json"), { ...config, "transformers.js_config": { ...custom, use_external_data_format: map } }, 2);
  return true;
}

/** A folder for files that are not finished, beside where they will be. */
export function unfinished(onnx: string): string {
  makeFolder(resolve(onnx));
  const path = join(onnx, `.pith-${process.pid}`);
  rmSync(path, { recursive: true, force: true });
  mkdirSync(path);
  return path;
}
