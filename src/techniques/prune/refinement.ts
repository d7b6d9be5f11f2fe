/** Chosen masks refined on data: by the outputs of each layer alone, or by what the loss feels of them. */
import type { Dataset } from "../../data/dataset.ts";
import { choice, number } from "../../data/params.ts";
import type { Model } from "../../ir/graph.ts";
import { Fault } from "../../tensor/fault.ts";
import { numbersOf } from "../../tensor/tensor.ts";
import { type Loss, parseLoss } from "../../train/loss.ts";
import type { Weight } from "../../transform/weights.ts";
import { type Factors, kroneckerFactors, outputSquares } from "../kronecker.ts";
import { type Moments, together, unseen, withMoments } from "../moments.ts";
import type { Context } from "../technique.ts";
import { readersOf, type WeightLayer, weightLayers } from "../weightlayers.ts";
import type { Masks } from "./choose.ts";
import { gathered, type Layout, layoutOf, scattered } from "./layout.ts";
import { parsePattern } from "./pattern.ts";
import { type Refinable, refine } from "./refine.ts";

export const refinement = {
  refine: choice(["none", "swaps", "loss"], {
    doc: "after weights are chosen: nothing; within each output's, weights that go change places with ones that stay while that lowers the layer's output error on calibration data (swaps); or by the curvature of the loss, with moves between outputs and layers too (loss)",
  }),
  spread: number(0.1, {
    min: 0,
    max: 1,
    doc: "refine=loss: by how much a layer's sparsity may come to differ from what the scope gave it",
  }),
};

interface Options {
  readonly refine: "none" | "swaps" | "loss";
  readonly spread: number;
  readonly pattern: string;
  readonly loss: string;
}

/** A weight whose layers' inputs can be gathered. */
interface Site {
  readonly at: number;
  readonly layers: readonly WeightLayer[];
  readonly layout: Layout;
}

/** Bytes of factors and products at a time. */
const perPart = 1.5e9;
/** What is taken off the elements of H and G beside the diagonal, at least: of few rows more. On held-out text better than nothing. */
const shrinkage = 0.1;

/**
 * The masks, with as many weights gone: {@link refine} with H = Σ xᵀx of each layer's inputs and exchanges within rows (swaps), or with the
 * factors of {@link kroneckerFactors} and moves between rows, and between layers as far as `spread` goes (loss; the bound is that of Yin et
 * al. 2024, OWL: 0.08 there). The loss is the parameters' where data has its targets, else half of the squares of the outputs. N:M patterns
 * keep to their groups; blocks stay as they are. Where the loss has no gradient, swaps; what has no rows of inputs stays as it was chosen.
 */
export async function refined(model: Model, weights: readonly Weight[], masks: Masks, p: Options, context: Context): Promise<Masks> {
  const pattern = parsePattern(p.pattern);
  if (p.refine === "none" || masks.every((m) => !m.includes(0))) return masks;
  if (pattern.kind === "block") {
    context.note(`refine=${p.refine} was not used: blocks stay as they were chosen`);
    return masks;
  }
  const sites = sitesOf(model, weights);
  const out = [...masks];
  const refinable = ({ at, layout }: Site, inputs: Float64Array, outputs: Float64Array | null): Refinable => ({
    rows: layout.rows,
    columns: layout.columns,
    weights: gathered(Float32Array.from(numbersOf(weights[at]!.value.data!)), layout),
    inputs,
    outputs,
    keep: gathered(masks[at]!, layout),
  });
  const group = pattern.kind === "nm" ? { group: pattern.of } : {};
  const done = new Set<Site>();
  let [before, after] = [0, 0];
  const apply = (these: readonly Site[], problem: readonly Refinable[], options: object) => {
    const found = refine(problem, { ...group, ...options });
    these.forEach((s, i) => {
      out[s.at] = scattered(found.masks[i]!, s.layout);
      done.add(s);
    });
    before += found.before;
    after += found.after;
  };
  const data: Dataset = (context.calibration ?? context.train)!;
  let how = "the outputs of each layer";
  if (p.refine === "loss") {
    const said = await attempt(p, context, async (loss, from) => {
      for (const part of partsOf(sites)) {
        const layers = part.flatMap((s) => s.layers);
        const factors = await kroneckerFactors(model, layers, from, loss, context);
        const by = new Map(layers.map((l, i) => [l, factors[i]!]));
        const felt = part.flatMap((s) => {
          const f = sum(s.layers.map((l) => by.get(l) ?? null));
          return f ? [{ s, f }] : [];
        });
        apply(
          felt.map(({ s }) => s),
          felt.map(({ s, f }) => refinable(s, shrunk(f.inputs, f.n), shrunk(f.outputs, f.n))),
          { moves: true, spread: p.spread },
        );
      }
    });
    if (said) how = said;
  }
  const rest = sites.filter((s) => !done.has(s));
  if (rest.length && (p.refine === "swaps" || done.size === 0)) {
    const sums = new Map<Site, { count: number; moments: Moments | null }>();
    const owner = new Map(rest.flatMap((s) => s.layers.map((l) => [l, s] as const)));
    await withMoments(model, [...owner.keys()], data, context.threads, (l, m) => {
      const s = owner.get(l)!;
      const had = sums.get(s) ?? { count: 0, moments: null };
      had.moments = together(had.moments, m);
      sums.set(s, had);
      if (++had.count < s.layers.length || !had.moments?.hessian.every(Number.isFinite)) return;
      apply([s], [refinable(s, shrunk(had.moments.hessian, had.moments.n), null)], {});
      sums.delete(s);
    });
  }
  if (done.size && before > 0)
    context.note(`refined by ${how}: error of what goes ${after > before ? "" : "−"}${+(100 * (1 - after / before)).toPrecision(3)} %`);
  const names = new Set([...done].map((s) => s.at));
  const same = weights.flatMap((w, i) => (names.has(i) || !masks[i]!.includes(0) ? [] : [w.value.name]));
  if (same.length) context.note(`not refined: ${same.join(", ")}`);
  return out;
}

/** Tries the loss with targets, then the outputs' squares; says which it was, or null and notes why none. */
async function attempt(p: Options, context: Context, run: (loss: Loss, from: Dataset) => Promise<void>): Promise<string | null> {
  const { train, calibration, note } = context;
  const from = (train ?? calibration)!;
  const ways: [string, () => Loss][] = [["the outputs' squares", () => outputSquares]];
  if (train || from.names.includes("labels")) ways.unshift([`the loss ${p.loss}`, () => parseLoss(p.loss)]);
  for (const [name, loss] of ways)
    try {
      await run(loss(), from);
      return `the curvature of ${name}`;
    } catch (e) {
      if (!(e instanceof Fault)) throw e;
      note(`not refined by ${name}: ${e.message}`);
    }
  return null;
}

function sitesOf(model: Model, weights: readonly Weight[]): Site[] {
  const all = weightLayers(model).layers;
  return weights.flatMap((w, at) => {
    const { own, alike } = readersOf(all, w);
    const layers = alike ? own.filter((l) => unseen(l) === null) : [];
    const layout = layers.length ? layoutOf(w) : null;
    const fits = layout && layers.every((l) => l.matrix.rows === layout.rows && l.matrix.columns === layout.columns);
    return fits ? [{ at, layers, layout }] : [];
  });
}

/** Sites in a row whose factors and products are together in memory. */
function partsOf(sites: readonly Site[]): Site[][] {
  const parts: Site[][] = [];
  let room = 0;
  for (const s of sites) {
    const { rows, columns } = s.layout;
    const bytes = 8 * (2 * rows ** 2 + 2 * columns ** 2 + 4 * rows * columns);
    if (parts.length === 0 || bytes > room) {
      parts.push([]);
      room = perPart;
    }
    parts.at(-1)!.push(s);
    room -= bytes;
  }
  return parts;
}

/** Of all layers that read a weight: their curvatures add up. */
function sum(factors: readonly (Factors | null)[]): Factors | null {
  const found = factors.filter((f): f is Factors => f !== null);
  return found.length < 2
    ? (found[0] ?? null)
    : {
        inputs: found[0]!.inputs.map((_, i) => found.reduce((s, f) => s + f.inputs[i]!, 0)),
        outputs: found[0]!.outputs.map((_, i) => found.reduce((s, f) => s + f.outputs[i]! / found.length, 0)),
        n: found.reduce((s, f) => s + f.n, 0),
      };
}

/** A matrix of moments of so many rows, a little nearer to its diagonal. */
function shrunk(m: Float64Array, n: number): Float64Array {
  const k = Math.sqrt(m.length);
  const by = 1 - Math.max(shrinkage, k / (k + n));
  return m.map((x, i) => (i % (k + 1) === 0 ? x : by * x));
}
