/** The range that keeps most of a distribution's information (Migacz 2017, "8-bit inference with TensorRT"; ONNX Runtime's entropy calibration). */
import type { Histogram, Range } from "../../runtime/observers.ts";

/** What 0 probabilities become before a logarithm is taken, in counts. */
const epsilon = 1e-4;

/** p with a little of its mass on the empty bins; null where too many of them are empty. */
function smoothed(p: Float64Array): Float64Array | null {
  let empty = 0;
  for (const x of p) if (x === 0) empty++;
  const taken = (epsilon * empty) / (p.length - empty);
  if (!(taken < 1)) return null;
  return p.map((x) => (x === 0 ? epsilon : x - taken));
}

/**
 * The Kullback-Leibler divergence Σ p·ln(p/q) of bins [from, to) of a histogram from what `levels` codes keep of them. p: the counts, with
 * everything outside added to the outermost bins, as clipping does. q: the counts inside, each level's spread evenly over those of its bins
 * that p does not leave empty. Bin i belongs to level ⌊i·levels/bins⌋. ∞ where nothing lies inside.
 */
export function divergence(counts: ArrayLike<number>, from: number, to: number, levels: number): number {
  const bins = to - from;
  const p = new Float64Array(bins);
  const q = new Float64Array(bins);
  for (let i = 0; i < counts.length; i++) p[Math.min(bins - 1, Math.max(0, i - from))]! += counts[i]!;
  for (let start = 0; start < bins; ) {
    const level = Math.floor((start * levels) / bins);
    let [end, sum, filled] = [start, 0, 0];
    for (; end < bins && Math.floor((end * levels) / bins) === level; end++) {
      sum += counts[from + end]!;
      if (p[end]! > 0) filled++;
    }
    for (let i = start; i < end; i++) if (p[i]! > 0) q[i] = sum / filled;
    start = end;
  }
  const [a, b] = [smoothed(p), smoothed(q)];
  if (!a || !b) return Infinity;
  const [n, m] = [a.reduce((s, x) => s + x, 0), b.reduce((s, x) => s + x, 0)];
  let sum = 0;
  for (let i = 0; i < bins; i++) sum += (a[i]! / n) * Math.log((a[i]! * m) / (b[i]! * n));
  return sum;
}

/**
 * The counts with no more at 0 than beside it. Codes hold 0 exactly, so that the zeros behind a Relu lose nothing in any range; counted in,
 * they would be spread over the bins of their level and make the narrowest range look best. (NVIDIA's calibrator does so too.)
 */
function withoutZeros(counts: Float64Array, zero: number): Float64Array {
  const beside = Math.max(counts[zero - 1] ?? 0, counts[zero + 1] ?? 0);
  return counts.map((c, i) => (i === zero ? Math.min(c, beside) : c));
}

/**
 * The range [max(min, −t), min(max, t)] with the least {@link divergence} for `levels` codes: of all thresholds t at which at least `levels`
 * bins lie inside, the range seen among them. So it never keeps less than min-max does, by that measure; with as many levels as bins (16
 * bits) there is nothing to gain and the range seen is the answer.
 */
export function entropyRange(h: Histogram, levels: number): Range {
  const { min, max, n, counts, start, exponent } = h;
  const first = counts.findIndex((c) => c > 0);
  if (first < 0) return { min, max, n };
  let last = counts.length - 1;
  while (counts[last] === 0) last--;
  const used = withoutZeros(counts.subarray(first, last + 1), -start - first);
  // Bin edges on either side of 0, counted from 0, cut at what was seen.
  const [low, high] = [start + first, start + last + 1];
  const reach = Math.max(Math.abs(low), Math.abs(high));
  let best = { low, high };
  let least = divergence(used, 0, used.length, levels);
  // 256 thresholds, evenly.
  const step = Math.max(1, Math.ceil(reach / 256));
  for (let t = reach - step; t > 0; t -= step) {
    const [a, b] = [Math.max(low, -t), Math.min(high, t)];
    if (b - a < levels || a >= b) break;
    const d = divergence(used, a - low, b - low, levels);
    if (d < least) [best, least] = [{ low: a, high: b }, d];
  }
  const width = 2 ** exponent;
  return { n, min: Math.max(min, best.low * width), max: Math.min(max, best.high * width) };
}
