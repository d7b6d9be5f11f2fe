/** The next masks of a run of pruning: from scores, the masks before, and how far the schedule is. */
import { Fault } from "../../tensor/fault.ts";
import type { Weight } from "../../transform/weights.ts";
import { gathered, type Layout, layoutOf, scattered } from "./layout.ts";
import { parsePattern, type Scope, type Scored, select } from "./pattern.ts";

/** One a weight, in its stored layout: 1 stays. */
export type Masks = readonly Uint8Array<ArrayBuffer>[];

export interface Choice {
  readonly scope: Scope;
  readonly pattern: string;
  /** The final sparsity of all, or of each layer: then layers have their own. */
  readonly sparsity: number | readonly number[];
}

export interface Removal {
  /** From a final sparsity to the one of now. */
  readonly at: (final: number) => number;
  /** What was removed before stays so; with a factor, it comes back where its score is that many times one that goes. */
  readonly before: Masks | null;
  readonly hysteresis?: number;
}

/** Above the scores of what is gone, below all others. */
const least = 2 ** -100;

/** The masks that scores (≥ 0, in the stored layouts) ask for. Errors: a score that is no number ≥ 0; a weight whose rows are not known, where the pattern needs them. */
export function choose(weights: readonly Weight[], scores: readonly Float32Array[], c: Choice, { at, before, hysteresis }: Removal): Masks {
  const pattern = parsePattern(c.pattern);
  scores.forEach((s, i) => {
    const bad = s.find((x) => !(x >= 0));
    if (bad !== undefined)
      throw new Fault(
        `weight "${weights[i]!.value.name}"`,
        `cannot be compared: scores must be numbers of at least 0; got ${bad}, as from weights or data that are no numbers; exclude would leave it alone`,
      );
  });
  const layouts = weights.map((w, i): Layout => {
    const layout = pattern.kind === "free" && c.scope !== "row" ? { rows: 1, columns: scores[i]!.length, order: null } : layoutOf(w);
    if (!layout)
      throw new Fault(
        "prune",
        `rows and columns of "${w.value.name}" are only known at run time; pattern=free, another scope or exclude would be right`,
      );
    return layout;
  });
  const layers = scores.map((s, i): Scored => {
    const had = before?.[i];
    const rank = (x: number, k: number) => (hysteresis ? (had![k] ? x : x / hysteresis) : had![k] ? Math.max(x, least) : 0);
    return { ...layouts[i]!, scores: gathered(had ? s.map(rank) : s, layouts[i]!) };
  });
  const now = typeof c.sparsity === "number" ? at(c.sparsity) : c.sparsity.map(at);
  const masks =
    pattern.kind === "nm" ? partly(layers, select(layers, 1, c.scope, pattern), at, c.scope) : select(layers, now, c.scope, pattern);
  return masks.map((m, i) => scattered(m, layouts[i]!));
}

/** On the way to a pattern that fixes what goes: of that, the lowest. */
function partly(layers: readonly Scored[], whole: Uint8Array<ArrayBuffer>[], at: (final: number) => number, scope: Scope): Masks {
  const gone = whole.map((m) => m.reduce((n, k) => n + (k ? 0 : 1), 0) / m.length);
  if (gone.every((g) => at(g) >= g)) return whole;
  const candidates = layers.map((l, i): Scored => ({ ...l, scores: l.scores.map((s, k) => (whole[i]![k] ? Infinity : s)) }));
  const total = layers.reduce((n, l) => n + l.scores.length, 0);
  const all = layers.reduce((n, l, i) => n + gone[i]! * l.scores.length, 0) / total;
  return select(candidates, scope === "global" ? at(all) : gone.map(at), scope);
}
