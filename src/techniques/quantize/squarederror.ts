/** The range with the least expected squared error: what clipping costs against what coarser steps cost. */
import type { Histogram, Range } from "../../runtime/observers.ts";
import { affine, type IntType, representable } from "./scheme.ts";

/**
 * Mean (x − x̂)² over the elements of a histogram that go through the codes of `range`: each stands in the middle of its bin; where a bin is
 * wider than a step, the elements in it are off by step²/12.
 */
export function squaredError(
  h: Histogram,
  range: { readonly min: number; readonly max: number },
  dtype: IntType,
  symmetric: boolean,
): number {
  const a = affine(range, dtype, symmetric);
  const [least, most] = representable(a);
  const width = 2 ** h.exponent;
  const fine = a.scale ** 2 / 12;
  let sum = 0;
  for (let i = 0; i < h.counts.length; i++) {
    const c = h.counts[i]!;
    if (c === 0) continue;
    // The outermost bins reach beyond what was seen.
    const from = Math.max(h.min, (h.start + i) * width);
    const to = Math.min(h.max, (h.start + i + 1) * width);
    const x = (from + to) / 2;
    const e = x < least ? least - x : x > most ? x - most : width < a.scale ? x - a.scale * Math.round(x / a.scale) : null;
    sum += c * (e === null ? fine : e * e);
  }
  return h.n ? sum / h.n : 0;
}

/** Shares of the range that are tried: from all of it down to a fiftieth. */
const shares = Array.from({ length: 192 }, (_, i) => 0.98 ** i);

/**
 * The range, no wider than what was seen, with the least {@link squaredError} for the codes of `dtype`: both ends searched in turn over 192
 * shares until neither moves (at most four rounds), or together where the codes lie symmetric around 0.
 */
export function squaredErrorRange(h: Histogram, dtype: IntType, symmetric: boolean): Range {
  const { n } = h;
  let best = { min: h.min, max: h.max };
  if (n === 0) return { ...best, n };
  let least = squaredError(h, best, dtype, symmetric);
  const look = (range: { min: number; max: number }) => {
    const e = squaredError(h, range, dtype, symmetric);
    if (e >= least) return false;
    [best, least] = [range, e];
    return true;
  };
  for (let round = 0, moved = true; moved && round < 4; round++) {
    moved = false;
    if (symmetric) for (const s of shares) moved = look({ min: h.min * s, max: h.max * s }) || moved;
    // An end on the far side of 0 says nothing: the range holds 0 anyway.
    if (h.max > 0) for (const s of shares) moved = look({ min: best.min, max: h.max * s }) || moved;
    if (h.min < 0) for (const s of shares) moved = look({ min: h.min * s, max: best.max }) || moved;
  }
  return { ...best, n };
}
