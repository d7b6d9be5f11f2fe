import { expect, test } from "vitest";
import { dense, udu } from "../linalg/dense.ts";
import { random } from "../random.ts";

// The plain twins.
function product(a: Float64Array, b: Float64Array, m: number, n: number, k: number, transposed: boolean): Float64Array {
  const c = new Float64Array(m * n);
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++) for (let p = 0; p < k; p++) c[i * n + j]! += a[i * k + p]! * b[transposed ? j * k + p : p * n + j]!;
  return c;
}
const furthest = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  let most = 0;
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i]! - b[i]!));
  return most;
};
const normals = (seed: number, n: number) => random(seed).fillNormal(new Float64Array(n));

test.each([
  [1, 1, 1],
  [4, 4, 256],
  [5, 7, 3],
  [9, 130, 257],
  [3, 2, 600],
])("multiply, %i × %i over %i, plain, transposed, and of parts", (m, n, k) => {
  for (const transposed of [false, true]) {
    const space = dense(3 * (m + 2) * (n + 2) + (m + 2) * (k + 2) + (n + 2) * (k + 2));
    // Parts in larger matrices, whose other elements must stay.
    const a = space.matrix(m + 2, k + 2);
    const b = transposed ? space.matrix(n + 2, k + 2) : space.matrix(k + 2, n + 2);
    const c = space.matrix(m + 2, n + 2);
    const inner = (x: { columns: number; data: Float64Array }, rows: number, columns: number) =>
      Float64Array.from({ length: rows * columns }, (_, i) => x.data[(1 + Math.floor(i / columns)) * x.columns + 1 + (i % columns)]!);
    a.data.set(normals(1, a.data.length));
    b.data.set(normals(2, b.data.length));
    c.data.set(normals(3, c.data.length));
    const before = c.data.slice();
    const [br, bc] = transposed ? [n, k] : [k, n];
    const part = (of: typeof a, rows: number, columns: number) => ({ of, row: 1, column: 1, rows, columns });
    const expected = product(inner(a, m, k), inner(b, br, bc), m, n, k, transposed);
    space.multiply(part(c, m, n), part(a, m, k), part(b, br, bc), { transposed, alpha: -0.5 });
    for (let i = 0; i < m + 2; i++)
      for (let j = 0; j < n + 2; j++) {
        const at = i * (n + 2) + j;
        const inside = i > 0 && i <= m && j > 0 && j <= n;
        if (inside) expect(Math.abs(c.data[at]! - before[at]! + 0.5 * expected[(i - 1) * n + j - 1]!)).toBeLessThan(1e-12 * k);
        else expect(c.data[at]).toBe(before[at]);
      }
  }
});

test.each([1, 3, 64, 65, 150])("cholesky and udu of %i rows give the matrix back", (n) => {
  const g = normals(n, n * (n + 5));
  const h = product(g, g, n, n, n + 5, true);
  const space = dense(2 * n * n);
  const l = space.matrix(n, n);
  l.data.set(h);
  space.cholesky(l);
  expect(furthest(product(l.data, l.data, n, n, n, true), h)).toBeLessThan(1e-11 * n);
  for (let i = 0; i < n; i++) for (let j = i + 1; j < n; j++) expect(l.data[i * n + j]).toBe(0);
  const u = space.matrix(n, n);
  const d = udu(space, u, h);
  for (let i = 0; i < n; i++) {
    expect(u.data[i * n + i]).toBe(1);
    for (let j = 0; j < i; j++) expect(u.data[i * n + j]).toBe(0);
  }
  const ud = u.data.map((x, i) => x * d[i % n]!);
  expect(furthest(product(ud, u.data, n, n, n, true), h)).toBeLessThan(1e-11 * n);
  expect(d[n - 1]! / h[n * n - 1]!).toBeCloseTo(1, 12);
});

test.each([1, 2, 5, 9])("sweep: marked elements of %i columns are taken out of what stands right of them", (n) => {
  const [rows, width] = [3, 11];
  const space = dense(200);
  const [x, marked, u] = [space.matrix(rows, width + 1), space.matrix(rows, n + 1), space.matrix(n, width + 2)];
  x.data.set(normals(1, x.data.length));
  marked.data.set(normals(2, marked.data.length).map((v) => (v > 0 ? 1 : 0)));
  u.data.set(normals(3, u.data.length));
  const want = x.data.slice();
  for (let r = 0; r < rows; r++)
    for (let k = 0; k < n; k++)
      if (marked.data[r * (n + 1) + k])
        for (let j = k + 1; j < width; j++) want[r * (width + 1) + 1 + j]! -= want[r * (width + 1) + 1 + k]! * u.data[k * (width + 2) + j]!;
  space.sweep({ of: x, column: 1 }, { of: marked, columns: n }, { of: u, columns: width });
  expect(x.data).toEqual(want);
  expect(() => space.sweep({ of: x }, { of: marked, columns: n }, { of: u, columns: width })).toThrow(
    `${n} × 11 does not sweep 3 × 12 by 3 × ${n} marks`,
  );
});

test("errors", () => {
  const space = dense(16);
  const a = space.matrix(2, 2);
  a.data.set([1, 2, 2, 1]);
  expect(() => space.cholesky(a)).toThrow("not positive definite (pivot 1 is -3)");
  expect(() => space.matrix(4, 4)).toThrow("no room for 4 × 4 more elements");
  expect(() => space.multiply({ of: a }, { of: a }, { of: a, rows: 1 })).toThrow("2 × 2 by 1 × 2 does not give 2 × 2");
  expect(() => dense(2 ** 30)).toThrow("4 GiB is the most there is");
});
