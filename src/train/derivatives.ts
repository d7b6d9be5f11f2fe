/** First and second derivatives of a loss by a model's weights: what the importance of weights is made of. */
import type { Batch, Dataset } from "../data/dataset.ts";
import type { Model, Node, Value } from "../ir/graph.ts";
import { find, removeDead } from "../ir/walk.ts";
import { Build } from "../ops/build.ts";
import { observeShapes } from "../runtime/shapes.ts";
import { grad } from "../transform/grad.ts";
import { alongRoots, type Direction, direction, signs, units, unitsOf } from "./directions.ts";
import type { Loss } from "./loss.ts";
import type { LossSite } from "./losssite.ts";
import { absolute, added, linearPlaces, outputsOf, overConnections, perConnection, perExample, present, square } from "./places.ts";
import { type Plan, type TotalOptions, totals } from "./totals.ts";

/** One array for each weight, in its stored layout. */
export type ByWeight = Promise<Float32Array<ArrayBuffer>[]>;

/**
 * With g_n the gradient of the loss of example n alone: `mean` is (1/N)·Σ g_n, the gradient of the whole; `absolute` (1/N)·Σ |g_n|;
 * `squared` (1/N)·Σ g_n², the diagonal of the empirical Fisher matrix.
 */
export function gradients(
  model: Model,
  weights: readonly Value[],
  data: Dataset,
  loss: Loss,
  options: TotalOptions & { readonly of: "mean" | "absolute" | "squared" },
): ByWeight {
  const { of, ...rest } = options;
  const plan = (site: LossSite): Plan => {
    if (of !== "mean") {
      const f = of === "squared" ? square : absolute;
      const values = perExample(site, site.loss, f);
      const b = Build.of(site.model, "derivatives");
      // The loss of an example is that many times its share of the mean.
      const by = f.number(site.size) / site.size;
      return { model: site.model, values: values.map((v) => (v && v !== "alone" && by !== 1 ? b.mul(v, b.f32(by)) : v)) };
    }
    const found = grad(site.model, site.loss, present(site));
    return { model: site.model, values: site.weights.map((w) => (w && found.get(w)) ?? null) };
  };
  return totals(model, weights, data, loss, plan, rest);
}

export interface CurvatureOptions extends TotalOptions {
  /**
   * How a weight that is used in many places counts. `weight` (default): the second derivative by the weight itself. `connections`: every
   * use, at every position, is a weight of its own, and their second derivatives are added (LeCun et al. 1990, eq. 5), mixed ones left out;
   * for weights that enter linearly (others are taken as with `weight`). Without sharing both are the same.
   */
  readonly sharing?: "weight" | "connections";
  /**
   * Runs a batch with random signs in place of one for each unit vector: their mean is right in expectation (Hutchinson 1990; Bekas et al.
   * 2007). null: unit vectors, exact.
   */
  readonly probes?: number | null;
}

/** Outputs (units or weights) up to which each is taken on its own unless told otherwise, and the probes beyond. */
const [fewOutputs, fewUnits, fewProbes] = [100, 1000, 16];

/**
 * The diagonal of the Gauss-Newton matrix (1/N)·Σ J_nᵀ·H_n·J_n, with J_n the outputs' derivatives by the weights and H_n the loss's second
 * derivatives by the outputs: the Hessian without the terms of f″ (Levenberg-Marquardt); never negative. One run backwards for each column
 * of a root of H_n, that is for each output. Default `probes`: null up to 100 outputs, else 16.
 */
export function gaussNewtonDiagonal(
  model: Model,
  weights: readonly Value[],
  data: Dataset,
  loss: Loss,
  options: CurvatureOptions = {},
): ByWeight {
  const plan = (site: LossSite): Plan => {
    const { directions, cotangents } = alongRoots(site);
    const probes = probesOf(options, directions, fewOutputs);
    if (probes === null && ![...cotangents.keys()].every(site.byExample)) return alone(site);
    const values = options.sharing === "connections" ? perConnection(site, cotangents) : perExample(site, cotangents, square);
    return { model: site.model, values, runs: along(directions, probes, options.seed, site) };
  };
  return totals(model, weights, data, loss, plan, options);
}

/**
 * The diagonal of the Hessian of the loss itself (mean over the examples), terms of f″ included; it may be negative. By gradients of
 * gradients: v·Hv with v along one unit of a layer's output for all examples at once (`sharing` connections: one run for each unit), or
 * along one weight (one run for each): exact, for small nets. With `probes` approximate: the spread falls with their number and, along
 * units, with that of the examples. Default `probes`: null up to 1000 units or weights, else 16.
 */
export function secondDerivatives(
  model: Model,
  weights: readonly Value[],
  data: Dataset,
  loss: Loss,
  options: CurvatureOptions = {},
): ByWeight {
  const { sharing = "weight", seed = 0, threads } = options;
  const plan = async (site: LossSite): Promise<Plan> => {
    const places = site.weights.map((w) => (w && sharing === "connections" ? linearPlaces(w, site) : null));
    const layers = outputsOf(places);
    const whole = site.weights.filter((w, i): w is Value => w !== null && places[i] === null);
    const first = grad(site.model, site.loss, [...layers, ...whole]);
    const b = Build.of(site.model, "curvature");
    const directions = new Map(
      [...first.keys()].map((u, i) => [u.name, direction(site.model, i, u, layers.includes(u) ? site.size : 1)] as const),
    );
    const probes = probesOf(options, [...directions.values()], fewUnits);
    if (probes === null && !layers.every(site.byExample)) return alone(site);
    const runs = along([...directions.values()], probes, seed, site);
    const slopes = [...first].map(([u, g]) => b.op("ReduceSum", [b.mul(g, directions.get(u.name)!.input)], { keepdims: 0 }));
    if (slopes.length === 0) return { model: site.model, values: site.weights.map(() => null) };
    const slope = slopes.reduce((a, s) => b.add(a, s));
    site.model.graph.setOutputs([slope]);
    removeDead(site.model.graph);
    const [some] = signs([...directions.values()], 1, seed, "sample");
    const known = await observeShapes(site.model, { ...site.sample, ...some }, { threads });
    const here = (v: Value) => find(known.graph, v.name)!;
    const second = grad(known, here(slope), [...first.keys()].map(here));
    const back = Build.of(known, "curvature");
    /** v·Hv, element by element. */
    const bent = (u: Value) => {
      const h = second.get(here(u));
      return h ? back.mul(here(directions.get(u.name)!.input), h) : null;
    };
    const there = (n: Node) => here(n.outputs[0]!).producer!;
    const values = site.weights.map((w, i) => {
      if (!w) return null;
      const found = places[i];
      if (!found) return bent(w);
      return added(
        back,
        found.map((p) => {
          const h = bent(p.node.outputs[0]!);
          return h && overConnections(back, { ...p, node: there(p.node), through: p.through.map(there) }, h, square);
        }),
      );
    });
    return { model: known, values, runs };
  };
  return totals(model, weights, data, loss, plan, options);
}

const alone = (site: LossSite): Plan => ({ model: site.model, values: site.weights.map((w) => w && "alone") });

const probesOf = ({ probes }: CurvatureOptions, directions: readonly Direction[], most: number): number | null =>
  probes !== undefined ? probes : unitsOf(directions) <= most ? null : fewProbes;

const along =
  (directions: readonly Direction[], probes: number | null, seed: number | undefined, site: LossSite) =>
  (batch: number): Iterable<Batch> =>
    probes === null ? units(directions) : signs(directions, probes, seed ?? 0, `${site.size}/${batch}`);
