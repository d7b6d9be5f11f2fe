/** A folder's session files in other dtypes, each loaded and compared with the original before it is there. */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { host } from "#host";
import { type Batch, type Dataset, fromFeeds } from "../data/dataset.ts";
import type { Model } from "../ir/graph.ts";
import { fileBytes, load, save } from "../onnx/file.ts";
import { limits } from "../onnx/limits.ts";
import { compress } from "../recipe/compress.ts";
import type { Step } from "../techniques/technique.ts";
import { Fault } from "../tensor/fault.ts";
import { type Agreement, agreement } from "./agreement.ts";
import { type Dtype, type DtypeName, defaultSettings, dtypes, perChannelDefault, type Settings } from "./dtypes.ts";
import { factsOf } from "./facts.ts";
import { chunkName, copyRest, declareExternalData, filesOf, install, type ModelFolder, unfinished, writeJson } from "./folder.node.ts";
import { inputsFor, openSizes } from "./inputs.ts";
import { run } from "./run.node.ts";

export interface ConvertOptions extends Partial<Settings> {
  readonly dtypes: readonly DtypeName[];
  /** Another folder for the results: the folder's other files are copied there. Default: the folder itself. */
  readonly output?: string;
  /** Replace files that are there. */
  readonly force?: boolean;
  /** Examples for algorithms that look at activations, for a session file's model. */
  readonly calibration?: (model: Model) => Promise<Dataset | null>;
  /** Load and compare each result (default), or not. */
  readonly check?: boolean;
  /** Least score of any output (see {@link agreement}); default: the dtype's own. */
  readonly leastAgreement?: number;
  /** Shapes of inputs that cannot be guessed, by name. */
  readonly shapes?: Readonly<Record<string, readonly number[]>>;
  readonly threads?: number;
  /** Weights in files of their own: where a file would pass 2 GiB (default), or always. */
  readonly external?: "large" | "always";
  /** Bytes at which external data begins another file. */
  readonly chunkBytes?: number;
  readonly progress?: (p: { readonly what: string; readonly step: number; readonly of: number }) => void;
}

type Options = ConvertOptions & Settings;

/** What became of one session file in one dtype; `dtype` null: the original. */
export interface Result {
  readonly session: string;
  readonly dtype: DtypeName | null;
  readonly file: string;
  readonly bytes: number | null;
  /** Original bytes over these. */
  readonly ratio: number | null;
  readonly agreement: Agreement | null;
  /** What the techniques said: what stayed as it was, and why. */
  readonly notes: readonly string[];
  /** Why it was not written. */
  readonly error: string | null;
}

export interface Converted {
  readonly results: readonly Result[];
  /** config.json was changed: external data. */
  readonly configured: boolean;
}

/**
 * Writes `onnx/<session><suffix>.onnx` for every session file and dtype. A result that does not load, or agrees too little with the
 * original, is not written; the others are. Every file is finished elsewhere and then renamed. Errors: files that are there already, without `force`.
 */
export async function convert(folder: ModelFolder, given: ConvertOptions): Promise<Converted> {
  const options: Options = { ...defaultSettings, ...given };
  const target = options.output ?? folder.path;
  const onnx = join(target, "onnx");
  const fileOf = (session: string, dtype: DtypeName) => `${session}${dtypes[dtype].suffix}.onnx`;
  const planned = folder.sessions.flatMap((s) => options.dtypes.map((d) => fileOf(s, d)));
  const there = planned.filter((f) => existsSync(join(onnx, f)));
  if (there.length && !options.force) throw new Fault(onnx, `already holds ${there.join(", ")}; --force replaces what is there`);
  if (resolve(target) !== resolve(folder.path)) copyRest(folder.path, target);
  const results: Result[] = [];
  const chunks = new Map<string, number>();
  const of = folder.sessions.length * options.dtypes.length;
  let step = 0;
  for (const session of folder.sessions) {
    const path = join(folder.path, "onnx", `${session}.onnx`);
    const model = load(path);
    const before = fileBytes(path);
    results.push({ session, dtype: null, file: `${session}.onnx`, bytes: before, ratio: 1, agreement: null, notes: [], error: null });
    let reference: Reference | null = null;
    for (const dtype of options.dtypes) {
      const file = fileOf(session, dtype);
      options.progress?.({ what: file, step: step++, of });
      const notes: string[] = [];
      const result = { session, dtype, file, notes };
      const work = unfinished(onnx);
      try {
        if (options.check !== false) reference ??= await referenceOf(path, model, session, folder, options);
        const made = await make(model, file, dtypes[dtype], reference?.sets ?? null, before, folder, options, notes);
        const part = join(work, file);
        save(made, part, {
          external: options.external ?? "large",
          chunks: { name: (i) => chunkName(file, i), bytes: options.chunkBytes ?? limits.inlineBytes },
        });
        let agreed: Agreement | null = null;
        if (reference) {
          agreed = agreement(reference.outputs, await run(part, reference.sets, options.threads ?? host.cores));
          const least = options.leastAgreement ?? dtypes[dtype].agreement;
          if (agreed.score < least) throw new Fault("agreement", disagrees(agreed, least));
        }
        const bytes = fileBytes(part);
        const pieces = filesOf(work, file).length - 1;
        install(work, onnx, file);
        chunks.set(file, pieces);
        results.push({ ...result, bytes, ratio: before / bytes, agreement: agreed, error: null });
      } catch (e) {
        if (!(e instanceof Fault) && !(e as NodeJS.ErrnoException).code) throw e;
        results.push({ ...result, bytes: null, ratio: null, agreement: null, error: (e as Error).message });
      } finally {
        rmSync(work, { recursive: true, force: true });
      }
    }
  }
  options.progress?.({ what: "done", step: of, of });
  const written = options.dtypes.filter((d) => results.some((r) => r.dtype === d && r.error === null));
  if (written.length) writeQuantizeConfig(join(target, "quantize_config.json"), written, folder, options);
  const configured = chunks.size > 0 && declareExternalData(folder, target, chunks);
  return { results, configured };
}

interface Reference {
  readonly sets: readonly Batch[];
  readonly outputs: readonly Batch[];
}

async function referenceOf(path: string, model: Model, session: string, folder: ModelFolder, options: Options): Promise<Reference> {
  let first: Fault | null = null;
  for (const open of openSizes) {
    try {
      const sets = inputsFor(model, session, folder.config, options.shapes, open);
      return { sets, outputs: await run(path, sets, options.threads ?? host.cores) };
    } catch (e) {
      if (!(e instanceof Fault)) throw e;
      first ??= e;
    }
  }
  throw new Fault(
    `${session}.onnx`,
    `the original does not run on made-up inputs, which results are compared on: ${first!.message}; give shapes it takes with --shape, or --no-check`,
    { cause: first },
  );
}

/** Models of more bytes are not run to look for overflow. */
const lookedAt = 500e6;

/**
 * What a step may look at: data for an algorithm that asks for it; made-up inputs for ranges that 16 bits may not hold. Nothing for the rest,
 * so that a dtype is the same with and without data.
 */
async function calibrationFor(step: Step, model: Model, sets: readonly Batch[] | null, bytes: number, options: Options) {
  const { algorithm } = step.params;
  if (algorithm !== undefined && algorithm !== "rtn" && algorithm !== "hqq") return (await options.calibration?.(model)) ?? null;
  return step.technique === "half" && sets && bytes < lookedAt ? fromFeeds(sets) : null;
}

async function make(
  model: Model,
  file: string,
  dtype: Dtype,
  sets: readonly Batch[] | null,
  bytes: number,
  folder: ModelFolder,
  options: Options,
  notes: string[],
): Promise<Model> {
  const steps = dtype.steps(options, factsOf(model, folder.modelType));
  let made = model;
  for (const step of steps) {
    const { model: next, run } = await compress(made, [step], {
      calibration: await calibrationFor(step, model, sets, bytes, options),
      measure: null,
      seed: 0,
      threads: options.threads ?? host.cores,
      progress: (p) => options.progress?.({ ...p, what: `${file}: ${p.what}` }),
    });
    made = next;
    for (const s of run.steps) notes.push(...s.notes);
  }
  return made;
}

function disagrees({ outputs }: Agreement, least: number): string {
  const worst = outputs.reduce((a, b) => (b.score < a.score ? b : a));
  const figure = (x: number) => Number(x.toPrecision(3));
  return `is too far from the original: output "${worst.name}" agrees to ${figure(worst.score)} (cosine ${figure(worst.cosine)}, relative error ${figure(100 * worst.relative)} %), and ${least} is asked for (--least-agreement changes that)`;
}

/** quantize_config.json, with the keys of the converter of transformers.js 3; modes written earlier stay named. */
function writeQuantizeConfig(path: string, modes: readonly string[], folder: ModelFolder, o: Options): void {
  let earlier: unknown[] = [];
  if (existsSync(path)) {
    try {
      const had = JSON.parse(readFileSync(path, "utf8")) as { modes?: unknown };
      if (Array.isArray(had.modes)) earlier = had.modes;
    } catch {
      // Not ours to read: it is written anew.
    }
  }
  const order = Object.keys(dtypes);
  const all = [...new Set([...earlier, ...modes])].sort((a, b) => order.indexOf(String(a)) - order.indexOf(String(b)));
  writeJson(
    path,
    {
      modes: all,
      per_channel: o.perChannel ?? perChannelDefault(folder.modelType),
      reduce_range: o.reduceRange ?? perChannelDefault(folder.modelType),
      block_size: o.blockSize,
      is_symmetric: o.symmetric,
      accuracy_level: o.accuracyLevel,
      quant_type: o.quantType,
      op_block_list: o.blockedOps.length ? o.blockedOps : null,
    },
    4,
  );
}
