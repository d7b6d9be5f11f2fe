/** Derivatives of the Gaussian error linear unit in its spellings (Hendrycks and Gimpel, arXiv:1606.08415). */
import { float, type Value } from "../ir/graph.ts";
import { type Build, dtypeOf } from "./build.ts";

/**
 * Φ(x) + x·φ(x), with Φ and φ the standard normal's distribution and density. With u = x/√2 it is (1 + erf u)/2 + u·exp(−u² − ln √π).
 * The half and half of it is one HardSigmoid, which is never beyond its bounds here: one pass over memory instead of two.
 */
export function gelu(b: Build, x: Value): Value {
  const k = (v: number) => b.scalar(v, dtypeOf(x));
  const u = b.mul(x, k(Math.SQRT1_2));
  const erf = b.op("Erf", [u]);
  const distribution =
    dtypeOf(x) === "float32" ? b.op("HardSigmoid", [erf], { alpha: float(0.5), beta: float(0.5) }) : b.mul(b.add(erf, k(1)), k(0.5));
  const density = b.op("Exp", [b.sub(k(-Math.log(Math.PI) / 2), b.mul(u, u))]);
  return b.add(distribution, b.mul(u, density));
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
