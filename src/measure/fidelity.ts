/** How close a model stays to another one where nobody knows the right answers. */
import type { Dataset } from "../data/dataset.ts";
import type { Model } from "../ir/graph.ts";
import { dtypes, isFloat } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { floatsOf, numbersOf, type Tensor } from "../tensor/tensor.ts";
import { argmax } from "./accuracy.ts";
import { wilson } from "./interval.ts";
import type { Measurement } from "./measurement.ts";
import { type PredictOptions, predict } from "./predict.ts";

/**
 * `model` against `reference` on the same inputs, over all outputs of numbers (matched by place):
 * - maxError: max |a − b|
 * - relativeError: √(Σ(a − b)² / Σa²), in %
 * - cosine: Σab / √(Σa²·Σb²)
 * - agreement, in %: positions at which the first output has its largest element in the same place, or where it is integers, the same
 *   element; none where it holds one float only.
 *
 * The first three describe this data and have no interval. Errors: outputs that differ in number or shape, hold NaN, or
 * infinities where the other's are finite; no example.
 */
export async function fidelity(reference: Model, model: Model, data: Dataset, options: PredictOptions = {}): Promise<Measurement[]> {
  let max = 0;
  let squares = 0;
  let difference = 0;
  let product = 0;
  let others = 0;
  let same = 0;
  let positions = 0;
  let n = 0;
  const left = predict(reference, data, options);
  const right = predict(model, data, options);
  try {
    for (;;) {
      const [a, b] = [await left.next(), await right.next()];
      if (a.done || b.done) break;
      n += a.value.count;
      const [as, bs] = [numeric(a.value.outputs), numeric(b.value.outputs)];
      if (as.length !== bs.length) throw new Fault("fidelity", `${bs.length} outputs cannot be compared with the original's ${as.length}`);
      as.forEach((t, i) => {
        const u = bs[i]!;
        if (t.shape.join() !== u.shape.join())
          throw new Fault("fidelity", `output ${i} has the shape [${u.shape}]; the original's has [${t.shape}]`);
        const [x, y] = [floatsOf(t), floatsOf(u)];
        for (let k = 0; k < x.length; k++) {
          const [p, q] = [x[k]!, y[k]!];
          // Infinities of a mask, in both alike, are no difference.
          if (p === q && p - p !== 0) continue;
          const d = Math.abs(p - q);
          if (d - d !== 0) throw new Fault("fidelity", `output ${i} holds ${q} where the original's holds ${p}`);
          if (d > max) max = d;
          difference += d * d;
          squares += p * p;
          others += q * q;
          product += p * q;
        }
      });
      const [p, q] = [as[0] && answers(as[0]), bs[0] && answers(bs[0])];
      if (p && q) {
        for (let k = 0; k < p.length; k++) if (p[k] === q[k]) same++;
        positions += p.length;
      }
    }
  } finally {
    await left.return(undefined);
    await right.return(undefined);
  }
  if (n === 0) throw new Fault("fidelity", "there is nothing to compare: the data holds no example");
  const exact = (metric: string, value: number, unit: string): Measurement => ({ metric, value, unit, n, interval: null });
  const relative = squares > 0 ? Math.sqrt(difference / squares) : difference > 0 ? 1 : 0;
  const cosine = squares > 0 && others > 0 ? product / Math.sqrt(squares * others) : squares === others ? 1 : 0;
  const out = [exact("maxError", max, ""), exact("relativeError", 100 * relative, "%"), exact("cosine", Math.min(1, cosine), "")];
  if (positions) {
    const [low, high] = wilson(same, positions);
    out.push({ metric: "agreement", value: (100 * same) / positions, unit: "%", n: positions, interval: [100 * low, 100 * high] });
  }
  return out;
}

function numeric(outputs: readonly Tensor[]): Tensor[] {
  return outputs.filter((t) => !t.strings && dtypes[t.dtype].kind !== "c");
}

/** What an output decides on: the class at each position, or the integers themselves. */
function answers(t: Tensor): ArrayLike<number> | null {
  if (!isFloat(t.dtype)) return numbersOf(t);
  return (t.shape.at(-1) ?? 0) > 1 ? argmax(t) : null;
}
