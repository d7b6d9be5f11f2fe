// What training draws anew each step, from Philox4x32-10 (src/tensor/random.ts, which gives the same words): four blocks at a time.

@inline
function high(low: v128, upper: v128): v128 {
  return v128.shuffle<u32>(low, upper, 1, 3, 5, 7);
}

@inline
function lower(low: v128, upper: v128): v128 {
  return v128.shuffle<u32>(low, upper, 0, 2, 4, 6);
}

/** out[i] = word i of the stream. `out` is a multiple of 16, n of 16 (words). */
function words(out: usize, n: usize, stream0: u32, stream1: u32, key0: u32, key1: u32): void {
  const m0 = i32x4.splat(0xd2511f53);
  const m1 = i32x4.splat(0xcd9e8d57);
  for (let i: usize = 0; i < n; i += 16) {
    let c0 = i32x4.add(i32x4.splat(<i32>(i >> 2)), i32x4(0, 1, 2, 3));
    let c1 = i32x4.splat(0);
    let c2 = i32x4.splat(stream0);
    let c3 = i32x4.splat(stream1);
    let k0 = key0;
    let k1 = key1;
    for (let round = 0; round < 10; round++) {
      const a = i64x2.extmul_low_i32x4_u(m0, c0);
      const b = i64x2.extmul_high_i32x4_u(m0, c0);
      const c = i64x2.extmul_low_i32x4_u(m1, c2);
      const d = i64x2.extmul_high_i32x4_u(m1, c2);
      c0 = v128.xor(v128.xor(high(c, d), c1), i32x4.splat(k0));
      c1 = lower(c, d);
      c2 = v128.xor(v128.xor(high(a, b), c3), i32x4.splat(k1));
      c3 = lower(a, b);
      k0 += 0x9e3779b9;
      k1 += 0xbb67ae85;
    }
    // Word j of block k is element 4k + j.
    const s = v128.shuffle<u32>(c0, c1, 0, 4, 1, 5);
    const t = v128.shuffle<u32>(c2, c3, 0, 4, 1, 5);
    const u = v128.shuffle<u32>(c0, c1, 2, 6, 3, 7);
    const v = v128.shuffle<u32>(c2, c3, 2, 6, 3, 7);
    const at = out + (i << 2);
    v128.store(at, v128.shuffle<u64>(s, t, 0, 2));
    v128.store(at + 16, v128.shuffle<u64>(s, t, 1, 3));
    v128.store(at + 32, v128.shuffle<u64>(u, v, 0, 2));
    v128.store(at + 48, v128.shuffle<u64>(u, v, 1, 3));
  }
}

/** out[i] = word i of the stream < threshold ? 0 : kept. */
export function mask(out: usize, n: usize, stream0: u32, stream1: u32, key0: u32, key1: u32, threshold: u32, kept: f32): void {
  words(out, n, stream0, stream1, key0, key1);
  const limit = i32x4.splat(threshold);
  const value = f32x4.splat(kept);
  const end = out + (n << 2);
  for (let i = out; i < end; i += 16) v128.store(i, v128.and(value, i32x4.ge_u(v128.load(i), limit)));
}

/** out[i] = the upper 24 bits of word i as a number in [-1, 1). */
export function uniform(out: usize, n: usize, stream0: u32, stream1: u32, key0: u32, key1: u32): void {
  words(out, n, stream0, stream1, key0, key1);
  const unit = f32x4.splat(1.1920928955078125e-7);
  const one = f32x4.splat(1);
  const end = out + (n << 2);
  for (let i = out; i < end; i += 16)
    v128.store(i, f32x4.sub(f32x4.mul(f32x4.convert_i32x4_u(i32x4.shr_u(v128.load(i), 8)), unit), one));
}
