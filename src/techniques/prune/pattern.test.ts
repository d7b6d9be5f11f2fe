import fc from "fast-check";
import { expect, test } from "vitest";
import { type Pattern, parsePattern, type Scored, select } from "./pattern.ts";

const layer = fc
  .record({ rows: fc.integer({ min: 1, max: 7 }), columns: fc.integer({ min: 1, max: 11 }) })
  .chain(({ rows, columns }) =>
    fc
      .array(fc.integer({ min: 0, max: 8 }), { minLength: rows * columns, maxLength: rows * columns })
      .map((s): Scored => ({ scores: Float32Array.from(s, (x) => x / 4), rows, columns })),
  );
const layers = fc.array(layer, { minLength: 1, maxLength: 4 });
const share = fc.double({ min: 0, max: 1, noNaN: true });
const gone = (mask: Uint8Array) => mask.reduce((n, k) => n + (k ? 0 : 1), 0);

/** The plain reference: units sorted by mean score, taken one by one while that comes nearer to the wanted number of weights. */
function reference(scored: readonly Scored[], sparsity: number, [h, w]: readonly [number, number]): Uint8Array[] {
  const units = scored.flatMap(({ scores, rows, columns }, layer) => {
    const out: { layer: number; at: number[]; mean: number }[] = [];
    for (let r = 0; r < rows; r += h)
      for (let c = 0; c < columns; c += w) {
        const at: number[] = [];
        for (let i = r; i < Math.min(r + h, rows); i++) for (let j = c; j < Math.min(c + w, columns); j++) at.push(i * columns + j);
        out.push({ layer, at, mean: Math.fround(at.reduce((s, i) => s + scores[i]!, 0) / at.length) });
      }
    return out;
  });
  const wanted = Math.round(sparsity * scored.reduce((n, l) => n + l.scores.length, 0));
  const masks = scored.map((l) => new Uint8Array(l.scores.length).fill(1));
  let done = 0;
  for (const u of units.toSorted((a, b) => a.mean - b.mean)) {
    if (Math.abs(done + u.at.length - wanted) > Math.abs(done - wanted) || done >= wanted) break;
    for (const i of u.at) masks[u.layer]![i] = 0;
    done += u.at.length;
  }
  masks.forEach((m, l) => {
    if (m.includes(1)) return;
    const own = units.filter((u) => u.layer === l);
    const best = own.reduce((a, b) => (b.mean > a.mean ? b : a));
    for (const i of best.at) m[i] = 1;
  });
  return masks;
}

test.each(["free", "1x1", "1x3", "2x1", "3x4"])("%s: the lowest units go, globally or by layer, one a layer stays", (text) => {
  const pattern = parsePattern(text);
  const size = pattern.kind === "block" ? ([pattern.rows, pattern.columns] as const) : ([1, 1] as const);
  fc.assert(
    fc.property(layers, share, (l, sparsity) => {
      expect(select(l, sparsity, "global", pattern)).toEqual(reference(l, sparsity, size));
      const each = l.flatMap((one) => reference([one], sparsity, size));
      expect(select(l, sparsity, "layer", pattern)).toEqual(each);
    }),
    { numRuns: 40 },
  );
});

test("free: exactly as many go as asked for, but for the one a layer that stays", () => {
  fc.assert(
    fc.property(layer, share, (l, sparsity) => {
      const n = l.scores.length;
      expect(gone(select([l], sparsity, "global")[0]!)).toBe(Math.min(n - 1, Math.round(sparsity * n)));
    }),
  );
});

test("each layer may have its own sparsity", () => {
  const l = (n: number): Scored => ({ scores: Float32Array.from({ length: n }, (_, i) => i), rows: 1, columns: n });
  expect(select([l(10), l(20)], [0.5, 0.25], "layer").map(gone)).toEqual([5, 5]);
});

test("n:m: of every m neighbours in a row n of the highest stay, whatever the sparsity", () => {
  fc.assert(
    fc.property(layers, share, fc.constantFrom("1:2", "2:4", "1:4", "4:8"), (l, sparsity, text) => {
      const { keep, of } = parsePattern(text) as Extract<Pattern, { kind: "nm" }>;
      select(l, sparsity, "global", parsePattern(text)).forEach((mask, k) => {
        const { scores, rows, columns } = l[k]!;
        for (let r = 0; r < rows; r++)
          for (let c = 0; c < columns; c += of) {
            const at = Array.from({ length: Math.min(of, columns - c) }, (_, j) => r * columns + c + j);
            const kept = at.filter((i) => mask[i]);
            expect(kept.length).toBe(Math.min(keep, at.length));
            const lowest = Math.min(...kept.map((i) => scores[i]!));
            for (const i of at) if (!mask[i]) expect(scores[i]).toBeLessThanOrEqual(lowest);
          }
      });
    }),
  );
});

test("what is no pattern, or no score, is said in one line", () => {
  for (const bad of ["4:2", "2:2", "0:4", "2-4", "x4", "0x4", "-1:4", "", "block"])
    expect(() => parsePattern(bad)).toThrow(`such as 4x4 or 1x8; got "${bad}"`);
  const scores = (s: number): Scored => ({ scores: Float32Array.of(1, s), rows: 1, columns: 2 });
  expect(() => select([scores(-1)], 0.5, "layer")).toThrow("at least 0; got -1 in layer 0");
  expect(() => select([scores(1), scores(Number.NaN)], 0.5, "global")).toThrow("got NaN in layer 1");
  expect(() => select([{ ...scores(1), columns: 3 }], 0.5, "global")).toThrow("2 scores for 1 × 3");
});
