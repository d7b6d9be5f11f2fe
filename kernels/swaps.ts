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

/** Where the least of x + a·y (y not 0) first is, if that is below `most`; else −1. */
function least(x: usize, a: f64, y: usize, n: usize, most: f64): i32 {
  const s = f64x2.splat(a);
  let low = f64x2.splat(most);
  let i: usize = 0;
  const pairs = (n & ~1) << 3;
  if (y) for (; i < pairs; i += 16) low = f64x2.min(low, f64x2.add(v128.load(x + i), f64x2.mul(s, v128.load(y + i))));
  else for (; i < pairs; i += 16) low = f64x2.min(low, v128.load(x + i));
  let best = Math.min(f64x2.extract_lane(low, 0), f64x2.extract_lane(low, 1));
  if (n & 1) best = Math.min(best, load<f64>(x + i) + (y ? a * load<f64>(y + i) : 0));
  if (!(best < most)) return -1;
  for (let j: usize = 0; j < n; j++) {
    const v = load<f64>(x + (j << 3)) + (y ? a * load<f64>(y + (j << 3)) : 0);
    if (v == best) return <i32>j;
  }
  return -1;
}

/**
 * Turns round the weight that lowers the cost most until none does by more than `least`; w, s, c: [n], diagonal: H's, work: [n]. Weights that
 * are 0 and gone stay gone. Gives how many turned.
 */
export function flips(w: usize, s: usize, h: usize, diagonal: usize, c: usize, work: usize, n: usize, price: f64, most: f64): i32 {
  let count: i32 = 0;
  const size = n << 3;
  const limit = <i32>(2 * n);
  while (count < limit) {
    for (let j: usize = 0; j < size; j += 8) {
      const x = load<f64>(w + j);
      store<f64>(work + j, x * x * load<f64>(diagonal + j) + load<f64>(s + j) * (2 * x * load<f64>(c + j) - price));
    }
    const at = least(work, 0, 0, n, -most);
    if (at < 0) break;
    const j = <usize>at << 3;
    const sign = load<f64>(s + j);
    store<f64>(s + j, -sign);
    axpy(sign * load<f64>(w + j), h + <usize>at * size, c, n);
    count++;
  }
  return count;
}

/**
 * Exchanges weights that go for ones that stay, among every `group` neighbours: for each that goes, in order, the one whose exchange for it
 * lowers the cost most, if it does by more than `least`. Once over the row. work: [2·n]. Gives how many exchanges there were.
 */
export function swaps(w: usize, s: usize, h: usize, diagonal: usize, c: usize, work: usize, n: usize, group: usize, most: f64): i32 {
  let count: i32 = 0;
  const size = n << 3;
  const own = work + size;
  let stale = true;
  for (let q: usize = 0; q < n; q++) {
    const x = load<f64>(w + (q << 3));
    if (load<f64>(s + (q << 3)) > 0 || x == 0) continue;
    if (stale) {
      // Cost of removing each weight that stays; the products of H below are wanted with w.
      for (let j: usize = 0; j < size; j += 8) {
        const y = load<f64>(w + j);
        store<f64>(work + j, load<f64>(s + j) > 0 ? y * (y * load<f64>(diagonal + j) + 2 * load<f64>(c + j)) : none);
      }
      stale = false;
    }
    const from = q - (q % group);
    const many = min(group, n - from);
    const row = h + q * size + (from << 3);
    const a = work + (from << 3);
    // −2·w_q·H_qp·w_p by p.
    const b = own + (from << 3);
    const us = w + (from << 3);
    let j: usize = 0;
    const pairs = (many & ~1) << 3;
    for (; j < pairs; j += 16) v128.store(b + j, f64x2.mul(v128.load(us + j), v128.load(row + j)));
    if (many & 1) store<f64>(b + j, load<f64>(us + j) * load<f64>(row + j));
    const back = x * (x * load<f64>(diagonal + (q << 3)) - 2 * load<f64>(c + (q << 3)));
    const p = least(a, -2 * x, b, many, -most - back);
    if (p < 0) continue;
    const out = from + <usize>p;
    store<f64>(s + (q << 3), 1);
    store<f64>(s + (out << 3), -1);
    axpy(-x, h + q * size, c, n);
    axpy(load<f64>(w + (out << 3)), h + out * size, c, n);
    stale = true;
    count++;
  }
  return count;
}
