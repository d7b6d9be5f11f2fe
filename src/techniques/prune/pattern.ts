/** From scores to masks: which weights are the least important ones, one by one, of every few neighbours, or in blocks. */
import { Fault } from "../../tensor/fault.ts";

/**
 * What goes or stays together in a matrix [rows = outputs, columns = inputs] of a layer's weights: each weight for itself (free); of every
 * `of` neighbours along a row at most `keep` stay (N:M); blocks of rows × columns whole.
 */
export type Pattern =
  | { readonly kind: "free" }
  | { readonly kind: "nm"; readonly keep: number; readonly of: number }
  | { readonly kind: "block"; readonly rows: number; readonly columns: number };

/** "free", "2:4", "4x4", "1x8" (a vector along the inputs), "16x1" (along the outputs). Errors: any other text. */
export function parsePattern(text: string): Pattern {
  const t = text.trim();
  if (t === "free") return { kind: "free" };
  const [, a, sign, b] = /^(\d{1,6})([:x])(\d{1,6})$/.exec(t) ?? [];
  const [first, second] = [Number(a), Number(b)];
  if (sign === ":" && first >= 1 && first < second) return { kind: "nm", keep: first, of: second };
  if (sign === "x" && first >= 1 && second >= 1)
    return first * second === 1 ? { kind: "free" } : { kind: "block", rows: first, columns: second };
  throw new Fault("pattern", `must be free, n:m with 1 ≤ n < m such as 2:4, or rows x columns such as 4x4 or 1x8; got "${text}"`);
}

/** A layer's scores ≥ 0, row-major [rows, columns]: higher ones stay. */
export interface Scored {
  readonly scores: Float32Array;
  readonly rows: number;
  readonly columns: number;
}

/** What is compared: all layers' weights, each layer's, or those of each row (with blocks: of each row of blocks). */
export type Scope = "global" | "layer" | "row";

/**
 * Masks (1 stays, 0 goes) of the layers' own layout that remove the fraction `sparsity` of lowest scores: of all layers' together (global),
 * of each layer's own, or of each row's (one sparsity for all, or one for each layer). Free: exactly ⌊sparsity·n⌉ weights go, of equal scores the earlier ones first.
 * Blocks go by their mean score, as many as come nearest to that number; those at the edge may be smaller. N:M fixes what goes and ignores
 * `sparsity` and `scope`; the neighbours at the end of a row may be fewer than `of`. Every layer (row) keeps at least one weight, or block.
 * Errors: a score that is no number ≥ 0.
 */
export function select(
  layers: readonly Scored[],
  sparsity: number | readonly number[],
  scope: Scope,
  pattern: Pattern = { kind: "free" },
): Uint8Array<ArrayBuffer>[] {
  layers.forEach(({ scores, rows, columns }, i) => {
    if (scores.length !== rows * columns)
      throw new Fault("prune", `layer ${i} has ${scores.length} scores for ${rows} × ${columns} weights`);
    const bad = noScore(scores);
    if (bad >= 0) throw new Fault("prune", `scores must be numbers of at least 0; got ${scores[bad]} in layer ${i}`);
  });
  if (pattern.kind === "nm") return layers.map((l) => ofNeighbours(l, pattern.keep, pattern.of));
  const share = (i: number) => (typeof sparsity === "number" ? sparsity : sparsity[i]!);
  if (scope === "row") return layers.map((l, i) => byRows(l, share(i), pattern));
  const units = layers.map((l) => unitsOf(l, pattern));
  const weights = (us: readonly Units[]) => us.reduce((n, u) => n + u.weights, 0);
  const marked =
    scope === "layer" || typeof sparsity !== "number"
      ? units.map((u, i) => mark([u], Math.round(share(i) * u.weights))[0]!)
      : mark(units, Math.round(sparsity * weights(units)));
  return units.map((u, i) => {
    const keep = marked[i]!;
    if (keep.length && !keep.includes(1)) keep[highest(u.scores)] = 1;
    return u.spread(keep);
  });
}

/** Where the first is that is no number ≥ 0; −1: nowhere. */
function noScore(scores: Float32Array): number {
  for (let i = 0; i < scores.length; i++) if (!(scores[i]! >= 0)) return i;
  return -1;
}

function byRows({ scores, rows, columns }: Scored, sparsity: number, pattern: Pattern): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(scores.length);
  const tall = pattern.kind === "block" ? pattern.rows : 1;
  for (let r = 0; r < rows; r += tall) {
    const some = { scores: scores.subarray(r * columns, (r + tall) * columns), rows: Math.min(tall, rows - r), columns };
    out.set(select([some], sparsity, "layer", pattern)[0]!, r * columns);
  }
  return out;
}

/** What is kept or removed at once. */
interface Units {
  readonly scores: Float32Array;
  /** Weights of each; null: one. */
  readonly sizes: Uint32Array | null;
  /** Of all together. */
  readonly weights: number;
  /** From a mask of units to one of weights. */
  readonly spread: (keep: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>;
}

function unitsOf({ scores, rows, columns }: Scored, pattern: Pattern): Units {
  const weights = scores.length;
  if (pattern.kind !== "block") return { scores, sizes: null, weights, spread: (keep) => keep };
  const across = Math.ceil(columns / pattern.columns);
  const count = across * Math.ceil(rows / pattern.rows);
  const unit = (i: number) => {
    const row = Math.floor(i / columns);
    return Math.floor(row / pattern.rows) * across + Math.floor((i - row * columns) / pattern.columns);
  };
  const sums = new Float64Array(count);
  const sizes = new Uint32Array(count);
  scores.forEach((s, i) => {
    sums[unit(i)]! += s;
    sizes[unit(i)]!++;
  });
  const spread = (keep: Uint8Array) => Uint8Array.from(scores, (_, i) => keep[unit(i)]!);
  return { scores: Float32Array.from(sums, (s, i) => s / sizes[i]!), sizes, weights, spread };
}

/** Shift and width of the digits that bits of floats are read in. */
const digits = [
  [21, 11],
  [10, 11],
  [0, 10],
] as const;

/** Masks with the units of the lowest scores at 0, `count` weights in all. The bits of floats ≥ 0 order as they do: a radix selection. */
function mark(layers: readonly Units[], count: number): Uint8Array<ArrayBuffer>[] {
  const bits = layers.map(({ scores }) => bitsOf(scores));
  // The highest bits of the threshold first; `rest`: how many weights go whose bits so far equal its own.
  let threshold = 0;
  let rest = count;
  for (const [shift, width] of digits) {
    const counts = new Float64Array(1 << width);
    bits.forEach((b, l) => {
      tally(b, layers[l]!.sizes, shift, width, threshold, counts);
    });
    let digit = 0;
    while (digit < counts.length - 1 && counts[digit]! <= rest) rest -= counts[digit++]!;
    threshold = threshold * (1 << width) + digit;
  }
  let ties = rest;
  return bits.map((b, l) => {
    const { sizes } = layers[l]!;
    const keep = above(b, threshold);
    for (let i = ties > 0 ? b.indexOf(threshold) : -1; i >= 0 && ties > 0; i = b.indexOf(threshold, i + 1)) {
      const size = sizes ? sizes[i]! : 1;
      // The nearest number of weights: a block of which less than half is wanted stays.
      keep[i] = 2 * ties >= size ? 0 : 1;
      ties = keep[i] ? 0 : ties - size;
    }
    return keep;
  });
}

function bitsOf(scores: Float32Array): Uint32Array {
  const out = new Float32Array(scores.length);
  // −0 is 0.
  for (let i = 0; i < out.length; i++) out[i] = scores[i]! + 0;
  return new Uint32Array(out.buffer);
}

/** Adds up by digit how many weights the units have whose bits above it are those of `prefix`. */
function tally(b: Uint32Array, sizes: Uint32Array | null, shift: number, width: number, prefix: number, counts: Float64Array): void {
  const digit = (1 << width) - 1;
  for (let i = 0; i < b.length; i++) {
    const x = b[i]! >>> shift;
    if (x >>> width === prefix) counts[x & digit]! += sizes ? sizes[i]! : 1;
  }
}

/** 1 where it is not below. */
function above(b: Uint32Array, threshold: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(b.length);
  for (let i = 0; i < b.length; i++) out[i] = b[i]! < threshold ? 0 : 1;
  return out;
}

/** The highest `keep` of every `of` neighbours in a row stay; of equal scores the later ones. */
function ofNeighbours({ scores, rows, columns }: Scored, keep: number, of: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(scores.length);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c += of) {
      const start = r * columns + c;
      const n = Math.min(of, columns - c);
      for (let left = Math.min(keep, n); left > 0; left--) {
        let best = -1;
        for (let i = start; i < start + n; i++) if (!out[i] && (best < 0 || scores[i]! >= scores[best]!)) best = i;
        out[best] = 1;
      }
    }
  return out;
}

function highest(scores: Float32Array): number {
  let best = 0;
  for (let i = 1; i < scores.length; i++) if (scores[i]! > scores[best]!) best = i;
  return best;
}
