/** AWQ on a model: the scales of each layer's inputs, from data, moved into its weights before they are rounded. */
import type { Dataset } from "../../data/dataset.ts";
import type { Model, Value } from "../../ir/graph.ts";
import { elementsOf } from "../matrix.ts";
import { unseen, withMoments } from "../moments.ts";
import type { WeightLayer } from "../weightlayers.ts";
import { awqScales } from "./awq.ts";
import type { BlockScheme } from "./blocks.ts";
import { readersOf, rescale } from "./rescale.ts";

export interface AwqOptions {
  readonly data: Dataset;
  readonly threads: number;
  readonly schemeOf: (l: WeightLayer) => BlockScheme;
  readonly note: (line: string) => void;
}

/**
 * Rescales the inputs of MatMuls and Gemms by {@link awqScales}, those of one input together. What divides the input is what makes it, or
 * a Mul (before the first layer of a graph too): the model computes what it did. Convs, and weights that something else reads, stay.
 */
export async function rescaleForAwq(model: Model, layers: readonly WeightLayer[], o: AwqOptions): Promise<void> {
  const byNode = new Map(layers.filter((l) => l.op === "MatMul" || l.op === "Gemm").map((l) => [l.node, l]));
  const inputs = new Map<Value, WeightLayer[]>();
  for (const l of byNode.values()) {
    const x = l.node.inputs[0]!;
    if (unseen(l) || x.data || inputs.has(x)) continue;
    const together = readersOf(x).flatMap(({ node }) => byNode.get(node) ?? []);
    if (together.length) inputs.set(x, together);
  }
  const first = new Map([...inputs].map(([x, [l]]) => [l!, x]));
  const counts = { source: 0, mul: 0 };
  await withMoments(model, [...first.keys()], o.data, o.threads, (l, moments) => {
    if (!moments?.hessian.every(Number.isFinite)) return;
    const x = first.get(l)!;
    const together = inputs.get(x)!;
    const { columns } = l.matrix;
    const rows = together.reduce((n, { matrix }) => n + matrix.rows, 0);
    const w = new Float32Array(rows * columns);
    let at = 0;
    for (const { matrix } of together) {
      w.set(elementsOf(matrix), at);
      at += matrix.rows * columns;
    }
    const s = awqScales(w, rows, columns, moments.meanAbs, moments.hessian, o.schemeOf(l));
    if (s.every((f) => f === 1)) return;
    const nodes = new Set(together.map((t) => t.node));
    const how = rescale(x, s, { readers: readersOf(x).filter((r) => nodes.has(r.node)) });
    if (how) counts[how]++;
  });
  o.note(
    `awq: the inputs of ${counts.source + counts.mul} of ${first.size} groups of layers rescaled${counts.mul ? `, ${counts.mul} of them by a Mul` : ""}`,
  );
}
