/** AdaRound: whether each weight is rounded up or down is learned on the layer's output. */
import { Fault } from "../../tensor/fault.ts";
import { quadratic } from "../hessian.ts";
import { type BlockCodes, type BlockScheme, dequantizeBlocks, levelsOf, roundToNearest } from "./blocks.ts";
import { roundOnSearched } from "./grid.ts";

export interface AdaroundOptions {
  /** Steps of Adam. Default 300; each costs 2·rows·columns² operations. */
  readonly steps?: number;
  /** Default 0.1. */
  readonly learningRate?: number;
  /** The regularizer's weight, where an average weight's share of the error of rounding to nearest is 1. Default 30. */
  readonly lambda?: number;
  /** The regularizer's exponent, from and to. Default 20 and 2. */
  readonly beta?: readonly [number, number];
  /** Share of the steps before the regularizer joins in. Default 0.2. */
  readonly warmup?: number;
  /** Grids by search rather than from the group's range. Default false. */
  readonly search?: boolean;
}

const [zeta, gamma] = [1.1, -0.1];

/** The rectified sigmoid clip(σ(v)·(ζ − γ) + γ, 0, 1) (Nagel et al. 2020, eq. 23), ζ = 1.1, γ = −0.1. */
export function rectified(v: number): number {
  return Math.min(1, Math.max(0, (zeta - gamma) / (1 + Math.exp(-v)) + gamma));
}

/** The v at which the rectified sigmoid is h, for 0 ≤ h ≤ 1. */
export function rectifiedInverse(h: number): number {
  return -Math.log((zeta - gamma) / (h - gamma) - 1);
}

/**
 * Nagel et al. 2020, eq. 25: minimizes tr(Δ·H·Δᵀ) + λ·Σ(1 − |2h(v) − 1|^β) over v, with ŵ = (clip(⌊w/s⌋ + h(v) + z) − z)·s on the grids
 * of rounding to nearest, β going down from 20 to 2 along half a cosine. Starts where ŵ = w. At the end h ≥ ½ rounds up; a row whose
 * output that does not bring nearer keeps its nearest codes. `hessian` [columns, columns]. Errors: 1 bit, which has no up and down.
 */
export function adaround(
  w: Float32Array,
  rows: number,
  columns: number,
  hessian: Float64Array,
  scheme: BlockScheme,
  options: AdaroundOptions = {},
): BlockCodes {
  const { steps = 300, learningRate = 0.1, lambda = 30, beta = [20, 2], warmup = 0.2, search = false } = options;
  if (scheme.bits === 1) throw new Fault("adaround", "1 bit has no code between up and down; 2 bits or more would do");
  const start = (search ? roundOnSearched : roundToNearest)(w, rows, columns, scheme);
  const n = rows * columns;
  const { low, high } = levelsOf(scheme);
  const groups = Math.ceil(columns / scheme.groupSize);
  const q = quadratic(hessian, columns);
  const nearest = dequantizeBlocks(start);
  const before = rowErrors(nearest);
  const total = before.reduce((a, e) => a + e, 0);
  if (!(total > 0)) return start;
  // In these units an average weight's share of the error is 1.
  const unit = n / total;

  const floor = new Int16Array(n);
  const v = new Float32Array(n);
  const groupOf = (i: number) => Math.floor(i / columns) * groups + Math.floor((i % columns) / scheme.groupSize);
  const scaleOf = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    const g = groupOf(i);
    const scale = start.scales[g]!;
    scaleOf[i] = scale;
    const zero = start.zeroPoints ? start.zeroPoints[g]! : 2 ** (scheme.bits - 1);
    const x = scale === 0 ? zero : w[i]! / scale + zero;
    const f = Math.min(high, Math.max(low, Math.floor(x)));
    floor[i] = f;
    v[i] = rectifiedInverse(Math.min(0.999, Math.max(0.001, x - f)));
  }
  const delta = new Float32Array(n);
  const gradient = new Float32Array(n);
  const m1 = new Float32Array(n);
  const m2 = new Float32Array(n);
  const first = Math.ceil(warmup * steps);
  const zeroOf = (i: number) => (start.zeroPoints ? start.zeroPoints[groupOf(i)]! : 2 ** (scheme.bits - 1));
  for (let t = 1; t <= steps; t++) {
    for (let i = 0; i < n; i++) {
      const code = Math.min(high, floor[i]! + rectified(v[i]!));
      delta[i] = (code - zeroOf(i)) * scaleOf[i]! - w[i]!;
    }
    q.error(delta, rows, (r, product) => {
      for (let c = 0; c < columns; c++) gradient[r * columns + c] = 2 * unit * product[c]! * scaleOf[r * columns + c]!;
    });
    const on = t > first;
    const b = beta[1] + 0.5 * (beta[0] - beta[1]) * (1 + Math.cos((Math.PI * (t - first)) / Math.max(1, steps - first)));
    const [c1, c2] = [1 - 0.9 ** t, 1 - 0.999 ** t];
    for (let i = 0; i < n; i++) {
      const sigma = 1 / (1 + Math.exp(-v[i]!));
      const h = sigma * (zeta - gamma) + gamma;
      let g = 0;
      if (h > 0 && h < 1) {
        const up = floor[i]! >= high ? 0 : gradient[i]!;
        const d = 2 * h - 1;
        const pull = on ? -lambda * b * 2 * Math.sign(d) * Math.abs(d) ** (b - 1) : 0;
        g = (up + pull) * sigma * (1 - sigma) * (zeta - gamma);
      }
      m1[i] = 0.9 * m1[i]! + 0.1 * g;
      m2[i] = 0.999 * m2[i]! + 0.001 * g * g;
      v[i]! -= (learningRate * (m1[i]! / c1)) / (Math.sqrt(m2[i]! / c2) + 1e-8);
    }
  }
  const codes = new Uint8Array(n);
  for (let i = 0; i < n; i++) codes[i] = Math.min(high, floor[i]! + (rectified(v[i]!) >= 0.5 ? 1 : 0));
  const after = rowErrors(dequantizeBlocks({ ...start, codes }));
  for (let r = 0; r < rows; r++) {
    if (!(after[r]! < before[r]!)) codes.set(start.codes.subarray(r * columns, (r + 1) * columns), r * columns);
  }
  return { ...start, codes };

  function rowErrors(approximation: Float32Array): Float64Array {
    const d = approximation.map((x, i) => x - w[i]!);
    const errors = new Float64Array(rows);
    q.error(d, rows, (r, product) => {
      for (let c = 0; c < columns; c++) errors[r]! += product[c]! * d[r * columns + c]!;
    });
    return errors;
  }
}
