/** The optimizer kernel: kernels/optimizer.ts over one memory. */
import { instantiate } from "../kernel.ts";
import module from "./optimizer.generated.ts";

/** Addresses in bytes, multiples of 16; `n` floats, a multiple of 4. The formulas stand in kernels/optimizer.ts. */
export interface OptimizerKernel {
  sumSquares(g: number, n: number): number;
  sgd(
    p: number,
    g: number,
    m: number,
    n: number,
    rate: number,
    momentum: number,
    ownWeight: number,
    momentumWeight: number,
    decay: number,
    scale: number,
  ): void;
  adam(
    p: number,
    g: number,
    m: number,
    v: number,
    n: number,
    rate: number,
    root: number,
    epsilon: number,
    b1: number,
    c1: number,
    b2: number,
    c2: number,
    decay: number,
    shrink: number,
    scale: number,
  ): void;
}

export function optimizerKernel(memory: WebAssembly.Memory): OptimizerKernel {
  return instantiate(module, memory);
}
