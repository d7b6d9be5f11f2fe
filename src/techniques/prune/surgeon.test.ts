import { describe, expect, test } from "vitest";
import { inverse } from "../../tensor/linalg/dense.ts";
import { solve } from "../../tensor/linalg/solve.ts";
import { random } from "../../tensor/random.ts";
import { excise, exciseGroup, inverseByRecursion, inverseDirect, leastSalient, saliencies } from "./surgeon.ts";

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

const start = () => ({ w: weights.slice(), inv: inverseDirect(rows, n, { alpha, p }), keep: new Uint8Array(n).fill(1) });

describe("the inverse", () => {
  test("by recursion is the direct one, and both are the inverse", () => {
    const byRows = inverseByRecursion(rows, n, { alpha, p });
    const direct = inverseDirect(rows, n, { alpha, p });
    expect(furthest(byRows, direct)).toBeLessThan(1e-9);
    const eye = Float64Array.from({ length: n * n }, (_, at) => (at % (n + 1) === 0 ? 1 : 0));
    expect(furthest(solve(hessian(), n, eye, n), direct)).toBeLessThan(1e-9);
  });

  test("with fewer rows than weights: alpha fills the directions that no example tells of", () => {
    const few = rows.slice(0, 5 * n);
    const a = inverseByRecursion(few, n, { alpha, p: 5 });
    const b = inverseDirect(few, n, { alpha, p: 5 });
    // 1 / alpha is the scale of it.
    expect(furthest(a, b) * alpha).toBeLessThan(1e-10);
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

  test("what it cannot take is said", () => {
    expect(() => inverseByRecursion(rows, n, { alpha: 0, p })).toThrow("alpha must be above 0");
    expect(() => inverseDirect(rows, n + 1, { alpha, p })).toThrow("not a multiple");
    expect(() => inverseDirect([1, 0], 2, { alpha: 0, p: 1 })).toThrow("not positive definite");
  });
});

describe("deleting", () => {
  test("one weight is the constrained minimum, and its saliency what the error rises by", () => {
    const h = hessian();
    const all = saliencies(weights, start().inv, start().keep);
    for (const q of [0, 7, n - 1]) {
      const { w, inv, keep } = start();
      const saliency = excise(w, inv, keep, q);
      expect(w[q]).toBe(0);
      expect(furthest(w, constrained(h, [q]))).toBeLessThan(1e-10);
      expect(saliency).toBeCloseTo(rise(h, w), 10);
      expect(saliency).toBeCloseTo(all[q]!, 12);
    }
  });

  test("many, one after the other from one inverse, is the constrained minimum of all", () => {
    const h = hessian();
    const { w, inv, keep } = start();
    const gone: number[] = [];
    let sum = 0;
    while (gone.length < n - 3) {
      const q = leastSalient(w, inv, keep);
      expect(saliencies(w, inv, keep)[q]).toBe(Math.min(...saliencies(w, inv, keep)));
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

  test("a group is its members in any order, and the dense solve", () => {
    const gone = [3, 19, 11, 4, 20];
    const whole = start();
    const total = exciseGroup(whole.w, whole.inv, whole.keep, gone);
    for (const order of [gone, gone.toReversed()]) {
      const { w, inv, keep } = start();
      const sum = order.reduce((s, q) => s + excise(w, inv, keep, q), 0);
      expect(furthest(w, whole.w)).toBeLessThan(1e-10);
      expect(furthest(inv, whole.inv)).toBeLessThan(1e-8);
      expect(sum).toBeCloseTo(total, 10);
      expect(keep).toEqual(whole.keep);
    }
    expect(furthest(whole.w, constrained(hessian(), gone))).toBeLessThan(1e-10);
    expect(() => exciseGroup(whole.w, whole.inv, whole.keep, [3])).toThrow("deleted already");
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
