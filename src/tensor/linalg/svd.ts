/** The singular value decomposition. */
import { Fault } from "../fault.ts";
import {
  applyQ,
  type Columns,
  factorQr,
  fill,
  givens,
  identity,
  largest,
  reflector,
  rowMajor,
  unit,
  type Workspace,
  workspace,
} from "./workspace.ts";

/** A = U·diag(s)·Vᵀ with r = min(rows, columns): `u` [rows, r] and `vt` [r, columns] row-major, `s` [r] descending. */
export interface Svd {
  readonly u: Float64Array<ArrayBuffer>;
  readonly s: Float64Array<ArrayBuffer>;
  readonly vt: Float64Array<ArrayBuffer>;
}

const epsilon = 2 ** -52;

/**
 * The thin SVD of a row-major matrix, in float64: QR of the tall side, Householder bidiagonalization of R, implicit-shift QR iteration
 * (Golub and Van Loan, Matrix Computations, sections 5.4 and 8.6; Chan 1982). Singular values are exact to a few epsilons of the largest.
 * Work grows as the larger side times the square of the smaller. Errors: elements that are not finite.
 */
export function svd(a: ArrayLike<number>, rows: number, columns: number): Svd {
  const scale = unit(largest("svd", a, rows, columns));
  const wide = rows < columns;
  const [p, q] = wide ? [columns, rows] : [rows, columns];
  const w = workspace(2 * p * q + 4 * q * q + q);
  const tall = w.matrix(p, q);
  // Scaled, so that no square overflows.
  fill(tall, a, wide, 1 / scale);
  const { diagonal, taus } = factorQr(w, tall);
  const r = w.matrix(q, q);
  for (let j = 0; j < q; j++) {
    r.data.set(tall.data.subarray(j * p, j * p + j), j * q);
    r.data[j * q + j] = diagonal[j]!;
  }
  const { d, e, left, right } = bidiagonal(w, r);
  iterate(w, d, e, left, right);

  const order = Array.from(d.keys()).sort((i, j) => Math.abs(d[j]!) - Math.abs(d[i]!) || i - j);
  const s = Float64Array.from(order, (i) => Math.abs(d[i]!) * scale);
  const long = w.matrix(p, q);
  const short = new Float64Array(q * q);
  order.forEach((from, to) => {
    long.data.set(left.data.subarray(from * q, from * q + q), to * p);
    const sign = d[from]! < 0 ? -1 : 1;
    for (let i = 0; i < q; i++) short[to * q + i] = sign * right.data[from * q + i]!;
  });
  applyQ(w, tall, taus, long);
  // Columns one after the other are the rows of the transpose.
  if (wide) return { u: transposed(short, q), s, vt: long.data.slice() };
  return { u: rowMajor(long), s, vt: short };
}

function transposed(a: Float64Array, n: number): Float64Array<ArrayBuffer> {
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) out[j * n + i] = a[i * n + j]!;
  return out;
}

interface Bidiagonal {
  /** Diagonal and superdiagonal. */
  readonly d: Float64Array;
  readonly e: Float64Array;
  /** R = left·B·rightᵀ. */
  readonly left: Columns;
  readonly right: Columns;
}

/** Householder bidiagonalization of a square matrix, which it overwrites. */
function bidiagonal(w: Workspace, m: Columns): Bidiagonal {
  const n = m.rows;
  const d = new Float64Array(n);
  const e = new Float64Array(Math.max(0, n - 1));
  const leftTaus = new Float64Array(n);
  const rightTaus = new Float64Array(n);
  const rowVectors = w.matrix(n, n);
  const sum = w.matrix(n, 1);
  for (let k = 0; k < n; k++) {
    const { beta, tau } = reflector(w, m, k, k);
    d[k] = beta;
    leftTaus[k] = tau;
    if (tau) for (let j = k + 1; j < n; j++) w.reflect(m.at(k, k), tau, m.at(k, j), n - k);
    if (k === n - 2) e[k] = m.data[(k + 1) * n + k]!;
    if (k >= n - 2) continue;
    for (let j = k + 1; j < n; j++) rowVectors.data[k * n + j] = m.data[j * n + k]!;
    const row = reflector(w, rowVectors, k + 1, k);
    e[k] = row.beta;
    rightTaus[k] = row.tau;
    if (!row.tau) continue;
    // Rows below k: A ← A − tau·(A·v)·vᵀ.
    const below = n - k - 1;
    sum.data.fill(0);
    for (let j = k + 1; j < n; j++) w.axpy(rowVectors.data[k * n + j]!, m.at(k + 1, j), sum.at(0, 0), below);
    for (let j = k + 1; j < n; j++) w.axpy(-row.tau * rowVectors.data[k * n + j]!, sum.at(0, 0), m.at(k + 1, j), below);
  }
  // The products of the reflectors, from the last to the first: each touches only what the later ones have filled.
  const left = identity(w, n);
  for (let k = n - 1; k >= 0; k--) for (let j = k; j < n; j++) w.reflect(m.at(k, k), leftTaus[k]!, left.at(k, j), n - k);
  const right = identity(w, n);
  for (let k = n - 3; k >= 0; k--)
    for (let j = k + 1; j < n; j++) w.reflect(rowVectors.at(k + 1, k), rightTaus[k]!, right.at(k + 1, j), n - k - 1);
  return { d, e, left, right };
}

/** Drives the superdiagonal to zero by rotations, which it applies to the columns of `left` and `right` as well. */
function iterate(w: Workspace, d: Float64Array, e: Float64Array, left: Columns, right: Columns): void {
  const n = d.length;
  const turn = (m: Columns, i: number, j: number, c: number, s: number) => w.rotate(m.at(0, i), m.at(0, j), n, c, s);
  let norm = 0;
  for (let i = 0; i < n; i++) norm = Math.max(norm, Math.abs(d[i]!) + Math.abs(e[i] ?? 0));
  let steps = 60 * n;
  for (let hi = n - 1; hi > 0; ) {
    // The last block [lo, hi] without a zero on the superdiagonal.
    let lo = hi;
    while (lo > 0) {
      if (Math.abs(e[lo - 1]!) <= epsilon * (Math.abs(d[lo - 1]!) + Math.abs(d[lo]!))) {
        e[lo - 1] = 0;
        break;
      }
      lo--;
    }
    if (lo === hi) {
      hi--;
      continue;
    }
    if (steps-- === 0) throw new Fault("svd", `did not converge on a ${n} × ${n} matrix`);

    // A zero on the diagonal splits the block: rotate the element beside it away.
    let zero = -1;
    for (let i = lo; i <= hi; i++) if (Math.abs(d[i]!) <= epsilon * 1e-3 * norm) zero = i;
    if (zero >= 0) {
      d[zero] = 0;
      if (zero < hi) {
        let f = e[zero]!;
        e[zero] = 0;
        for (let j = zero + 1; j <= hi; j++) {
          const { c, s, r } = givens(d[j]!, f);
          d[j] = r;
          turn(left, j, zero, c, s);
          if (j === hi) break;
          f = -s * e[j]!;
          e[j]! *= c;
        }
      } else {
        let f = e[zero - 1]!;
        e[zero - 1] = 0;
        for (let j = zero - 1; j >= lo; j--) {
          const { c, s, r } = givens(d[j]!, f);
          d[j] = r;
          turn(right, j, zero, c, s);
          if (j === lo) break;
          f = -s * e[j - 1]!;
          e[j - 1]! *= c;
        }
      }
      continue;
    }

    // One implicit QR step with Wilkinson's shift of BᵀB's last 2 × 2.
    const a = d[hi - 1]!;
    const b = d[hi]!;
    const g = hi - 1 > lo ? e[hi - 2]! : 0;
    const h = e[hi - 1]!;
    const top = a * a + g * g;
    const bottom = b * b + h * h;
    const side = a * h;
    const delta = (top - bottom) / 2;
    const root = Math.sqrt(delta * delta + side * side);
    const shift = bottom - (side * side) / (delta + (delta < 0 ? -root : root) || epsilon);
    let y = d[lo]! * d[lo]! - shift;
    let z = d[lo]! * e[lo]!;
    for (let k = lo; k < hi; k++) {
      const { c, s, r } = givens(y, z);
      if (k > lo) e[k - 1] = r;
      const f = c * d[k]! + s * e[k]!;
      const off = c * e[k]! - s * d[k]!;
      const down = s * d[k + 1]!;
      const next = c * d[k + 1]!;
      turn(right, k, k + 1, c, s);
      const up = givens(f, down);
      d[k] = up.r;
      e[k] = up.c * off + up.s * next;
      d[k + 1] = up.c * next - up.s * off;
      turn(left, k, k + 1, up.c, up.s);
      if (k < hi - 1) {
        y = e[k]!;
        z = up.s * e[k + 1]!;
        e[k + 1]! *= up.c;
      }
    }
  }
}
