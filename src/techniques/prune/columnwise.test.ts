import { describe, expect, test } from "vitest";
import { solve } from "../../tensor/linalg/solve.ts";
import { random } from "../../tensor/random.ts";
import { outputError } from "../hessian.ts";
import { columnwise } from "./columnwise.ts";
import { type Pattern, select } from "./pattern.ts";

/** Σ xᵀx of inputs with correlated columns, as activations have them. */
function momentsOf(count: number, n: number, seed: number): Float64Array {
  const r = random(seed, "moments");
  const h = new Float64Array(n * n);
  const scale = Float64Array.from({ length: n }, () => Math.exp(r.normal()));
  for (let i = 0; i < count; i++) {
    const shared = r.normal();
    const x = scale.map((s) => s * (r.normal() + shared));
    for (let a = 0; a < n; a++) for (let b = 0; b < n; b++) h[a * n + b]! += x[a]! * x[b]!;
  }
  return h;
}

/** The inverse of H's part from row and column k on, plus `ridge`. */
function inverseFrom(h: Float64Array, n: number, k: number, ridge: number): Float64Array {
  const m = n - k;
  const part = Float64Array.from({ length: m * m }, (_, i) => {
    const [a, b] = [Math.floor(i / m), i % m];
    return h[(k + a) * n + k + b]! + (a === b ? ridge : 0);
  });
  return solve(
    part,
    m,
    Float64Array.from({ length: m * m }, (_, i) => (i % (m + 1) === 0 ? 1 : 0)),
    m,
  );
}

/** The paper's algorithm as it is written, a dense inverse for every column. */
function reference(w: Float32Array, rows: number, n: number, h: Float64Array, sparsity: number, pattern: Pattern, block: number) {
  let trace = 0;
  for (let i = 0; i < n; i++) trace += h[i * n + i]!;
  const inverses = Array.from({ length: n }, (_, k) => inverseFrom(h, n, k, (0.01 * trace) / n));
  const x = Float64Array.from(w);
  const mask = new Uint8Array(rows * n);
  const span = pattern.kind === "nm" ? pattern.of : block;
  let gone = 0;
  for (let k = 0; k < n; k++) {
    if (k % span === 0) {
      const width = Math.min(span, n - k);
      const scores = Float32Array.from({ length: rows * width }, (_, i) => {
        const c = k + (i % width);
        return x[Math.floor(i / width) * n + c]! ** 2 / inverses[c]![0]!;
      });
      const want = Math.round(sparsity * rows * (k + width)) - gone;
      const [keep] = select([{ scores, rows, columns: width }], want / scores.length, "layer", pattern);
      keep!.forEach((one, i) => {
        mask[Math.floor(i / width) * n + k + (i % width)] = one;
        gone += 1 - one;
      });
    }
    for (let r = 0; r < rows; r++) {
      if (mask[r * n + k]) continue;
      const by = x[r * n + k]! / inverses[k]![0]!;
      for (let i = k; i < n; i++) x[r * n + i]! -= by * inverses[k]![i - k]!;
      x[r * n + k] = 0;
    }
  }
  return { x, mask };
}

const [rows, columns] = [12, 40];
const w = random(1).fillNormal(new Float32Array(rows * columns));
const hessian = momentsOf(200, columns, 2);

const patterns = [
  { name: "free", sparsity: 0.6, pattern: { kind: "free" } },
  { name: "2:4", sparsity: 0.5, pattern: { kind: "nm", keep: 2, of: 4 } },
  { name: "1:8", sparsity: 0.875, pattern: { kind: "nm", keep: 1, of: 8 } },
  { name: "4x4", sparsity: 0.5, pattern: { kind: "block", rows: 4, columns: 4 } },
] as const;

describe.each(patterns)("$name", ({ sparsity, pattern }) => {
  test.each([16, 64])("the masks and weights of the paper's algorithm, in blocks of %i columns", (blockSize) => {
    const got = columnwise(w, rows, columns, hessian, { sparsity, pattern, blockSize });
    const want = reference(w, rows, columns, hessian, sparsity, pattern, Math.min(blockSize, columns));
    expect([...got.mask]).toEqual([...want.mask]);
    got.weights.forEach((x, i) => {
      if (!got.mask[i]) expect(x).toBe(0);
      expect(Math.abs(x - want.x[i]!)).toBeLessThan(1e-5 * Math.max(1, Math.abs(want.x[i]!)));
    });
  });

  test("the share that is to go goes, and the outputs stay well nearer than with magnitude's mask", () => {
    const { weights, mask } = columnwise(w, rows, columns, hessian, { sparsity, pattern, blockSize: 16 });
    const kept = mask.reduce((n, k) => n + k, 0);
    expect(kept).toBe(mask.length - Math.round(sparsity * mask.length));
    const [magnitude] = select([{ scores: w.map(Math.abs), rows, columns }], sparsity, "layer", pattern);
    const plain = w.map((x, i) => x * magnitude![i]!);
    expect(outputError(w, weights, rows, hessian)).toBeLessThan(0.5 * outputError(w, plain, rows, hessian));
  });
});

test("every group of four keeps two, whatever the inputs", () => {
  const { mask, weights } = columnwise(w, rows, columns, hessian, { sparsity: 0.5, pattern: { kind: "nm", keep: 2, of: 4 } });
  for (let i = 0; i < mask.length; i += 4) expect([...mask.subarray(i, i + 4)].reduce((n, k) => n + k, 0)).toBe(2);
  expect(weights.filter((x) => x !== 0)).toHaveLength(mask.length / 2);
});

test("nothing removed: the weights' very bits; nearly everything: one weight a block of columns", () => {
  expect(columnwise(w, rows, columns, hessian, { sparsity: 0 }).weights).toEqual(w);
  const { mask } = columnwise(w, rows, columns, hessian, { sparsity: 1, blockSize: 16 });
  expect(mask.reduce((n, k) => n + k, 0)).toBe(3);
});

test("inputs that were never seen, too few rows, none at all", () => {
  const h = hessian.slice();
  for (let i = 0; i < columns; i++) h[7 * columns + i] = h[i * columns + 7] = 0;
  const dead = columnwise(w, rows, columns, h, { sparsity: 0.3, damp: 1e-5 });
  for (let r = 0; r < rows; r++) expect(dead.mask[r * columns + 7]).toBe(0);
  const few = columnwise(w, rows, columns, momentsOf(3, columns, 4), { sparsity: 0.3, damp: 0 });
  expect(few.weights.every(Number.isFinite)).toBe(true);
  expect(few.mask.reduce((n, k) => n + k, 0)).toBe(Math.round(0.7 * few.mask.length));
  // No inputs at all: the smallest go, block by block, and the others stay.
  const none = columnwise(w, rows, columns, new Float64Array(columns ** 2), { sparsity: 0.3 });
  const [smallest] = select([{ scores: w.map(Math.abs), rows, columns }], 0.3, "layer", { kind: "free" });
  expect([...none.mask]).toEqual([...smallest!]);
  expect([...none.weights]).toEqual([...w.map((x, i) => x * smallest![i]! + 0)]);
  expect(() => columnwise(w, rows, columns, new Float64Array(columns), { sparsity: 0.3 })).toThrow(
    "a Hessian for 40 columns has 1600 elements; got 40",
  );
  expect(() => columnwise(w, rows, columns, h.fill(Number.NaN), { sparsity: 0.3 })).toThrow("the Hessian is not finite");
});
