/** Round to nearest in blocks, packed: kernels/blocks.ts over one memory. */
import { instantiate } from "../kernel.ts";
import module from "./blocks.generated.ts";

/** Addresses in bytes; what the arguments are stands in kernels/blocks.ts. */
export interface BlocksKernel {
  grids(
    w: number,
    rows: number,
    columns: number,
    turned: number,
    size: number,
    groups: number,
    symmetric: number,
    most: number,
    middle: number,
    scales: number,
    points: number,
  ): number;
  codes(
    w: number,
    rows: number,
    columns: number,
    turned: number,
    size: number,
    groups: number,
    bits: number,
    high: number,
    middle: number,
    shift: number,
    scales: number,
    points: number,
    out: number,
    sums: number,
  ): void;
}

export function blocksKernel(memory: WebAssembly.Memory): BlocksKernel {
  return instantiate(module, memory);
}
