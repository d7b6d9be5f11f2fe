/** Products and Cholesky factors of row-major matrices: kernels/dense.ts over one memory. */
import { instantiate } from "../kernel.ts";
import module from "./dense.generated.ts";

/** Addresses and strides in bytes, counts in elements (float64). The formulas stand in kernels/dense.ts. */
export interface DenseKernel {
  multiply(
    a: number,
    lda: number,
    b: number,
    ldb: number,
    transposed: number,
    c: number,
    ldc: number,
    m: number,
    n: number,
    k: number,
    alpha: number,
    scratch: number,
  ): void;
  cholesky(a: number, lda: number, n: number, scratch: number): number;
  sweep(x: number, ldx: number, marked: number, ldm: number, u: number, ldu: number, rows: number, n: number, width: number): void;
}

export function denseKernel(memory: WebAssembly.Memory): DenseKernel {
  return instantiate(module, memory);
}
