/** Blocked products and factorizations of large row-major float64 matrices in a WebAssembly memory. */
import { Fault } from "../fault.ts";
import { memoryOf } from "../kernel.ts";
import { denseKernel } from "../kernels/dense.ts";

/** Row-major float64 in the memory of a {@link Dense}; element (i, j) is `data[i·columns + j]`. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float64Array<ArrayBuffer>;
  /** Its address. */
  readonly at: number;
}

/** Part of a matrix: `rows` × `columns` elements from (row, column) on. */
export interface Part {
  readonly of: Matrix;
  readonly row?: number;
  readonly column?: number;
  readonly rows?: number;
  readonly columns?: number;
}

export interface Dense {
  /** What its matrices lie in: for kernels of one's own. */
  readonly memory: WebAssembly.Memory;
  /** A matrix of zeros. Errors: more than there was room for. */
  matrix(rows: number, columns: number): Matrix;
  /** C += alpha·A·B, or alpha·A·Bᵀ. The parts' sizes must fit; C may not overlap the others. */
  multiply(c: Part, a: Part, b: Part, options?: { readonly transposed?: boolean; readonly alpha?: number }): void;
  /** The lower triangle of a square matrix becomes its Cholesky factor L (A = L·Lᵀ), the rest zeros. Errors: not positive definite, by pivot. */
  cholesky(a: Matrix): void;
  /**
   * From left to right in every row of X, where `marked` is not 0: x_j −= x_k·u_kj for all j > k. X [rows, width], marked [rows, n] and U [n, width]
   * begin at one column k, n ≤ width; of U only what is right of the diagonal is read.
   */
  sweep(x: Part, marked: Part, u: Part): void;
}

/** Columns of a product computed at a time, for each of which the kernel wants 256 elements. */
const wide = 128;

/** Room for `elements` float64 in matrices. Errors: more than WebAssembly's 4 GiB. */
export function dense(elements: number): Dense {
  const scratch = 256 * (wide + 3);
  const bytes = (elements + scratch) * 8;
  if (bytes > 2 ** 32 - 65536) throw new Fault("linalg", `a matrix needs ${bytes} bytes of work space; 4 GiB is the most there is`);
  const memory = memoryOf(bytes);
  const kernel = denseKernel(memory);
  let used = scratch * 8;
  const look = (p: Part) => {
    const { row = 0, column = 0, of } = p;
    const stride = of.columns * 8;
    return { at: of.at + row * stride + column * 8, stride, rows: p.rows ?? of.rows - row, columns: p.columns ?? of.columns - column };
  };
  return {
    memory,
    matrix(rows, columns) {
      const at = used;
      used += rows * columns * 8;
      if (used > bytes) throw new Fault("linalg", `no room for ${rows} × ${columns} more elements`);
      return { rows, columns, at, data: new Float64Array(memory.buffer, at, rows * columns) };
    },
    multiply(pc, pa, pb, { transposed = false, alpha = 1 } = {}) {
      const [c, a, b] = [look(pc), look(pa), look(pb)];
      const [k, n] = transposed ? [b.columns, b.rows] : [b.rows, b.columns];
      if (a.rows !== c.rows || n !== c.columns || a.columns !== k)
        throw new Fault("linalg", `${a.rows} × ${a.columns} by ${k} × ${n} does not give ${c.rows} × ${c.columns}`);
      for (let j = 0; j < n; j += wide) {
        const from = b.at + (transposed ? j * b.stride : j * 8);
        const columns = Math.min(wide, n - j);
        kernel.multiply(a.at, a.stride, from, b.stride, transposed ? 1 : 0, c.at + j * 8, c.stride, a.rows, columns, k, alpha, 0);
      }
    },
    cholesky(a) {
      const n = a.rows;
      const pivot = kernel.cholesky(a.at, a.columns * 8, n, 0);
      if (pivot < n)
        throw new Fault(
          "cholesky",
          `the matrix is not positive definite (pivot ${pivot} is ${a.data[pivot * n + pivot]}); add to its diagonal`,
        );
      for (let i = 0; i < n; i++) a.data.fill(0, i * n + i + 1, (i + 1) * n);
    },
    sweep(px, pm, pu) {
      const [x, m, u] = [look(px), look(pm), look(pu)];
      if (m.rows !== x.rows || u.rows !== m.columns || u.columns !== x.columns || m.columns > x.columns)
        throw new Fault("linalg", `${u.rows} × ${u.columns} does not sweep ${x.rows} × ${x.columns} by ${m.rows} × ${m.columns} marks`);
      kernel.sweep(x.at, x.stride, m.at, m.stride, u.at, u.stride, x.rows, m.columns, x.columns);
    },
  };
}

/** Rows and columns transposed at a time. */
const square = 32;

/**
 * A symmetric H [n, n] (its lower half is read) + ridge·I, if positive definite, as U·D·Uᵀ: `u` becomes unit upper triangular, D's diagonal is returned.
 * With it an error e_i made in column i is best answered in column k > i by u_ik·e_i (Frantar et al. 2022 by way of the inverse's factor;
 * Chee et al. 2023, theorem 1, as here), and 1/d_k is the first diagonal element of the inverse of H's part from row and column k on
 * (the [H⁻¹]_qq of optimal brain surgery, once the columns before are done). Errors: not positive definite.
 */
export function udu(space: Dense, u: Matrix, h: ArrayLike<number>, ridge = 0): Float64Array<ArrayBuffer> {
  const n = u.rows;
  const last = n * n - 1;
  // H with its rows and columns in opposite order has the factor L; so has H the factor R = L turned round, which is upper triangular.
  // By squares, which stay in the cache both ways.
  for (let top = 0; top < n; top += square)
    for (let left = 0; left <= top; left += square)
      for (let i = top; i < Math.min(n, top + square); i++)
        for (let j = left, to = Math.min(i + 1, left + square); j < to; j++) u.data[i * n + j] = h[last - j * n - i]!;
  if (ridge) for (let i = 0; i < n; i++) u.data[i * n + i]! += ridge;
  space.cholesky(u);
  u.data.reverse();
  const d = new Float64Array(n);
  for (let k = 0; k < n; k++) d[k] = u.data[k * n + k]!;
  for (let i = 0; i < n; i++) for (let k = i; k < n; k++) u.data[i * n + k]! /= d[k]!;
  return d.map((x) => x * x);
}

/** Rows of an inverse computed at a time. */
const deep = 64;

/** The inverse of a symmetric positive definite A [n, n] (its lower half is read): A = L·Lᵀ, A⁻¹ = L⁻ᵀ·L⁻¹. Errors: not positive definite, by pivot. */
export function inverse(a: ArrayLike<number>, n: number): Float64Array<ArrayBuffer> {
  const space = dense(4 * n * n);
  const [l, m, t, out] = [space.matrix(n, n), space.matrix(n, n), space.matrix(n, n), space.matrix(n, n)];
  l.data.set(a);
  space.cholesky(l);
  // M = L⁻¹ by blocks of rows: those above are done, the rest is substitution within the block. T = Mᵀ.
  for (let from = 0; from < n; from += deep) {
    const to = Math.min(n, from + deep);
    const rows = to - from;
    if (from > 0)
      space.multiply(
        { of: m, row: from, rows, columns: from },
        { of: l, row: from, rows, columns: from },
        { of: m, rows: from, columns: from },
        { alpha: -1 },
      );
    for (let r = from; r < to; r++) {
      m.data[r * n + r] = 1;
      for (let s = from; s < r; s++) {
        const f = l.data[r * n + s]!;
        for (let j = 0; j <= s; j++) m.data[r * n + j]! -= f * m.data[s * n + j]!;
      }
      const d = l.data[r * n + r]!;
      for (let j = 0; j <= r; j++) t.data[j * n + r] = m.data[r * n + j]! /= d;
    }
    const block = { of: t, column: from, rows: to, columns: rows };
    space.multiply({ of: out, rows: to, columns: to }, block, block, { transposed: true });
  }
  return out.data.slice();
}
