/** Which weights of a row go: kernels/swaps.ts over one memory. */
import { instantiate } from "../kernel.ts";
import module from "./swaps.generated.ts";

/** Addresses in bytes, `n` in elements (float64). The formulas stand in kernels/swaps.ts. */
export interface SwapsKernel {
  flips(w: number, s: number, h: number, diagonal: number, c: number, work: number, n: number, price: number, least: number): number;
  swaps(
    w: number,
    s: number,
    h: number,
    diagonal: number,
    c: number,
    work: number,
    n: number,
    group: number,
    least: number,
    roots: number,
    bounds: number,
  ): number;
}

export function swapsKernel(memory: WebAssembly.Memory): SwapsKernel {
  return instantiate(module, memory);
}
