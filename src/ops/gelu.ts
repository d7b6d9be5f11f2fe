/** Derivatives of the Gaussian error linear unit in its spellings (Hendrycks and Gimpel, arXiv:1606.08415). */
import type { Value } from "../ir/graph.ts";
import { type Build, dtypeOf } from "./build.ts";

/** Φ(x) + x·φ(x), with Φ and φ the standard normal's distribution and density. */
export function gelu(b: Build, x: Value): Value {
  const k = (v: number) => b.scalar(v, dtypeOf(x));
  const distribution = b.mul(b.add(b.op("Erf", [b.mul(x, k(Math.SQRT1_2))]), k(1)), k(0.5));
  const density = b.mul(b.op("Exp", [b.mul(b.mul(x, x), k(-0.5))]), k(1 / Math.sqrt(2 * Math.PI)));
  return b.add(distribution, b.mul(x, density));
}

/** The derivative of x·(1 + tanh u)/2 with u = √(2/π)·(x + 0.044715 x³). */
export function geluTanh(b: Build, x: Value): Value {
  const k = (v: number) => b.scalar(v, dtypeOf(x));
  const c = Math.sqrt(2 / Math.PI);
  const x2 = b.mul(x, x);
  const t = b.op("Tanh", [b.mul(x, b.add(b.mul(x2, k(c * 0.044715)), k(c)))]);
  const du = b.add(b.mul(x2, k(c * 3 * 0.044715)), k(c));
  const inner = b.mul(b.mul(x, du), b.sub(k(1), b.mul(t, t)));
  return b.mul(b.add(b.add(t, k(1)), inner), k(0.5));
}

/** The derivative of y = x·σ(αx): σ + αy(1 − σ). */
export function swish(b: Build, x: Value, y: Value, alpha: number): Value {
  const k = (v: number) => b.scalar(v, dtypeOf(x));
  const s = b.op("Sigmoid", [alpha === 1 ? x : b.mul(x, k(alpha))]);
  return b.add(s, b.mul(b.mul(y, k(alpha)), b.sub(k(1), s)));
}
