/** The figures of a comparison: which measurements stand in which column, and how they read. */
import type { Measurement } from "../measure/measurement.ts";
import { bytes, count, grouped } from "./format.ts";

export interface Figure {
  readonly key: string;
  readonly title: string;
  /** Finds the figure among measurements. */
  readonly of: (all: readonly Measurement[]) => Measurement | undefined;
  readonly text: (m: Measurement) => string;
  /** What is good; null: neither. */
  readonly better: "higher" | "lower" | null;
  /** "ratio": compared with the first row as a quotient; "points": as a difference. */
  readonly compare: "ratio" | "points";
}

const named =
  (metric: string, at: Readonly<Record<string, number | string>> = {}) =>
  (all: readonly Measurement[]) =>
    all.find((m) => m.metric === metric && Object.entries(at).every(([k, v]) => m.at?.[k] === v));

/** Milliseconds with three significant digits. */
export function milliseconds(ms: number): string {
  return ms >= 1000 ? `${(ms / 1000).toPrecision(3)} s` : `${+ms.toPrecision(3)} ms`;
}

const percent = (m: Measurement) => `${m.value.toFixed(2)} %`;

/** The columns every comparison has, where measured. */
const standard: readonly Figure[] = [
  { key: "accuracy", title: "accuracy", of: named("accuracy"), text: percent, better: "higher", compare: "points" },
  { key: "nonZero", title: "non-zero", of: named("nonZero"), text: (m) => count(m.value), better: "lower", compare: "ratio" },
  { key: "file", title: "file", of: named("file"), text: (m) => bytes(m.value), better: "lower", compare: "ratio" },
  { key: "brotli", title: "brotli", of: named("brotli"), text: (m) => bytes(m.value), better: "lower", compare: "ratio" },
  {
    key: "latency",
    title: "median",
    of: named("latency", { percentile: 50 }),
    text: (m) => milliseconds(m.value),
    better: "lower",
    compare: "ratio",
  },
  {
    key: "p95",
    title: "p95",
    of: named("latency", { percentile: 95 }),
    text: (m) => milliseconds(m.value),
    better: "lower",
    compare: "ratio",
  },
  {
    key: "throughput",
    title: "throughput",
    of: named("throughput"),
    text: (m) => `${grouped(Math.round(m.value))}/s`,
    better: "higher",
    compare: "ratio",
  },
];

/** The columns for these rows: the standard ones that any row has, and one for every other metric. */
export function figuresOf(rows: readonly (readonly Measurement[])[]): Figure[] {
  const own = standard.filter((f) => rows.some((r) => f.of(r)));
  const known = new Set([...standard.map((f) => f.key), "parameters"]);
  const others = [...new Set(rows.flatMap((r) => r.map((m) => m.metric)))].filter((metric) => !known.has(metric));
  return [...own.slice(0, 1), ...others.map(other), ...own.slice(1)].filter((f, i, all) => all.indexOf(f) === i);
}

function other(metric: string): Figure {
  const text = (m: Measurement) => `${+m.value.toPrecision(4)}${m.unit ? ` ${m.unit}` : ""}`;
  return { key: metric, title: metric, of: named(metric), text, better: null, compare: "points" };
}

/** The interval as "95.10–97.42"; empty where a figure is exact. */
export function intervalText(m: Measurement | undefined): string {
  return m?.interval ? `${m.interval[0].toFixed(2)}–${m.interval[1].toFixed(2)}` : "";
}

/** How much better a row is than the first: "3.92×" (smaller, or faster), "−0.31" points. */
export function change(f: Figure, first: Measurement | undefined, m: Measurement | undefined): string {
  if (!first || !m || first === m) return "";
  if (f.compare === "points") {
    const d = m.value - first.value;
    return f.better === null ? "" : `${d > 0 ? "+" : d < 0 ? "−" : "±"}${Math.abs(d).toFixed(2)}`;
  }
  const r = f.better === "lower" ? first.value / m.value : m.value / first.value;
  return Number.isFinite(r) && r > 0 ? `${r >= 100 ? Math.round(r) : +r.toPrecision(3)}×` : "";
}
