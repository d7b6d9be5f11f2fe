// The inner loops of dense linear algebra on contiguous float64 vectors in the imported memory. Addresses are in bytes, n in elements.
// Sums are always taken in the same order.

/** Σ xᵢyᵢ. */
export function dot(x: usize, y: usize, n: usize): f64 {
  let a = f64x2.splat(0);
  let b = f64x2.splat(0);
  let c = f64x2.splat(0);
  let d = f64x2.splat(0);
  let i: usize = 0;
  const blocks = (n & ~7) << 3;
  for (; i < blocks; i += 64) {
    a = f64x2.add(a, f64x2.mul(v128.load(x + i), v128.load(y + i)));
    b = f64x2.add(b, f64x2.mul(v128.load(x + i, 16), v128.load(y + i, 16)));
    c = f64x2.add(c, f64x2.mul(v128.load(x + i, 32), v128.load(y + i, 32)));
    d = f64x2.add(d, f64x2.mul(v128.load(x + i, 48), v128.load(y + i, 48)));
  }
  const t = f64x2.add(f64x2.add(a, b), f64x2.add(c, d));
  let sum = f64x2.extract_lane(t, 0) + f64x2.extract_lane(t, 1);
  const end = n << 3;
  for (; i < end; i += 8) sum += load<f64>(x + i) * load<f64>(y + i);
  return sum;
}

/** y += a·x. */
export function axpy(a: f64, x: usize, y: usize, n: usize): void {
  const s = f64x2.splat(a);
  let i: usize = 0;
  const blocks = (n & ~3) << 3;
  for (; i < blocks; i += 32) {
    v128.store(y + i, f64x2.add(v128.load(y + i), f64x2.mul(s, v128.load(x + i))));
    v128.store(y + i, f64x2.add(v128.load(y + i, 16), f64x2.mul(s, v128.load(x + i, 16))), 16);
  }
  const end = n << 3;
  for (; i < end; i += 8) store<f64>(y + i, load<f64>(y + i) + a * load<f64>(x + i));
}

/** y −= tau·(v·y)·v: the Householder reflection I − tau·v·vᵀ of y. */
export function reflect(v: usize, tau: f64, y: usize, n: usize): void {
  axpy(-tau * dot(v, y, n), v, y, n);
}

/** (x, y) ← (c·x + s·y, c·y − s·x): a Givens rotation. */
export function rotate(x: usize, y: usize, n: usize, c: f64, s: f64): void {
  const cc = f64x2.splat(c);
  const ss = f64x2.splat(s);
  let i: usize = 0;
  const blocks = (n & ~3) << 3;
  for (; i < blocks; i += 32) {
    const x0 = v128.load(x + i);
    const y0 = v128.load(y + i);
    const x1 = v128.load(x + i, 16);
    const y1 = v128.load(y + i, 16);
    v128.store(x + i, f64x2.add(f64x2.mul(cc, x0), f64x2.mul(ss, y0)));
    v128.store(y + i, f64x2.sub(f64x2.mul(cc, y0), f64x2.mul(ss, x0)));
    v128.store(x + i, f64x2.add(f64x2.mul(cc, x1), f64x2.mul(ss, y1)), 16);
    v128.store(y + i, f64x2.sub(f64x2.mul(cc, y1), f64x2.mul(ss, x1)), 16);
  }
  const end = n << 3;
  for (; i < end; i += 8) {
    const x0 = load<f64>(x + i);
    const y0 = load<f64>(y + i);
    store<f64>(x + i, c * x0 + s * y0);
    store<f64>(y + i, c * y0 - s * x0);
  }
}
