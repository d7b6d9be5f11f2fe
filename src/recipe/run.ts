/** The record of one compression: what every report and comparison reads. */
import type { Measurement } from "../measure/measurement.ts";

export interface StepRecord {
  readonly technique: string;
  readonly params: Readonly<Record<string, unknown>>;
  readonly notes: readonly string[];
  readonly seconds: number;
}

export interface Run {
  readonly pith: string;
  readonly recipe: readonly { readonly technique: string; readonly params: Readonly<Record<string, unknown>> }[];
  readonly seed: number;
  readonly model: { readonly name: string; readonly sha256: string };
  readonly machine: Readonly<Record<string, string | number>>;
  readonly before: readonly Measurement[];
  readonly steps: readonly StepRecord[];
  readonly after: readonly Measurement[];
}
