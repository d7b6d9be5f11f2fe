/** Eigenvalues and eigenvectors of symmetric matrices. */
import { Fault } from "../fault.ts";
import { fill, givens, identity, largest, reflector, rowMajor, unit, workspace } from "./workspace.ts";

/** A = V·diag(values)·Vᵀ: `values` descending, `vectors` [n, n] row-major, one eigenvector a column. */
export interface Eigen {
  readonly values: Float64Array<ArrayBuffer>;
  readonly vectors: Float64Array<ArrayBuffer>;
}

const epsilon = 2 ** -52;

/**
 * The eigendecomposition of a symmetric n × n matrix, in float64: Householder tridiagonalization, then implicit QR steps with Wilkinson's
 * shift (Golub and Van Loan, Matrix Computations, section 8.3). Errors: elements that are not finite, a matrix that is not symmetric.
 */
export function eigen(a: ArrayLike<number>, n: number): Eigen {
  const scale = unit(largest("eigen", a, n, n));
  for (let i = 0; i < n; i++)
    for (let j = 0; j < i; j++) {
      // Rounding of a product like XᵀX may differ on the two sides of the diagonal.
      if (Math.abs(a[i * n + j]! - a[j * n + i]!) > 1e-5 * scale)
        throw new Fault("eigen", `takes a symmetric matrix; got ${a[i * n + j]} at (${i}, ${j}) and ${a[j * n + i]} at (${j}, ${i})`);
    }
  const w = workspace(2 * n * n + n);
  const m = w.matrix(n, n);
  fill(m, a, true, 1 / scale);
  const product = w.matrix(n, 1);
  const d = new Float64Array(n);
  const e = new Float64Array(n);
  const taus = new Float64Array(n);
  for (let k = 0; k < n; k++) {
    d[k] = m.data[k * n + k]!;
    if (k === n - 1) break;
    const { beta, tau } = reflector(w, m, k + 1, k);
    e[k] = beta;
    taus[k] = tau;
    if (!tau) continue;
    // A ← H·A·H = A − v·yᵀ − y·vᵀ with y = p − (tau/2)(pᵀv)·v and p = tau·A·v.
    const size = n - k - 1;
    const v = m.at(k + 1, k);
    const y = product.at(k + 1, 0);
    for (let j = k + 1; j < n; j++) product.data[j] = tau * w.dot(m.at(k + 1, j), v, size);
    w.axpy((-tau / 2) * w.dot(y, v, size), v, y, size);
    for (let j = k + 1; j < n; j++) {
      w.axpy(-product.data[j]!, v, m.at(k + 1, j), size);
      w.axpy(-m.data[k * n + j]!, y, m.at(k + 1, j), size);
    }
  }
  const vectors = identity(w, n);
  for (let k = n - 2; k >= 0; k--) for (let j = k + 1; j < n; j++) w.reflect(m.at(k + 1, k), taus[k]!, vectors.at(k + 1, j), n - k - 1);

  let norm = 0;
  for (let i = 0; i < n; i++) norm = Math.max(norm, Math.abs(d[i]!) + Math.abs(e[i]!));
  let steps = 60 * n;
  for (let hi = n - 1; hi > 0; ) {
    let lo = hi;
    while (lo > 0) {
      const small = Math.abs(d[lo - 1]!) + Math.abs(d[lo]!) || norm;
      if (Math.abs(e[lo - 1]!) <= epsilon * small || Math.abs(e[lo - 1]!) <= epsilon * 1e-3 * norm) {
        e[lo - 1] = 0;
        break;
      }
      lo--;
    }
    if (lo === hi) {
      hi--;
      continue;
    }
    if (steps-- === 0) throw new Fault("eigen", `did not converge on a ${n} × ${n} matrix`);
    const delta = (d[hi - 1]! - d[hi]!) / 2;
    const last = e[hi - 1]!;
    const root = Math.sqrt(delta * delta + last * last);
    let y = d[lo]! - d[hi]! + (last * last) / (delta + (delta < 0 ? -root : root));
    let z = e[lo]!;
    for (let k = lo; k < hi; k++) {
      const { c, s, r } = givens(y, z);
      if (k > lo) e[k - 1] = r;
      // The 2 × 2 block (p b; b q), rotated on both sides.
      const p = d[k]!;
      const q = d[k + 1]!;
      const b = e[k]!;
      d[k] = c * c * p + 2 * c * s * b + s * s * q;
      d[k + 1] = s * s * p - 2 * c * s * b + c * c * q;
      e[k] = c * s * (q - p) + (c * c - s * s) * b;
      if (k < hi - 1) {
        y = e[k]!;
        z = s * e[k + 1]!;
        e[k + 1]! *= c;
      }
      w.rotate(vectors.at(0, k), vectors.at(0, k + 1), n, c, s);
    }
  }
  const order = Array.from(d.keys()).sort((i, j) => d[j]! - d[i]! || i - j);
  const all = rowMajor(vectors);
  const sortedVectors = new Float64Array(n * n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) sortedVectors[i * n + j] = all[i * n + order[j]!]!;
  return { values: Float64Array.from(order, (i) => d[i]! * scale), vectors: sortedVectors };
}
