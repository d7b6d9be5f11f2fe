// One step of an optimizer over contiguous float32 arrays in the imported memory. Addresses are in bytes and multiples of 16,
// n is a multiple of 4. Moments below the smallest normal number become 0: arithmetic on subnormals is some 100 times slower.

const tiny: f32 = 1.1754943508222875e-38;

@inline
function flush(x: v128): v128 {
  return v128.andnot(x, f32x4.lt(f32x4.abs(x), f32x4.splat(tiny)));
}

/** Sum of squares of n floats in float64, always in the same order; NaN or infinity if any of them is. */
export function sumSquares(g: usize, n: usize): f64 {
  let a = f64x2.splat(0);
  let b = f64x2.splat(0);
  const end = g + (n << 2);
  for (let i = g; i < end; i += 16) {
    const x = v128.load(i);
    const low = f64x2.promote_low_f32x4(x);
    const high = f64x2.promote_low_f32x4(i64x2.shuffle(x, x, 1, 1));
    a = f64x2.add(a, f64x2.mul(low, low));
    b = f64x2.add(b, f64x2.mul(high, high));
  }
  const s = f64x2.add(a, b);
  return f64x2.extract_lane(s, 0) + f64x2.extract_lane(s, 1);
}

/**
 * g' = scale·g + decay·p;  m = momentum·m + g';  p = p − rate·(ownWeight·g' + momentumWeight·m).
 * Without momentum m may be g itself, which is then overwritten.
 */
export function sgd(
  p: usize, g: usize, m: usize, n: usize,
  rate: f32, momentum: f32, ownWeight: f32, momentumWeight: f32, decay: f32, scale: f32,
): void {
  const bytes = n << 2;
  for (let i: usize = 0; i < bytes; i += 16) {
    const w = v128.load(p + i);
    const d = f32x4.add(f32x4.mul(f32x4.splat(scale), v128.load(g + i)), f32x4.mul(f32x4.splat(decay), w));
    const u = flush(f32x4.add(f32x4.mul(f32x4.splat(momentum), v128.load(m + i)), d));
    v128.store(m + i, u);
    const by = f32x4.add(f32x4.mul(f32x4.splat(ownWeight), d), f32x4.mul(f32x4.splat(momentumWeight), u));
    v128.store(p + i, f32x4.sub(w, f32x4.mul(f32x4.splat(rate), by)));
  }
}

/**
 * g' = scale·g + decay·p;  m = b1·m + (1−b1)·g';  v = b2·v + (1−b2)·g'²;  p = shrink·p − rate·m / (root·√v + epsilon).
 * rate = learning rate / (1 − b1ᵗ), root = 1 / √(1 − b2ᵗ); shrink = 1 − learning rate · decoupled decay.
 */
export function adam(
  p: usize, g: usize, m: usize, v: usize, n: usize,
  rate: f32, root: f32, epsilon: f32, b1: f32, c1: f32, b2: f32, c2: f32, decay: f32, shrink: f32, scale: f32,
): void {
  const bytes = n << 2;
  for (let i: usize = 0; i < bytes; i += 16) {
    const w = v128.load(p + i);
    const d = f32x4.add(f32x4.mul(f32x4.splat(scale), v128.load(g + i)), f32x4.mul(f32x4.splat(decay), w));
    const first = flush(f32x4.add(f32x4.mul(f32x4.splat(b1), v128.load(m + i)), f32x4.mul(f32x4.splat(c1), d)));
    const second = flush(f32x4.add(f32x4.mul(f32x4.splat(b2), v128.load(v + i)), f32x4.mul(f32x4.splat(c2), f32x4.mul(d, d))));
    v128.store(m + i, first);
    v128.store(v + i, second);
    const under = f32x4.add(f32x4.mul(f32x4.splat(root), f32x4.sqrt(second)), f32x4.splat(epsilon));
    const by = f32x4.div(f32x4.mul(f32x4.splat(rate), first), under);
    v128.store(p + i, f32x4.sub(f32x4.mul(f32x4.splat(shrink), w), by));
  }
}
