/**
 * Random numbers that depend on nothing but a seed, a stream and a position: Philox4x32-10, a counter-based generator
 * (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Any position is reached at once, so that training resumes exactly.
 */
import { Fault } from "./fault.ts";

/** A generator at a position. `at` is its whole state: read it for a checkpoint, set it to go on from there. */
export interface Random {
  /** Words of 32 bits drawn so far. */
  at: number;
  /** A whole number in [0, 2³²); takes one word. */
  uint32(): number;
  /** A number in [0, 1), a multiple of 2⁻³²; takes one word. */
  uniform(): number;
  /** A number of the standard normal distribution (Box–Muller, the cosine alone); takes two words. */
  normal(): number;
  /** A whole number in [0, n) without bias (Lemire 2019); takes a word, rarely more. Errors: n outside 1 … 2³². */
  below(n: number): number;
  /** 0 … n−1 in random order (Fisher–Yates). */
  permutation(n: number): Uint32Array<ArrayBuffer>;
  /** Fills `out` with numbers in [low, high), as `low + (high − low)·uniform()` rounded to the array's type. */
  fillUniform<A extends Float32Array | Float64Array>(out: A, low?: number, high?: number): A;
  /** Fills `out` with `mean + deviation·normal()`. */
  fillNormal<A extends Float32Array | Float64Array>(out: A, deviation?: number, mean?: number): A;
}

/**
 * A generator of its own for every pair of seed (any safe integer) and stream: a name for what it is for ("batches/3"), or a number.
 * Equal seed, stream and position give equal numbers on every machine.
 */
export function random(seed: number, stream: number | string = 0): Random {
  const { key0, key1, stream0, stream1 } = streamOf(seed, stream);
  const words = new Uint32Array(4);
  let block = -1;

  const self: Random = {
    at: 0,
    uint32() {
      const at = self.at++;
      const b = Math.floor(at / 4);
      if (b !== block) {
        philox(b >>> 0, Math.floor(b / 2 ** 32), stream0, stream1, key0, key1, words);
        block = b;
      }
      return words[at & 3]!;
    },
    uniform: () => self.uint32() * 2 ** -32,
    normal() {
      // 1 − u lies in (0, 1]: its logarithm is finite.
      const radius = Math.sqrt(-2 * Math.log(1 - self.uniform()));
      return radius * Math.cos(2 * Math.PI * self.uniform());
    },
    below(n) {
      if (!(Number.isInteger(n) && n >= 1 && n <= 2 ** 32))
        throw new Fault("random", `below takes a whole number from 1 to 2^32; got ${n}`);
      const threshold = 2 ** 32 % n;
      for (;;) {
        // The 64-bit product x·n: its high word is the result, its low word tells the few x that would make a bias.
        const x = self.uint32();
        const low = Math.imul(x, n) >>> 0;
        if (n === 2 ** 32) return x;
        if (low >= threshold) return mulhi(x, n);
      }
    },
    permutation(n) {
      const out = new Uint32Array(n);
      for (let i = 0; i < n; i++) {
        const j = self.below(i + 1);
        out[i] = out[j]!;
        out[j] = i;
      }
      return out;
    },
    fillUniform(out, low = 0, high = 1) {
      for (let i = 0; i < out.length; i++) out[i] = low + (high - low) * self.uniform();
      return out;
    },
    fillNormal(out, deviation = 1, mean = 0) {
      for (let i = 0; i < out.length; i++) out[i] = mean + deviation * self.normal();
      return out;
    },
  };
  return self;
}

/** The words that tell a generator's numbers from another's: Philox's key, and the upper half of its counter. */
export function streamOf(seed: number, stream: number | string): Record<"key0" | "key1" | "stream0" | "stream1", number> {
  if (!Number.isSafeInteger(seed)) throw new Fault("random", `a seed must be a whole number; got ${seed}`);
  return {
    key0: seed >>> 0,
    key1: Math.floor(seed / 2 ** 32) >>> 0,
    // Names have the top bit of the last word set, numbers do not.
    stream0: typeof stream === "number" ? stream >>> 0 : fnv(stream, 0x811c9dc5),
    stream1: typeof stream === "number" ? (Math.floor(stream / 2 ** 32) & 0x7fffffff) >>> 0 : (fnv(stream, 0x2f0b4c47) | 0x80000000) >>> 0,
  };
}

/** High word of the 64-bit product of two 32-bit words. */
function mulhi(a: number, b: number): number {
  const ah = a >>> 16;
  const al = a & 0xffff;
  const bh = b >>> 16;
  const bl = b & 0xffff;
  const mid = ah * bl + ((al * bl) >>> 16);
  return (ah * bh + Math.floor(mid / 0x10000) + ((((mid & 0xffff) + al * bh) / 0x10000) >>> 0)) >>> 0;
}

/** One block of Philox4x32-10: four words of the counter `c` under the key `k`. */
export function philox(c0: number, c1: number, c2: number, c3: number, k0: number, k1: number, out: Uint32Array): void {
  for (let round = 0; round < 10; round++) {
    const hi0 = mulhi(0xd2511f53, c0);
    const lo0 = Math.imul(0xd2511f53, c0);
    const hi1 = mulhi(0xcd9e8d57, c2);
    const lo1 = Math.imul(0xcd9e8d57, c2);
    c0 = (hi1 ^ c1 ^ k0) >>> 0;
    c1 = lo1 >>> 0;
    c2 = (hi0 ^ c3 ^ k1) >>> 0;
    c3 = lo0 >>> 0;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/** FNV-1a of a name's UTF-16 units. */
function fnv(name: string, start: number): number {
  let h = start;
  for (let i = 0; i < name.length; i++) h = Math.imul(h ^ name.charCodeAt(i), 0x01000193);
  return h >>> 0;
}
