/** How far two files of one model agree on the same inputs. */
import type { Batch } from "../data/dataset.ts";
import { dtypes } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { floatsOf, type Tensor } from "../tensor/tensor.ts";

/**
 * One output: cosine Σab/√(Σa²Σb²); relative error √(Σ(a − b)²/Σa²); and the score, the lesser of the cosine and of what the error would make it
 * between vectors of equal length, 1 − error²/2: outputs that only have another scale do not pass for equal.
 */
export interface OutputAgreement {
  readonly name: string;
  readonly score: number;
  readonly cosine: number;
  readonly relative: number;
}

export interface Agreement {
  readonly outputs: readonly OutputAgreement[];
  /** The least score and cosine, and the largest relative error, of any output. */
  readonly score: number;
  readonly cosine: number;
  readonly relative: number;
}

/** Outputs whose root mean square difference is below this are taken as equal: probabilities of nearly 0 have no direction to compare. */
const negligible = 1e-5;

/**
 * Outputs of numbers, by name, over all sets of inputs; those that differ by next to nothing count as equal. Errors: an output that is
 * missing, of another shape, or that holds NaN or infinities where the original's is finite.
 */
export function agreement(wanted: readonly Batch[], got: readonly Batch[]): Agreement {
  const names = Object.keys(wanted[0] ?? {}).filter((n) => comparable(wanted[0]![n]!));
  const outputs = names.map((name): OutputAgreement => {
    let [product, left, right, apart, count] = [0, 0, 0, 0, 0];
    wanted.forEach((batch, set) => {
      const [a, b] = [batch[name]!, got[set]?.[name]];
      if (!b) throw new Fault("agreement", `output "${name}" is missing`);
      if (a.shape.join() !== b.shape.join())
        throw new Fault("agreement", `output "${name}" has the shape [${b.shape}]; the original's has [${a.shape}]`);
      const [x, y] = [floatsOf(a), floatsOf(b)];
      for (let i = 0; i < x.length; i++) {
        const [p, q] = [x[i]!, y[i]!];
        // Infinities of a mask, and NaN of rows that are masked as a whole, in both alike.
        if (Object.is(p, q) && !Number.isFinite(p)) continue;
        if (!Number.isFinite(p - q)) throw new Fault("agreement", `output "${name}" holds ${q} where the original's holds ${p}`);
        count++;
        product += p * q;
        left += p * p;
        right += q * q;
        apart += (p - q) ** 2;
      }
    });
    if (apart <= count * negligible ** 2) {
      return { name, score: 1, cosine: 1, relative: left > 0 ? Math.min(1, Math.sqrt(apart / left)) : 0 };
    }
    const relative = left > 0 ? Math.sqrt(apart / left) : 1;
    const cosine = left > 0 && right > 0 ? Math.min(1, product / Math.sqrt(left * right)) : 0;
    return { name, score: Math.min(cosine, 1 - relative ** 2 / 2), cosine, relative };
  });
  return {
    outputs,
    score: Math.min(1, ...outputs.map((o) => o.score)),
    cosine: Math.min(1, ...outputs.map((o) => o.cosine)),
    relative: Math.max(0, ...outputs.map((o) => o.relative)),
  };
}

function comparable(t: Tensor): boolean {
  return !t.strings && dtypes[t.dtype].kind !== "c";
}
