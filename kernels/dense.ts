// Products, Cholesky factors and elimination of row-major float64 matrices in the imported memory. Addresses and strides (from row to row) are in bytes,
// counts in elements. Sums are always taken in the same order.

/** Inner elements at a time: what a panel and four rows keep in the first cache. */
const depth: usize = 256;

/** Four columns of B, for `k` of its rows, one row after the other; columns beyond `n` are zeros. `step` leads along k, `across` from column to column. */
function pack(b: usize, step: usize, across: usize, n: usize, k: usize, to: usize): void {
  const b1 = n > 1 ? b + across : 0;
  const b2 = n > 2 ? b + 2 * across : 0;
  const b3 = n > 3 ? b + 3 * across : 0;
  for (let p: usize = 0; p < k; p++) {
    const at = p * step;
    store<f64>(to, load<f64>(b + at));
    store<f64>(to, b1 ? load<f64>(b1 + at) : 0, 8);
    store<f64>(to, b2 ? load<f64>(b2 + at) : 0, 16);
    store<f64>(to, b3 ? load<f64>(b3 + at) : 0, 24);
    to += 32;
  }
}

function put(c: usize, n: usize, x: v128, y: v128): void {
  store<f64>(c, load<f64>(c) + f64x2.extract_lane(x, 0));
  if (n > 1) store<f64>(c, load<f64>(c, 8) + f64x2.extract_lane(x, 1), 8);
  if (n > 2) store<f64>(c, load<f64>(c, 16) + f64x2.extract_lane(y, 0), 16);
  if (n > 3) store<f64>(c, load<f64>(c, 24) + f64x2.extract_lane(y, 1), 24);
}

/** C += alpha·A·panel for up to four rows and four columns. */
function tile(a: usize, lda: usize, panel: usize, c: usize, ldc: usize, m: usize, n: usize, k: usize, alpha: f64): void {
  // Rows that are not there are the first one again, and are not stored.
  let a0 = a;
  let a1 = m > 1 ? a + lda : a;
  let a2 = m > 2 ? a + 2 * lda : a;
  let a3 = m > 3 ? a + 3 * lda : a;
  let c00 = f64x2.splat(0);
  let c01 = f64x2.splat(0);
  let c10 = f64x2.splat(0);
  let c11 = f64x2.splat(0);
  let c20 = f64x2.splat(0);
  let c21 = f64x2.splat(0);
  let c30 = f64x2.splat(0);
  let c31 = f64x2.splat(0);
  const end = panel + (k << 5);
  while (panel < end) {
    const x = v128.load(panel);
    const y = v128.load(panel, 16);
    let s = v128.load64_splat(a0);
    c00 = f64x2.add(c00, f64x2.mul(s, x));
    c01 = f64x2.add(c01, f64x2.mul(s, y));
    s = v128.load64_splat(a1);
    c10 = f64x2.add(c10, f64x2.mul(s, x));
    c11 = f64x2.add(c11, f64x2.mul(s, y));
    s = v128.load64_splat(a2);
    c20 = f64x2.add(c20, f64x2.mul(s, x));
    c21 = f64x2.add(c21, f64x2.mul(s, y));
    s = v128.load64_splat(a3);
    c30 = f64x2.add(c30, f64x2.mul(s, x));
    c31 = f64x2.add(c31, f64x2.mul(s, y));
    panel += 32;
    a0 += 8;
    a1 += 8;
    a2 += 8;
    a3 += 8;
  }
  const t = f64x2.splat(alpha);
  put(c, n, f64x2.mul(t, c00), f64x2.mul(t, c01));
  if (m > 1) put(c + ldc, n, f64x2.mul(t, c10), f64x2.mul(t, c11));
  if (m > 2) put(c + 2 * ldc, n, f64x2.mul(t, c20), f64x2.mul(t, c21));
  if (m > 3) put(c + 3 * ldc, n, f64x2.mul(t, c30), f64x2.mul(t, c31));
}

/**
 * C += alpha·A·B, for A [m, k], C [m, n] and B [k, n], or B [n, k] read transposed. `scratch` has room for 256·(n + 3) elements.
 */
export function multiply(
  a: usize,
  lda: usize,
  b: usize,
  ldb: usize,
  transposed: bool,
  c: usize,
  ldc: usize,
  m: usize,
  n: usize,
  k: usize,
  alpha: f64,
  scratch: usize,
): void {
  const step: usize = transposed ? 8 : ldb;
  const across: usize = transposed ? ldb : 8;
  for (let from: usize = 0; from < k; from += depth) {
    const deep = min(depth, k - from);
    for (let j: usize = 0; j < n; j += 4) pack(b + from * step + j * across, step, across, n - j, deep, scratch + ((j * depth) << 3));
    for (let i: usize = 0; i < m; i += 4) {
      for (let j: usize = 0; j < n; j += 4) {
        tile(a + i * lda + (from << 3), lda, scratch + ((j * depth) << 3), c + i * ldc + (j << 3), ldc, m - i, n - j, deep, alpha);
      }
    }
  }
}

function dot(x: usize, y: usize, n: usize): f64 {
  let a = f64x2.splat(0);
  let b = f64x2.splat(0);
  let i: usize = 0;
  const blocks = (n & ~3) << 3;
  for (; i < blocks; i += 32) {
    a = f64x2.add(a, f64x2.mul(v128.load(x + i), v128.load(y + i)));
    b = f64x2.add(b, f64x2.mul(v128.load(x + i, 16), v128.load(y + i, 16)));
  }
  const t = f64x2.add(a, b);
  let sum = f64x2.extract_lane(t, 0) + f64x2.extract_lane(t, 1);
  for (; i < n << 3; i += 8) sum += load<f64>(x + i) * load<f64>(y + i);
  return sum;
}

/** Columns at a time. */
const band: usize = 64;

/**
 * The lower triangle of A [n, n] becomes L with A = L·Lᵀ; above it nothing is read, and nothing that matters is left. `scratch` has room
 * for 256·67 elements. Returns n, or the pivot at which A turned out not to be positive definite (and leaves that pivot's value there).
 */
export function cholesky(a: usize, lda: usize, n: usize, scratch: usize): usize {
  for (let j: usize = 0; j < n; j += band) {
    const wide = min(band, n - j);
    const column = j << 3;
    multiply(a + j * lda, lda, a + j * lda, lda, true, a + j * lda + column, lda, n - j, wide, j, -1, scratch);
    for (let i = j; i < n; i++) {
      const row = a + i * lda + column;
      const upTo = min(wide, i - j);
      for (let c: usize = 0; c < upTo; c++) {
        const other = a + (j + c) * lda + column;
        store<f64>(row + (c << 3), (load<f64>(row + (c << 3)) - dot(row, other, c)) / load<f64>(other + (c << 3)));
      }
      if (i - j < wide) {
        const at = row + ((i - j) << 3);
        const pivot = load<f64>(at) - dot(row, row, i - j);
        store<f64>(at, pivot);
        if (!(pivot > 0)) return i;
        store<f64>(at, Math.sqrt(pivot));
      }
    }
  }
  return n;
}

/**
 * Row by row of X [rows, width], from left to right: where `marked` [rows, n] is not 0, x_k is taken out of all right of it, x_j −= x_k·u_kj for j > k;
 * x_k itself stays. Of U [n, width] only what lies right of its diagonal is read.
 */
export function sweep(x: usize, ldx: usize, marked: usize, ldm: usize, u: usize, ldu: usize, rows: usize, n: usize, width: usize): void {
  for (let r: usize = 0; r < rows; r++) {
    for (let k: usize = 0; k < n; k++) {
      if (load<f64>(marked + (k << 3)) == 0) continue;
      const e = load<f64>(x + (k << 3));
      const s = f64x2.splat(e);
      const line = u + k * ldu;
      let j = (k + 1) << 3;
      const end = width << 3;
      for (; j + 32 <= end; j += 32) {
        v128.store(x + j, f64x2.sub(v128.load(x + j), f64x2.mul(s, v128.load(line + j))));
        v128.store(x + j, f64x2.sub(v128.load(x + j, 16), f64x2.mul(s, v128.load(line + j, 16))), 16);
      }
      for (; j < end; j += 8) store<f64>(x + j, load<f64>(x + j) - e * load<f64>(line + j));
    }
    x += ldx;
    marked += ldm;
  }
}
