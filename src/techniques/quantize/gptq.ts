/** GPTQ: columns are rounded one after the other, and those that are left make up for the error. */
import { Fault } from "../../tensor/fault.ts";
import { type Dense, dense, type Matrix } from "../../tensor/linalg/dense.ts";
import { dampedFactors, meanDiagonal } from "../hessian.ts";
import { type BlockCodes, type BlockScheme, emptyCodes, type Grid, gridOf, levelsOf } from "./blocks.ts";
import { searchGrid } from "./grid.ts";

export interface GptqOptions {
  /** Added to the Hessian's diagonal, as a share of its mean. Default 0.01; raised tenfold as often as the matrix is not positive definite. */
  readonly damp?: number;
  /** Columns whose updates are done together. Default 128. */
  readonly blockSize?: number;
  /** "activation": the columns with the largest inputs first, on grids found beforehand; default "given": from left to right, each grid found when its group is reached. */
  readonly order?: "given" | "activation";
  /** Grids by search rather than from the group's range. Default false. */
  readonly search?: boolean;
}

/** Rows of weights at a time. */
const most = 512;

/**
 * Frantar et al. 2022. With H = Σ xᵀx over the layer's inputs, ŵ_k = round(w_k + Σ_{i<k} (w_i − ŵ_i)·u_ik) for H + damping = U·D·Uᵀ: the
 * paper's updates by a row of the Cholesky factor of H⁻¹, computed without that inverse (u_ik = −that row's element over its diagonal,
 * summed up; Chee et al. 2023, section 3). A column that no input ever used is rounded to nearest. `hessian` [columns, columns].
 * Errors: a Hessian of the wrong size or not finite.
 */
export function gptq(
  w: Float32Array,
  rows: number,
  columns: number,
  hessian: Float64Array,
  scheme: BlockScheme,
  options: GptqOptions = {},
): BlockCodes {
  const { damp = 0.01, blockSize = 128, order = "given", search = false } = options;
  const out = emptyCodes("gptq", w, rows, columns, scheme);
  if (hessian.length !== columns ** 2)
    throw new Fault("gptq", `a Hessian for ${columns} columns has ${columns ** 2} elements; got ${hessian.length}`);
  const n = columns;
  const chunk = Math.min(rows, most);
  const { groupSize } = scheme;
  const groups = Math.ceil(n / groupSize);
  const span = spanOf(groupSize, blockSize, n);
  const permutation = Int32Array.from({ length: n }, (_, j) => j);
  if (order === "activation") permutation.sort((a, b) => hessian[b * n + b]! - hessian[a * n + a]! || a - b);
  const space = dense(n * n + chunk * (n + span));
  const u = space.matrix(n, n);
  const d = factor(space, u, hessian, permutation, damp);
  const errors = space.matrix(chunk, n);
  const current = space.matrix(chunk, span);
  const { low, high, step } = levelsOf(scheme);
  const importance = new Float64Array(n);
  permutation.forEach((j, k) => {
    importance[j] = d[k]!;
  });
  const find = (x: ArrayLike<number>, start: number, end: number, column: number): Grid =>
    search ? searchGrid(x, start, end, scheme, importance, column) : gridOf(x, start, end, scheme);
  // A group's weights as the paper has them when it is reached, making up for all errors so far: w + p·U⁻¹ over the group's columns, for
  // p what the errors weigh in at each column's own turn. `at`: where the group lies in `current`.
  const updated = new Float64Array(groupSize);
  const reached = (row: number, at: number, k: number, width: number): Grid => {
    for (let i = 0; i < width; i++) {
      let t = current.data[at + i]! - w[row * n + k + i]!;
      for (let c = 0; c < i; c++) t -= updated[c]! * u.data[(k + c) * n + k + i]!;
      updated[i] = t;
    }
    for (let i = 0; i < width; i++) updated[i]! += w[row * n + k + i]!;
    return find(updated, 0, width, k);
  };

  for (let first = 0; first < rows; first += chunk) {
    const count = Math.min(chunk, rows - first);
    const keep = (r: number, group: number, g: Grid) => {
      out.scales[(first + r) * groups + group] = g.scale;
      if (out.zeroPoints) out.zeroPoints[(first + r) * groups + group] = g.zero;
    };
    if (order === "activation") {
      for (let r = 0; r < count; r++)
        for (let g = 0, at = (first + r) * n; g < groups; g++) {
          const [start, end] = [g * groupSize, Math.min(n, (g + 1) * groupSize)];
          keep(r, g, find(w, at + start, at + end, start));
        }
    }
    for (let from = 0; from < n; from += span) {
      const width = Math.min(span, n - from);
      for (let r = 0; r < count; r++)
        for (let k = 0; k < width; k++) current.data[r * span + k] = w[(first + r) * n + permutation[from + k]!]!;
      space.multiply(
        { of: current, rows: count, columns: width },
        { of: errors, rows: count, columns: from },
        { of: u, rows: from, column: from, columns: width },
      );
      for (let at = from; at < from + width; at += blockSize) {
        const to = Math.min(at + blockSize, from + width);
        if (order === "given" && groupSize > blockSize && at === from)
          for (let r = 0; r < count; r++) keep(r, at / groupSize, reached(first + r, r * span, at, width));
        space.multiply(
          { of: current, rows: count, column: at - from, columns: to - at },
          { of: errors, rows: count, column: from, columns: at - from },
          { of: u, row: from, rows: at - from, column: at, columns: to - at },
        );
        for (let r = 0; r < count; r++) {
          const row = r * span - from;
          const x = current.data;
          for (let k = at; k < to; k++) {
            if (order === "given" && groupSize <= blockSize && k % groupSize === 0)
              keep(r, k / groupSize, reached(first + r, row + k, k, Math.min(groupSize, n - k)));
            const j = permutation[k]!;
            const group = (first + r) * groups + Math.floor(j / groupSize);
            const scale = out.scales[group]!;
            const zero = out.zeroPoints ? out.zeroPoints[group]! : 2 ** (out.bits - 1);
            const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
            const v = x[row + k]!;
            let q: number;
            if (step === 2) q = v * inverse >= 0 ? high : low;
            else {
              q = Math.floor(Math.fround(Math.fround(v * inverse) + zero) + 0.5);
              q = q < low ? low : q > high ? high : q;
            }
            out.codes[(first + r) * n + j] = q;
            const e = w[(first + r) * n + j]! - (q - zero) * scale;
            errors.data[r * n + k] = e;
            for (let i = k + 1, line = k * n; i < to; i++) x[row + i]! += e * u.data[line + i]!;
          }
        }
      }
    }
  }
  return out;
}

/** Columns brought up to date together: whole groups, and about a block; one group where groups are larger than blocks. */
function spanOf(groupSize: number, blockSize: number, columns: number): number {
  if (groupSize >= columns || groupSize > blockSize) return Math.min(groupSize, columns);
  return Math.min(columns, Math.floor(blockSize / groupSize) * groupSize);
}

/** The factors of the damped Hessian, its columns in the order they are done. */
function factor(space: Dense, u: Matrix, hessian: Float64Array, permutation: Int32Array, damp: number): Float64Array {
  const n = permutation.length;
  const mean = meanDiagonal(hessian, n, "gptq");
  const h = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    const from = permutation[i]! * n;
    for (let j = 0; j < n; j++) h[i * n + j] = hessian[from + permutation[j]!]!;
    if (!(h[i * n + i]! > 0)) h[i * n + i] = mean;
  }
  return dampedFactors(space, u, h, mean, damp);
}
