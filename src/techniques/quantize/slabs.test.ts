import { describe, expect, test } from "vitest";
import { random } from "../../tensor/random.ts";
import { tensor } from "../../tensor/tensor.ts";
import { elementsOf, type WeightMatrix } from "../matrix.ts";
import { type BlockScheme, dequantizeBlocks, roundToNearest } from "./blocks.ts";
import { packBlocks, unpackBlocks } from "./packing.ts";
import { slabRounder } from "./slabs.ts";

/** Rough weights: zeros of both signs, ties, denormals, groups without negative elements, a large range. */
function weights(rows: number, columns: number, seed: number): Float32Array<ArrayBuffer> {
  const r = random(seed);
  const w = r.fillNormal(new Float32Array(rows * columns));
  for (let i = 0; i < w.length; i++) {
    const kind = r.below(12);
    if (kind === 0) w[i] = Math.round(w[i]! * 4) / 2;
    if (kind === 1) w[i] = r.below(2) ? 0 : -0;
    if (kind === 2) w[i] = w[i]! * 1e-3;
  }
  for (let i = 0; i < 64 && i < w.length; i++) w[i] = i % 3 ? -0 : 0;
  for (let i = 64; i < 128 && i < w.length; i++) w[i] = w[i]! * 1e-39;
  for (let i = 128; i < 192 && i < w.length; i++) w[i] = Math.abs(w[i]!);
  for (let i = 192; i < 224 && i < w.length; i++) w[i] = (i - 208) / 2;
  for (let i = 224; i < 256 && i < w.length; i++) w[i] = w[i]! * 1e35;
  return w;
}

function stored(w: Float32Array, rows: number, columns: number, turned: boolean, dtype: "float32" | "float16" = "float32"): WeightMatrix {
  const values = turned ? Float32Array.from(w, (_, i) => w[(i % rows) * columns + Math.floor(i / rows)]!) : w;
  return { tensor: tensor(dtype, turned ? [columns, rows] : [rows, columns], values), turned, rows, columns };
}

const bits = [2, 3, 4, 8] as const;
const schemes: BlockScheme[] = bits.flatMap((b) =>
  [true, false].flatMap((symmetric) => [16, 32, 128].map((groupSize) => ({ bits: b, symmetric, groupSize }))),
);

describe.each([
  [1, 16],
  [5, 257],
  [16, 96],
  [37, 100],
  [40, 320],
  [3, 7],
])("%i × %i", (rows, columns) => {
  test.each([false, true])("the kernel's codes, scales and zero points are roundToNearest's, packed (turned: %s)", (turned) => {
    const w = weights(rows, columns, rows + columns);
    const whole = slabRounder();
    const small = slabRounder(4096);
    for (const scheme of schemes) {
      const want = roundToNearest(w, rows, columns, scheme);
      for (const round of [whole, small]) {
        const got = round(stored(w, rows, columns, turned), scheme);
        const { packed, scales, zeroPoints } = packBlocks(want);
        for (const [a, b] of [
          [got.blocks.packed, packed],
          [got.blocks.scales, scales],
          [got.blocks.zeroPoints ?? packed, zeroPoints ?? packed],
        ] as const)
          expect(Buffer.from(a.buffer).equals(Buffer.from(b.buffer))).toBe(true);
        expect(got.blocks.zeroPoints === null).toBe(zeroPoints === null);
        const back = dequantizeBlocks(want);
        const all = w.reduce((s, x) => s + x * x, 0);
        const error = all && Math.sqrt(back.reduce((s, x, i) => s + (x - w[i]!) ** 2, 0) / all);
        // The kernel sums squares in float32; those of the huge weights overflow there.
        if (all < 1e30) expect(got.error).toBeCloseTo(error, 5);
      }
    }
  });
});

test("float16 weights: codes on the scales that are stored", () => {
  const [rows, columns] = [20, 64];
  const w = random(4).fillNormal(new Float32Array(rows * columns));
  for (const turned of [false, true]) {
    const m = stored(w, rows, columns, turned, "float16");
    const { blocks } = slabRounder()(m, { bits: 4, groupSize: 32, symmetric: true });
    const halves = elementsOf(m);
    const at = tensor("float16", [rows * 2], blocks.scales);
    expect(elementsOf({ tensor: { ...at, shape: [rows, 2] }, turned: false, rows, columns: 2 })).toEqual(blocks.scales);
    const codes = unpackBlocks(blocks).codes;
    halves.forEach((x, i) => {
      const scale = blocks.scales[Math.floor(i / 32)]!;
      const exact = x / scale + 8;
      expect(Math.abs(codes[i]! - Math.min(15, Math.max(0, exact)))).toBeLessThanOrEqual(0.5001);
    });
  }
});

test("what is not finite is refused", () => {
  for (const bad of [Infinity, Number.NaN])
    for (const turned of [false, true])
      for (const at of [0, 19, 70]) {
        const w = new Float32Array(20 * 33).fill(1);
        w[at * 9] = bad;
        expect(() => slabRounder()(stored(w, 20, 33, turned), { bits: 4, groupSize: 16, symmetric: true })).toThrow(/finite/);
      }
});
