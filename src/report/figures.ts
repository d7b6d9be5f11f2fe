/** The figures of a comparison: which measurements stand in which column, how they read, and how a row compares with the first. */
import type { Measurement } from "../measure/measurement.ts";
import { bytes, count, grouped } from "./format.ts";

export interface Figure {
  /** The metric, with its condition where it is measured under several: "latency/50/batch 32". */
  readonly key: string;
  readonly title: string;
  /** What tells it from others of its title, "batch 32"; else "". */
  readonly condition: string;
  /** Finds the figure among a model's measurements. */
  readonly of: (all: readonly Measurement[]) => Measurement | undefined;
  readonly text: (m: Measurement) => string;
  /** What is good; null: neither. */
  readonly better: "higher" | "lower" | null;
  /** How `m` compares with the first row's `base`; "" where it is not said. */
  readonly change: (base: Measurement, m: Measurement, all: readonly Measurement[]) => string;
  /** It tells how right a model is: these columns come first, and have their interval shown. */
  readonly quality: boolean;
  /** Left out where there is little room. */
  readonly minor: boolean;
}

/** Milliseconds with three significant digits. */
export function milliseconds(ms: number): string {
  return ms >= 1000 ? `${(ms / 1000).toPrecision(3)} s` : `${+ms.toPrecision(3)} ms`;
}

const unit = (m: Measurement) => (m.unit ? ` ${m.unit}` : "");
const plain = (m: Measurement) => `${+m.value.toPrecision(4)}${unit(m)}`;
const percent = (m: Measurement) => `${m.value.toFixed(2)} %`;

interface Kind {
  readonly title: string;
  readonly text: (m: Measurement) => string;
  readonly better: "higher" | "lower" | null;
  readonly ratio?: true;
  /** Quality of the output, rather than cost. */
  readonly quality?: true;
  /** Shown only where rows differ, and only where there is room. */
  readonly minor?: true;
  /** Shown only where some row has it below this share of the other metric. */
  readonly below?: readonly [metric: string, share: number];
}

/** Known metrics in the order of their columns; percentiles of latency are apart. Any other metric is a quality and comes first. */
const kinds: Readonly<Record<string, Kind>> = {
  accuracy: { title: "accuracy", text: percent, better: "higher", quality: true },
  mse: { title: "mse", text: plain, better: "lower", quality: true },
  agreement: { title: "agreement", text: percent, better: "higher", quality: true },
  relativeError: { title: "rel. error", text: plain, better: "lower", quality: true },
  maxError: { title: "max error", text: plain, better: "lower", quality: true },
  cosine: { title: "cosine", text: (m) => m.value.toFixed(6), better: "higher", quality: true },
  nonZero: { title: "non-zero", text: (m) => count(m.value), better: "lower", ratio: true },
  file: { title: "file", text: (m) => bytes(m.value), better: "lower", ratio: true },
  sparse: { title: "sparse", text: (m) => bytes(m.value), better: "lower", ratio: true, below: ["file", 0.9] },
  brotli: { title: "brotli", text: (m) => bytes(m.value), better: "lower", ratio: true },
  sparseBrotli: {
    title: "sparse brotli",
    text: (m) => bytes(m.value),
    better: "lower",
    ratio: true,
    minor: true,
    below: ["brotli", 0.98],
  },
  macs: { title: "MACs", text: (m) => count(m.value), better: "lower", ratio: true, minor: true },
  "latency/50": { title: "median", text: (m) => milliseconds(m.value), better: "lower", ratio: true },
  "latency/95": { title: "p95", text: (m) => milliseconds(m.value), better: "lower" },
  throughput: { title: "throughput", text: (m) => `${grouped(Math.round(m.value))}/s`, better: "higher", ratio: true },
  peakMemory: { title: "peak memory", text: (m) => bytes(m.value), better: "lower", ratio: true },
};
const unshown = /^(parameters|dense|emptyMemory|speedup|latency\/99|.+Change)$/;

const metricOf = (m: Measurement) => (m.metric === "latency" ? `latency/${m.at?.percentile}` : m.metric);
/** What a metric may be measured under several of. */
const variantOf = (m: Measurement) =>
  (["batch", "concurrency"] as const).flatMap((k) => (m.at?.[k] === undefined ? [] : [`${k} ${m.at[k]}`]));

/** The columns for these rows, each there because some row has it. */
export function figuresOf(rows: readonly (readonly Measurement[])[]): Figure[] {
  const order = Object.keys(kinds);
  const found = new Map<string, Map<string, Measurement>>();
  for (const m of rows.flat()) {
    const metric = metricOf(m);
    if (unshown.test(metric)) continue;
    const variants = found.get(metric) ?? new Map<string, Measurement>();
    found.set(metric, variants.set(variantOf(m).join(" "), m));
  }
  const place = (metric: string) => (order.includes(metric) ? order.indexOf(metric) : -1);
  return [...found]
    .sort(([a], [b]) => place(a) - place(b))
    .flatMap(([metric, variants]) => {
      const kind = kinds[metric] ?? { title: metric, text: plain, better: null, quality: true };
      return [...variants.keys()].flatMap((variant): Figure[] => {
        const of = (all: readonly Measurement[]) => all.find((m) => metricOf(m) === metric && variantOf(m).join(" ") === variant);
        if (kind.minor && new Set(rows.flatMap((r) => of(r)?.value ?? [])).size < 2) return [];
        if (kind.below && !rows.some((r) => isBelow(of(r), r, kind.below!))) return [];
        const several = variants.size > 1;
        return [
          {
            key: several ? `${metric}/${variant}` : metric,
            title: kind.title,
            condition: differing([...variants.values()], variants.get(variant)!),
            of,
            text: kind.text,
            better: kind.better,
            quality: kind.quality === true,
            minor: kind.minor === true,
            change: (base, m, all) => change(kind, base, m, all, variant),
          },
        ];
      });
    });
}

function isBelow(m: Measurement | undefined, row: readonly Measurement[], [metric, share]: readonly [string, number]): boolean {
  const other = row.find((x) => x.metric === metric);
  return m !== undefined && other !== undefined && m.value < share * other.value;
}

/** The figure of that metric; of several conditions the first. */
export function figureOf(figures: readonly Figure[], metric: string): Figure | undefined {
  return figures.find((f) => f.key === metric || f.key.startsWith(`${metric}/`));
}

/** The conditions of `m` in which not all of `all` agree. */
function differing(all: readonly Measurement[], m: Measurement): string {
  const keys = (["batch", "concurrency"] as const).filter((k) => new Set(all.map((x) => x.at?.[k])).size > 1);
  return keys.flatMap((k) => (m.at?.[k] === undefined ? [] : [`${k} ${m.at[k]}`])).join(", ");
}

/** "3.92×" smaller or faster; "−0.31" points of a metric, from the paired comparison where there is one. */
function change(kind: Kind, base: Measurement, m: Measurement, all: readonly Measurement[], variant: string): string {
  if (base === m) return "";
  if (kind.ratio) {
    const paired = m.metric === "latency" ? all.find((x) => x.metric === "speedup" && variantOf(x).join(" ") === variant) : undefined;
    const r = paired?.value ?? (kind.better === "lower" ? base.value / m.value : m.value / base.value);
    return Number.isFinite(r) && r > 0 ? `${r >= 100 ? Math.round(r) : +r.toPrecision(3)}×` : "";
  }
  const paired = all.find((x) => x.metric === `${m.metric}Change`);
  if (!paired) return "";
  const d = paired.value;
  const size = m.unit === "%" ? Math.abs(d).toFixed(2) : String(+Math.abs(d).toPrecision(3));
  return `${Number(size) === 0 ? "±" : d > 0 ? "+" : "−"}${size}`;
}

/** Whether a row is better or worse than the first beyond its noise; "" for neither. */
export function verdict(f: Figure, base: Measurement, m: Measurement, all: readonly Measurement[]): "good" | "bad" | "" {
  if (!f.better || m.value === base.value) return "";
  const paired = all.find((x) => x.metric === `${m.metric}Change`)?.interval;
  const within = paired
    ? paired[0] <= 0 && paired[1] >= 0
    : m.interval !== null && base.value >= m.interval[0] && base.value <= m.interval[1];
  if (within) return "";
  return (f.better === "lower") === m.value < base.value ? "good" : "bad";
}

/** The interval as "95.10–97.42"; empty where a figure is exact. */
export function intervalText(m: Measurement | undefined): string {
  if (!m?.interval) return "";
  const text = (v: number) => (m.unit === "%" ? v.toFixed(2) : String(+v.toPrecision(3)));
  return `${text(m.interval[0])}–${text(m.interval[1])}`;
}
