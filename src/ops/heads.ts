/** Tensors of attention heads: what the rules of fused attention and rotary embedding of both domains share. */
import type { Value } from "../ir/graph.ts";
import { type Axes, broadcast, same } from "./axes.ts";
import { type Dim, free, product, sum, units } from "./dims.ts";

/** Who attends: queries in groups that share keys and values, and the widths of their heads. */
export interface Heads {
  /** Heads of keys and values. */
  readonly kv: Dim;
  /** Heads of queries to each of them. */
  readonly each: Dim;
  /** All heads of queries: those of one group side by side. */
  readonly all: Dim;
  /** Of queries and keys. */
  readonly width: Dim;
  readonly valueWidth: Dim;
}

/** By what the node's attributes and shapes say; the two widths are one axis where `sizes.value` is null. Errors: sizes that are no multiples. */
export function headsOf(
  t: Axes,
  sizes: { readonly all: number; readonly kv: number; readonly width: number; readonly value: number | null },
): Heads {
  const whole = (n: number, what: string) => {
    if (!Number.isInteger(n) || n < 1) throw t.refuse(`${what} that do not come out even`);
    return free(n);
  };
  const kv = whole(sizes.kv, "heads");
  const each = whole(sizes.all / sizes.kv, "groups of heads");
  const width = whole(sizes.width, "widths of heads");
  const valueWidth = sizes.value === null ? width : whole(sizes.value, "widths of heads");
  return { kv, each, all: product([kv, each]), width, valueWidth };
}

/** Heads laid out as [batch, positions, heads · width] or [batch, heads, positions, width]; positions stay. */
export function laidOut(t: Axes, x: readonly Dim[], batch: Dim, heads: Dim, width: Dim): void {
  if (x.length !== 3 && x.length !== 4) throw t.refuse(`${x.length} axes where 3 or 4 are right`);
  const positions = x.length === 3 ? x[1]! : x[2]!;
  same(t, x, x.length === 3 ? [batch, positions, product([heads, width])] : [batch, heads, positions, width]);
  attended(t, positions);
}

/** Positions of a sequence are no channels. */
export function attended(t: Axes, positions: Dim): void {
  t.freeze(positions, t.says("attends along it"));
}

/** Scores, or what is added to them: [batch, heads, queries, keys], where any of the first three may be 1 or missing. */
export function scores(t: Axes, x: readonly Dim[], batch: Dim, heads: Dim): void {
  const positions = x.slice(-2);
  broadcast(t, x.slice(0, -2), [batch, heads]);
  for (const d of positions) attended(t, d);
}

/**
 * What is left for the outputs to say of zeros: what a head gives is zero where its values (inputs `values`) are. Keys and values that are handed on
 * (`cached`: all that goes into them) must all be zero; scores are not.
 */
export function attentionZeros(t: Axes, values: readonly number[], cached: readonly number[]): void {
  if (t.gives(3)) t.zero("none");
  else t.zero("all", t.gives(1) || t.gives(2) ? [...values, ...cached] : values);
}

/**
 * x turned by angles whose cosines and sines are inputs `tables`, [positions, …, half]: element i of a head goes with the one half a head further on, or
 * (interleaved) with its neighbour; what is behind the first `2·half` elements passes.
 */
export function rotates(t: Axes, tables: readonly [number, number], headSize: (half: number, x: readonly Dim[]) => number): void {
  const x = t.input(0);
  const [cos, sin] = tables.map((i) => t.input(i)) as [readonly Dim[], readonly Dim[]];
  const half = cos.at(-1)!;
  t.unify(sin.at(-1)!, half);
  for (const d of [...cos.slice(0, -1), ...sin.slice(0, -1)]) t.freeze(d, t.says("looks positions up in it"));
  const size = headSize(half.size, x);
  const hidden = x.length === 3 ? x[2]!.size : x[1]!.size * x[3]!.size;
  const turned = product(t.node.int("interleaved") ? [half, units(2)] : [units(2), half]);
  const rest = size - turned.size;
  if (rest < 0 || hidden % size !== 0) throw t.refuse("heads that do not come out even");
  const heads = free(hidden / size);
  laidOut(t, x, x[0]!, heads, sum([turned, free(rest)]));
  same(t, x, t.output(0));
  t.size({ attr: "num_heads" }, heads);
  if (t.node.int("rotary_embedding_dim")) t.size({ attr: "rotary_embedding_dim" }, turned);
  t.zero("all", [0]);
}

/** Elements of one position: of [N, S, width] or [N, heads, S, width]. */
export const perPosition = (shape: readonly number[]) => (shape.length === 4 ? shape[1]! * shape[3]! : shape.at(-1)!);
/** Positions in [N, S, width] or [N, heads, S, width]. */
export const positionsOf = (shape: readonly number[]) => (shape.length === 4 ? shape[2]! : shape[1]!);

/** Multiply-accumulates of Q·Kᵀ and of what follows: every query meets every key, over the widths of both. null: a shape is missing. */
export function attentionMacs(q: Value | null | undefined, y: Value | null | undefined, keys: number | null | undefined): number | null {
  const [qs, ys] = [q?.shape, y?.shape];
  if (!qs || !ys || keys == null) return null;
  return ys[0]! * positionsOf(ys) * keys * (perPosition(qs) + perPosition(ys));
}
