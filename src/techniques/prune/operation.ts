/** Optimal Brain Surgeon on a net: weight after weight is deleted, the others move (Hassibi, Stork 1993, section 3). */
import { inverse } from "../../tensor/linalg/dense.ts";
import type { GaussNewton } from "../../train/gaussnewton.ts";
import { excise, leastSalient } from "./surgeon.ts";

export interface OperationOptions {
  /** What is added to H's diagonal (the paper: 1e-8 to 1e-4), or, with `damp`, a share of the diagonal's mean. */
  readonly alpha?: number;
  readonly damp?: number;
  /** Deletions from one H⁻¹, which loses a row and a column with each; after them it is computed anew. Default: all. */
  readonly every?: number;
}

export interface Deletion {
  /** The weight deleted, and by how much the loss was expected to rise. */
  readonly q: number;
  readonly saliency: number;
  /** Weights that are left. */
  readonly left: number;
}

/** (H + αI)⁻¹ over the weights kept; zeros in the rows and columns of the others. */
async function inverseHessian(
  net: GaussNewton,
  w: Float64Array,
  keep: Uint8Array,
  { alpha, damp = 0.01 }: OperationOptions,
): Promise<Float64Array<ArrayBuffer>> {
  const { n } = net;
  const { hessian: h } = await net.hessian(w);
  let trace = 0;
  let left = 0;
  for (let i = 0; i < n; i++) if (keep[i]) [trace, left] = [trace + h[i * n + i]!, left + 1];
  const added = alpha ?? (damp * (trace || 1)) / Math.max(1, left);
  for (let i = 0; i < n; i++) {
    if (keep[i]) h[i * n + i]! += added;
    else for (let j = 0; j < n; j++) h[i * n + j] = h[j * n + i] = i === j ? 1 : 0;
  }
  const inv = inverse(h, n);
  for (let i = 0; i < n; i++) if (!keep[i]) inv[i * n + i] = 0;
  return inv;
}

/**
 * Deletes the least salient weight of `w` again and again, in place: `w` and `keep` (1 is there, 0 gone) change before each deletion is told, and
 * the caller may train what is left in between, or stop. With `every` 1 each saliency is of the net as it then is.
 */
export async function* deletions(net: GaussNewton, w: Float64Array, keep: Uint8Array, options: OperationOptions): AsyncGenerator<Deletion> {
  const { every = Number.POSITIVE_INFINITY } = options;
  let left = keep.reduce((s, k) => s + k, 0);
  let inv: Float64Array | null = null;
  for (let since = 0; left > 0; since++) {
    if (!inv || since >= every) {
      inv = await inverseHessian(net, w, keep, options);
      since = 0;
    }
    const q = leastSalient(w, inv, keep);
    const saliency = excise(w, inv, keep, q);
    left--;
    yield { q, saliency, left };
  }
}
