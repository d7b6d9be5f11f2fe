/** What each layer gets of what there is: the least error for the bytes, or the weights, there are. */

/** What a layer costs and does in one form. */
export interface Cost {
  /** Bytes stored, or whatever else there is only so much of. */
  readonly bytes: number;
  /** What the layer alone adds to the error in this form; errors of layers add up. */
  readonly error: number;
}

/** What a layer costs and does at one width. */
export interface Option extends Cost {
  /** Bits of a code; 32: floats as they are. */
  readonly bits: number;
}

/** One layer goes from an option to one of fewer bytes. */
export interface Move<O extends Cost = Option> {
  readonly layer: number;
  readonly to: O;
  /** Error added for a byte saved; negative where fewer bytes are better. */
  readonly price: number;
}

/**
 * All moves worth making, cheapest first, from every layer at its most bytes: of each layer's options those on the lower convex hull of
 * error over bytes, each edge at its slope. Whatever the number of moves made, no choice of as few bytes has less error in sum (Lagrangian
 * relaxation; Shoham and Gersho 1988, Efficient Bit Allocation for an Arbitrary Set of Quantizers).
 */
export function moves<O extends Cost>(layers: readonly (readonly O[])[]): Move<O>[] {
  const out: Move<O>[] = [];
  layers.forEach((options, layer) => {
    const hull = hullOf(options);
    for (let i = 1; i < hull.length; i++) out.push({ layer, to: hull[i]!, price: priceOf(hull[i - 1]!, hull[i]!) });
  });
  // Within a layer prices rise, and equal ones keep their order.
  return out.sort((a, b) => a.price - b.price);
}

const priceOf = (from: Cost, to: Cost) => (to.error - from.error) / (from.bytes - to.bytes);

/** The options where every layer starts: the most bytes, of those the least error. */
export function startOf<O extends Cost>(layers: readonly (readonly O[])[]): O[] {
  return layers.map((options) => hullOf(options)[0]!);
}

/** From the most bytes downwards, prices rising. */
function hullOf<O extends Cost>(options: readonly O[]): O[] {
  const sorted = [...options].sort((a, b) => b.bytes - a.bytes || b.error - a.error);
  const hull: O[] = [];
  for (const o of sorted) {
    if (hull.at(-1)?.bytes === o.bytes) hull.pop();
    while (hull.length > 1 && priceOf(hull.at(-2)!, hull.at(-1)!) >= priceOf(hull.at(-1)!, o)) hull.pop();
    hull.push(o);
  }
  return hull;
}

/** Every layer's option after the first `count` moves. */
export function after(layers: readonly (readonly Option[])[], all: readonly Move[], count: number): Option[] {
  const chosen = startOf(layers);
  for (const m of all.slice(0, count)) chosen[m.layer] = m.to;
  return chosen;
}

/**
 * The options with the least error, in sum, that take at most `bytes`: moves until it fits, then whatever still fits into the rest, best
 * first, off the hull too. null: not even the fewest bytes fit.
 */
export function assign(layers: readonly (readonly Option[])[], bytes: number): Option[] | null {
  const all = moves(layers);
  const sum = (chosen: readonly Option[]) => chosen.reduce((n, o) => n + o.bytes, 0);
  let count = 0;
  let chosen = after(layers, all, 0);
  while (sum(chosen) > bytes) {
    if (count === all.length) return null;
    chosen = after(layers, all, ++count);
  }
  for (;;) {
    const room = bytes - sum(chosen);
    let best: { layer: number; to: Option; gain: number } | null = null;
    for (const [layer, options] of layers.entries())
      for (const to of options) {
        const from = chosen[layer]!;
        const more = to.bytes - from.bytes;
        const gain = (from.error - to.error) / Math.max(1, more);
        if (more <= room && from.error > to.error && gain > (best?.gain ?? 0)) best = { layer, to, gain };
      }
    if (!best) return chosen;
    chosen[best.layer] = best.to;
  }
}
