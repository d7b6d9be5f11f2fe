/** Pruning layer by layer: what a layer's inputs are decides which of its weights go, and how those that stay make up for them. */
import type { Model } from "../../ir/graph.ts";
import { labelOf } from "../../ir/walk.ts";
import { Fault } from "../../tensor/fault.ts";
import { tensor } from "../../tensor/tensor.ts";
import { dropDefault, otherReader, type Weight } from "../../transform/weights.ts";
import { leave } from "../left.ts";
import { elementsOf, type WeightMatrix } from "../matrix.ts";
import { type Moments, together, unseen, withMoments } from "../moments.ts";
import { stagesOf } from "../stages.ts";
import type { Context } from "../technique.ts";
import { readersOf, type WeightLayer, weightLayers } from "../weightlayers.ts";
import { layoutOf, scattered } from "./layout.ts";

/** The layers of each weight, all of which see it alike. */
export type Solvable = ReadonlyMap<Weight, readonly WeightLayer[]>;

/**
 * The weights whose layers' inputs can be gathered, and that are not `refused` for a reason; the others are noted. Errors, as of `what`: there is none.
 */
export function solvable(
  model: Model,
  weights: readonly Weight[],
  what: string,
  { note }: Context,
  refused: (l: WeightLayer) => string | null = () => null,
): Solvable {
  const { layers, left: formless } = weightLayers(model);
  const why = new Map([...formless].flatMap(([reason, names]) => names.map((n) => [n, reason] as const)));
  const seen = new Map<Weight, WeightLayer[]>();
  const left = new Map<string, string[]>();
  for (const w of weights) {
    const { own, alike } = readersOf(layers, w);
    const shown = own.filter((l) => unseen(l) === null);
    const other = otherReader(w);
    const { node } = w.uses[0]!;
    const reason = other
      ? `${other} reads the weight too`
      : !alike
        ? "its readers see the weight differently"
        : shown.length
          ? refused(shown[0]!)
          : own.length
            ? unseen(own[0]!)
            : (why.get(labelOf(node)) ?? "its inputs are not rows of a matrix");
    if (reason) leave(left, reason, node);
    else seen.set(w, shown);
  }
  if (seen.size === 0) throw new Fault(what, `no selected weight has inputs that can be gathered: ${[...left.keys()].join("; ")}`);
  for (const [reason, names] of left) note(`stay as they are: ${names.join(", ")}: ${reason}`);
  return seen;
}

/** How a layer is solved. */
export interface Solver {
  /** The technique, for progress. */
  readonly what: string;
  /** Most passes over the data, each after the layers before are pruned. Default 1: all inputs are of the model as it was. */
  readonly passes?: number;
  /** The matrix with what goes at 0, and 1 for what stays. */
  solve(
    w: Float32Array<ArrayBuffer>,
    matrix: WeightMatrix,
    moments: Moments,
  ): { readonly weights: Float32Array; readonly keep: Uint8Array };
}

/** Solves layer by layer on the calibration data, and notes what could not be; what was pruned, and what is kept of it in the stored layouts. */
export async function pruneLayers(
  model: Model,
  seen: Solvable,
  { calibration, train, note, progress, threads }: Context,
  { what, passes = 1, solve }: Solver,
): Promise<{ readonly pruned: readonly Weight[]; readonly keep: readonly Uint8Array[] }> {
  const masks = new Map<Weight, Uint8Array>();
  const owner = new Map([...seen].flatMap(([w, layers]) => layers.map((l) => [l, w] as const)));
  const bad: string[] = [];
  const few: string[] = [];
  const done = (w: Weight, l: WeightLayer, moments: Moments | null) => {
    progress({ what, step: masks.size + bad.length, of: seen.size });
    if (!moments?.hessian.every(Number.isFinite)) {
      bad.push(w.value.name);
      return;
    }
    if (moments.n < l.matrix.columns) few.push(w.value.name);
    const { weights, keep } = solve(elementsOf(l.matrix), l.matrix, moments);
    const layout = layoutOf(w)!;
    const { graph, data: before } = w.value;
    graph.setData(w.value, tensor(before!.dtype, before!.shape, scattered(weights, layout)));
    if (dropDefault(graph, w.value)) note(`"${w.value.name}" is no longer an input that callers may override`);
    masks.set(w, scattered(keep, layout));
  };
  // A weight of several layers is done once, with what all of them read, when the first one's turn has come.
  const first = new Map([...seen.values()].map((layers) => [layers[0]!, layers]));
  const stages = stagesOf(model, [...first.keys()], passes);
  for (const stage of stages) {
    const sums = new Map<Weight, { count: number; moments: Moments | null }>();
    await withMoments(
      model,
      stage.flatMap((l) => first.get(l)!),
      (calibration ?? train)!,
      threads,
      (l, m) => {
        const w = owner.get(l)!;
        const sum = sums.get(w) ?? { count: 0, moments: null };
        sum.moments = together(sum.moments, m);
        sums.set(w, sum);
        if (++sum.count === seen.get(w)!.length) done(w, l, sum.moments);
      },
    );
  }
  progress({ what, step: seen.size, of: seen.size });
  note(
    stages.length === 1
      ? "all inputs from the model as it was"
      : `inputs from the layers pruned before, in ${stages.length} passes over the data`,
  );
  if (bad.length) note(`stay as they are: ${bad.join(", ")}: their inputs were not seen, or are not all finite`);
  if (few.length) note(`fewer rows of calibration data than inputs, more would serve better: ${few.join(", ")}`);
  return { pruned: [...masks.keys()], keep: [...masks.values()] };
}
