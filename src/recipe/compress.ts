/** Running a recipe: step after step on clones, each checked; the gate; the measured record. */
import { host } from "#host";
import type { Dataset } from "../data/dataset.ts";
import { split } from "../data/split.ts";
import { check } from "../ir/check.ts";
import { cloneModel, type Model } from "../ir/graph.ts";
import { removeDead } from "../ir/walk.ts";
import type { Finding } from "../lint/finding.ts";
import { lint } from "../lint/lint.ts";
import { accuracy, evaluate, type Metric } from "../measure/accuracy.ts";
import { feedsFor, type Measured, type MeasureOptions, measureModels } from "../measure/measure.ts";
import type { Measurement } from "../measure/measurement.ts";
import { slowness } from "../measure/slowness.ts";
import type { SparseIndices } from "../onnx/sparse.ts";
import { observeShapes, sampleFeeds } from "../runtime/shapes.ts";
import type { Context, Progress, Step } from "../techniques/technique.ts";
import { Fault } from "../tensor/fault.ts";
import { fingerprint } from "./fingerprint.ts";
import { recipeJson, stepText } from "./recipe.ts";
import type { Gate, Run, StepRecord } from "./run.ts";
import { storeSparsely } from "./sparse.ts";
import { version } from "./version.ts";

export interface CompressOptions {
  /** Examples with targets to train on. */
  readonly train?: Dataset | null;
  /** Unlabelled examples to observe activations on; default: the training examples. */
  readonly calibration?: Dataset | null;
  /** Test examples: they score the end result and decide nothing. */
  readonly data?: Dataset | null;
  /** What the gate is decided on; default: a fifth of the training (else calibration) examples, which are then left out of training. */
  readonly validation?: Dataset | null;
  /** Points of the metric that may be lost. More, and {@link Refused} is thrown. */
  readonly maxDrop?: number | null;
  /** Default: accuracy. */
  readonly metric?: Metric;
  /** Default 0. */
  readonly seed?: number;
  /** Intra-op threads while compressing; default: as many as the machine has cores. */
  readonly threads?: number;
  /** How the end result is measured; null: not at all. */
  readonly measure?: Omit<MeasureOptions, "data" | "metric"> | null;
  /** Where the result is to run, for what is said of it: node (default), wasm, webgpu, tensorrt … (see lint). */
  readonly target?: string;
  /** Store initializers sparsely where that is smaller and the target loads it, with such indices. Default: as they are. */
  readonly sparse?: SparseIndices | null;
  /** How models that a step names (a teacher, a student) are loaded; default: from files. */
  readonly load?: (path: string) => Promise<Model>;
  /** What to call the model, the result and the test data in the record. */
  readonly names?: { readonly model?: string; readonly result?: string; readonly data?: string };
  readonly progress?: (p: Progress) => void;
}

/** What a technique gets of its surroundings, where it is used outside of {@link compress}. `original`: the default teacher. */
export function contextOf(
  original: Model,
  options: Pick<CompressOptions, "train" | "calibration" | "seed" | "threads" | "load" | "measure" | "progress"> & {
    readonly note?: Context["note"];
  },
): Context {
  const { train = null, calibration = null, seed = 0, threads = host.cores, load = host.load } = options;
  const { shape } = options.measure ?? {};
  const { note = () => {}, progress = () => {} } = options;
  return { original, train, calibration, shape, seed, threads, load, note, progress };
}

/** The gate refused the result: it lost more than was allowed. */
export class Refused extends Fault {
  readonly gate: Gate;
  constructor(gate: Gate, message: string) {
    super("gate", message);
    this.gate = gate;
  }
}

/** Share of the examples that the gate holds out. */
const heldShare = 0.2;

/**
 * Applies the steps, each to a clone of the last one's result; the given model stays as it is. The same model, steps, data and seed give
 * the same bytes (same machine, threads and runtime). Errors: those of the steps; {@link Refused}; a gate without examples to decide on.
 */
export async function compress(
  model: Model,
  steps: readonly Step[],
  options: CompressOptions = {},
): Promise<{ readonly model: Model; readonly run: Run }> {
  const { seed = 0, threads = host.cores, metric = accuracy(), maxDrop = null, data = null, names = {}, progress = () => {} } = options;
  const { target = "node" } = options;
  const known = lint(model, target);
  const { train, calibration, validation } = examples(options, metric, seed);
  const records: StepRecord[] = [];
  let current = steps.length || !options.sparse ? model : cloneModel(model);
  for (const [i, step] of steps.entries()) {
    const notes: string[] = [];
    const prefix = steps.length > 1 ? `${i + 1}/${steps.length} ` : "";
    const context = contextOf(model, {
      ...options,
      train,
      calibration,
      note: (line) => {
        notes.push(line);
      },
      progress: (p) => progress({ ...p, what: `${prefix}${p.what}` }),
    });
    const start = performance.now();
    const next = cloneModel(current);
    await step.apply(next, context);
    removeDead(next.graph);
    check(next);
    current = next;
    records.push({ technique: step.technique, params: step.params, notes, seconds: (performance.now() - start) / 1000 });
  }
  const gate = maxDrop === null ? null : await decide(model, current, validation!, metric, maxDrop, threads);
  const stored = options.sparse ? [storeSparsely(current, options.sparse, target)] : [];
  const result = names.result ?? (steps.map((s) => stepText(s)).join(" + ") || "unchanged");
  const original = names.model ?? (model.graph.name || "model");
  const models = [
    { name: original, model },
    { name: result, model: current },
  ] as const;
  const measuring: MeasureOptions = {
    ...options.measure,
    data,
    ...(options.metric ? { metric } : {}),
    progress: (what, step, of) => progress({ what: `measuring ${what}`, step, of }),
  };
  const { figures, unmeasured } = options.measure === null ? nothing : await measureBoth(models, measuring);
  const [before = [], after = []] = figures;
  const findings = [...stored, ...sinceThen(known, lint(current, target)), ...(await whySlow(models, after, measuring))];
  const run: Run = {
    pith: version,
    date: new Date().toISOString(),
    name: result,
    model: { name: original, sha256: fingerprint(model) },
    recipe: recipeJson(steps, seed),
    seed,
    data: data && { name: names.data ?? "data", length: data.length },
    machine: host.machine(),
    before,
    steps: records,
    gate,
    after,
    findings,
    unmeasured,
  };
  return { model: current, run };
}

/** Errors and warnings that are found now and were not before. */
function sinceThen(before: readonly Finding[], now: readonly Finding[]): Finding[] {
  const had = new Set(before.map((f) => f.what));
  return now.filter((f) => f.level !== "note" && !had.has(f.what));
}

async function whySlow(models: readonly [Measured, Measured], after: readonly Measurement[], options: MeasureOptions): Promise<Finding[]> {
  if (!after.some((m) => m.metric === "speedup")) return [];
  const [was, is] = models.map(({ model }) => ({ model, feeds: feedsFor(model, options, options.batch?.[0] ?? null) }));
  return slowness(was!, is!, after, { ...(options.threads ? { threads: options.threads } : {}) });
}

const nothing = { figures: [], unmeasured: null } as const;

/** Without data inputs are made up, and some models do not run on such: that is no reason to lose the result. */
async function measureBoth(models: readonly [Measured, Measured], options: MeasureOptions) {
  try {
    return { figures: await measureModels(models, options), unmeasured: null };
  } catch (e) {
    if (options.data || !(e instanceof Fault)) throw e;
    const [{ model }] = models;
    try {
      await observeShapes(model, sampleFeeds(model, { ...(options.shape ? { shape: options.shape } : {}) }));
    } catch (cause) {
      if (cause instanceof Fault) return { figures: [], unmeasured: cause.message };
    }
    // The original runs, so the result is to blame.
    throw e;
  }
}

/** What there is to train, to calibrate and to decide on. */
function examples(options: CompressOptions, metric: Metric, seed: number) {
  const { train = null, calibration = null, validation = null, maxDrop = null } = options;
  if (maxDrop === null || validation) return { train, calibration, validation };
  const scores = (d: Dataset | null): d is Dataset => d !== null && metric.targets.every((t) => d.names.includes(t));
  if (scores(train)) {
    const parts = split(train, { fraction: heldShare, seed });
    return { train: parts.train, calibration, validation: parts.held };
  }
  if (scores(calibration)) {
    const parts = split(calibration, { fraction: heldShare, seed });
    return { train, calibration: parts.train, validation: parts.held };
  }
  const needs = `training, calibration or validation examples with ${metric.targets.map((t) => `"${t}"`).join(" and ")}`;
  throw new Fault("gate", `a greatest drop of ${metric.metric} needs ${needs} to be decided on; the test data decides nothing`);
}

async function decide(before: Model, after: Model, data: Dataset, metric: Metric, maxDrop: number, threads: number): Promise<Gate> {
  const of = async (m: Model) => (await evaluate(m, data, metric, { threads })).measurement;
  const [was, is] = [await of(before), await of(after)];
  const gate = { maxDrop, metric: metric.metric, before: was.value, after: is.value, n: was.n };
  const drop = metric.better === "higher" ? was.value - is.value : is.value - was.value;
  const unit = metric.unit ? ` ${metric.unit}` : "";
  // A NaN is never within bounds.
  if (!(drop <= maxDrop))
    throw new Refused(
      gate,
      `${metric.metric} got worse by ${drop.toFixed(2)} points (${was.value.toFixed(2)}${unit} to ${is.value.toFixed(2)}${unit} on ${was.n} validation examples); at most ${maxDrop} may be lost`,
    );
  return gate;
}
