/** Factorizations that solve equations: QR, Cholesky, and Gaussian elimination. All in float64, all matrices row-major. */
import { Fault } from "../fault.ts";
import { dense } from "./dense.ts";
import { applyQ, factorQr, fill, largest, rowMajor, unit, workspace } from "./workspace.ts";

/** A = Q·R with k = min(rows, columns): `q` [rows, k] with orthonormal columns, `r` [k, columns] upper triangular. Householder. */
export function qr(a: ArrayLike<number>, rows: number, columns: number): { q: Float64Array<ArrayBuffer>; r: Float64Array<ArrayBuffer> } {
  const scale = unit(largest("qr", a, rows, columns));
  const k = Math.min(rows, columns);
  const w = workspace(rows * columns + rows * k);
  const m = w.matrix(rows, columns);
  fill(m, a, false, 1 / scale);
  const { diagonal, taus } = factorQr(w, m);
  const r = new Float64Array(k * columns);
  for (let i = 0; i < k; i++) {
    r[i * columns + i] = diagonal[i]! * scale;
    for (let j = i + 1; j < columns; j++) r[i * columns + j] = m.data[j * rows + i]! * scale;
  }
  const q = w.matrix(rows, k);
  for (let j = 0; j < k; j++) q.data[j * rows + j] = 1;
  applyQ(w, m, taus, q);
  return { q: rowMajor(q), r };
}

/** The lower triangular L with A = L·Lᵀ, for a symmetric positive definite n × n matrix (its lower half is read). Errors: not positive definite, by pivot. */
export function cholesky(a: ArrayLike<number>, n: number): Float64Array<ArrayBuffer> {
  largest("cholesky", a, n, n);
  const space = dense(n * n);
  const m = space.matrix(n, n);
  m.data.set(a);
  space.cholesky(m);
  return m.data.slice();
}

/** X with A·X = B, for `a` [n, n] and `b` [n, k]: elimination with partial pivoting. Errors: a singular matrix. */
export function solve(a: ArrayLike<number>, n: number, b: ArrayLike<number>, k: number): Float64Array<ArrayBuffer> {
  const max = largest("solve", a, n, n);
  largest("solve", b, n, k);
  const width = n + k;
  const w = workspace(n * width);
  // Column i of `m` is row i of [A | B]; `row` says which of them stands where.
  const m = w.matrix(width, n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) m.data[i * width + j] = a[i * n + j]!;
    for (let j = 0; j < k; j++) m.data[i * width + n + j] = b[i * k + j]!;
  }
  const row = Array.from({ length: n }, (_, i) => i);
  const entry = (i: number, j: number) => m.data[row[i]! * width + j]!;
  for (let c = 0; c < n; c++) {
    let best = c;
    for (let i = c + 1; i < n; i++) if (Math.abs(entry(i, c)) > Math.abs(entry(best, c))) best = i;
    [row[c], row[best]] = [row[best]!, row[c]!];
    const pivot = entry(c, c);
    if (Math.abs(pivot) <= max * n * 2 ** -52)
      throw new Fault("solve", `the matrix is singular (pivot ${c} is ${pivot}); add to its diagonal`);
    for (let i = c + 1; i < n; i++) {
      const f = entry(i, c);
      if (f) w.axpy(-f / pivot, m.at(c, row[c]!), m.at(c, row[i]!), width - c);
    }
  }
  for (let c = n - 1; c >= 0; c--) {
    const at = row[c]! * width + n;
    for (let i = c + 1; i < n; i++) w.axpy(-entry(c, i), m.at(n, row[i]!), m.at(n, row[c]!), k);
    for (let j = 0; j < k; j++) m.data[at + j]! /= entry(c, c);
  }
  const out = new Float64Array(n * k);
  for (let i = 0; i < n; i++) out.set(m.data.subarray(row[i]! * width + n, row[i]! * width + width), i * k);
  return out;
}
