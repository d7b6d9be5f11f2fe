/** The inner loops of dense linear algebra: kernels/vectors.ts over one memory. */
import { instantiate } from "../kernel.ts";
import module from "./vectors.generated.ts";

/** Addresses in bytes, `n` in elements (float64). The formulas stand in kernels/vectors.ts. */
export interface VectorsKernel {
  dot(x: number, y: number, n: number): number;
  axpy(a: number, x: number, y: number, n: number): void;
  reflect(v: number, tau: number, y: number, n: number): void;
  rotate(x: number, y: number, n: number, c: number, s: number): void;
}

export function vectorsKernel(memory: WebAssembly.Memory): VectorsKernel {
  return instantiate(module, memory);
}
