/** What a change of a layer's weights does to the loss, to second order: Kronecker factors of its Gauss-Newton matrix, one of its inputs, one of its outputs. */
import { order } from "../data/batches.ts";
import type { Dataset } from "../data/dataset.ts";
import type { Model, Value } from "../ir/graph.ts";
import { find, removeDead } from "../ir/walk.ts";
import { Build, shapeOf } from "../ops/build.ts";
import { fixedBatch } from "../runtime/feeds.ts";
import { open } from "../runtime/session.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { random } from "../tensor/random.ts";
import { floatsOf, tensor, wrap } from "../tensor/tensor.ts";
import type { Loss } from "../train/loss.ts";
import { lossSite } from "../train/losssite.ts";
import { grad } from "../transform/grad.ts";
import { elementsOf } from "./matrix.ts";
import { rowsOf } from "./moments.ts";
import type { WeightLayer } from "./weightlayers.ts";

/** For a change Δ [rows, columns] of a layer's matrix the loss of an example rises by about tr(G·Δ·H·Δᵀ)/2. */
export interface Factors {
  /** H, [columns, columns]. */
  readonly inputs: Float64Array<ArrayBuffer>;
  /** G, [rows, rows]; with `felt` Wᵀ·G·W, [columns, columns]. */
  readonly outputs: Float64Array<ArrayBuffer>;
  /** Rows of inputs seen. */
  readonly n: number;
}

export interface FactorOptions {
  readonly seed: number;
  readonly threads: number;
  /** Wᵀ·G·W in place of G, which is never built: for layers of many outputs. */
  readonly felt?: boolean;
}

/** Rows of inputs that are enough, examples that are taken whatever rows they have, examples a run, and random directions for each. */
const [enoughRows, fewest, batch, probes] = [25600, 256, 16, 2];

/** Half of the squares of the first output: for data without targets, how far the outputs are off. */
export const outputSquares: Loss = {
  name: "outputs",
  attach({ b, output }) {
    const y = output(null);
    return { value: b.op("ReduceSum", [b.mul(y, y)], { keepdims: 0 }), pairs: [], roots: [{ output: y, times: (_, v) => v }] };
  },
};

/**
 * K-FAC (Martens & Grosse 2015, section 3; Convs: Grosse & Martens 2016), as pruning uses it (van der Ouderaa et al. 2023, The LLM
 * Surgeon), but with each position's input weighed by what arrives at its outputs: for inputs x and g = ∂(S·v)/∂output with S·Sᵀ the loss's
 * second derivative and v of random signs, H = Σ ‖g‖²·x·xᵀ and G = Σ g·gᵀ / Σ ‖g‖², over all positions, by example; the trace of G ⊗ H is
 * then that of the matrix itself, positions apart. Labels do not matter for cross-entropy. null: the loss does not read the layer. Layers
 * must be such as {@link unseen} finds nothing against. Errors: data that does not fit the model or the loss; an op without a gradient rule.
 */
export async function kroneckerFactors(
  model: Model,
  layers: readonly WeightLayer[],
  data: Dataset,
  loss: Loss,
  { seed, threads, felt = false }: FactorOptions,
): Promise<(Factors | null)[]> {
  const drawn = order(data.length, seed);
  const fixed = fixedBatch(model);
  const size = data.stackable ? (fixed ?? Math.min(batch, data.length)) : 1;
  const at = (from: number) => Uint32Array.from({ length: size }, (_, i) => drawn[(from + i) % drawn.length]!);
  const site = await lossSite(model, [], data, loss, at(0), threads);
  const b = Build.of(site.model, "factors");
  const directions = new Map<Value, Value>();
  const seeds = new Map<Value, Value>();
  for (const r of site.roots) {
    const y = site.here(r.output);
    const v = site.model.graph.input(`factors/probe${directions.size}`, "float32", shapeOf(y));
    directions.set(v, y);
    const s = r.times(b, v, site.here);
    const have = seeds.get(y);
    seeds.set(y, have ? b.add(have, s) : s);
  }
  const outputs = layers.map((l) => find(site.model.graph, l.node.outputs[0]!.name) ?? null);
  const present = outputs.filter((y): y is Value => y !== null);
  const found = grad(site.model, seeds, present);
  const { graph } = site.model;
  while (graph.outputs.length) graph.removeOutput(0);
  let rowsEach = 1;
  const named = layers.map((l, i) => {
    const y = outputs[i];
    const g = y && found.get(y);
    if (!g) return null;
    const { rows, columns } = l.matrix;
    const node = y.producer!;
    const x = rowsOf(b, { ...l, node }, node.inputs[0]!);
    const space = shapeOf(y).slice(2);
    const gs = b.reshape(l.op === "Conv" ? b.transpose(g, [0, ...space.map((_, k) => k + 2), 1]) : g, [-1, rows]);
    rowsEach = Math.max(rowsEach, sizeOf(shapeOf(y)) / rows / size);
    const by = b.sum(b.mul(gs, gs), [1], true);
    const inputs = b.matmul(b.transpose(b.mul(x, by), [1, 0]), x);
    const back = felt ? b.matmul(gs, b.constant(tensor("float32", [rows, columns], elementsOf(l.matrix)), "weight")) : gs;
    const outer = b.matmul(b.transpose(back, [1, 0]), back);
    const names = [inputs, outer, b.sum(by, [0, 1])].map((v) => {
      const out = b.op("Identity", [v]);
      graph.addOutput(out);
      return out.name;
    });
    const sums = [columns ** 2, (felt ? columns : rows) ** 2, 1].map((length) => new Float64Array(length));
    return { names, sums, positions: sizeOf(shapeOf(y)) / rows };
  });
  removeDead(graph);
  const wanted = Math.min(data.length, Math.max(fewest, Math.ceil(enoughRows / rowsEach)));
  const runs = Math.max(1, Math.floor(wanted / size));
  const values = [...directions].map(([v, y]) => ({ name: v.name, shape: shapeOf(y), signs: new Float32Array(sizeOf(shapeOf(y))) }));
  const draw = random(seed, "factors");
  const session = await open(site.model, { training: true, threads });
  try {
    for (let run = 0; run < runs; run++) {
      const feeds = site.feeds(at(run * size));
      for (let p = 0; p < probes; p++) {
        for (const { signs } of values) for (let i = 0; i < signs.length; i++) signs[i] = draw.below(2) ? 1 : -1;
        const probe = Object.fromEntries(values.map((v) => [v.name, wrap("float32", v.shape, v.signs)]));
        const results = await session.run({ ...feeds, ...probe });
        for (const l of named)
          l?.names.forEach((name, k) => {
            const x = floatsOf(results[name]!);
            const sum = l.sums[k]!;
            for (let i = 0; i < sum.length; i++) sum[i]! += x[i]!;
          });
      }
    }
  } finally {
    await session.release();
  }
  return named.map((l) => {
    if (!l) return null;
    const [inputs, outputs, traces] = l.sums as [Float64Array<ArrayBuffer>, Float64Array<ArrayBuffer>, Float64Array];
    const trace = traces[0]!;
    if (trace > 0) for (let i = 0; i < outputs.length; i++) outputs[i]! /= trace;
    for (let i = 0; i < inputs.length; i++) inputs[i]! /= runs * size * probes;
    return { inputs, outputs, n: l.positions * runs };
  });
}
