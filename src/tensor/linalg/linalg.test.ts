import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readNpz } from "../../data/npz.ts";
import { random } from "../random.ts";
import { numbersOf } from "../tensor.ts";
import { eigen } from "./eigen.ts";
import { cholesky, qr, solve } from "./solve.ts";
import { svd } from "./svd.ts";
import { workspace } from "./workspace.ts";

const fixtures = readNpz(readFileSync(join(import.meta.dirname, "../../../test/reference/fixtures/linalg.npz")));
const values = (name: string) => numbersOf(fixtures[name]!);
const named = (prefix: string, suffix: string) =>
  Object.keys(fixtures).flatMap((k) => (k.startsWith(prefix) && k.endsWith(suffix) ? [k.slice(prefix.length, -suffix.length)] : []));

/** Row-major product of [n, k] and [k, m]. */
function times(a: ArrayLike<number>, b: ArrayLike<number>, n: number, k: number, m: number): Float64Array {
  const out = new Float64Array(n * m);
  for (let i = 0; i < n; i++) for (let l = 0; l < k; l++) for (let j = 0; j < m; j++) out[i * m + j]! += a[i * k + l]! * b[l * m + j]!;
  return out;
}
/** The transpose of [n, m]. */
function turned(a: ArrayLike<number>, n: number, m: number): Float64Array {
  return Float64Array.from({ length: n * m }, (_, at) => a[(at % n) * m + Math.floor(at / n)]!);
}
const scaledColumns = (a: ArrayLike<number>, by: ArrayLike<number>) => Float64Array.from(a, (x, i) => x * by[i % by.length]!);
const furthest = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  expect(a.length).toBe(b.length);
  let max = 0;
  for (let i = 0; i < a.length; i++) max = Math.max(max, Number.isNaN(a[i]! - b[i]!) ? Infinity : Math.abs(a[i]! - b[i]!));
  return max;
};
const eye = (n: number) => Float64Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0));
const biggest = (a: ArrayLike<number>) => furthest(a, new Float64Array(a.length));

/** Rounding of float64 (2e-16) times a modest growth with the size; a digit more than LAPACK needs. */
const tolerance = (n: number) => 2e-15 * (n + 5);

function checkSvd(a: ArrayLike<number>, rows: number, columns: number) {
  const r = Math.min(rows, columns);
  const { u, s, vt } = svd(a, rows, columns);
  const scale = Math.max(s[0] ?? 0, Number.MIN_VALUE);
  for (let i = 1; i < r; i++) expect(s[i]!).toBeLessThanOrEqual(s[i - 1]!);
  expect(s[r - 1]!).toBeGreaterThanOrEqual(0);
  expect(furthest(times(turned(u, rows, r), u, r, rows, r), eye(r))).toBeLessThan(tolerance(r));
  expect(furthest(times(vt, turned(vt, r, columns), r, columns, r), eye(r))).toBeLessThan(tolerance(r));
  expect(furthest(times(scaledColumns(u, s), vt, rows, r, columns), a) / scale).toBeLessThan(tolerance(r));
  return s;
}

describe("svd", () => {
  test.each(named("svd.", ".a"))("%s: NumPy's singular values, orthonormal factors, their product", (name) => {
    const [rows, columns] = fixtures[`svd.${name}.a`]!.shape as [number, number];
    const s = checkSvd(values(`svd.${name}.a`), rows, columns);
    expect(furthest(s, values(`svd.${name}.s`)) / s[0]!).toBeLessThan(tolerance(s.length));
  });

  test("small whole numbers: many zeros and equal singular values", () => {
    const matrix = fc
      .tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 }))
      .chain(([m, n]) => fc.array(fc.constantFrom(0, 0, 0, 1, -1, 2), { minLength: m * n, maxLength: m * n }).map((a) => ({ m, n, a })));
    fc.assert(
      fc.property(matrix, ({ m, n, a }) => {
        checkSvd(a, m, n);
      }),
      { numRuns: 400, seed: 1 },
    );
  });

  test("very large and very small numbers neither overflow nor vanish", () => {
    for (const scale of [1e300, 1e-300]) {
      const s = svd([3 * scale, 0, 4 * scale, 0], 2, 2).s;
      expect(s[0]! / scale).toBeCloseTo(5, 12);
      expect(s[1]! / scale).toBeLessThan(1e-14);
    }
  });

  test("across the panels of 16 reflectors, and the same bytes again", () => {
    const a = random(1).fillNormal(new Float64Array(90 * 51));
    checkSvd(a, 90, 51);
    checkSvd(a, 51, 90);
    expect(svd(a, 90, 51)).toEqual(svd(a, 90, 51));
  });

  test("refuses what it cannot do", () => {
    expect(() => svd([1, 2, Number.NaN, 4], 2, 2)).toThrow("svd: element 2 of a 2 × 2 matrix is NaN");
    expect(() => svd([1, 2, 3], 2, 2)).toThrow("has 4 elements; got 3");
    expect(() => workspace(2 ** 29)).toThrow("needs 4294967296 bytes of work space");
  });
});

describe("eigen", () => {
  test.each(named("eigen.", ".a"))("%s: NumPy's eigenvalues, orthonormal vectors, A·V = V·diag", (name) => {
    const a = values(`eigen.${name}.a`);
    const n = fixtures[`eigen.${name}.a`]!.shape[0]!;
    const e = eigen(a, n);
    const scale = biggest(e.values);
    expect(furthest(e.values, values(`eigen.${name}.values`)) / scale).toBeLessThan(tolerance(n));
    expect(furthest(times(turned(e.vectors, n, n), e.vectors, n, n, n), eye(n))).toBeLessThan(tolerance(n));
    expect(furthest(times(a, e.vectors, n, n, n), scaledColumns(e.vectors, e.values)) / scale).toBeLessThan(tolerance(n));
  });

  test("small whole numbers", () => {
    const matrix = fc
      .integer({ min: 1, max: 8 })
      .chain((n) => fc.array(fc.constantFrom(0, 0, 1, -1, 3), { minLength: n * n, maxLength: n * n }).map((a) => ({ n, a })));
    fc.assert(
      fc.property(matrix, ({ n, a }) => {
        const symmetric = a.map((x, i) => x + a[(i % n) * n + Math.floor(i / n)]!);
        const e = eigen(symmetric, n);
        expect(furthest(times(scaledColumns(e.vectors, e.values), turned(e.vectors, n, n), n, n, n), symmetric)).toBeLessThan(1e-13);
      }),
      { numRuns: 300, seed: 2 },
    );
  });

  test("refuses a matrix that is not symmetric", () => {
    expect(() => eigen([1, 2, 3, 4], 2)).toThrow("takes a symmetric matrix; got 3 at (1, 0) and 2 at (0, 1)");
  });
});

test.each(named("qr.", ".r"))("qr of %s: NumPy's R up to signs, orthonormal Q, their product", (name) => {
  const a = values(`svd.${name}.a`);
  const [rows, columns] = fixtures[`svd.${name}.a`]!.shape as [number, number];
  const k = Math.min(rows, columns);
  const { q, r } = qr(a, rows, columns);
  const scale = biggest(a);
  expect(furthest(times(turned(q, rows, k), q, k, rows, k), eye(k))).toBeLessThan(tolerance(k));
  expect(furthest(times(q, r, rows, k, columns), a) / scale).toBeLessThan(tolerance(k));
  // Where the matrix has full rank, R is unique but for its rows' signs.
  if (["deficient", "shift", "clustered", "graded", "hilbert"].includes(name)) return;
  const signed = Float64Array.from(r, (x, at) => x * Math.sign(r[Math.floor(at / columns) * (columns + 1)]!));
  expect(furthest(signed, values(`qr.${name}.r`)) / scale).toBeLessThan(100 * tolerance(k));
});

test("cholesky", () => {
  const a = values("eigen.gram.a");
  expect(furthest(cholesky(a, 17), values("cholesky.l"))).toBeLessThan(1e-12);
  expect(() => cholesky([1, 2, 2, 1], 2)).toThrow("not positive definite (pivot 1 is -3)");
  expect(() => cholesky([0], 1)).toThrow("not positive definite (pivot 0 is 0)");
});

test("solve", () => {
  const x = solve(values("solve.a"), 17, values("solve.b"), 3);
  expect(furthest(x, values("solve.x"))).toBeLessThan(1e-11);
  expect(Array.from(solve([0, 1, 2, 0], 2, [3, 4], 1))).toEqual([2, 3]);
  expect(() => solve([1, 2, 2, 4], 2, [1, 1], 1)).toThrow("the matrix is singular (pivot 1 is 0)");
});
