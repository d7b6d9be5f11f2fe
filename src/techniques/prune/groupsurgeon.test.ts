import { describe, expect, test } from "vitest";
import { fromArrays } from "../../data/dataset.ts";
import { type Model, newModel } from "../../ir/graph.ts";
import { Build } from "../../ops/build.ts";
import { inverse } from "../../tensor/linalg/dense.ts";
import { solve } from "../../tensor/linalg/solve.ts";
import { random } from "../../tensor/random.ts";
import { tensor } from "../../tensor/tensor.ts";
import { findGroups } from "../../transform/groups.ts";
import { outputSquares } from "../kronecker.ts";
import { surgeonCosts, surgeonOf } from "./groupsurgeon.ts";

const normal = (length: number, seed: number) => random(seed).fillNormal(new Float64Array(length));

/** A·Bᵀ of row-major [.., k]. */
function product(a: ArrayLike<number>, b: ArrayLike<number>, k: number): Float64Array {
  const [n, m] = [a.length / k, b.length / k];
  return Float64Array.from({ length: n * m }, (_, at) => {
    let sum = 0;
    for (let i = 0; i < k; i++) sum += a[Math.floor(at / m) * k + i]! * b[(at % m) * k + i]!;
    return sum;
  });
}
const turned = (a: ArrayLike<number>, columns: number) =>
  Float64Array.from({ length: a.length }, (_, at) => a[(at % (a.length / columns)) * columns + Math.floor(at / (a.length / columns))]!);

/** ½·tr(G·Δ·H·Δᵀ) of the best W without the columns: by least squares, row by row, as G does not move the optimum. */
function refit(w: Float64Array, h: Float64Array, g: Float64Array, n: number, gone: readonly number[]): number {
  const m = w.length / n;
  const kept = Array.from({ length: n }, (_, i) => i).filter((i) => !gone.includes(i));
  const a = Float64Array.from(
    { length: kept.length ** 2 },
    (_, at) => h[kept[Math.floor(at / kept.length)]! * n + kept[at % kept.length]!]!,
  );
  const delta = new Float64Array(m * n);
  for (let r = 0; r < m; r++) {
    for (const j of gone) delta[r * n + j] = -w[r * n + j]!;
    const b = Float64Array.from(kept, (k) => gone.reduce((s, j) => s + h[k * n + j]! * w[r * n + j]!, 0));
    solve(a.slice(), kept.length, b, 1).forEach((x, i) => {
      delta[r * n + kept[i]!] = x;
    });
  }
  const dh = product(delta, h, n);
  const dhd = product(dh, delta, n);
  return dhd.reduce((s, x, at) => s + x * g[at]!, 0) / 2;
}

function problem(m: number, n: number, seed: number) {
  const [w, x, y] = [normal(m * n, seed), normal(3 * n * n, seed + 1), normal(3 * m * m, seed + 2)];
  const h = product(turned(x, n), turned(x, n), 3 * n);
  const g = product(turned(y, m), turned(y, m), 3 * m);
  return { w, h, g, felt: product(turned(w, n), product(turned(w, n), g, m), m) };
}

describe("the costs are those of refitting what stays", () => {
  test.each([
    ["a matrix", 1],
    ["a window of 9 places", 9],
  ] as const)("%s", (_, places) => {
    const [m, size] = [5, 6];
    const n = size * places;
    const { w, h, g, felt } = problem(m, n, 7);
    const index = Int32Array.from({ length: n }, (_, c) => Math.floor(c / places));
    const costs = surgeonCosts([{ inverse: inverse(h, n), felt, index }], size);
    const order = Array.from(costs.keys()).sort((a, b) => costs[a]! - costs[b]!);
    const gone: number[] = [];
    let before = 0;
    for (const i of order) {
      const columns = (k: number) => Array.from({ length: places }, (_, p) => k * places + p);
      const all = Array.from({ length: size }, (_, k) => k).filter((k) => !gone.includes(k));
      const losses = all.map((k) => refit(w, h, g, n, [...gone, k].flatMap(columns)));
      const least = Math.min(...losses);
      expect(losses[all.indexOf(i)]! / least).toBeCloseTo(1, 6);
      expect(costs[i]! / (least - before)).toBeCloseTo(1, 6);
      before = least;
      gone.push(i);
    }
  });

  test.each([
    1, 2,
  ])("where several go at a time, of %i places each, each costs what is lost with it too, or as much as the one before", (places) => {
    const [m, size] = [5, 70];
    const n = size * places;
    const { w, h, g, felt } = problem(m, n, 3);
    const index = Int32Array.from({ length: n }, (_, c) => Math.floor(c / places));
    const costs = surgeonCosts([{ inverse: inverse(h, n), felt, index }], size);
    const order = Array.from(costs.keys()).sort((a, b) => costs[a]! - costs[b]!);
    const gone: number[] = [];
    let [lost, before] = [0, 0];
    for (const i of order.slice(0, 12)) {
      for (let p = 0; p < places; p++) gone.push(i * places + p);
      const now = refit(w, h, g, n, gone);
      expect(costs[i]! / Math.max(before, now - lost)).toBeCloseTo(1, 6);
      [lost, before] = [now, costs[i]!];
    }
  });
});

test("what zero columns held goes first and for nothing; readers add up", () => {
  const n = 8;
  const at = (seed: number) => {
    const { h, felt } = problem(4, n, seed);
    for (let i = 0; i < n; i++) felt[3 * n + i] = felt[i * n + 3] = 0;
    return { inverse: inverse(h, n), felt, index: Int32Array.from({ length: n }, (_, c) => c) };
  };
  const one = surgeonCosts([at(1)], n);
  expect(one[3]).toBe(0);
  expect([...one].filter((x) => x === 0)).toHaveLength(1);
  const two = surgeonCosts([at(1), at(1)], n);
  two.forEach((x, i) => {
    expect(x / 2).toBeCloseTo(one[i]!, 9);
  });
});

/** x → W1 → Relu → W2; units 0 and 1 are alike and the largest. */
function twins(): Model {
  const model = newModel("twins");
  const b = Build.of(model);
  const g = model.graph;
  const [w1, w2] = [normal(6 * 8, 3), normal(8 * 4, 4)];
  for (let i = 0; i < 6; i++) w1[i * 8 + 1] = w1[i * 8] = 2 * w1[i * 8]!;
  for (let o = 0; o < 4; o++) w2[4 + o] = w2[o]!;
  const matrix = (name: string, shape: number[], v: Float64Array) => g.initializer(name, tensor("float32", shape, Float32Array.from(v)));
  const h = b.op("Relu", [b.matmul(g.input("x", "float32", ["N", 6]), matrix("w1", [6, 8], w1))]);
  g.addOutput(b.matmul(h, matrix("w2", [8, 4], w2)));
  return model;
}

test("one of two units that do the same costs next to nothing, the other what both are worth; twice the same", async () => {
  const model = twins();
  const x = tensor("float32", [400, 6], Float32Array.from(normal(2400, 5)));
  const { groups } = await findGroups(model, { x });
  const chosen = groups.filter((g) => g.frozen === null);
  expect(chosen).toHaveLength(1);
  const costs = async () => (await surgeonOf(model, chosen, fromArrays({ x }), outputSquares, { seed: 1, threads: 1 })).get(chosen[0]!)!;
  const found = await costs();
  const [cheap, dear] = [Math.min(found[0]!, found[1]!), Math.max(found[0]!, found[1]!)];
  // What goes later costs a trifle more at least.
  expect(cheap).toBeLessThanOrEqual(Math.min(...found) * (1 + 1e-8));
  expect(dear).toBe(Math.max(...found));
  expect(dear).toBeGreaterThan(20 * cheap);
  expect(await costs()).toEqual(found);
});
