/**
 * Structured Optimal Brain Surgeon: what the layers that read a group lose with an index of it once the weights that stay make up for it
 * (Kurtic et al. 2023, ZipLM, section 3.1), weighed by the loss's curvature at their outputs (Wang et al. 2019, EigenDamage; van der
 * Ouderaa et al. 2023, The LLM Surgeon).
 */
import type { Dataset } from "../../data/dataset.ts";
import type { Model } from "../../ir/graph.ts";
import { inverse } from "../../tensor/linalg/dense.ts";
import type { Loss } from "../../train/loss.ts";
import type { Group, Member } from "../../transform/groups.ts";
import { type FactorOptions, type Factors, kroneckerFactors } from "../kronecker.ts";
import { elementsOf } from "../matrix.ts";
import { unseen } from "../moments.ts";
import { type WeightLayer, weightLayers } from "../weightlayers.ts";
import { magnitudeOf } from "./groupimportance.ts";
import { layoutOf } from "./layout.ts";

/** A layer W that reads a group, by what its columns are worth: for a change Δ of W the loss rises by ½·tr(G·Δ·H·Δᵀ). Symmetric [n, n], row-major. */
export interface Reader {
  /** H⁻¹. */
  readonly inverse: Float64Array;
  /** Wᵀ·G·W. */
  readonly felt: Float64Array;
  /** Of each column, the group's index; −1: none. */
  readonly index: Int32Array;
}

/** Indices that go before the whole of H⁻¹ is brought up to date, as a share of what is left, and how many times as many are looked at for it. */
const [share, among] = [1 / 32, 3];
/** Rows and columns of what went are dropped once less than this share of them is left: they are zero, and cost time. */
const dense = 7 / 8;
/** The ridge, as a share of the mean square of the inputs. */
const damp = 1e-2;
/** Columns from which a Conv's channels are looked at without the places of its window, and above which a layer is not looked at. */
const [wide, widest] = [1100, 4096];
/** Bytes of factors at a time, and most rows of a writing layer. */
const [perPart, mostRows] = [1e9, 4096];

/**
 * By index of a group of `size`, what goes with it when the cheapest go one after the other: ½·Σ over readers tr([(H⁻¹)_JJ]⁻¹·(Wᵀ·G·W)_JJ) with J its
 * columns (ZipLM, eq. 1), where W and H⁻¹ are what the removals before left of them; never less than of one before. The readers' arrays are used up.
 */
export function surgeonCosts(given: readonly Reader[], size: number): Float64Array {
  const costs = new Float64Array(size);
  let readers = given;
  let columns = readers.map(({ index }) => columnsOf(index, size));
  let left = Array.from({ length: size }, (_, i) => i);
  let whole = size;
  let least = 0;
  while (left.length) {
    const now = left.map((i) => ({ i, cost: costOf(readers, columns, i) })).sort((a, b) => a.cost - b.cost || a.i - b.i);
    const count = Math.ceil(left.length * share);
    // Whatever happens elsewhere, what these do to one another is in their own rows and columns.
    const chosen = now.slice(0, count * among).map(({ i }) => i);
    const parts = readers.map((r, k) =>
      part(
        r,
        chosen.flatMap((i) => columns[k]![i]!),
      ),
    );
    const within = parts.map(({ index }) => columnsOf(index, size));
    const gone = new Set<number>();
    for (let n = 0; n < count; n++) {
      let best = -1;
      let price = Infinity;
      for (const i of chosen) {
        if (gone.has(i)) continue;
        const cost = costOf(parts, within, i);
        if (best < 0 || cost < price) [best, price] = [i, cost];
      }
      // A trifle more, so that the costs tell the order too.
      costs[best] = least = Math.max(least * (1 + 1e-9), Number.isFinite(price) ? price : 0);
      gone.add(best);
      if (gone.size < chosen.length) for (const [k, r] of parts.entries()) without(r, within[k]![best]!);
    }
    left = left.filter((i) => !gone.has(i));
    if (left.length)
      for (const [k, r] of readers.entries())
        without(
          r,
          [...gone].flatMap((i) => columns[k]![i]!),
        );
    if (left.length < whole * dense) {
      const stays = new Set(left).add(-1);
      readers = readers.map((r) =>
        part(
          r,
          Array.from(r.index.keys()).filter((c) => stays.has(r.index[c]!)),
        ),
      );
      columns = readers.map(({ index }) => columnsOf(index, size));
      whole = left.length;
    }
  }
  return costs;
}

function columnsOf(index: Int32Array, size: number): number[][] {
  const out = Array.from({ length: size }, (): number[] => []);
  index.forEach((i, c) => {
    if (i >= 0) out[i]!.push(c);
  });
  return out;
}

function part({ inverse, felt, index }: Reader, columns: readonly number[]): Reader {
  const n = index.length;
  const of = (m: Float64Array) => {
    const out = new Float64Array(columns.length ** 2);
    let at = 0;
    for (const r of columns) for (const c of columns) out[at++] = m[r * n + c]!;
    return out;
  };
  return { inverse: of(inverse), felt: of(felt), index: Int32Array.from(columns, (c) => index[c]!) };
}

function costOf(readers: readonly Reader[], columns: readonly number[][][], i: number): number {
  let sum = 0;
  for (const [k, { inverse: inv, felt, index }] of readers.entries()) {
    const [n, j] = [index.length, columns[k]![i]!];
    if (j.length === 1) {
      const at = j[0]! * (n + 1);
      if (inv[at]! > 0) sum += Math.max(0, felt[at]!) / inv[at]! / 2;
    } else if (j.length) {
      const b = inverted(inv, n, j);
      for (const [r, row] of j.entries())
        for (const [c, column] of j.entries()) sum += (b[r * j.length + c]! * felt[row * n + column]!) / 2;
    }
  }
  return Math.max(0, sum);
}

/** The inverse of the rows and columns `j` of a positive definite matrix, by Gauss-Jordan without pivots. */
function inverted(m: Float64Array, n: number, j: readonly number[]): Float64Array {
  const k = j.length;
  const a = new Float64Array(k * k);
  for (let r = 0; r < k; r++) for (let c = 0; c < k; c++) a[r * k + c] = m[j[r]! * n + j[c]!]!;
  for (let p = 0; p < k; p++) {
    const d = 1 / a[p * k + p]!;
    a[p * k + p] = 1;
    for (let c = 0; c < k; c++) a[p * k + c]! *= d;
    for (let r = 0; r < k; r++) {
      if (r === p) continue;
      const f = a[r * k + p]!;
      a[r * k + p] = 0;
      for (let c = 0; c < k; c++) a[r * k + c]! -= f * a[p * k + c]!;
    }
  }
  return a;
}

/** Takes columns J out: W ← W − W_J·Pᵀ and H⁻¹ ← H⁻¹ − P·(H⁻¹)_J: with P = (H⁻¹)_:J·[(H⁻¹)_JJ]⁻¹; their rows and columns become zero. */
function without({ inverse: inv, felt, index }: Reader, j: readonly number[]): void {
  const [n, k] = [index.length, j.length];
  if (k === 0) return;
  const b = inverted(inv, n, j);
  const [p, q, u] = [new Float64Array(k * n), new Float64Array(k * n), new Float64Array(k * n)];
  for (let c = 0; c < k; c++) {
    q.set(inv.subarray(j[c]! * n, (j[c]! + 1) * n), c * n);
    u.set(felt.subarray(j[c]! * n, (j[c]! + 1) * n), c * n);
  }
  for (let r = 0; r < k; r++) for (let c = 0; c < k; c++) for (let i = 0; i < n; i++) p[r * n + i]! += b[r * k + c]! * q[c * n + i]!;
  // With U = M_:J − ½·P·M_JJ the change of M = Wᵀ·G·W is −(U·Pᵀ + P·Uᵀ).
  for (let r = 0; r < k; r++)
    for (let c = 0; c < k; c++) {
      const half = felt[j[r]! * n + j[c]!]! / 2;
      for (let i = 0; i < n; i++) u[r * n + i]! -= half * p[c * n + i]!;
    }
  // Row by row, so that each is in the cache for all of J.
  for (let i = 0; i < n; i++)
    for (let c = 0; c < k; c++) {
      const [pi, ui] = [p[c * n + i]!, u[c * n + i]!];
      if (pi === 0 && ui === 0) continue;
      for (let l = c * n, to = i * n; l < (c + 1) * n; l++, to++) {
        inv[to]! -= pi * q[l]!;
        felt[to]! -= ui * p[l]! + pi * u[l]!;
      }
    }
  for (const c of j) for (let i = 0; i < n; i++) inv[c * n + i] = inv[i * n + c] = felt[c * n + i] = felt[i * n + c] = 0;
}

/**
 * The costs of {@link surgeonCosts} of every group, on so many examples as {@link kroneckerFactors} takes. A group that no layer with weights
 * reads as inputs has those of its weights' rows instead, ½·G_jj·w_j·H·w_jᵀ; one that has none the shares of its squares, scaled to what
 * others lose. Errors: those of kroneckerFactors.
 */
export async function surgeonOf(
  model: Model,
  groups: readonly Group[],
  data: Dataset,
  loss: Loss,
  { seed, threads }: FactorOptions,
): Promise<Map<Group, Float64Array>> {
  const layers = weightLayers(model).layers.filter((l) => unseen(l) === null && l.matrix.columns <= widest);
  const indices = (m: Member, by: "columns" | "rows") =>
    layers.flatMap((l) => {
      const index = l.weight === m.value ? alongMatrix(l, m, by) : null;
      return index ? [{ l, index }] : [];
    });
  const sitesOf = (of: readonly Group[], role: "in" | "out") =>
    new Map(of.map((g) => [g, g.members.flatMap((m) => (m.role === role ? indices(m, role === "in" ? "columns" : "rows") : []))]));
  const factorsOf = async (wanted: Iterable<WeightLayer>, felt: boolean) => {
    const out = new Map<WeightLayer, Factors | null>();
    for (const some of partsOf([...new Set(wanted)]))
      for (const [i, f] of (await kroneckerFactors(model, some, data, loss, { seed, threads, felt })).entries()) out.set(some[i]!, f);
    return out;
  };
  const out = new Map<Group, Float64Array>();
  const reading = sitesOf(groups, "in");
  const felt = await factorsOf(
    [...reading.values()].flat().map((s) => s.l),
    true,
  );
  for (const [g, sites] of reading) {
    if (sites.length === 0) continue;
    out.set(
      g,
      surgeonCosts(
        sites.flatMap(({ l, index }) => (felt.get(l) ? [readerOf(l, felt.get(l)!, index)] : [])),
        g.size,
      ),
    );
  }
  const others = sitesOf(
    groups.filter((g) => !out.has(g)),
    "out",
  );
  for (const [g, sites] of others)
    others.set(
      g,
      sites.filter(({ l }) => l.matrix.rows <= mostRows),
    );
  const written = await factorsOf(
    [...others.values()].flat().map((s) => s.l),
    false,
  );
  for (const [g, sites] of others) {
    if (sites.length === 0) continue;
    const costs = new Float64Array(g.size);
    for (const { l, index } of sites) rowCosts(l, written.get(l) ?? null, index, costs);
    out.set(g, costs);
  }
  const totals = [...out.values()].map((c) => c.reduce((a, x) => a + x, 0)).sort((a, b) => a - b);
  const typical = totals[totals.length >> 1] ?? 1;
  return new Map(groups.map((g) => [g, out.get(g) ?? magnitudeOf(g, (x) => x * x).map((x) => x * typical)]));
}

/** Layers in a row whose factors are together in memory. */
function partsOf(layers: readonly WeightLayer[]): WeightLayer[][] {
  const parts: WeightLayer[][] = [];
  let room = 0;
  for (const l of layers) {
    const bytes = 12 * (l.matrix.columns ** 2 + Math.min(mostRows, Math.max(l.matrix.rows, l.matrix.columns)) ** 2);
    if (parts.length === 0 || bytes > room) {
      parts.push([]);
      room = perPart;
    }
    parts.at(-1)!.push(l);
    room -= bytes;
  }
  return parts;
}

/** The member's index of every column (or row) of the layer's matrix; null: its axis does not run along them. */
function alongMatrix(l: WeightLayer, { axis, coordinate, value }: Member, by: "columns" | "rows"): Int32Array | null {
  const layout = layoutOf({ value, uses: [l.use] });
  const { rows, columns } = l.matrix;
  if (!layout || layout.rows !== rows || layout.columns !== columns) return null;
  const { shape } = value.data!;
  const inner = shape.slice(axis + 1).reduce((a, d) => a * d, 1);
  const indexAt = (at: number) => coordinate[Math.floor((layout.order ? layout.order[at]! : at) / inner) % shape[axis]!]!;
  const seen = (other: number) =>
    by === "columns"
      ? Int32Array.from({ length: columns }, (_, c) => indexAt(other * columns + c))
      : Int32Array.from({ length: rows }, (_, r) => indexAt(r * columns + other));
  const [first, last] = [seen(0), seen((by === "columns" ? rows : columns) - 1)];
  return first.every((i, c) => i === last[c]) ? first : null;
}

function readerOf(l: WeightLayer, { inputs, outputs }: Factors, index: Int32Array): Reader {
  const columns = index.length;
  const places = l.op === "Conv" && columns > wide ? columns / l.shape[1]! : 1;
  const size = columns / places;
  // A wide Conv as one of a single place: H the mean over the window's, M the sum.
  const summed = (m: Float64Array, by: number) =>
    places === 1
      ? m
      : Float64Array.from({ length: size * size }, (_, at) => {
          const [r, c] = [Math.floor(at / size), at % size];
          let sum = 0;
          for (let k = 0; k < places; k++) sum += m[(r * places + k) * columns + c * places + k]!;
          return sum * by;
        });
  const h = summed(inputs, 1 / places);
  let mean = 0;
  for (let i = 0; i < size; i++) mean += h[i * (size + 1)]! / size;
  for (let i = 0; i < size; i++) h[i * (size + 1)]! += damp * mean;
  const read = { felt: summed(outputs, 1), index: index.filter((_, c) => c % places === 0) };
  return mean > 0 ? { ...read, inverse: inverse(h, size) } : { ...read, felt: new Float64Array(size * size), inverse: identity(size) };
}

function identity(n: number): Float64Array {
  return Float64Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0));
}

/** Adds ½·G_jj·w_j·H·w_jᵀ of the rows j of each index. */
function rowCosts(l: WeightLayer, f: Factors | null, index: Int32Array, costs: Float64Array): void {
  if (!f) return;
  const { rows, columns } = l.matrix;
  const w = elementsOf(l.matrix);
  for (let r = 0; r < rows; r++) {
    if (index[r]! < 0) continue;
    let energy = 0;
    for (let i = 0; i < columns; i++) {
      const wi = w[r * columns + i]!;
      if (wi === 0) continue;
      let dot = 0;
      for (let c = 0; c < columns; c++) dot += f.inputs[i * columns + c]! * w[r * columns + c]!;
      energy += wi * dot;
    }
    costs[index[r]!]! += (f.outputs[r * (rows + 1)]! * energy) / 2;
  }
}
