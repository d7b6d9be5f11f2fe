/** Runs that can be compared: those that began with the same model and were measured on the same data. */
import type { Measurement } from "../measure/measurement.ts";
import { techniques } from "../recipe/recipe.ts";
import type { Run } from "../recipe/run.ts";
import type { Shape } from "./chart.ts";

/** What is compared with one original on the same data; the original comes first. */
export interface Group {
  readonly title: string;
  readonly data: Run["data"];
  readonly rows: readonly Row[];
}

export interface Row {
  readonly name: string;
  readonly series: string;
  readonly measured: readonly Measurement[];
  /** null: the original. */
  readonly run: Run | null;
}

/** Every series' mark: colours alone would not do. */
export const shapes: Readonly<Record<string, Shape>> = {
  original: "ring",
  quantize: "circle",
  prune: "triangle",
  factorize: "square",
  distill: "diamond",
  lora: "cross",
  several: "hexagon",
  other: "circle",
};

/** What the legend calls a series. */
export const seriesTitles: Readonly<Record<string, string>> = {
  quantize: "quantized",
  prune: "pruned",
  factorize: "factorized",
  distill: "distilled",
  lora: "LoRA",
  several: "several families",
  other: "other",
};

/** The runs by what they can be compared with, in the order they came. */
export function grouping(runs: readonly Run[]): Group[] {
  const groups = new Map<string, Run[]>();
  for (const run of runs) {
    const key = JSON.stringify([run.model.sha256, run.data?.name ?? null]);
    groups.set(key, [...(groups.get(key) ?? []), run]);
  }
  return [...groups.values()].map((members) => {
    const first = members[0]!;
    return {
      title: first.data ? `${first.model.name} on ${first.data.name}` : first.model.name,
      data: first.data,
      rows: [
        { name: first.model.name, series: "original", measured: first.before, run: null },
        ...members.map((run) => ({ name: run.name, series: seriesOf(run), measured: run.after, run })),
      ],
    };
  });
}

function seriesOf(run: Run): string {
  const families = new Set(run.recipe.steps.map((s) => techniques[s.technique]?.family ?? "other"));
  if (families.size > 1) return "several";
  return [...families][0] ?? "other";
}
