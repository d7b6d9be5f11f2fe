/** Matrices of float64 in a WebAssembly memory, stored by columns, and reflections on them. */
import { Fault } from "../fault.ts";
import { memoryOf } from "../kernel.ts";
import { type VectorsKernel, vectorsKernel } from "../kernels/vectors.ts";

/** rows × columns float64; element (i, j) is `data[j·rows + i]`, at address `at(i, j)`. */
export interface Columns {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float64Array;
  at(i: number, j: number): number;
}

export interface Workspace extends VectorsKernel {
  /** A matrix of zeros. */
  matrix(rows: number, columns: number): Columns;
}

/** Room for `elements` float64 in matrices. Errors: more than WebAssembly's 4 GiB. */
export function workspace(elements: number): Workspace {
  if (elements * 8 > 2 ** 32 - 65536)
    throw new Fault("linalg", `a matrix needs ${elements * 8} bytes of work space; 4 GiB is the most there is`);
  const memory = memoryOf(elements * 8);
  let used = 0;
  return {
    ...vectorsKernel(memory),
    matrix(rows, columns) {
      const start = used;
      used += rows * columns * 8;
      return {
        rows,
        columns,
        data: new Float64Array(memory.buffer, start, rows * columns),
        at: (i, j) => start + (j * rows + i) * 8,
      };
    },
  };
}

/** A reflection I − tau·v·vᵀ that takes x to (beta, 0, …, 0); v replaces x, with v₀ = 1 (LAPACK's dlarfg). */
export function reflector(w: Workspace, m: Columns, i: number, j: number): { beta: number; tau: number } {
  const n = m.rows - i;
  const first = j * m.rows + i;
  const alpha = m.data[first]!;
  const rest = w.dot(m.at(i + 1, j), m.at(i + 1, j), n - 1);
  m.data[first] = 1;
  if (rest === 0) return { beta: alpha, tau: 0 };
  const norm = Math.sqrt(alpha * alpha + rest);
  const beta = alpha > 0 ? -norm : norm;
  const by = 1 / (alpha - beta);
  for (let k = 1; k < n; k++) m.data[first + k]! *= by;
  return { beta, tau: (beta - alpha) / beta };
}

/** Reflectors at a time: their vectors stay in cache while columns stream past. */
const panel = 16;

/** Householder QR in place: column k holds reflector k from row k down, and R above it. Returns R's diagonal and the taus. */
export function factorQr(w: Workspace, m: Columns): { diagonal: Float64Array; taus: Float64Array } {
  const n = Math.min(m.rows, m.columns);
  const diagonal = new Float64Array(n);
  const taus = new Float64Array(n);
  for (let from = 0; from < n; from += panel) {
    const to = Math.min(n, from + panel);
    for (let k = from; k < to; k++) {
      const { beta, tau } = reflector(w, m, k, k);
      diagonal[k] = beta;
      taus[k] = tau;
      for (let j = k + 1; j < to; j++) w.reflect(m.at(k, k), tau, m.at(k, j), m.rows - k);
    }
    for (let j = to; j < m.columns; j++) for (let k = from; k < to; k++) w.reflect(m.at(k, k), taus[k]!, m.at(k, j), m.rows - k);
  }
  return { diagonal, taus };
}

/** x ← Q·x for every column of `x`, Q being the product of the reflectors in `m`. */
export function applyQ(w: Workspace, m: Columns, taus: Float64Array, x: Columns): void {
  for (let to = taus.length; to > 0; to -= panel) {
    const from = Math.max(0, to - panel);
    for (let j = 0; j < x.columns; j++) for (let k = to - 1; k >= from; k--) w.reflect(m.at(k, k), taus[k]!, x.at(k, j), m.rows - k);
  }
}

/** Copies a row-major matrix, times `scale`, into columns; `transposed` makes its rows the columns. */
export function fill(m: Columns, a: ArrayLike<number>, transposed: boolean, scale = 1): void {
  const { rows, columns, data } = m;
  if (transposed) for (let i = 0; i < a.length; i++) data[i] = a[i]! * scale;
  else for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) data[j * rows + i] = a[i * columns + j]! * scale;
}

/** Row-major elements of a matrix in columns. */
export function rowMajor(m: Columns): Float64Array<ArrayBuffer> {
  const out = new Float64Array(m.rows * m.columns);
  for (let j = 0; j < m.columns; j++) for (let i = 0; i < m.rows; i++) out[i * m.columns + j] = m.data[j * m.rows + i]!;
  return out;
}

/** The largest absolute element. Errors: a length that is not rows × columns, or an element that is not finite. */
export function largest(where: string, a: ArrayLike<number>, rows: number, columns: number): number {
  if (a.length !== rows * columns) throw new Fault(where, `a ${rows} × ${columns} matrix has ${rows * columns} elements; got ${a.length}`);
  let max = 0;
  for (let i = 0; i < a.length; i++) {
    const x = Math.abs(a[i]!);
    if (!(x < Infinity)) throw new Fault(where, `element ${i} of a ${rows} × ${columns} matrix is ${a[i]}; finite numbers would be right`);
    if (x > max) max = x;
  }
  return max;
}

export function identity(w: Workspace, n: number): Columns {
  const m = w.matrix(n, n);
  for (let i = 0; i < n; i++) m.data[i * n + i] = 1;
  return m;
}

/** The rotation that takes (y, z) to (r, 0). Not with Math.hypot, whose rounding is one-sided: over many rotations that costs a digit. */
export function givens(y: number, z: number): { c: number; s: number; r: number } {
  const r = Math.sqrt(y * y + z * z);
  return r > 0 ? { c: y / r, s: z / r, r } : { c: 1, s: 0, r: 0 };
}

/** What to divide a matrix by, so that neither squares nor reciprocals overflow: its largest element, or 1 where that is as good as zero. */
export function unit(max: number): number {
  return max > 1e-300 ? max : 1;
}
