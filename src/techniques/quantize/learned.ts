/** Codes by algorithms that look further than each weight's nearest: GPTQ, AWQ's clipping, HQQ, AdaRound. */
import type { Dataset } from "../../data/dataset.ts";
import type { Model } from "../../ir/graph.ts";
import { Fault } from "../../tensor/fault.ts";
import { quadratic } from "../hessian.ts";
import { elementsOf } from "../matrix.ts";
import { type Moments, unseen, withMoments } from "../moments.ts";
import type { WeightLayer } from "../weightlayers.ts";
import { adaround } from "./adaround.ts";
import { roundOnClipped } from "./awq.ts";
import { type BlockCodes, type BlockScheme, dequantizeBlocks, roundToNearest } from "./blocks.ts";
import { gptq } from "./gptq.ts";
import { hqq } from "./hqq.ts";
import { type Coded, coded, type Rounding } from "./rounding.ts";
import { roundToHalf } from "./slabs.ts";

export type Algorithm = "gptq" | "awq" | "hqq" | "adaround";

export interface LearnedOptions {
  readonly algorithm: Algorithm;
  /** Layers of one key in each entry. */
  readonly groups: ReadonlyMap<string, readonly WeightLayer[]>;
  readonly schemeOf: (l: WeightLayer) => BlockScheme;
  /** What is taken where an algorithm does not help. */
  readonly nearest: Rounding;
  /** Calibration data; null: only HQQ does without. */
  readonly data: Dataset | null;
  readonly threads: number;
  readonly progress: (done: number, of: number) => void;
  readonly note: (line: string) => void;
}

/**
 * The codes of each key. A row of weights keeps the nearest codes where the algorithm's would bring its measured output no nearer,
 * Σ ‖(ŵ − w)x‖² over the data; a whole layer also where its inputs cannot be seen. Layers of nearest codes are noted. Layers that share a weight are calibrated on the first one's inputs.
 */
export async function learnedCodes(model: Model, o: LearnedOptions): Promise<Map<string, Coded>> {
  const out = new Map<string, Coded>();
  const kept = new Map<string, string[]>();
  const few: string[] = [];
  const keep = (l: WeightLayer, why: string) => {
    kept.set(why, [...(kept.get(why) ?? []), l.node.name || l.weight.name]);
  };
  let done = 0;
  const one = (key: string, layers: readonly WeightLayer[], moments: Moments | null) => {
    o.progress(done++, o.groups.size);
    const [l] = layers;
    const scheme = o.schemeOf(l!);
    const better = moments || o.algorithm === "hqq" ? bestCodes(l!, scheme, o.algorithm, moments) : "none of its inputs were seen";
    if (typeof better === "string") keep(l!, better);
    else if (moments && moments.n < l!.matrix.columns && o.algorithm !== "hqq") few.push(l!.node.name || l!.weight.name);
    out.set(key, typeof better === "string" ? o.nearest(layers, scheme) : better);
  };
  const rest = new Map<WeightLayer, [string, readonly WeightLayer[]]>();
  for (const [key, layers] of o.groups) {
    const shown = layers.find((l) => unseen(l) === null);
    if (shown && o.data) rest.set(shown, [key, layers]);
    else if (o.algorithm === "hqq") one(key, layers, null);
    else {
      keep(layers[0]!, unseen(layers[0]!) ?? "there is no data");
      out.set(key, o.nearest(layers, o.schemeOf(layers[0]!)));
      o.progress(done++, o.groups.size);
    }
  }
  if (o.data && rest.size) await withMoments(model, [...rest.keys()], o.data, o.threads, (l, m) => one(...rest.get(l)!, m));
  for (const [why, names] of kept) o.note(`${o.algorithm}: rounded to nearest: ${listed(names)}: ${why}`);
  if (few.length) o.note(`${o.algorithm}: fewer rows of calibration data than inputs, more would serve better: ${listed(few)}`);
  return out;
}

function bestCodes(l: WeightLayer, scheme: BlockScheme, algorithm: Algorithm, moments: Moments | null): Coded | string {
  const { rows, columns } = l.matrix;
  const w = elementsOf(l.matrix);
  const half = (c: BlockCodes) => {
    if (l.dtype === "float16") roundToHalf(c.scales);
    return c;
  };
  if (!moments) return coded(w, half(hqq(w, rows, columns, scheme)));
  const { hessian } = moments;
  if (algorithm === "adaround" && scheme.bits === 1) return "1 bit has no up and down";
  const q = quadratic(hessian, columns);
  /** By row: rows err each for themselves. */
  const errorsOf = (c: BlockCodes): Float64Array => {
    const delta = dequantizeBlocks(c);
    for (let i = 0; i < delta.length; i++) delta[i]! -= w[i]!;
    const errors = new Float64Array(rows);
    q.error(delta, rows, (r, product) => {
      for (let k = 0; k < columns; k++) errors[r]! += product[k]! * delta[r * columns + k]!;
    });
    return errors;
  };
  const best = half(roundToNearest(w, rows, columns, scheme));
  const least = errorsOf(best);
  const before = least.reduce((sum, e) => sum + e, 0);
  if (!(before < Infinity)) return "its inputs are not all finite";
  if (!(before > 0)) return "its outputs do not change";
  const candidates = (): BlockCodes[] => {
    switch (algorithm) {
      case "gptq": {
        // Of fewer rows than columns the Hessian knows little; more damping keeps nearer to the weights.
        const damp = moments.n < columns ? 0.1 : 0.01;
        return (["given", "activation"] as const).map((order) => gptq(w, rows, columns, hessian, scheme, { damp, order, search: true }));
      }
      case "awq":
        return [roundOnClipped(w, rows, columns, hessian, scheme)];
      case "hqq":
        return [hqq(w, rows, columns, scheme)];
      case "adaround":
        return [adaround(w, rows, columns, hessian, scheme, { search: true })];
      default:
        throw new Fault("weightOnly", `there is no algorithm ${algorithm}`);
    }
  };
  const groups = best.scales.length / rows;
  const takeRow = <T extends Uint8Array | Float32Array>(to: T, from: T, r: number, n: number) =>
    to.set(from.subarray(r * n, (r + 1) * n), r * n);
  let better = false;
  for (const c of candidates()) {
    errorsOf(half(c)).forEach((error, r) => {
      if (!(error < least[r]!)) return;
      better = true;
      least[r] = error;
      takeRow(best.codes, c.codes, r, columns);
      takeRow(best.scales, c.scales, r, groups);
      if (best.zeroPoints) takeRow(best.zeroPoints, c.zeroPoints!, r, groups);
    });
  }
  return better ? coded(w, best) : "its output on the data would be no nearer";
}

function listed(names: readonly string[]): string {
  return names.length <= 5 ? names.join(", ") : `${names.slice(0, 4).join(", ")} and ${names.length - 4} more`;
}
