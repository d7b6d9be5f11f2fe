import { expect, test } from "vitest";
import { memoryOf } from "../kernel.ts";
import { random } from "../random.ts";
import { swapsKernel } from "./swaps.ts";

/** A row of n weights with a Gram matrix of dependent inputs, and what other rows add to c, in a memory of its own. */
function row(n: number, seed: number) {
  const memory = memoryOf(8 * (n * n + 8 * n));
  const r = random(seed);
  const take = (at: number, length: number) => new Float64Array(memory.buffer, at, length);
  const h = take(0, n * n);
  const x = r.fillNormal(new Float64Array(n * n));
  for (let k = 0; k < n; k++)
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) h[i * n + j]! += (x[k * n + i]! + x[k * n]!) * (x[k * n + j]! + x[k * n]!);
  const at = (i: number) => 8 * (n * n + i * n);
  const [w, s, diagonal, c] = [0, 1, 2, 3].map((i) => take(at(i), n)) as [Float64Array, Float64Array, Float64Array, Float64Array];
  r.fillNormal(w);
  for (let i = 0; i < n; i++) s[i] = i % 2 ? 1 : -1;
  for (let i = 0; i < n; i++) diagonal[i] = h[i * n + i]!;
  const others = r.fillNormal(new Float64Array(n));
  const [roots, bounds] = [take(at(6), n), take(at(7), n)];
  roots.set(diagonal.map(Math.sqrt));
  for (let j = 0; j < n; j++)
    for (let p = 0; p < n; p++) if (p !== j) bounds[j] = Math.max(bounds[j]!, (1 + 1e-9) * Math.abs(h[j * n + p]! / roots[p]!));
  const gone = (signs = s) => w.map((v, i) => (signs[i]! < 0 ? v : 0));
  const product = () => others.map((o, j) => o + gone().reduce((sum, v, i) => sum + v * h[i * n + j]!, 0));
  c.set(product());
  /** The cost by its definition. */
  const cost = (signs: Float64Array, price: number) => {
    const d = gone(signs);
    let sum = 0;
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) sum += d[i]! * d[j]! * h[i * n + j]!;
    return signs.reduce((t, v, i) => t + 2 * d[i]! * others[i]! + (v > 0 ? price : 0), sum);
  };
  return { k: swapsKernel(memory), w, s, c, product, cost, at };
}

function near(a: number, b: number): void {
  expect(Math.abs(a - b)).toBeLessThan(1e-9 * (1 + Math.abs(b)));
}

test.each([1, 2, 5, 8, 13])("flips of %i weights: each the one that wins most, until none wins", (n) => {
  const { k, s, c, product, cost, at } = row(n, n);
  const price = 0.7;
  // The plain twin: all costs computed anew.
  const twin = s.slice();
  const turned = (i: number) => twin.map((v, j) => (i === j ? -v : v));
  let count = 0;
  for (;;) {
    const now = cost(twin, price);
    const costs = Array.from(twin, (_, i) => cost(turned(i), price));
    const best = costs.indexOf(Math.min(...costs));
    if (!(costs[best]! < now - 1e-9)) break;
    twin.set(turned(best));
    count++;
  }
  expect(k.flips(at(0), at(1), 0, at(2), at(3), at(4), n, price, 1e-9)).toBe(count);
  expect(s).toEqual(twin);
  const want = product();
  c.forEach((v, i) => {
    near(v, want[i]!);
  });
});

test.each([
  [5, 5],
  [8, 4],
  [13, 13],
  [10, 4],
])("swaps of %i weights among every %i: for each that goes the best exchange", (n, group) => {
  const { k, w, s, c, product, cost, at } = row(n, 3 * n + 1);
  w[2] = 0;
  c.set(product());
  const twin = s.slice();
  let count = 0;
  for (let q = 0; q < n; q++) {
    if (twin[q]! > 0 || w[q] === 0) continue;
    const trials = Array.from(twin, (v, p) => {
      const t = twin.slice();
      t[q] = 1;
      t[p] = -1;
      return v > 0 && Math.floor(p / group) === Math.floor(q / group) ? cost(t, 0) : Infinity;
    });
    const best = trials.indexOf(Math.min(...trials));
    if (!(trials[best]! < cost(twin, 0) - 1e-9)) continue;
    twin[q] = 1;
    twin[best] = -1;
    count++;
  }
  expect(count).toBeGreaterThan(0);
  expect(k.swaps(at(0), at(1), 0, at(2), at(3), at(4), n, group, 1e-9, at(6), at(7))).toBe(count);
  expect(s).toEqual(twin);
  const want = product();
  c.forEach((v, i) => {
    near(v, want[i]!);
  });
});
