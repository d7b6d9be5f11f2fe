/** The dropout kernel: kernels/dropout.ts over one memory. */
import { instantiate } from "../kernel.ts";
import { streamOf } from "../random.ts";
import module from "./dropout.generated.ts";

interface Exports {
  mask(out: number, n: number, stream0: number, stream1: number, key0: number, key1: number, threshold: number, kept: number): void;
}

/**
 * Fills `n` floats at `out` (bytes; both multiples of 16) with masks: element i is 0 where word i of `random(seed, stream)` lies in the lowest
 * `ratio` of all words, else 1 / (1 − ratio).
 */
export type DropoutKernel = (out: number, n: number, ratio: number, seed: number, stream: string) => void;

export function dropoutKernel(memory: WebAssembly.Memory): DropoutKernel {
  const { mask } = instantiate<Exports>(module, memory);
  return (out, n, ratio, seed, stream) => {
    const { stream0, stream1, key0, key1 } = streamOf(seed, stream);
    mask(out, n, stream0, stream1, key0, key1, thresholdOf(ratio), 1 / (1 - ratio));
  };
}

/** Words below it are dropped. */
export function thresholdOf(ratio: number): number {
  return Math.min(2 ** 32 - 1, Math.round(ratio * 2 ** 32));
}
