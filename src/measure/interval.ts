/** 95 % intervals: what a figure from n samples is worth. */

/** 97.5 % quantile of the standard normal distribution. */
const z = 1.959963984540054;

export type Interval = readonly [number, number];

/**
 * Wilson's score interval for a proportion k/n (Wilson 1927, JASA 22): (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n).
 * It stays within 0 … 1 and holds for few samples and for proportions near the ends.
 */
export function wilson(k: number, n: number): Interval {
  if (n === 0) return [0, 1];
  const p = k / n;
  const center = p + (z * z) / (2 * n);
  const half = z * Math.sqrt((p * (1 - p)) / n + (z * z) / (4 * n * n));
  const scale = 1 + (z * z) / n;
  return [k === 0 ? 0 : (center - half) / scale, k === n ? 1 : (center + half) / scale];
}

/**
 * The difference of two proportions on the same n examples, of which the second one alone gets `gained` right and the first one alone
 * `lost`: (gained − lost)/n, with the interval of Agresti and Min (2005, Statistics in Medicine 24), which adds half an example to each
 * of the four cells: with b = gained + ½, c = lost + ½, N = n + 2: (b − c)/N ± z·√(b + c − (b − c)²/N)/N. It is the interval that
 * belongs to McNemar's test.
 */
export function pairedProportions(gained: number, lost: number, n: number): { value: number; interval: Interval } {
  const [b, c, m] = [gained + 0.5, lost + 0.5, n + 2];
  const center = (b - c) / m;
  const half = (z * Math.sqrt(b + c - (b - c) ** 2 / m)) / m;
  return { value: n ? (gained - lost) / n : 0, interval: [Math.max(-1, center - half), Math.min(1, center + half)] };
}

/**
 * Σ values / Σ weights with the interval of the ratio estimator (Cochran, Sampling Techniques, 3rd ed. 1977, eq. 6.13):
 * R ± z·√(Σ(vᵢ − R·wᵢ)² / (n(n−1))) / w̄. With unit weights it is the mean and its normal interval. null for fewer than two samples.
 */
export function ratio(values: ArrayLike<number>, weights: ArrayLike<number> | null): { value: number; interval: Interval | null } {
  const n = values.length;
  let v = 0;
  let w = 0;
  for (let i = 0; i < n; i++) {
    v += values[i]!;
    w += weights?.[i] ?? 1;
  }
  const value = w ? v / w : 0;
  if (n < 2 || w === 0) return { value, interval: null };
  let squares = 0;
  for (let i = 0; i < n; i++) squares += (values[i]! - value * (weights?.[i] ?? 1)) ** 2;
  const half = (z * Math.sqrt(squares / (n * (n - 1)))) / (w / n);
  return { value, interval: [value - half, value + half] };
}

/**
 * {@link ratio} of counts and other amounts that are never negative (errors over characters), with a score interval in Wilson's way: the ρ
 * with (R − ρ)² = z²·σ²·ρ/R, where σ is the ratio estimator's standard deviation and its variance is taken to be in proportion to ρ:
 * R + h/2 ± √(h·R + h²/4) with h = z²σ²/R. It never goes below 0; for R = 0 the variance is that of single counts and it ends at z²/Σ weights.
 */
export function positiveRatio(values: ArrayLike<number>, weights: ArrayLike<number> | null): { value: number; interval: Interval | null } {
  const { value, interval } = ratio(values, weights);
  if (!interval) return { value, interval };
  let w = 0;
  for (let i = 0; i < values.length; i++) w += weights?.[i] ?? 1;
  const h = value > 0 ? ((interval[1] - interval[0]) / 2) ** 2 / value : (z * z) / w;
  const half = Math.sqrt(h * value + (h * h) / 4);
  return { value, interval: [Math.max(0, value + h / 2 - half), value + h / 2 + half] };
}

/** The quantile q of sorted numbers, linear between neighbours (Hyndman and Fan's type 7). */
export function quantile(sorted: ArrayLike<number>, q: number): number {
  const at = (sorted.length - 1) * q;
  const low = sorted[Math.floor(at)]!;
  return low + (sorted[Math.ceil(at)]! - low) * (at - Math.floor(at));
}

/**
 * The interval of a quantile from order statistics, free of assumptions on the distribution (David and Nagaraja, Order Statistics,
 * 3rd ed. 2003, §7.1): [x₍l₎, x₍u₎] with P(Bin(n, q) < l) ≤ 2.5 % and P(Bin(n, q) ≥ u) ≤ 2.5 %. Where n is too small for that (below 6
 * for a median, 72 for the upper end of a 95th percentile) it ends at the smallest or largest sample, and holds with less than 95 %.
 */
export function quantileInterval(sorted: ArrayLike<number>, q: number): Interval {
  const n = sorted.length;
  // P(Bin(n, q) = i), upwards from i = 0 in logarithms; l and u from the two tails.
  let log = n * Math.log1p(-q);
  let below = 0;
  let l = 0;
  let u = n;
  let uFound = false;
  for (let i = 0; i <= n; i++) {
    if (below <= 0.025) l = i;
    const at = below + Math.exp(log);
    // P(Bin ≥ i + 1) = 1 − P(Bin ≤ i).
    if (!uFound && 1 - at <= 0.025) {
      u = i + 1;
      uFound = true;
    }
    below = at;
    log += Math.log((n - i) / (i + 1)) + Math.log(q) - Math.log1p(-q);
  }
  return [sorted[Math.max(0, l - 1)]!, sorted[Math.min(n, u) - 1]!];
}
