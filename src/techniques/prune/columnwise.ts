/** SparseGPT's solver: a layer's columns are pruned one after the other, and those that are left make up for what goes. */
import { Fault } from "../../tensor/fault.ts";
import { dense } from "../../tensor/linalg/dense.ts";
import { dampedFactors, meanDiagonal } from "../hessian.ts";
import { type Pattern, select } from "./pattern.ts";

export interface ColumnwiseOptions {
  /** Share of the weights removed; N:M patterns have their own. */
  readonly sparsity: number;
  /** Default: any weight may go. */
  readonly pattern?: Pattern;
  /** Added to the Hessian's diagonal, as a share of its mean. Default 0.01; raised tenfold as often as the matrix is not positive definite. */
  readonly damp?: number;
  /** Columns among whose weights those that go are chosen together. Default 128. */
  readonly blockSize?: number;
}

export interface Sparse {
  /** [rows, columns]: what is left, made up for what went; zeros elsewhere. */
  readonly weights: Float32Array<ArrayBuffer>;
  /** 1: stays. */
  readonly mask: Uint8Array<ArrayBuffer>;
}

/** Weights at a time: their errors take 8 bytes each. Rows beyond are done on their own. */
const most = 1 << 27;

/**
 * Frantar & Alistarh 2023, algorithm 1: for w [rows, columns] and H = Σ xᵀx over the layer's inputs, of each block of columns the weights
 * of least w²/[H_k⁻¹]_kk go (H_k: H from row and column k on, damped); then, from left to right, each weight that goes changes those right
 * of it in its row by −w_k·[H_k⁻¹]_k,i/[H_k⁻¹]_kk, which is optimal brain surgery restricted to the columns not yet done. Patterns N:M are
 * chosen when their first column is reached, others once a block. With H + damping = U·D·Uᵀ, [H_k⁻¹]_kk = 1/d_k and the row of changes is
 * row k of U⁻¹, which is only needed within blocks: earlier blocks' changes e = w − ŵ come in as (e·U)·U⁻¹ of the block.
 * O(columns³/6 + rows·columns²/2) multiply-adds; 8·columns·(rows + columns) bytes and those of a few blocks beside the arguments. Of an input that was never seen
 * only the damping counts, so that its weights go before most others, the smallest first, and nothing makes up for them. Errors: a Hessian
 * of the wrong size or not finite.
 */
export function columnwise(w: Float32Array, rows: number, columns: number, hessian: Float64Array, options: ColumnwiseOptions): Sparse {
  const { sparsity, pattern = { kind: "free" }, damp = 0.01 } = options;
  const n = columns;
  if (hessian.length !== n * n) throw new Fault("sparsegpt", `a Hessian for ${n} columns has ${n * n} elements; got ${hessian.length}`);
  const tall = pattern.kind === "block" ? pattern.rows : 1;
  const wide = pattern.kind === "nm" ? pattern.of : pattern.kind === "block" ? pattern.columns : 1;
  const block = Math.min(n, Math.max(1, Math.round((options.blockSize ?? 128) / wide)) * wide);
  const span = pattern.kind === "nm" ? wide : block;
  const chunk = Math.min(rows, Math.max(1, Math.floor(most / n / tall)) * tall);
  const space = dense(n * n + chunk * (n + 3 * block) + block * block);
  const u = space.matrix(n, n);
  const d = dampedFactors(space, u, hessian, meanDiagonal(hessian, n, "sparsegpt"), damp);
  const errors = space.matrix(chunk, n);
  const late = space.matrix(chunk, block);
  const current = space.matrix(chunk, block);
  const marked = space.matrix(chunk, block);
  const inverse = space.matrix(block, block);
  const weights = new Float32Array(rows * n);
  const mask = new Uint8Array(rows * n);

  for (let first = 0; first < rows; first += chunk) {
    const count = Math.min(chunk, rows - first);
    for (let from = 0, gone = 0; from < n; from += block) {
      const width = Math.min(block, n - from);
      invert(u.data, n, from, width, inverse.data, block);
      late.data.fill(0);
      space.multiply(
        { of: late, rows: count, columns: width },
        { of: errors, rows: count, columns: from },
        { of: u, rows: from, column: from, columns: width },
      );
      const at = first * n + from;
      for (let r = 0; r < count; r++) copy(w, at + r * n, current.data, r * block, width);
      space.multiply(
        { of: current, rows: count, columns: width },
        { of: late, rows: count, columns: width },
        { of: inverse, rows: width, columns: width },
      );
      for (let start = 0; start < width; start += span) {
        const end = Math.min(width, start + span);
        const many = end - start;
        const scores = new Float32Array(count * many);
        for (let r = 0; r < count; r++) weigh(current.data, r * block + start, d, from + start, scores, r * many, many);
        // Blocks together lose what the layer is to lose.
        const share = Math.min(1, Math.max(0, (Math.round(sparsity * count * (from + end)) - gone) / scores.length));
        const keep = select([{ scores, rows: count, columns: many }], share, "layer", pattern)[0]!;
        for (let r = 0; r < count; r++) gone += mark(keep, r * many, marked.data, r * block, many);
        space.sweep(
          { of: current, rows: count, column: start, columns: width - start },
          { of: marked, rows: count, columns: many },
          { of: inverse, row: start, rows: many, column: start, columns: width - start },
        );
        for (let r = 0; r < count; r++) {
          const to = at + r * n + start;
          settle(current.data, r * block + start, keep, r * many, weights, to, many);
          copy(keep, r * many, mask, to, many);
          differences(w, weights, to, errors.data, r * n + from + start, many);
        }
      }
    }
  }
  return { weights, mask };
}

/** The inverse of the unit upper triangle of U [n, n] from row and column `at` on, `width` wide. */
function invert(u: Float64Array, n: number, at: number, width: number, out: Float64Array, stride: number): void {
  out.fill(0);
  for (let i = width - 1; i >= 0; i--) {
    out[i * stride + i] = 1;
    for (let k = i + 1; k < width; k++) {
      const f = u[(at + i) * n + at + k]!;
      if (f !== 0) for (let j = k; j < width; j++) out[i * stride + j]! -= f * out[k * stride + j]!;
    }
  }
}

// The passes over a row's weights, each by itself: the engine compiles them better than loops of one large function.

function copy(from: Float32Array | Uint8Array, i: number, to: Float64Array | Uint8Array, j: number, n: number): void {
  for (const end = i + n; i < end; i++, j++) to[j] = from[i]!;
}

/** x²·d. */
function weigh(x: Float64Array, i: number, d: Float64Array, k: number, scores: Float32Array, j: number, n: number): void {
  for (const end = i + n; i < end; i++, j++, k++) scores[j] = x[i]! * x[i]! * d[k]!;
}

/** 1 for what goes; their number. */
function mark(keep: Uint8Array, i: number, marked: Float64Array, j: number, n: number): number {
  let gone = 0;
  for (const end = i + n; i < end; i++, j++) gone += marked[j] = 1 - keep[i]!;
  return gone;
}

function settle(x: Float64Array, i: number, keep: Uint8Array, k: number, weights: Float32Array, j: number, n: number): void {
  for (const end = i + n; i < end; i++, j++, k++) if (keep[k]) weights[j] = x[i]!;
}

function differences(w: Float32Array, weights: Float32Array, i: number, errors: Float64Array, j: number, n: number): void {
  for (const end = i + n; i < end; i++, j++) errors[j] = w[i]! - weights[i]!;
}
