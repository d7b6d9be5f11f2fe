/** 32-bit floats in 16 bits: whole tensors, in pieces, so that a slice of a file stays one. */
import { Fault } from "./fault.ts";
import { bytesOf, type LazyBytes, type Tensor } from "./tensor.ts";

export type Half = "float16" | "bfloat16";

/** The largest finite number of each type, and the smallest positive one (subnormal). */
export const range: Readonly<Record<Half, { readonly largest: number; readonly smallest: number }>> = {
  float16: { largest: 65504, smallest: 2 ** -24 },
  bfloat16: { largest: (2 - 2 ** -7) * 2 ** 127, smallest: 2 ** -133 },
};

/** What rounding a tensor to 16 bits would do to it. */
export interface Survey {
  readonly nonZero: number;
  /** Non-zero elements that become 0. */
  readonly vanishing: number;
  /** Finite elements beyond the largest number of the type. */
  readonly beyond: number;
  /** Largest finite magnitude. */
  readonly largest: number;
}

/** Bounds on magnitudes before rounding: whatever is finite and beyond `largest` becomes it, whatever is not 0 and below `smallest` becomes that. */
export interface Clamp {
  readonly largest: number;
  readonly smallest: number;
}

/** Elements worked on at a time. */
const piece = 1 << 20;

/** Goes through a float32 tensor once, a piece at a time. */
export function survey(t: Tensor, to: Half): Survey {
  const { largest: bound, smallest } = range[to];
  // Half of the smallest number rounds to 0 (to even), what is above to the smallest.
  const floor = smallest / 2;
  let [nonZero, vanishing, beyond, largest] = [0, 0, 0, 0];
  for (const x of pieces(t)) {
    for (let i = 0; i < x.length; i++) {
      const a = Math.abs(x[i]!);
      if (a > 0) nonZero++;
      if (a > 0 && a <= floor) vanishing++;
      if (a > largest && a !== Infinity) largest = a;
      if (a > bound && a !== Infinity) beyond++;
    }
  }
  return { nonZero, vanishing, beyond, largest };
}

function* pieces(t: Tensor): Generator<Float32Array> {
  const { data } = t;
  for (let at = 0; at < data.byteLength; at += 4 * piece) {
    const end = Math.min(data.byteLength, at + 4 * piece);
    yield floatsIn(data instanceof Uint8Array ? data.subarray(at, end) : data.read(at, end));
  }
}

function floatsIn(bytes: Uint8Array): Float32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes);
  return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 4);
}

/**
 * The float32 tensor in 16 bits, rounded to nearest even; what is beyond the range becomes infinite unless `clamp` bounds it. A tensor in a
 * file is converted when it is read, so that it takes no memory. Errors: a tensor of another type.
 */
export function narrow(t: Tensor, to: Half, clamp: Clamp | null = null): Tensor {
  if (t.dtype !== "float32") throw new Fault("narrow", `takes float32 tensors; got ${t.dtype}`);
  const { data } = t;
  if (data instanceof Uint8Array) return { dtype: to, shape: t.shape, data: coded(bytesOf(t), to, clamp) };
  const byteLength = data.byteLength / 2;
  const lazy: LazyBytes = {
    byteLength,
    read(start = 0, end = byteLength) {
      const first = start & ~1;
      const last = Math.min(byteLength, (end + 1) & ~1);
      return coded(data.read(2 * first, 2 * last), to, clamp).subarray(start - first, end - first);
    },
  };
  return { dtype: to, shape: t.shape, data: lazy };
}

function coded(bytes: Uint8Array, to: Half, clamp: Clamp | null): Uint8Array {
  let x = floatsIn(bytes);
  if (clamp) {
    const { largest, smallest } = clamp;
    x = x.map((v) => {
      const a = Math.abs(v);
      if (a > largest && a !== Infinity) return Math.sign(v) * largest;
      return a > 0 && a < smallest ? Math.sign(v) * smallest : v;
    });
  }
  const bits = new Uint32Array(x.buffer, x.byteOffset, x.length);
  const out = new Uint16Array(bits.length);
  // A loop for each type: the engine then puts the function in place of its calls.
  if (to === "float16") for (let i = 0; i < bits.length; i++) out[i] = halfBits(bits[i]!);
  else for (let i = 0; i < bits.length; i++) out[i] = bfloatBits(bits[i]!);
  return new Uint8Array(out.buffer);
}

/** float16 bits of float32 bits. */
function halfBits(b: number): number {
  const sign = (b >>> 16) & 0x8000;
  const a = b & 0x7fffffff;
  if (a >= 0x477ff000) return sign | (a > 0x7f800000 ? 0x7e00 : 0x7c00);
  if (a >= 0x38800000) return sign | ((a - 0x38000000 + 0xfff + ((a >>> 13) & 1)) >>> 13);
  if (a <= 0x33000000) return sign;
  const m = (a & 0x7fffff) | 0x800000;
  const shift = 126 - (a >>> 23);
  const q = m >>> shift;
  const rest = m & ((1 << shift) - 1);
  const mid = 1 << (shift - 1);
  return sign | (rest > mid || (rest === mid && q & 1) ? q + 1 : q);
}

/** bfloat16 bits of float32 bits. */
function bfloatBits(b: number): number {
  if ((b & 0x7fffffff) > 0x7f800000) return 0x7fc0;
  return (b + 0x7fff + ((b >>> 16) & 1)) >>> 16;
}
