/** Directions that derivatives are taken along, one run for each: unit vectors, or random signs in their place. */
import type { Batch } from "../data/dataset.ts";
import type { Model, Value } from "../ir/graph.ts";
import { Build, shapeOf } from "../ops/build.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { random } from "../tensor/random.ts";
import { wrap } from "../tensor/tensor.ts";
import type { LossSite } from "./losssite.ts";

/** An input that takes directions; those of each of its `rows` along the first axis are of their own (examples). */
export interface Direction {
  readonly input: Value;
  readonly rows: number;
}

export const direction = (model: Model, i: number, like: Value, rows: number): Direction => ({
  input: model.graph.input(`curvature/probe${i}`, "float32", shapeOf(like)),
  rows,
});

/** Runs it takes to go along each on its own. */
export const unitsOf = (directions: readonly Direction[]): number => directions.reduce((n, d) => n + sizeOf(shapeOf(d.input)) / d.rows, 0);

/**
 * S·v by output of the net, as cotangents of it, for S with S·Sᵀ the loss's second derivatives by the outputs and directions v: pulled back to
 * the weights they give x with Σ x·xᵀ the Gauss-Newton matrix, over the unit vectors v and the examples.
 */
export function alongRoots(site: LossSite): { readonly directions: readonly Direction[]; readonly cotangents: ReadonlyMap<Value, Value> } {
  const b = Build.of(site.model, "curvature");
  const cotangents = new Map<Value, Value>();
  const directions = site.roots.map((r, i) => {
    const y = site.here(r.output);
    const d = direction(site.model, i, y, site.size);
    const s = r.times(b, d.input, site.here);
    const have = cotangents.get(y);
    cotangents.set(y, have ? b.add(have, s) : s);
    return d;
  });
  return { directions, cotangents };
}

/** One direction after the other: each unit vector, the same in all rows, or (`apart`) in one row after the other. The batches share memory. */
export function* units(directions: readonly Direction[], apart = false): Generator<Batch> {
  const { values, batch } = room(directions);
  for (const [i, { rows }] of directions.entries()) {
    const v = values[i]!;
    const item = v.length / rows;
    const step = apart ? 1 : rows;
    for (let j = 0; j < item; j++)
      for (let r = 0; r < rows; r += step) {
        for (let k = r; k < r + step; k++) v[k * item + j] = 1;
        yield batch;
        for (let k = r; k < r + step; k++) v[k * item + j] = 0;
      }
  }
}

/** So many directions of random signs, scaled so that their squares add up to 1: their mean is right in expectation (Hutchinson 1990; Bekas et al. 2007). */
export function* signs(directions: readonly Direction[], count: number, seed: number, stream: string): Generator<Batch> {
  const { values, batch } = room(directions);
  const r = random(seed, `directions/${stream}`);
  const length = 1 / Math.sqrt(count);
  for (let k = 0; k < count; k++) {
    for (const v of values) for (let i = 0; i < v.length; i++) v[i] = r.below(2) ? length : -length;
    yield batch;
  }
}

function room(directions: readonly Direction[]) {
  const values = directions.map((d) => new Float32Array(sizeOf(shapeOf(d.input))));
  const batch: Batch = Object.fromEntries(directions.map((d, i) => [d.input.name, wrap("float32", shapeOf(d.input), values[i]!)]));
  return { values, batch };
}
