/** First and second derivatives of a loss by a model's weights: what the importance of weights is made of. */
import type { Batch, Dataset } from "../data/dataset.ts";
import type { Model, Node, Value } from "../ir/graph.ts";
import { find, removeDead } from "../ir/walk.ts";
import { Build, shapeOf } from "../ops/build.ts";
import { observeShapes } from "../runtime/shapes.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { random } from "../tensor/random.ts";
import { wrap } from "../tensor/tensor.ts";
import { grad } from "../transform/grad.ts";
import type { Loss } from "./loss.ts";
import type { LossSite } from "./losssite.ts";
import { absolute, overConnections, overExamples, type Place, type Power, placesOf, square } from "./places.ts";
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
    if (of !== "mean") return { model: site.model, values: perExample(site, site.loss, of === "squared" ? square : absolute) };
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
    const b = Build.of(site.model, "curvature");
    const outputs = site.roots.map((r) => site.here(r.output));
    const directions = outputs.map((y, i): Direction => ({ input: input(site.model, `probe${i}`, y), rows: site.size }));
    const seeds = new Map<Value, Value>();
    site.roots.forEach((r, i) => {
      const s = r.times(b, directions[i]!.input, site.here);
      const have = seeds.get(outputs[i]!);
      seeds.set(outputs[i]!, have ? b.add(have, s) : s);
    });
    const probes = probesOf(options, directions, fewOutputs);
    const runs = (batch: number) => steps(directions, probes, options.seed ?? 0, `${site.size}/${batch}`);
    if (probes === null && !outputs.every(site.byExample)) return { model: site.model, values: site.weights.map((w) => w && "alone") };
    const values = options.sharing === "connections" ? perConnection(site, seeds) : perExample(site, seeds, square);
    return { model: site.model, values, runs };
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
    const places = site.weights.map((w) => (w && sharing === "connections" ? placesOf(w, site.grows) : null));
    const units = [...new Set(places.flatMap((p) => p ?? []).map((p) => p.node.outputs[0]!))];
    const whole = site.weights.filter((w, i): w is Value => w !== null && places[i] === null);
    const first = grad(site.model, site.loss, [...units, ...whole]);
    const b = Build.of(site.model, "curvature");
    const directions = new Map(
      [...first.keys()].map((u, i): [string, Direction] => [
        u.name,
        { input: input(site.model, `probe${i}`, u), rows: units.includes(u) ? site.size : 1 },
      ]),
    );
    const probes = probesOf(options, [...directions.values()], fewUnits);
    if (probes === null && !units.every(site.byExample)) return { model: site.model, values: site.weights.map((w) => w && "alone") };
    const slopes = [...first].map(([u, g]) => b.op("ReduceSum", [b.mul(g, directions.get(u.name)!.input)], { keepdims: 0 }));
    if (slopes.length === 0) return { model: site.model, values: site.weights.map(() => null) };
    const slope = slopes.reduce((a, s) => b.add(a, s));
    const { graph } = site.model;
    while (graph.outputs.length) graph.removeOutput(0);
    graph.addOutput(slope);
    removeDead(graph);
    const [some] = steps([...directions.values()], 1, seed, "sample");
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
    return { model: known, values, runs: (batch) => steps([...directions.values()], probes, seed, `${site.size}/${batch}`) };
  };
  return totals(model, weights, data, loss, plan, options);
}

const present = (site: LossSite) => site.weights.filter((w): w is Value => w !== null);

const added = (b: Build, terms: readonly (Value | null)[]): Value | null => terms.reduce((a, t) => (a && t ? b.add(a, t) : (a ?? t)), null);

const input = (model: Model, name: string, like: Value): Value => model.graph.input(`curvature/${name}`, "float32", shapeOf(like));

/** Σ over the examples of f(∂target/∂w of that example), over the batch's size: of the loss of each example, which is that many times its share of the mean. */
function perExample(site: LossSite, target: Value | ReadonlyMap<Value, Value>, f: Power): Plan["values"] {
  const b = Build.of(site.model, "derivatives");
  if (site.size === 1) {
    const found = grad(site.model, target, present(site));
    return site.weights.map((w) => {
      const g = w && found.get(w);
      return g ? f.of(b, g) : null;
    });
  }
  const single = site.weights.map((w) => {
    const places = w && placesOf(w, site.grows);
    return places?.length === 1 ? places[0]! : null;
  });
  const found = grad(
    site.model,
    target,
    single.flatMap((p) => (p ? [p.node.outputs[0]!] : [])),
  );
  // The loss of an example is that many times its share of the mean; a root's columns already have the square root of the share.
  const by = target === site.loss ? f.number(site.size) / site.size : 1;
  return site.weights.map((w, i) => {
    if (!w) return null;
    const place = single[i];
    if (!place) return "alone";
    const g = found.get(place.node.outputs[0]!);
    if (!g) return null;
    const sum = overExamples(b, place, g, f, site.byExample);
    return sum ? (by === 1 ? sum : b.mul(sum, b.f32(by))) : "alone";
  });
}

/** Σ over all uses of (∂target/∂w of that use)². */
function perConnection(site: LossSite, target: ReadonlyMap<Value, Value>): Plan["values"] {
  const b = Build.of(site.model, "derivatives");
  const places = site.weights.map((w) => w && placesOf(w, site.grows));
  const outputs = new Set(places.flatMap((p) => p ?? []).map((p) => p.node.outputs[0]!));
  const whole = site.size > 1 ? [] : site.weights.filter((w, i): w is Value => w !== null && places[i] === null);
  const found = grad(site.model, target, [...outputs, ...whole]);
  const over = (p: Place) => {
    const g = found.get(p.node.outputs[0]!);
    return g ? overConnections(b, p, square.of(b, g), square) : null;
  };
  return site.weights.map((w, i) => {
    if (!w) return null;
    const at = places[i];
    if (at) return added(b, at.map(over));
    if (site.size > 1) return "alone";
    const g = found.get(w);
    return g ? square.of(b, g) : null;
  });
}

/** An input that takes directions; those of each of its `rows` along the first axis are of their own (examples). */
interface Direction {
  readonly input: Value;
  readonly rows: number;
}

function probesOf({ probes }: CurvatureOptions, directions: readonly Direction[], most: number): number | null {
  const each = directions.reduce((n, d) => n + sizeOf(shapeOf(d.input)) / d.rows, 0);
  return probes !== undefined ? probes : each <= most ? null : fewProbes;
}

/** One direction after the other: each unit vector, the same in all rows; or so many of random signs, scaled so that their squares add up to 1. */
function* steps(directions: readonly Direction[], probes: number | null, seed: number, stream: string): Generator<Batch> {
  const values = directions.map((d) => new Float32Array(sizeOf(shapeOf(d.input))));
  const batch: Batch = Object.fromEntries(directions.map((d, i) => [d.input.name, wrap("float32", shapeOf(d.input), values[i]!)]));
  if (probes === null) {
    for (const [i, { rows }] of directions.entries()) {
      const v = values[i]!;
      const item = v.length / rows;
      for (let j = 0; j < item; j++) {
        for (let r = 0; r < rows; r++) v[r * item + j] = 1;
        yield batch;
        for (let r = 0; r < rows; r++) v[r * item + j] = 0;
      }
    }
    return;
  }
  const r = random(seed, `directions/${stream}`);
  const length = 1 / Math.sqrt(probes);
  for (let k = 0; k < probes; k++) {
    for (const v of values) for (let i = 0; i < v.length; i++) v[i] = r.below(2) ? length : -length;
    yield batch;
  }
}
