/**
 * Dimensions as terms, found by unification as types are in type inference: the heart of structured pruning.
 *
 * Every axis of every value is a {@link Dim}. It is free (an atom: so many positions of which nothing more is known), the same as another,
 * a **product** (row-major, the first factor slowest: what Reshape merges and splits) or a **sum** (end to end: what Concat joins, what
 * Split, Slice and Pad cut). An op's `axes` rule says which of its axes are the same, {@link unify} makes them so. Two different products
 * are matched factor by factor, two different sums are cut wherever either is cut, and a product falls apart as a sum by
 * (a + b) × c = a × c + b × c and, where a cut goes through one c, by a × c = a₀ × c + (c₀ + c₁) + a₁ × c. To refine a dim is to bind it, so
 * that whatever mentions it follows at once. Parts are always smaller than the whole, which is why all of this ends.
 *
 * What is still free when every node has spoken is a set of positions that occur together wherever they occur: coupled channels, heads
 * (h of h × d), halves of rotary embeddings, residual streams. Position i of an atom may be removed if nothing froze it: on every axis
 * whose term holds the atom, all positions whose coordinate in it is i go.
 *
 * Axes of size 1 are the {@link unit}: nothing can be removed from them, and they broadcast.
 */
export interface Dim {
  /** Positions. */
  readonly size: number;
  /** null: free. */
  form: { readonly same: Dim } | { readonly product: readonly Dim[] } | { readonly sum: readonly Dim[] } | null;
  /** Of a free dim: why nothing may be removed from it; null: it may. */
  frozen: string | null;
}

/** The one axis of size 1. */
export const unit: Dim = { size: 1, form: null, frozen: "of size 1" };

/** A dim of which nothing is known but its size. */
export function free(size: number, frozen: string | null = null): Dim {
  return size === 1 ? unit : { size, form: null, frozen };
}

/** What a dim stands for: free, a product or a sum. */
export function resolve(d: Dim): Dim {
  let at = d;
  while (at.form && "same" in at.form) at = at.form.same;
  return at;
}

/** The factors of a product, none of them a product or the unit. */
export function factors(dim: Dim): Dim[] {
  const d = resolve(dim);
  if (d === unit) return [];
  return d.form && "product" in d.form ? d.form.product.flatMap(factors) : [d];
}

/** The parts of a sum, none of them a sum or empty. */
export function parts(dim: Dim): Dim[] {
  const d = resolve(dim);
  if (d.size === 0) return [];
  return d.form && "sum" in d.form ? d.form.sum.flatMap(parts) : [d];
}

/** Row-major: the last factor runs fastest. */
export function product(dims: readonly Dim[]): Dim {
  const list = dims.flatMap(factors);
  if (list.length < 2) return list[0] ?? unit;
  return { size: list.reduce((n, d) => n * d.size, 1), form: { product: list }, frozen: null };
}

/** End to end. */
export function sum(dims: readonly Dim[]): Dim {
  const list = dims.flatMap(parts);
  if (list.length < 2) return list[0] ?? free(0);
  return { size: list.reduce((n, d) => n + d.size, 0), form: { sum: list }, frozen: null };
}

/** So many positions that cannot go: gates of an LSTM, the two directions of one, heads picked by number. */
export function units(n: number): Dim {
  return sum(Array.from({ length: n }, () => unit));
}

/** Nothing may be removed from any atom of `d`, for this reason; an earlier reason stays. */
export function freeze(dim: Dim, why: string): void {
  for (const atom of atoms(dim)) atom.frozen ??= why;
}

/** The free dims a dim is made of, the unit aside. */
export function atoms(dim: Dim, into = new Set<Dim>()): Set<Dim> {
  const d = resolve(dim);
  if (!d.form) {
    if (d !== unit) into.add(d);
  } else if ("product" in d.form) for (const p of d.form.product) atoms(p, into);
  else if ("sum" in d.form) for (const p of d.form.sum) atoms(p, into);
  return into;
}

/** `a` and `b` are the same positions in the same order. Where that cannot be said in terms, what is left over is frozen because of `why`. */
export function unify(first: Dim, second: Dim, why: string): void {
  const [a, b] = [resolve(first), resolve(second)];
  if (a === b) return;
  const [p, q] = [factors(a), factors(b)];
  if (a.size !== b.size || a.size === 0) freezeBoth([a], [b], why);
  else if (!a.form) bind(a, b);
  else if (!b.form) bind(b, a);
  else if (p.length > 1 && q.length > 1) match(p, q, why);
  else {
    const cuts = [...new Set([...borders(a), ...borders(b)])].sort((x, y) => x - y);
    const [left, right] = [split(a, cuts), split(b, cuts)];
    left.forEach((piece, i) => {
      unify(piece, right[i]!, why);
    });
  }
}

function bind(atom: Dim, to: Dim): void {
  atom.form = { same: to };
  if (atom.frozen) freeze(to, atom.frozen);
}

function freezeBoth(a: readonly Dim[], b: readonly Dim[], why: string): void {
  for (const d of [...a, ...b]) freeze(d, why);
}

/** Factor by factor from the left, then from the right; what neither reaches mixes. */
function match(first: readonly Dim[], second: readonly Dim[], why: string): void {
  const [a, b] = [[...first], [...second]];
  const meet = (at: 0 | -1): boolean => {
    const take = (list: Dim[]) => (at === 0 ? list.shift()! : list.pop()!);
    const give = (list: Dim[], dim: Dim) => (at === 0 ? list.unshift(...factors(dim)) : list.push(...factors(dim)));
    const [f, g] = [a.at(at)!, b.at(at)!];
    const [big, small, list] = f.size >= g.size ? [f, g, a] : [g, f, b];
    if (big.size % small.size !== 0) return false;
    take(a);
    take(b);
    if (big.size === small.size) unify(big, small, why);
    else {
      const rest = free(big.size / small.size);
      const whole = at === 0 ? [small, rest] : [rest, small];
      unify(big, product(whole), why);
      give(list, rest);
    }
    return true;
  };
  while (a.length && b.length && meet(0));
  while (a.length && b.length && meet(-1));
  freezeBoth(a, b, why);
}

/** Where one part of a sum ends and the next begins. */
function borders(d: Dim): number[] {
  let at = 0;
  return parts(d)
    .map((p) => (at += p.size))
    .slice(0, -1);
}

/** The pieces of `dim` between `cuts` (ascending, strictly inside), made parts of their own wherever it stands. */
export function split(dim: Dim, cuts: readonly number[]): Dim[] {
  const d = resolve(dim);
  if (cuts.length === 0) return [d];
  if (!d.form) {
    const ends = [...cuts, d.size];
    const pieces = ends.map((end, i) => free(end - (ends[i - 1] ?? 0), d.frozen));
    d.form = { sum: pieces };
    return pieces;
  }
  const fine = "sum" in d.form ? splitParts(parts(d), cuts) : splitProduct(factors(d), cuts);
  return gather(fine, cuts, d.size);
}

const inside = (cuts: readonly number[], from: number, size: number) =>
  cuts.filter((c) => c > from && c < from + size).map((c) => c - from);

function splitParts(list: readonly Dim[], cuts: readonly number[]): Dim[] {
  let at = 0;
  return list.flatMap((p) => {
    const pieces = split(p, inside(cuts, at, p.size));
    at += p.size;
    return pieces;
  });
}

function splitProduct([head, ...rest]: readonly Dim[], cuts: readonly number[]): Dim[] {
  const tail = product(rest);
  const n = tail.size;
  const ends = cuts.flatMap((c) => [Math.floor(c / n), Math.ceil(c / n)]).filter((q) => q > 0 && q < head!.size);
  let at = 0;
  return split(head!, [...new Set(ends)]).flatMap((h) => {
    const within = inside(cuts, at, h.size * n);
    at += h.size * n;
    return within.length ? split(tail, within) : [product([h, tail])];
  });
}

/** Fine pieces joined again where no cut is wanted. */
function gather(fine: readonly Dim[], cuts: readonly number[], size: number): Dim[] {
  const out: Dim[] = [];
  let [at, held]: [number, Dim[]] = [0, []];
  for (const p of fine) {
    held.push(p);
    at += p.size;
    if (at !== size && !cuts.includes(at)) continue;
    out.push(sum(held));
    held = [];
  }
  return out;
}

/** The size where atoms have the sizes `of` says. */
export function sizeWith(dim: Dim, of: (atom: Dim) => number): number {
  const d = resolve(dim);
  if (!d.form) return d === unit ? 1 : of(d);
  if ("product" in d.form) return d.form.product.reduce((n, p) => n * sizeWith(p, of), 1);
  return "sum" in d.form ? d.form.sum.reduce((n, p) => n + sizeWith(p, of), 0) : d.size;
}

/**
 * Each position's coordinate in `atom`, −1 where it has none.
 * A position may have but one: {@link squares} tells where not.
 */
export function coordinates(dim: Dim, atom: Dim): Int32Array {
  const d = resolve(dim);
  if (d === atom) return Int32Array.from({ length: d.size }, (_, i) => i);
  const out = new Int32Array(d.size).fill(-1);
  if (!d.form || !atoms(d).has(atom)) return out;
  if ("sum" in d.form) {
    let at = 0;
    for (const p of d.form.sum) {
      out.set(coordinates(p, atom), at);
      at += p.size;
    }
  } else if ("product" in d.form) {
    let inner = d.size;
    let outer = 1;
    for (const p of d.form.product) {
      inner /= p.size;
      const own = coordinates(p, atom);
      if (atoms(p).has(atom))
        for (let o = 0, at = 0; o < outer; o++)
          for (let i = 0; i < p.size; i++) for (let k = 0; k < inner; k++, at++) if (own[i]! >= 0) out[at] = own[i]!;
      outer *= p.size;
    }
  }
  return out;
}

/** The atoms that occur in two factors of one product: a position has two coordinates in them. */
export function squares(dim: Dim, into = new Set<Dim>()): Set<Dim> {
  const d = resolve(dim);
  if (!d.form) return into;
  const inner = "product" in d.form ? d.form.product : "sum" in d.form ? d.form.sum : [];
  for (const p of inner) squares(p, into);
  if ("product" in d.form) {
    const seen = new Set<Dim>();
    for (const p of d.form.product) {
      for (const a of atoms(p)) {
        if (seen.has(a)) into.add(a);
      }
      for (const a of atoms(p)) seen.add(a);
    }
  }
  return into;
}
