import fc from "fast-check";
import { expect, test } from "vitest";
import { lowest, scheduled } from "./importance.ts";

test("exactly the lowest entries go, globally or by layer", () => {
  const array = fc.array(
    fc.double({ min: 0, max: 4, noNaN: true }).map((x) => Math.round(x * 4) / 4),
    { minLength: 1, maxLength: 50 },
  );
  fc.assert(
    fc.property(fc.array(array, { minLength: 1, maxLength: 4 }), fc.double({ min: 0, max: 1, noNaN: true }), (layers, sparsity) => {
      const scores = layers.map((l) => Float32Array.from(l));
      const all = layers.flat();
      const count = Math.round(sparsity * all.length);
      const masks = lowest(scores, sparsity, "global").flatMap((m) => [...m]);
      // The reference: a stable sort by score.
      const order = all.map((s, i) => [s, i] as const).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
      const gone = new Set(order.slice(0, count).map(([, i]) => i));
      expect(masks).toEqual(all.map((_, i) => (gone.has(i) ? 0 : 1)));
      for (const [i, m] of lowest(scores, sparsity, "layer").entries()) {
        expect(m.reduce((n, k) => n + (k ? 0 : 1), 0)).toBe(Math.round(sparsity * layers[i]!.length));
      }
    }),
  );
});

test("schedules start at nothing and end at the whole", () => {
  expect(scheduled("cubic", 0.9, 0, 10)).toBe(0);
  expect(scheduled("cubic", 0.9, 5, 10)).toBeCloseTo(0.9 * (1 - 0.125), 12);
  expect(scheduled("cubic", 0.9, 10, 10)).toBeCloseTo(0.9, 12);
  expect(scheduled("iterative", 0.9, 1, 2)).toBeCloseTo(1 - Math.sqrt(0.1), 12);
  expect(scheduled("iterative", 0.9, 2, 2)).toBeCloseTo(0.9, 12);
  expect(scheduled("oneshot", 0.9, 0, 1)).toBe(0.9);
});
