/** Running summaries of activations: ranges, histograms, second moments, column norms. All of them stream with a fixed state. */
import { Fault } from "../tensor/fault.ts";
import { floatsOf, numbersOf } from "../tensor/tensor.ts";
import type { Observer } from "./observe.ts";

export interface Range {
  /** Over finite elements; +∞ and −∞ where there were none. */
  readonly min: number;
  readonly max: number;
  /** Finite elements seen. Infinities (attention masks have them) are left out. */
  readonly n: number;
}

function rangeOf(values: ArrayLike<number>): Range {
  let min = Infinity;
  let max = -Infinity;
  let n = 0;
  for (let i = 0; i < values.length; i++) {
    const x = values[i]!;
    if (x - x !== 0) {
      if (Number.isNaN(x)) throw new Fault("observe", "NaN among its elements");
      continue;
    }
    if (x < min) min = x;
    if (x > max) max = x;
    n++;
  }
  return { min, max, n };
}

/** Smallest and largest element. Errors: NaN. */
export const minMax: Observer<Range> = {
  init: () => ({ min: Infinity, max: -Infinity, n: 0 }),
  update(s, x) {
    const r = rangeOf(numbersOf(x));
    return { min: Math.min(s.min, r.min), max: Math.max(s.max, r.max), n: s.n + r.n };
  },
};

/** A range that is an average of examples' ranges. */
export interface AverageRange extends Range {
  /** Examples (updates) averaged. */
  readonly updates: number;
}

/**
 * The average of the smallest and of the largest element over updates: with `constant` c a moving one, a ← a + c·(x − a) from the first
 * on (ONNX Runtime's `moving_average`), else the mean of all (NNCF's `mean_min_max`). Errors: NaN.
 */
export function averageRange(options: { constant?: number } = {}): Observer<AverageRange> {
  return {
    init: () => ({ min: Infinity, max: -Infinity, n: 0, updates: 0 }),
    update(s, x) {
      const r = rangeOf(numbersOf(x));
      if (r.n === 0) return s;
      const updates = s.updates + 1;
      const c = options.constant ?? 1 / updates;
      const next = (a: number, b: number) => (s.updates ? a + c * (b - a) : b);
      return { min: next(s.min, r.min), max: next(s.max, r.max), n: s.n + r.n, updates };
    },
  };
}

/** Counts on a grid: bin i holds the elements in [(start + i)·2^exponent, (start + i + 1)·2^exponent). */
export interface Histogram extends Range {
  readonly counts: Float64Array;
  readonly start: number;
  readonly exponent: number;
}

/**
 * A histogram in one pass. Bin edges are multiples of a power of two, and the width is the smallest at which all elements so far fit:
 * when the range grows, bins merge pairwise, which loses nothing but resolution. So the result does not depend on the order of the data,
 * and at least half of the `bins` bins lie within the range. Errors: NaN.
 */
export function histogram(options: { bins?: number } = {}): Observer<Histogram> {
  const bins = options.bins ?? 2048;
  return {
    init: () => ({ min: Infinity, max: -Infinity, n: 0, counts: new Float64Array(bins), start: 0, exponent: -Infinity }),
    update(s, x) {
      const values = numbersOf(x);
      const r = rangeOf(values);
      if (r.n === 0) return s;
      const min = Math.min(s.min, r.min);
      const max = Math.max(s.max, r.max);
      const exponent = Math.max(s.exponent, fitting(min, max, bins));
      const start = Math.floor(min * 2 ** -exponent);
      let counts = s.counts;
      if (exponent !== s.exponent || start !== s.start) {
        counts = new Float64Array(bins);
        const scale = 2 ** (s.exponent - exponent);
        s.counts.forEach((c, i) => {
          if (c) counts[Math.floor((s.start + i) * scale) - start]! += c;
        });
      }
      const inverse = 2 ** -exponent;
      for (let i = 0; i < values.length; i++) {
        const v = values[i]!;
        if (v - v === 0) counts[Math.floor(v * inverse) - start]!++;
      }
      return { min, max, n: s.n + r.n, counts, start, exponent };
    },
  };
}

/** The smallest exponent at which [min, max] spans no more than `bins` bins; never so fine that bin numbers lose precision. */
function fitting(min: number, max: number, bins: number): number {
  const magnitude = Math.max(Math.abs(min), Math.abs(max));
  let e = Math.max(-1000, Math.floor(Math.log2(magnitude || Number.MIN_VALUE)) - 40);
  if (max > min) e = Math.max(e, Math.floor(Math.log2((max - min) / bins)) - 1);
  while (Math.floor(max * 2 ** -e) - Math.floor(min * 2 ** -e) >= bins) e++;
  return e;
}

/**
 * The value below which the fraction `q` (0 … 1) of the elements lies: within the bin that holds it, in proportion; 0 and 1 give the exact
 * smallest and largest element. Errors: an empty histogram, q outside 0 … 1.
 */
export function percentile(h: Histogram, q: number): number {
  if (!(q >= 0 && q <= 1)) throw new Fault("percentile", `q must be from 0 to 1; got ${q}`);
  if (h.n === 0) throw new Fault("percentile", "the histogram is empty");
  if (q === 0) return h.min;
  if (q === 1) return h.max;
  const width = 2 ** h.exponent;
  let left = q * h.n;
  for (let i = 0; i < h.counts.length; i++) {
    const c = h.counts[i]!;
    if (left <= c && c > 0) {
      const x = (h.start + i + left / c) * width;
      return Math.min(h.max, Math.max(h.min, x));
    }
    left -= c;
  }
  return h.max;
}

/** The sum of xᵀx over all rows x of a tensor's last axis. */
export interface SecondMoment {
  /** Rows seen. */
  readonly n: number;
  /** Length of a row. */
  readonly k: number;
  /** k × k, row-major: Σ xᵀx. GPTQ's Hessian (Frantar et al. 2022, eq. 3) is 2/n of it. */
  readonly sum: Float64Array;
}

/** Σ xᵀx over the last axis; everything before it counts as rows. Summed in float32 within a batch, in float64 over batches. Errors: a scalar, or rows whose length changes. */
export const secondMoment: Observer<SecondMoment> = {
  init(shape) {
    const k = rowLength(shape);
    return { n: 0, k, sum: new Float64Array(k * k) };
  },
  reduce(b, x, ndim) {
    const rows = b.op("Cast", [ndim === 2 ? x : b.op("Flatten", [x], { axis: ndim - 1 })], { to: 1 });
    return b.op("Gemm", [rows, rows], { transA: 1 });
  },
  update(s, gram, shape) {
    if (rowLength(shape) !== s.k) throw new Fault("observe", `rows of ${s.k} elements, and then of ${rowLength(shape)}`);
    const g = floatsOf(gram);
    for (let i = 0; i < g.length; i++) s.sum[i]! += g[i]!;
    return { ...s, n: s.n + rowsOf(shape) };
  },
};

/** Sums of squares by column. */
export interface ColumnNorm {
  /** Rows seen. */
  readonly n: number;
  /** Σ x² for each index of the axis; its root is the ‖X_j‖₂ of Wanda (Sun et al. 2023, eq. 1). */
  readonly sumSquares: Float64Array;
}

/** Σ x² over everything but one axis (default: the last; the channel axis of a Conv's input is 1). Errors: a scalar, or an axis whose size changes. */
export function columnNorm(options: { axis?: number } = {}): Observer<ColumnNorm> {
  const axisOf = (shape: readonly number[]) => {
    const axis = (options.axis ?? -1) < 0 ? shape.length + (options.axis ?? -1) : options.axis!;
    if (!(axis >= 0 && axis < shape.length)) throw new Fault("observe", `has no axis ${options.axis ?? -1}; its shape is [${shape}]`);
    return axis;
  };
  return {
    init: (shape) => ({ n: 0, sumSquares: new Float64Array(shape[axisOf(shape)]!) }),
    update(s, x) {
      const axis = axisOf(x.shape);
      const k = x.shape[axis]!;
      if (k !== s.sumSquares.length) throw new Fault("observe", `axis ${axis} had ${s.sumSquares.length} elements, and then ${k}`);
      const inner = x.shape.slice(axis + 1).reduce((a, d) => a * d, 1);
      const values = floatsOf(x);
      for (let i = 0, at = 0; at < values.length; i++) {
        let sum = 0;
        for (const end = at + inner; at < end; at++) sum += values[at]! ** 2;
        s.sumSquares[i % k]! += sum;
      }
      return { ...s, n: s.n + (k ? values.length / k : 0) };
    },
  };
}

function rowLength(shape: readonly number[]): number {
  const k = shape.at(-1);
  if (k === undefined) throw new Fault("observe", "is a scalar; rows were expected");
  return k;
}

function rowsOf(shape: readonly number[]): number {
  return shape.slice(0, -1).reduce((a, d) => a * d, 1);
}
