/** Masks made better after they were chosen: weights that go change places with ones that stay wherever that lowers the error they make together. */

import { type SwapsKernel, swapsKernel } from "../../tensor/kernels/swaps.ts";
import { type Dense, dense, type Matrix } from "../../tensor/linalg/dense.ts";

/** A layer's weights and what it costs to remove some: tr(G·δ·H·δᵀ) for δ [rows, columns] with the weights that go, zeros elsewhere. */
export interface Refinable {
  readonly rows: number;
  readonly columns: number;
  /** [rows, columns]. */
  readonly weights: ArrayLike<number>;
  /** H, [columns, columns], of the layer's inputs; symmetric. */
  readonly inputs: Float64Array;
  /** G, [rows, rows], of its outputs; symmetric. null: the identity. */
  readonly outputs: Float64Array | null;
  /** 1 stays. What goes and is 0 already never comes back. */
  readonly keep: Uint8Array;
}

export interface RefineOptions {
  /** Weights move between rows and layers too: as many go of all together as before. false: as many of each row. */
  readonly moves?: boolean;
  /** By how much the share that goes of a layer may come to differ from what it was. Default 1: by any. */
  readonly spread?: number;
  /** Exchanges are within every so many neighbours of a row, as N:M patterns want; with it nothing moves between rows. Default: a whole row. */
  readonly group?: number;
}

export interface Refined {
  readonly masks: Uint8Array<ArrayBuffer>[];
  /** The cost of the masks given, and of these: never higher. */
  readonly before: number;
  readonly after: number;
}

/** Vectors of a row's length. */
const lines = 9;
/** Rows whose coupling to all others is computed in one product. */
const block = 32;
/** Sweeps that move, and ones that exchange. */
const [moving, exchanging] = [6, 3];
/** What a change must win, as a share of the cost by weight. */
const tolerance = 1e-9;

/**
 * Row by row, with all other rows as they are, each of which it sees through G: exchanges of a weight that goes for one that stays while they
 * lower the cost, for each weight that goes the best one (the 1-swaps of Zimmer et al. 2025, SparseSwaps, there with G the identity). With
 * `moves` first weights turn round one by one, the one that wins most first, at a price for each that stays, which is the same in all
 * rows and layers and is set anew after each sweep so that as many go as before; what is missing at the end goes (comes back) by the cost of
 * each alone. O(rows·columns·(rows + weights turned)) and exchanges O(rows·columns²) a sweep.
 */
export function refine(layers: readonly Refinable[], { moves = false, spread = 1, group }: RefineOptions = {}): Refined {
  const most = (f: (l: Refinable) => number) => layers.reduce((n, l) => Math.max(n, f(l)), 1);
  const space = roomFor(
    most((l) => l.rows),
    most((l) => l.columns),
    most((l) => l.rows * l.columns),
  );
  const states = layers.map((l) => stateOf(l));
  const target = states.reduce((n, { signs }) => n + goneOf(signs), 0);
  for (const s of states) begin(space, s);
  const cost = () => states.reduce((sum, s) => sum + costOf(space, s), 0);
  const before = cost();
  const start = states.map((s) => ({ signs: s.signs.slice(), product: s.product.slice() }));
  const least = (tolerance * before) / Math.max(1, target);
  const exchange = () => {
    for (let sweep = 0; sweep < exchanging; sweep++) {
      const counts = states.map((s) =>
        visit(space, s, (at, g) =>
          space.kernel.swaps(
            at.w,
            at.s,
            at.h,
            at.diagonal,
            at.c,
            at.work,
            s.of.columns,
            group ?? s.of.columns,
            least / g,
            at.roots,
            at.bounds,
          ),
        ),
      );
      if (counts.every((n) => n === 0)) break;
    }
  };
  if (moves && !group && target > 0 && before > 0) {
    const bounds = states.map(({ signs }) => {
      const n = signs.length;
      const had = goneOf(signs);
      return [Math.max(0, Math.floor(had - spread * n)), Math.min(n - 1, Math.ceil(had + spread * n))] as const;
    });
    for (let sweep = 0; sweep < moving; sweep++) {
      const shares = shared(marginals(space, states), bounds, target);
      states.forEach((s, l) => {
        const { price } = shares[l]!;
        visit(space, s, (at, g) => space.kernel.flips(at.w, at.s, at.h, at.diagonal, at.c, at.work, s.of.columns, price / g, least / g));
      });
    }
    const costs = marginals(space, states);
    const shares = shared(costs, bounds, target);
    states.forEach((s, l) => {
      settle(s, costs[l]!, shares[l]!.gone);
    });
  }
  exchange();
  let after = cost();
  if (after > before) {
    states.forEach((s, i) => {
      s.signs.set(start[i]!.signs);
      s.product.set(start[i]!.product);
    });
    exchange();
    after = cost();
  }
  return { masks: states.map(({ signs }) => Uint8Array.from(signs, (s) => (s > 0 ? 1 : 0))), before, after };
}

const goneOf = (signs: Float64Array) => signs.reduce((k, s) => k + (s < 0 ? 1 : 0), 0);

interface State {
  readonly of: Refinable;
  /** 1 stays, −1 goes. */
  readonly signs: Float64Array<ArrayBuffer>;
  /** δ·H. */
  readonly product: Float64Array<ArrayBuffer>;
  readonly diagonal: Float64Array<ArrayBuffer>;
  readonly bounds: Float64Array<ArrayBuffer>;
  /** G with a diagonal above 0; null: the identity. */
  readonly outputs: Float64Array | null;
}

function stateOf(of: Refinable): State {
  const { rows, columns, keep, inputs } = of;
  let outputs: Float64Array | null = null;
  if (of.outputs) {
    outputs = of.outputs.slice();
    let trace = 0;
    for (let r = 0; r < rows; r++) trace += outputs[r * (rows + 1)]!;
    const floor = (1e-9 * trace) / rows || 1e-30;
    for (let r = 0; r < rows; r++) outputs[r * (rows + 1)] = Math.max(floor, outputs[r * (rows + 1)]!);
  }
  return {
    of,
    signs: Float64Array.from(keep, (k) => (k ? 1 : -1)),
    product: new Float64Array(rows * columns),
    diagonal: Float64Array.from({ length: columns }, (_, j) => inputs[j * (columns + 1)]!),
    outputs,
    bounds: boundsOf(inputs, columns),
  };
}

/** For each column the most of |H_jp|/√H_pp over the others, rounded up. */
function boundsOf(h: Float64Array, n: number): Float64Array<ArrayBuffer> {
  const by = Float64Array.from({ length: n }, (_, p) => 1 / Math.sqrt(h[p * (n + 1)]!));
  return Float64Array.from({ length: n }, (_, j) => {
    let most = 0;
    for (let p = 0; p < n; p++) if (p !== j && h[j * n + p] !== 0) most = Math.max(most, Math.abs(h[j * n + p]!) * by[p]!);
    return most * (1 + 1e-9);
  });
}

/** Room for one layer at a time. */
interface Room {
  readonly space: Dense;
  readonly kernel: SwapsKernel;
  readonly h: Matrix;
  readonly g: Matrix;
  readonly p: Matrix;
  readonly c: Matrix;
  readonly vectors: Matrix;
}

function roomFor(rows: number, columns: number, weights: number): Room {
  const space = dense(columns ** 2 + rows ** 2 + weights + (block + lines) * columns);
  const [h, g] = [space.matrix(columns, columns), space.matrix(rows, rows)];
  return {
    space,
    kernel: swapsKernel(space.memory),
    h,
    g,
    p: space.matrix(1, weights),
    c: space.matrix(block, columns),
    vectors: space.matrix(lines, columns),
  };
}

/** The first rows · columns elements as a matrix of its own. */
const within = ({ at, data }: Matrix, rows: number, columns: number): Matrix => ({
  rows,
  columns,
  at,
  data: data.subarray(0, rows * columns),
});

/** δ·H of the masks given. */
function begin({ space, h, p, c }: Room, { of, signs, product }: State): void {
  const { rows, columns: n, weights, inputs } = of;
  const [hessian, all, some] = [within(h, n, n), within(p, rows, n), within(c, block, n)];
  hessian.data.set(inputs);
  all.data.fill(0);
  for (let from = 0; from < rows; from += block) {
    const count = Math.min(block, rows - from);
    for (let i = 0; i < count * n; i++) some.data[i] = signs[from * n + i]! < 0 ? weights[from * n + i]! : 0;
    space.multiply({ of: all, row: from, rows: count }, { of: some, rows: count }, { of: hessian });
  }
  product.set(all.data);
}

/** Where a row lies: weights, signs, H and its diagonal, c = (G·δ·H)_row / G_row,row, and work space. */
interface Addresses {
  readonly w: number;
  readonly s: number;
  readonly h: number;
  readonly diagonal: number;
  readonly c: number;
  readonly work: number;
  /** √ of H's diagonal, and for each column the most of |H_jp|/√H_pp over the others. */
  readonly roots: number;
  readonly bounds: number;
}

/** Lets `change` change one row after the other, and sums what it gives. `g`: G's diagonal there. */
function visit(room: Room, s: State, change: (at: Addresses, g: number, row: number) => number): number {
  const { space, vectors } = room;
  const { rows, columns: n, weights, inputs } = s.of;
  const h = within(room.h, n, n);
  const p = within(room.p, rows, n);
  const c = within(room.c, block, n);
  const v = within(vectors, lines, n);
  h.data.set(inputs);
  p.data.set(s.product);
  const g = s.outputs && within(room.g, rows, rows);
  g?.data.set(s.outputs!);
  const line = (i: number) => v.data.subarray(i * n, (i + 1) * n);
  const [w, signs, diagonal, now, old] = [0, 1, 2, 3, 4].map(line) as [
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  const place = (i: number) => v.at + i * n * 8;
  const at = { w: place(0), s: place(1), h: h.at, diagonal: place(2), c: place(3), work: place(5), roots: place(7), bounds: place(8) };
  diagonal.set(s.diagonal);
  line(7).set(s.diagonal.map(Math.sqrt));
  line(8).set(s.bounds);
  let sum = 0;
  for (let from = 0; from < rows; from += block) {
    const count = Math.min(block, rows - from);
    c.data.fill(0);
    if (g) space.multiply({ of: c, rows: count }, { of: g, row: from, rows: count }, { of: p });
    else c.data.set(p.data.subarray(from * n, (from + count) * n));
    for (let i = 0; i < count; i++) {
      const r = from + i;
      const own = g ? g.data[r * (rows + 1)]! : 1;
      for (let j = 0; j < n; j++) w[j] = weights[r * n + j]!;
      signs.set(s.signs.subarray(r * n, (r + 1) * n));
      for (let j = 0; j < n; j++) old[j] = now[j] = c.data[i * n + j]! / own;
      const found = change(at, own, r);
      sum += found;
      if (found === 0 || now.every((x, j) => x === old[j])) continue;
      s.signs.set(signs, r * n);
      for (let j = 0; j < n; j++) old[j] = now[j]! - old[j]!;
      for (let j = 0; j < n; j++) p.data[r * n + j]! += old[j]!;
      if (g)
        for (let k = i + 1; k < count; k++) {
          const by = g.data[(from + k) * rows + r]!;
          for (let j = 0; j < n; j++) c.data[k * n + j]! += by * old[j]!;
        }
    }
  }
  s.product.set(p.data);
  return sum;
}

/** tr(G·δ·H·δᵀ). */
function costOf(room: Room, s: State): number {
  const { columns: n, weights } = s.of;
  let sum = 0;
  look(room, s, (row, c, g) => {
    for (let j = 0; j < n; j++) if (s.signs[row * n + j]! < 0) sum += g * weights[row * n + j]! * c[j]!;
  });
  return sum;
}

/** Goes over the rows without changing any. */
function look(room: Room, s: State, at: (row: number, c: Float64Array, g: number) => void): void {
  const n = s.of.columns;
  const c = within(room.vectors, lines, n).data.subarray(3 * n, 4 * n);
  visit(room, s, (_, g, row) => {
    at(row, c, g);
    return 0;
  });
}

/** What removing each weight that stays would cost, and what each that goes costs; of weights that are 0 and gone NaN. */
function marginals(room: Room, states: readonly State[]): Float64Array[] {
  return states.map((s) => {
    const n = s.of.columns;
    const out = new Float64Array(s.signs.length);
    look(room, s, (row, c, g) => {
      for (let j = 0; j < n; j++) {
        const i = row * n + j;
        const w = s.of.weights[i]!;
        const sign = s.signs[i]!;
        out[i] = sign < 0 && w === 0 ? Number.NaN : g * w * (sign * w * s.diagonal[j]! + 2 * c[j]!);
      }
    });
    return out;
  });
}

/** How many of each layer go, and the cost below which those of it lie. */
interface Share {
  readonly gone: number;
  readonly price: number;
}

/** Shares of `target` in all: in every layer those below one price, but no fewer and no more than its bounds say, and one of each stays. */
function shared(costs: readonly Float64Array[], bounds: readonly (readonly [number, number])[], target: number): Share[] {
  const sorted = costs.map((c) => Float64Array.from(c, (x) => (Number.isNaN(x) ? -Infinity : x)).sort());
  const clamped = (of: (l: number) => number) => bounds.map(([low, high], l) => Math.min(high, Math.max(low, of(l))));
  const sum = (counts: readonly number[]) => counts.reduce((a, b) => a + b, 0);
  const all = new Float64Array(sum(sorted.map((c) => c.length)));
  for (const [l, c] of sorted.entries()) all.set(c, sum(sorted.slice(0, l).map((x) => x.length)));
  all.sort();
  // The most weights that one price lets go, up to the target; a few layers then give one more each.
  let [low, high] = [0, all.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (sum(clamped((l) => below(sorted[l]!, all[middle - 1]!))) <= target) low = middle;
    else high = middle - 1;
  }
  const counts = clamped((l) => (low > 0 ? below(sorted[l]!, all[low - 1]!) : 0));
  let missing = target - sum(counts);
  for (let l = 0; missing > 0 && l < counts.length; l++) {
    const more = Math.min(missing, bounds[l]![1] - counts[l]!);
    counts[l]! += more;
    missing -= more;
  }
  return counts.map((gone, l) => {
    const c = sorted[l]!;
    return { gone, price: gone === 0 ? -Infinity : gone === c.length ? Infinity : (c[gone - 1]! + c[gone]!) / 2 };
  });
}

/** How many of the sorted numbers are at most x. */
function below(sorted: Float64Array, x: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! <= x) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Lets as many go as there shall be, those of least cost alone, or as many come back. */
function settle({ of, signs, product }: State, costs: Float64Array, gone: number): void {
  const { columns: n, weights, inputs } = of;
  const more = gone - goneOf(signs);
  const sign = more > 0 ? 1 : -1;
  const candidates = Array.from(signs.keys()).filter((i) => signs[i] === sign && !Number.isNaN(costs[i]!));
  candidates.sort((a, b) => sign * (costs[a]! - costs[b]!));
  for (const i of candidates.slice(0, Math.abs(more))) {
    const [row, j] = [Math.floor(i / n), i % n];
    const by = signs[i]! * weights[i]!;
    signs[i]! *= -1;
    for (let k = 0; k < n; k++) product[row * n + k]! += by * inputs[j * n + k]!;
  }
}
