import { expect, test } from "vitest";
import { random } from "../../tensor/random.ts";
import { type Refinable, refine } from "./refine.ts";

/** A layer of random weights, half of which go, over inputs and outputs that hang together. */
function layer(rows: number, columns: number, seed: number, outputs = true): Refinable {
  const r = random(seed);
  const gram = (n: number) => {
    const x = r.fillNormal(new Float64Array(3 * n * n));
    for (let k = 0; k < 3 * n; k++) for (let i = 1; i < n; i++) x[k * n + i]! += 0.8 * x[k * n + i - 1]!;
    const out = new Float64Array(n * n);
    for (let k = 0; k < 3 * n; k++)
      for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) out[i * n + j]! += x[k * n + i]! * x[k * n + j]!;
    return out;
  };
  const weights = r.fillNormal(new Float64Array(rows * columns));
  return {
    rows,
    columns,
    weights,
    inputs: gram(columns),
    outputs: outputs ? gram(rows) : null,
    keep: Uint8Array.from(weights, (_, i) => (i + Math.floor(i / columns)) % 2),
  };
}

/** tr(G·δ·H·δᵀ) by its definition. */
function costOf(l: Refinable, keep: Uint8Array): number {
  const { rows: m, columns: n } = l;
  const d = Array.from(l.weights, (w, i) => (keep[i] ? 0 : w));
  let sum = 0;
  for (let a = 0; a < m; a++)
    for (let b = 0; b < m; b++) {
      const g = l.outputs ? l.outputs[a * m + b]! : a === b ? 1 : 0;
      if (g) for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) sum += g * d[a * n + i]! * l.inputs[i * n + j]! * d[b * n + j]!;
    }
  return sum;
}

const total = (layers: readonly Refinable[], masks: readonly Uint8Array[]) => layers.reduce((s, l, i) => s + costOf(l, masks[i]!), 0);
const gone = (mask: Uint8Array) => mask.reduce((n, k) => n + 1 - k, 0);

test.each([
  ["within rows", { moves: false }],
  ["among four", { group: 4 }],
  ["between rows", { moves: true, spread: 0 }],
  ["between layers", { moves: true, spread: 0.2 }],
  ["anywhere", { moves: true }],
] as const)("%s: costs are those of the definition, never higher than before, as many go", (_, options) => {
  for (const seed of [1, 2, 3]) {
    const layers = [layer(5, 8, seed), layer(35, 12, seed + 10), layer(3, 7, seed + 20, false)];
    const { masks, before, after } = refine(layers, options);
    const [had, has] = [
      total(
        layers,
        layers.map((l) => l.keep),
      ),
      total(layers, masks),
    ];
    expect(Math.abs(before / had - 1)).toBeLessThan(1e-9);
    expect(Math.abs(after / has - 1)).toBeLessThan(1e-9);
    expect(after).toBeLessThan(0.8 * before);
    expect(masks.reduce((n, m) => n + gone(m), 0)).toBe(layers.reduce((n, l) => n + gone(l.keep), 0));
    layers.forEach((l, i) => {
      const [n, g, h] = [l.keep.length, gone(masks[i]!), gone(l.keep)];
      const spread = "spread" in options ? options.spread : "moves" in options && options.moves ? 1 : 0;
      expect(Math.abs(g - h)).toBeLessThanOrEqual(Math.ceil(spread * n));
      expect(masks[i]).toContain(1);
      const width = "group" in options ? options.group : l.columns;
      if ("group" in options || !options.moves)
        for (let r = 0; r < l.rows; r++)
          for (let c = 0; c < l.columns; c += width) {
            const [from, to] = [r * l.columns + c, r * l.columns + Math.min(l.columns, c + width)];
            expect(gone(masks[i]!.slice(from, to))).toBe(gone(l.keep.slice(from, to)));
          }
    });
    expect(refine(layers, options)).toEqual({ masks, before, after });
  }
});

test("no exchange of two weights of a row lowers the cost any more", () => {
  const l = layer(4, 10, 7);
  // Three sweeps need not be enough: again until nothing changes.
  let keep = l.keep;
  for (let last = Infinity; ; ) {
    const { masks, after } = refine([{ ...l, keep }], {});
    keep = masks[0]!;
    if (after === last) break;
    last = after;
  }
  const cost = costOf(l, keep);
  for (let r = 0; r < 4; r++)
    for (let q = r * 10; q < r * 10 + 10; q++)
      for (let p = r * 10; p < r * 10 + 10; p++) {
        if (keep[q] || !keep[p]) continue;
        const other = Uint8Array.from(keep);
        other[q] = 1;
        other[p] = 0;
        expect(costOf(l, other)).toBeGreaterThan(cost * (1 - 1e-7));
      }
});

test("near the best of all masks of a small layer", () => {
  const l = { ...layer(2, 6, 5), keep: Uint8Array.from([1, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 1]) };
  let best = Infinity;
  for (let bits = 0; bits < 1 << 12; bits++) {
    const mask = Uint8Array.from({ length: 12 }, (_, i) => (bits >> i) & 1);
    if (gone(mask) === 6) best = Math.min(best, costOf(l, mask));
  }
  const { after, before } = refine([l], { moves: true });
  expect(after).toBeGreaterThanOrEqual(best * (1 - 1e-9));
  expect(after - best).toBeLessThan(0.1 * (before - best));
});

test("what is 0 and gone stays gone; nothing gone, all gone or no inputs: the masks as they were", () => {
  const l = layer(4, 6, 3);
  const weights = Float64Array.from(l.weights, (w, i) => (l.keep[i] || i % 4 ? w : 0));
  const { masks } = refine([{ ...l, weights }], { moves: true });
  weights.forEach((w, i) => {
    if (w === 0) expect(masks[0]![i]).toBe(0);
  });
  for (const keep of [new Uint8Array(24), new Uint8Array(24).fill(1)]) expect(refine([{ ...l, keep }]).masks[0]).toEqual(keep);
  const dead = { ...l, inputs: new Float64Array(36), outputs: new Float64Array(16) };
  expect(refine([dead], { moves: true }).masks[0]).toEqual(l.keep);
});
