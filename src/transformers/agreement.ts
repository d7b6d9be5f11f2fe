/** How far two files of one model agree on the same inputs. */
import type { Batch } from "../data/dataset.ts";
import { dtypes } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { floatsOf, type Tensor } from "../tensor/tensor.ts";

/** One output: cosine Σab/√(Σa²Σb²), and relative error √(Σ(a − b)²/Σa²). */
export interface OutputAgreement {
  readonly name: string;
  readonly cosine: number;
  readonly relative: number;
}

export interface Agreement {
  readonly outputs: readonly OutputAgreement[];
  /** The least cosine and the largest relative error of any output. */
  readonly cosine: number;
  readonly relative: number;
}

/**
 * Outputs of numbers, by name, over all sets of inputs; those that are constant zeros count as equal or not at all. Errors: an output that is
 * missing, of another shape, or that holds NaN or infinities where the original's is finite.
 */
export function agreement(wanted: readonly Batch[], got: readonly Batch[]): Agreement {
  const names = Object.keys(wanted[0] ?? {}).filter((n) => comparable(wanted[0]![n]!));
  const outputs = names.map((name): OutputAgreement => {
    let [product, left, right, apart] = [0, 0, 0, 0];
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
        product += p * q;
        left += p * p;
        right += q * q;
        apart += (p - q) ** 2;
      }
    });
    const relative = apart === 0 ? 0 : left > 0 ? Math.sqrt(apart / left) : 1;
    const cosine = apart === 0 ? 1 : left > 0 && right > 0 ? Math.min(1, product / Math.sqrt(left * right)) : 0;
    return { name, cosine, relative };
  });
  return {
    outputs,
    cosine: Math.min(1, ...outputs.map((o) => o.cosine)),
    relative: Math.max(0, ...outputs.map((o) => o.relative)),
  };
}

function comparable(t: Tensor): boolean {
  return !t.strings && dtypes[t.dtype].kind !== "c";
}
