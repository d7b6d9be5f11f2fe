/** The dropout kernel: kernels/dropout.ts over one memory. */
import { instantiate } from "../kernel.ts";
import { streamOf } from "../random.ts";
import module from "./dropout.generated.ts";

interface Exports {
  mask(out: number, n: number, stream0: number, stream1: number, key0: number, key1: number, threshold: number, kept: number): void;
  uniform(out: number, n: number, stream0: number, stream1: number, key0: number, key1: number): void;
}

/** Fills `n` floats at `out` (bytes; both multiples of 16) from the words of `random(seed, stream)`. */
export interface DropoutKernel {
  /** Element i is 0 where word i lies in the lowest `ratio` of all words, else 1 / (1 − ratio). */
  mask(out: number, n: number, ratio: number, seed: number, stream: string): void;
  /** Element i is the upper 24 bits of word i as a number in [−1, 1). */
  uniform(out: number, n: number, seed: number, stream: string): void;
}

export function dropoutKernel(memory: WebAssembly.Memory): DropoutKernel {
  const { mask, uniform } = instantiate<Exports>(module, memory);
  return {
    mask(out, n, ratio, seed, stream) {
      const { stream0, stream1, key0, key1 } = streamOf(seed, stream);
      mask(out, n, stream0, stream1, key0, key1, thresholdOf(ratio), 1 / (1 - ratio));
    },
    uniform(out, n, seed, stream) {
      const { stream0, stream1, key0, key1 } = streamOf(seed, stream);
      uniform(out, n, stream0, stream1, key0, key1);
    },
  };
}

/** Words below it are dropped. */
export function thresholdOf(ratio: number): number {
  return Math.min(2 ** 32 - 1, Math.round(ratio * 2 ** 32));
}
