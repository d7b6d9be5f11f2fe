import { describe, expect, test } from "vitest";
import { inverse } from "../../tensor/linalg/dense.ts";
import { solve } from "../../tensor/linalg/solve.ts";
import { random } from "../../tensor/random.ts";
import { excise, leastSalient } from "./surgeon.ts";

const n = 24;
const alpha = 1e-3;
const p = 60;
const r = random(3, "surgeon");
const rows = r.fillNormal(new Float64Array(p * n));
const weights = r.fillNormal(new Float64Array(n));

/** H = αI + (1/P)·Σ x·xᵀ. */
function hessian(): Float64Array {
  const h = new Float64Array(n * n);
  for (let e = 0; e < p; e++)
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) h[i * n + j]! += (rows[e * n + i]! * rows[e * n + j]!) / p;
  for (let i = 0; i < n; i++) h[i * n + i]! += alpha;
  return h;
}

const furthest = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  expect(a.length).toBe(b.length);
  let max = 0;
  for (let i = 0; i < a.length; i++) max = Math.max(max, Math.abs(a[i]! - b[i]!));
  return max;
};

const rise = (h: Float64Array, w: ArrayLike<number>) => {
  let sum = 0;
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) sum += 0.5 * (w[i]! - weights[i]!) * h[i * n + j]! * (w[j]! - weights[j]!);
  return sum;
};

/** min ½ δᵀHδ with w_q = 0 for all q of `gone`: the saddle point equations, solved densely. */
function constrained(h: Float64Array, gone: readonly number[]): Float64Array {
  const m = n + gone.length;
  const a = new Float64Array(m * m);
  const b = new Float64Array(m);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) a[i * m + j] = h[i * n + j]!;
  gone.forEach((q, c) => {
    a[(n + c) * m + q] = a[q * m + n + c] = 1;
    b[n + c] = -weights[q]!;
  });
  const delta = solve(a, m, b, 1);
  return weights.map((w, i) => w + delta[i]!);
}

const start = () => ({ w: weights.slice(), inv: inverse(hessian(), n), keep: new Uint8Array(n).fill(1) });
const saliency = (w: ArrayLike<number>, inv: Float64Array, q: number) => w[q]! ** 2 / (2 * inv[q * n + q]!);

/** H⁻¹ row by row of x, from α⁻¹I: H⁻¹ ← H⁻¹ − H⁻¹x·xᵀH⁻¹ / (P + xᵀH⁻¹x) (eq. 17). */
function recursion(): Float64Array {
  const inv = Float64Array.from({ length: n * n }, (_, at) => (at % (n + 1) === 0 ? 1 / alpha : 0));
  for (let e = 0; e < p; e++) {
    const x = rows.subarray(e * n, (e + 1) * n);
    const u = x.map((_, i) => x.reduce((s, v, j) => s + inv[i * n + j]! * v, 0));
    const s = u.reduce((t, v, i) => t + v * x[i]!, p);
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) inv[i * n + j]! -= (u[i]! * u[j]!) / s;
  }
  return inv;
}

describe("the inverse", () => {
  test("is that of the paper's recursion, and elimination's", () => {
    const direct = inverse(hessian(), n);
    expect(furthest(recursion(), direct)).toBeLessThan(1e-9);
    const eye = Float64Array.from({ length: n * n }, (_, at) => (at % (n + 1) === 0 ? 1 : 0));
    expect(furthest(solve(hessian(), n, eye, n), direct)).toBeLessThan(1e-9);
  });

  test.each([1, 63, 64, 65, 200])("of %i rows and columns, in blocks, is elimination's", (k) => {
    const x = random(k, "spd").fillNormal(new Float64Array(k * 2 * k));
    const a = new Float64Array(k * k);
    for (let i = 0; i < k; i++)
      for (let j = 0; j < k; j++) for (let l = 0; l < 2 * k; l++) a[i * k + j]! += (x[i * 2 * k + l]! * x[j * 2 * k + l]!) / (2 * k);
    const eye = Float64Array.from({ length: k * k }, (_, at) => (at % (k + 1) === 0 ? 1 : 0));
    const want = solve(a, k, eye, k);
    const scale = Math.max(...want.map(Math.abs));
    expect(furthest(inverse(a, k), want)).toBeLessThan(1e-12 * scale * (k + 10));
  });

  test("there is none of a matrix that is not positive definite", () => {
    expect(() => inverse(Float64Array.of(1, 0, 0, 0), 2)).toThrow("not positive definite");
  });
});

describe("deleting", () => {
  test("one weight is the constrained minimum, and its saliency what the error rises by", () => {
    const h = hessian();
    for (const q of [0, 7, n - 1]) {
      const { w, inv, keep } = start();
      const expected = saliency(w, inv, q);
      const sum = excise(w, inv, keep, q);
      expect(w[q]).toBe(0);
      expect(furthest(w, constrained(h, [q]))).toBeLessThan(1e-10);
      expect(sum).toBeCloseTo(rise(h, w), 10);
      expect(sum).toBeCloseTo(expected, 12);
    }
  });

  test("many, one after the other from one inverse, is the constrained minimum of all", () => {
    const h = hessian();
    const { w, inv, keep } = start();
    const gone: number[] = [];
    let sum = 0;
    while (gone.length < n - 3) {
      const q = leastSalient(w, inv, keep);
      const all = Array.from(keep, (k, i) => (k ? saliency(w, inv, i) : Infinity));
      expect(all[q]).toBe(Math.min(...all));
      gone.push(q);
      sum += excise(w, inv, keep, q);
      expect(furthest(w, constrained(h, gone))).toBeLessThan(1e-9);
      expect(sum).toBeCloseTo(rise(h, w), 9);
    }
    expect(new Set(gone).size).toBe(n - 3);
    expect([...keep].reduce((a, b) => a + b)).toBe(3);
    // What is left of the inverse is the inverse of what is left of H.
    const left = [...keep].flatMap((k, i) => (k ? [i] : []));
    const part = Float64Array.from({ length: 9 }, (_, at) => h[left[Math.floor(at / 3)]! * n + left[at % 3]!]!);
    expect(
      furthest(
        solve(part, 3, [1, 0, 0, 0, 1, 0, 0, 0, 1], 3),
        left.flatMap((i) => left.map((j) => inv[i * n + j]!)),
      ),
    ).toBeLessThan(1e-8);
  });

  test("the others move: without the update the error rises more", () => {
    const h = hessian();
    const { w, inv, keep } = start();
    const q = leastSalient(w, inv, keep);
    const zeroed = weights.slice();
    zeroed[q] = 0;
    excise(w, inv, keep, q);
    expect(rise(h, w)).toBeLessThan(0.9 * rise(h, zeroed));
  });
});
