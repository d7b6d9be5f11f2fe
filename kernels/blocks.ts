// Round to nearest in blocks, with the numbers of ONNX Runtime's quantizer for MatMulNBits (its mlas/lib/q4_dq.cpp), packed as that operator
// reads them. A matrix of float32 [rows = output channels, columns = inputs] lies row by row, or (`turned`) column by column. A group is
// `size` columns of a row (a multiple of 16; the last may be shorter), `groups` of them in a row. Addresses are in bytes.

@inline const smallest: f32 = 1.17549435e-38; // 2^−126

/** A group's scale and zero point from its range; `first`, its first element, gives a zero its sign. */
@inline function grid(low: f32, high: f32, first: f32, symmetric: i32, most: f32, middle: f32, scales: usize, points: usize, at: usize): void {
  let scale: f32;
  if (symmetric) {
    const m = high == 0 && low == 0 ? first : abs(high) > abs(low) ? high : low;
    scale = abs(m) >= smallest * middle ? m / -middle : (m / -middle) * 0;
  } else {
    if (low > 0) low = 0;
    if (high < 0) high = 0;
    const range = high - low;
    scale = range >= smallest * most ? range / most : 0;
    let zero: f32 = 0;
    if (scale != 0) {
      const x = -(low / scale);
      zero = floor(x);
      if (x - zero >= 0.5) zero += 1;
      zero = min(zero, most);
    }
    store<u8>(points + at, <u8>zero);
  }
  store<f32>(scales + (at << 2), scale);
}

/**
 * The scale of every group, and (not symmetric) its zero point: symmetric m/−middle with m the signed element of largest magnitude;
 * else (max − min)/most over a range that holds 0, and round(−min/scale). Returns whether all elements are finite.
 */
export function grids(w: usize, rows: usize, columns: usize, turned: i32, size: usize, groups: usize, symmetric: i32, most: f32, middle: f32, scales: usize, points: usize): i32 {
  const zeros = f32x4.splat(0);
  let odd = zeros;
  let strange: f32 = 0;
  for (let g: usize = 0; g < groups; g++) {
    const from = g * size;
    const n = min(size, columns - from);
    let r: usize = 0;
    if (turned) {
      const stride = rows << 2;
      // Sixteen rows are a cache line.
      for (; r + 16 <= rows; r += 16) {
        let p = w + ((from * rows + r) << 2);
        const first = p;
        let l0 = f32x4.splat(Infinity), l1 = l0, l2 = l0, l3 = l0;
        let h0 = f32x4.splat(-Infinity), h1 = h0, h2 = h0, h3 = h0;
        for (let k: usize = 0; k < n; k++, p += stride) {
          const a = v128.load(p), b = v128.load(p, 16), c = v128.load(p, 32), d = v128.load(p, 48);
          l0 = f32x4.pmin(l0, a); l1 = f32x4.pmin(l1, b); l2 = f32x4.pmin(l2, c); l3 = f32x4.pmin(l3, d);
          h0 = f32x4.pmax(h0, a); h1 = f32x4.pmax(h1, b); h2 = f32x4.pmax(h2, c); h3 = f32x4.pmax(h3, d);
          // x·0 is 0 for finite x, else NaN.
          odd = f32x4.add(odd, f32x4.add(f32x4.mul(a, zeros), f32x4.mul(b, zeros)));
          odd = f32x4.add(odd, f32x4.add(f32x4.mul(c, zeros), f32x4.mul(d, zeros)));
        }
        const at = r * groups + g;
        put(l0, h0, first, symmetric, most, middle, scales, points, at, groups);
        put(l1, h1, first + 16, symmetric, most, middle, scales, points, at + 4 * groups, groups);
        put(l2, h2, first + 32, symmetric, most, middle, scales, points, at + 8 * groups, groups);
        put(l3, h3, first + 48, symmetric, most, middle, scales, points, at + 12 * groups, groups);
      }
    }
    for (; r < rows; r++) {
      const step: usize = turned ? rows << 2 : 4;
      let p = w + ((turned ? from * rows + r : r * columns + from) << 2);
      const first = load<f32>(p);
      let low: f32 = Infinity;
      let high: f32 = -Infinity;
      let k: usize = 0;
      if (!turned && n >= 8) {
        let l = v128.load(p), h = l;
        odd = f32x4.add(odd, f32x4.mul(l, zeros));
        p += 16;
        for (k = 4; k + 4 <= n; k += 4, p += 16) {
          const x = v128.load(p);
          l = f32x4.pmin(l, x);
          h = f32x4.pmax(h, x);
          odd = f32x4.add(odd, f32x4.mul(x, zeros));
        }
        low = min(min(f32x4.extract_lane(l, 0), f32x4.extract_lane(l, 1)), min(f32x4.extract_lane(l, 2), f32x4.extract_lane(l, 3)));
        high = max(max(f32x4.extract_lane(h, 0), f32x4.extract_lane(h, 1)), max(f32x4.extract_lane(h, 2), f32x4.extract_lane(h, 3)));
      }
      for (; k < n; k++, p += step) {
        const x = load<f32>(p);
        low = min(low, x);
        high = max(high, x);
        strange += x * 0;
      }
      grid(low, high, first, symmetric, most, middle, scales, points, r * groups + g);
    }
  }
  strange += f32x4.extract_lane(odd, 0) + f32x4.extract_lane(odd, 1) + f32x4.extract_lane(odd, 2) + f32x4.extract_lane(odd, 3);
  return strange == 0 ? 1 : 0;
}

@inline function put(l: v128, h: v128, first: usize, symmetric: i32, most: f32, middle: f32, scales: usize, points: usize, at: usize, groups: usize): void {
  grid(f32x4.extract_lane(l, 0), f32x4.extract_lane(h, 0), load<f32>(first), symmetric, most, middle, scales, points, at);
  grid(f32x4.extract_lane(l, 1), f32x4.extract_lane(h, 1), load<f32>(first, 4), symmetric, most, middle, scales, points, at + groups);
  grid(f32x4.extract_lane(l, 2), f32x4.extract_lane(h, 2), load<f32>(first, 8), symmetric, most, middle, scales, points, at + 2 * groups);
  grid(f32x4.extract_lane(l, 3), f32x4.extract_lane(h, 3), load<f32>(first, 12), symmetric, most, middle, scales, points, at + 3 * groups);
}

/** Codes, as 32-bit integers, of four elements. */
@inline function nearest(x: v128, inverse: v128, zero: v128, high: v128): v128 {
  const y = f32x4.min(f32x4.max(f32x4.add(f32x4.mul(x, inverse), zero), f32x4.splat(0)), high);
  const whole = i32x4.trunc_sat_f32x4_s(y);
  return i32x4.sub(whole, f32x4.ge(f32x4.sub(y, f32x4.convert_i32x4_s(whole)), f32x4.splat(0.5)));
}

@inline function squared(x: v128): v128 {
  return f32x4.mul(x, x);
}

/** x − (code − zero)·scale. */
@inline function missed(x: v128, code: v128, zero: v128, scale: v128): v128 {
  return f32x4.sub(x, f32x4.mul(f32x4.sub(f32x4.convert_i32x4_s(code), zero), scale));
}

@inline function total(x: v128): f64 {
  return <f64>f32x4.extract_lane(x, 0) + <f64>f32x4.extract_lane(x, 1) + <f64>f32x4.extract_lane(x, 2) + <f64>f32x4.extract_lane(x, 3);
}

@inline function strided(p: usize, step: usize): v128 {
  return f32x4(load<f32>(p), load<f32>(p + step), load<f32>(p + 2 * step), load<f32>(p + 3 * step));
}

@inline function points4(points: usize, at: usize, step: usize, middle: f32): v128 {
  if (!points) return f32x4.splat(middle);
  const p = points + at;
  return f32x4(<f32>load<u8>(p), <f32>load<u8>(p + step), <f32>load<u8>(p + 2 * step), <f32>load<u8>(p + 3 * step));
}

@inline function scatter(word: v128, to: usize, step: usize): void {
  v128.store32_lane(to, word, 0);
  v128.store32_lane(to + step, word, 1);
  v128.store32_lane(to + 2 * step, word, 2);
  v128.store32_lane(to + 3 * step, word, 3);
}

@inline function inverses(scale: v128): v128 {
  const none = f32x4.eq(scale, f32x4.splat(0));
  return v128.andnot(f32x4.div(f32x4.splat(1), scale), none);
}

/**
 * Codes min(high, round(w/scale + zero)) + shift in `bits` 2, 4 or 8, the first in the low bits: to `out`, [rows, groups, size·bits/8]
 * with zeros behind a short last group. Zero points are bytes (`points`), or all `middle` (`points` 0). Adds Σ(w − ŵ)² and Σw² to the two
 * float64 at `sums`.
 */
export function codes(w: usize, rows: usize, columns: usize, turned: i32, size: usize, groups: usize, bits: i32, high: f32, middle: f32, shift: i32, scales: usize, points: usize, out: usize, sums: usize): void {
  const blob = (size * <usize>bits) >> 3;
  const per = 32 / bits;
  const top = f32x4.splat(high);
  const move = i32x4.splat(shift);
  let wrong: f64 = 0;
  let all: f64 = 0;
  for (let g: usize = 0; g < groups; g++) {
    const from = g * size;
    const n = min(size, columns - from);
    let r: usize = 0;
    if (turned) {
      const stride = rows << 2;
      const row = groups * blob;
      const next = groups << 2;
      for (; r + 16 <= rows; r += 16) {
        const at = r * groups + g;
        const s = scales + (at << 2);
        const s0 = strided(s, next), s1 = strided(s + 4 * next, next), s2 = strided(s + 8 * next, next), s3 = strided(s + 12 * next, next);
        const i0 = inverses(s0), i1 = inverses(s1), i2 = inverses(s2), i3 = inverses(s3);
        const z0 = points4(points, at, groups, middle), z1 = points4(points, at + 4 * groups, groups, middle);
        const z2 = points4(points, at + 8 * groups, groups, middle), z3 = points4(points, at + 12 * groups, groups, middle);
        let p = w + ((from * rows + r) << 2);
        let to = out + at * blob;
        let e = f32x4.splat(0);
        let a = f32x4.splat(0);
        for (let k: usize = 0; k < size; k += per, to += 4) {
          let w0 = i32x4.splat(0), w1 = w0, w2 = w0, w3 = w0;
          const end = min(per, <i32>n - <i32>k);
          for (let j = 0; j < end; j++, p += stride) {
            const x0 = v128.load(p), x1 = v128.load(p, 16), x2 = v128.load(p, 32), x3 = v128.load(p, 48);
            const c0 = nearest(x0, i0, z0, top), c1 = nearest(x1, i1, z1, top), c2 = nearest(x2, i2, z2, top), c3 = nearest(x3, i3, z3, top);
            a = f32x4.add(a, f32x4.add(f32x4.add(squared(x0), squared(x1)), f32x4.add(squared(x2), squared(x3))));
            e = f32x4.add(e, f32x4.add(squared(missed(x0, c0, z0, s0)), squared(missed(x1, c1, z1, s1))));
            e = f32x4.add(e, f32x4.add(squared(missed(x2, c2, z2, s2)), squared(missed(x3, c3, z3, s3))));
            const up = j * bits;
            w0 = v128.or(w0, i32x4.shl(i32x4.add(c0, move), up));
            w1 = v128.or(w1, i32x4.shl(i32x4.add(c1, move), up));
            w2 = v128.or(w2, i32x4.shl(i32x4.add(c2, move), up));
            w3 = v128.or(w3, i32x4.shl(i32x4.add(c3, move), up));
          }
          scatter(w0, to, row);
          scatter(w1, to + 4 * row, row);
          scatter(w2, to + 8 * row, row);
          scatter(w3, to + 12 * row, row);
        }
        wrong += total(e);
        all += total(a);
      }
    }
    for (; r < rows; r++) {
      const at = r * groups + g;
      const scale = load<f32>(scales + (at << 2));
      const inverse: f32 = scale == 0 ? 0 : <f32>1 / scale;
      const zero: f32 = points ? <f32>load<u8>(points + at) : middle;
      const step: usize = turned ? rows << 2 : 4;
      let p = w + ((turned ? from * rows + r : r * columns + from) << 2);
      let to = out + at * blob;
      let k: usize = 0;
      if (!turned) {
        const s = f32x4.splat(scale), i = f32x4.splat(inverse), z = f32x4.splat(zero);
        let e = f32x4.splat(0);
        let a = f32x4.splat(0);
        for (; k + 16 <= n; k += 16, p += 64) {
          const x0 = v128.load(p), x1 = v128.load(p, 16), x2 = v128.load(p, 32), x3 = v128.load(p, 48);
          const c0 = nearest(x0, i, z, top), c1 = nearest(x1, i, z, top), c2 = nearest(x2, i, z, top), c3 = nearest(x3, i, z, top);
          a = f32x4.add(a, f32x4.add(f32x4.add(squared(x0), squared(x1)), f32x4.add(squared(x2), squared(x3))));
          e = f32x4.add(e, f32x4.add(squared(missed(x0, c0, z, s)), squared(missed(x1, c1, z, s))));
          e = f32x4.add(e, f32x4.add(squared(missed(x2, c2, z, s)), squared(missed(x3, c3, z, s))));
          // Sixteen bytes in order, then pairs of 4 bits, then of 2.
          let b = i8x16.narrow_i16x8_u(
            i16x8.narrow_i32x4_u(i32x4.add(c0, move), i32x4.add(c1, move)),
            i16x8.narrow_i32x4_u(i32x4.add(c2, move), i32x4.add(c3, move)),
          );
          if (bits == 8) {
            v128.store(to, b);
            to += 16;
          } else if (bits == 4) {
            b = v128.or(v128.and(b, i16x8.splat(0x0f)), v128.and(i16x8.shr_u(b, 4), i16x8.splat(0xf0)));
            v128.store64_lane(to, i8x16.narrow_i16x8_u(b, b), 0);
            to += 8;
          } else {
            b = v128.or(v128.and(b, i16x8.splat(0x03)), v128.and(i16x8.shr_u(b, 6), i16x8.splat(0x0c)));
            b = i8x16.narrow_i16x8_u(b, b);
            b = v128.or(v128.and(b, i16x8.splat(0x0f)), v128.and(i16x8.shr_u(b, 4), i16x8.splat(0xf0)));
            v128.store32_lane(to, i8x16.narrow_i16x8_u(b, b), 0);
            to += 4;
          }
        }
        wrong += total(e);
        all += total(a);
      }
      for (; k < size; k += per, to += 4) {
        let word: u32 = 0;
        const end = min(per, <i32>n - <i32>k);
        for (let j = 0; j < end; j++, p += step) {
          const x = load<f32>(p);
          const y = min(max(x * inverse + zero, <f32>0), high);
          let c = floor(y);
          if (y - c >= 0.5) c += 1;
          const d = x - (c - zero) * scale;
          all += <f64>x * <f64>x;
          wrong += <f64>d * <f64>d;
          word |= (<u32>c + <u32>shift) << (j * bits);
        }
        store<u32>(to, word);
      }
    }
  }
  store<f64>(sums, load<f64>(sums) + wrong);
  store<f64>(sums, load<f64>(sums, 8) + all, 8);
}
