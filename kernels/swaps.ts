// Which weights of a row go, in float64 vectors in the imported memory. Addresses are in bytes, n in elements. Sums are always taken in the same order.
//
// For weights w, signs s (1: stays, −1: goes) and a symmetric H, with δ the weights that go and a fixed c⁰, the cost is δ·H·δ + 2·δ·c⁰, plus
// `price` for each weight that stays. c = c⁰ + H·δ is kept up to date. What turning w_j round adds to the cost is
// w_j²·H_jj + s_j·(2·w_j·c_j − price).

const none: f64 = 1e300;

/** y += a·x. */
function axpy(a: f64, x: usize, y: usize, n: usize): void {
  const s = f64x2.splat(a);
  let i: usize = 0;
  const pairs = (n & ~1) << 3;
  for (; i < pairs; i += 16) v128.store(y + i, f64x2.add(v128.load(y + i), f64x2.mul(s, v128.load(x + i))));
  if (n & 1) store<f64>(y + i, load<f64>(y + i) + a * load<f64>(x + i));
}

/** Where the least of x + a·y·z first is, if that is below `most`; else −1. */
function least(x: usize, a: f64, y: usize, z: usize, n: usize, most: f64): i32 {
  const s = f64x2.splat(a);
  let low = f64x2.splat(most);
  let i: usize = 0;
  const pairs = (n & ~1) << 3;
  for (; i < pairs; i += 16)
    low = f64x2.min(low, f64x2.add(v128.load(x + i), f64x2.mul(s, f64x2.mul(v128.load(y + i), v128.load(z + i)))));
  let best = Math.min(f64x2.extract_lane(low, 0), f64x2.extract_lane(low, 1));
  if (n & 1) best = Math.min(best, load<f64>(x + i) + a * (load<f64>(y + i) * load<f64>(z + i)));
  if (!(best < most)) return -1;
  const end = n << 3;
  for (i = 0; i < end; i += 8) if (load<f64>(x + i) + a * (load<f64>(y + i) * load<f64>(z + i)) == best) return <i32>(i >> 3);
  return -1;
}

/** Whether x + a·y is below `most` anywhere. */
function reaches(x: usize, a: f64, y: usize, n: usize, most: f64): bool {
  const s = f64x2.splat(a);
  let low = f64x2.splat(most);
  let i: usize = 0;
  const pairs = (n & ~1) << 3;
  for (; i < pairs; i += 16) low = f64x2.min(low, f64x2.add(v128.load(x + i), f64x2.mul(s, v128.load(y + i))));
  let best = Math.min(f64x2.extract_lane(low, 0), f64x2.extract_lane(low, 1));
  if (n & 1) best = Math.min(best, load<f64>(x + i) + a * load<f64>(y + i));
  return best < most;
}

/**
 * Turns round the weight that lowers the cost most until none does by more than `most`; w, s, c: [n], diagonal: H's, work: [2·n]. Weights that
 * are 0 and gone stay gone. Gives how many turned.
 */
export function flips(w: usize, s: usize, h: usize, diagonal: usize, c: usize, work: usize, n: usize, price: f64, most: f64): i32 {
  let count: i32 = 0;
  const size = n << 3;
  const limit = <i32>(2 * n);
  // The cost is fixed + by·c.
  const fixed = work;
  const by = work + size;
  for (let j: usize = 0; j < size; j += 8) {
    const x = load<f64>(w + j);
    store<f64>(fixed + j, x * x * load<f64>(diagonal + j) - load<f64>(s + j) * price);
    store<f64>(by + j, load<f64>(s + j) * x);
  }
  while (count < limit) {
    const at = least(fixed, 2, by, c, n, -most);
    if (at < 0) break;
    const j = <usize>at << 3;
    const sign = -load<f64>(s + j);
    store<f64>(s + j, sign);
    store<f64>(fixed + j, load<f64>(fixed + j) - 2 * sign * price);
    const product = load<f64>(by + j);
    store<f64>(by + j, -product);
    axpy(product, h + <usize>at * size, c, n);
    count++;
  }
  return count;
}

/**
 * Exchanges weights that go for ones that stay, among every `group` neighbours: for each that goes, in order, the one whose exchange for it
 * lowers the cost most, if it does by more than `most`. Once over the row. roots: √ of the diagonal; bounds: for each j no less than
 * |H_jp|/√H_pp of any other p, which spares a look at most rows of H; work: [2·n]. Gives how many exchanges there were.
 */
export function swaps(
  w: usize,
  s: usize,
  h: usize,
  diagonal: usize,
  c: usize,
  work: usize,
  n: usize,
  group: usize,
  most: f64,
  roots: usize,
  bounds: usize,
): i32 {
  let count: i32 = 0;
  const size = n << 3;
  const reach = work + size;
  for (let j: usize = 0; j < size; j += 8) store<f64>(reach + j, Math.abs(load<f64>(w + j)) * load<f64>(roots + j));
  let stale = true;
  for (let q: usize = 0; q < n; q++) {
    const x = load<f64>(w + (q << 3));
    if (load<f64>(s + (q << 3)) > 0 || x == 0) continue;
    if (stale) {
      // Cost of removing each weight that stays.
      for (let j: usize = 0; j < size; j += 8) {
        const y = load<f64>(w + j);
        store<f64>(work + j, load<f64>(s + j) > 0 ? y * (y * load<f64>(diagonal + j) + 2 * load<f64>(c + j)) : none);
      }
      stale = false;
    }
    const from = (q - (q % group)) << 3;
    const many = min(group, n - (from >> 3));
    const wins = -most - x * (x * load<f64>(diagonal + (q << 3)) - 2 * load<f64>(c + (q << 3)));
    if (!reaches(work + from, -2 * Math.abs(x) * load<f64>(bounds + (q << 3)), reach + from, many, wins)) continue;
    const p = least(work + from, -2 * x, w + from, h + q * size + from, many, wins);
    if (p < 0) continue;
    const out = (from >> 3) + <usize>p;
    store<f64>(s + (q << 3), 1);
    store<f64>(s + (out << 3), -1);
    axpy(-x, h + q * size, c, n);
    axpy(load<f64>(w + (out << 3)), h + out * size, c, n);
    stale = true;
    count++;
  }
  return count;
}
