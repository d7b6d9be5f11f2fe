/** The record of one compression: what every report and comparison reads. */
import type { Finding } from "../lint/finding.ts";
import type { Measurement } from "../measure/measurement.ts";
import type { RecipeJson } from "./recipe.ts";

export interface StepRecord {
  readonly technique: string;
  readonly params: Readonly<Record<string, unknown>>;
  /** What was done, skipped, and why. */
  readonly notes: readonly string[];
  readonly seconds: number;
}

/** The verdict of `maxDrop`, reached on examples that are not the test data. */
export interface Gate {
  readonly maxDrop: number;
  readonly metric: string;
  readonly before: number;
  readonly after: number;
  /** Validation examples. */
  readonly n: number;
}

export interface Run {
  /** Version of pith. */
  readonly pith: string;
  /** When it ended, ISO 8601. */
  readonly date: string;
  /** What to call the result: its file's name. */
  readonly name: string;
  /** The model it began with; the hash is that of its file. */
  readonly model: { readonly name: string; readonly sha256: string };
  /** Every parameter spelled out: a recipe file of its own. No steps: the model was trained or only measured. */
  readonly recipe: RecipeJson;
  readonly seed: number;
  /** What it was measured on; null: nothing was. */
  readonly data: { readonly name: string; readonly length: number } | null;
  readonly machine: Readonly<Record<string, string | number>>;
  /** Empty where nothing was measured. */
  readonly before: readonly Measurement[];
  readonly steps: readonly StepRecord[];
  readonly gate: Gate | null;
  readonly after: readonly Measurement[];
  /** What stands out about the result, and did not about the original: what its runtime refuses or is slow at, and why it is not faster. */
  readonly findings: readonly Finding[];
  /** Why nothing was measured although it was asked for: the original does not run on made-up inputs. */
  readonly unmeasured: string | null;
}
