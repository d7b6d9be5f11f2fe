/** SHA-256 (FIPS 180-4) of data in pieces: crypto.subtle wants it in one, and is missing on pages without TLS. */

/** Fractional bits of the `power`-th roots of the first `n` primes, as FIPS 180-4 §4.2.2 and §5.3.3 define the constants. */
function rootBits(n: number, power: number): Int32Array {
  const out = new Int32Array(n);
  for (let p = 2, i = 0; i < n; p++) {
    let prime = true;
    for (let d = 2; d * d <= p; d++) if (p % d === 0) prime = false;
    if (prime) out[i++] = (p ** (1 / power) % 1) * 2 ** 32;
  }
  return out;
}
const K = rootBits(64, 3);
const H = rootBits(8, 2);

/** The digest as 64 hexadecimal digits. */
export function sha256(pieces: Iterable<Uint8Array>): string {
  const h = H.slice();
  const w = new Int32Array(64);
  const rest = new Uint8Array(128);
  let filled = 0;
  let total = 0;
  const block = (m: Uint8Array, at: number) => {
    for (let i = 0; i < 16; i++) {
      const j = at + 4 * i;
      w[i] = (m[j]! << 24) | (m[j + 1]! << 16) | (m[j + 2]! << 8) | m[j + 3]!;
    }
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15]!;
      const y = w[i - 2]!;
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = w[i - 16]! + s0 + w[i - 7]! + s1;
    }
    let a = h[0]!;
    let b = h[1]!;
    let c = h[2]!;
    let d = h[3]!;
    let e = h[4]!;
    let f = h[5]!;
    let g = h[6]!;
    let k = h[7]!;
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (k + s1 + ((e & f) ^ (~e & g)) + K[i]! + w[i]!) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      k = g;
      g = f;
      f = e;
      e = (d + t1) | 0;
      d = c;
      c = b;
      b = a;
      a = (t1 + t2) | 0;
    }
    h[0]! += a;
    h[1]! += b;
    h[2]! += c;
    h[3]! += d;
    h[4]! += e;
    h[5]! += f;
    h[6]! += g;
    h[7]! += k;
  };
  for (const piece of pieces) {
    total += piece.length;
    let at = 0;
    if (filled) {
      at = Math.min(64 - filled, piece.length);
      rest.set(piece.subarray(0, at), filled);
      filled += at;
      if (filled < 64) continue;
      block(rest, 0);
      filled = 0;
    }
    for (; at + 64 <= piece.length; at += 64) block(piece, at);
    rest.set(piece.subarray(at));
    filled = piece.length - at;
  }
  rest.fill(0, filled);
  rest[filled] = 0x80;
  const end = filled < 56 ? 64 : 128;
  const length = new DataView(rest.buffer, end - 8);
  length.setUint32(0, Math.floor(total / 2 ** 29));
  length.setUint32(4, (total * 8) >>> 0);
  for (let at = 0; at < end; at += 64) block(rest, at);
  return Array.from(h, (x) => (x >>> 0).toString(16).padStart(8, "0")).join("");
}
