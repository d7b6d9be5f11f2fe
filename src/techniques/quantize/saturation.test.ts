import { describe, expect, test } from "vitest";
import { fromArrays } from "../../data/dataset.ts";
import { cloneModel, type Model, newModel, type Value } from "../../ir/graph.ts";
import { Build } from "../../ops/build.ts";
import { random } from "../../tensor/random.ts";
import { tensor } from "../../tensor/tensor.ts";
import type { Context } from "../technique.ts";
import { int8 } from "./int8.ts";
import { layersOf } from "./layers.ts";
import { matrix, rows } from "./patches.ts";
import { pairSums } from "./saturation.ts";

function net(shape: readonly (number | string)[], make: (b: Build, x: Value) => Value): Model {
  const model = newModel("net", 15);
  model.graph.addOutput(make(Build.of(model), model.graph.input("x", "float32", shape)));
  return model;
}

async function notesOf(model: Model, x: Float32Array, shape: readonly number[], params: Parameters<typeof int8>[0]): Promise<string[]> {
  const notes: string[] = [];
  const context: Context = {
    seed: 0,
    train: null,
    calibration: fromArrays({ x: tensor("float32", shape, x) }),
    original: model,
    threads: 1,
    load: async () => model,
    note: (line) => notes.push(line),
    progress: () => {},
  };
  await int8({ smallest: 0, ...params }).apply(cloneModel(model), context);
  return notes;
}

test("two products of 255 · 127 do not fit 16 bits; with 64 they do", () => {
  expect(pairSums([255, 255, 1], 0, [127, 127, 5], 0, 3)).toEqual([64775, 32772]);
  expect(pairSums([255, 255, 1], 0, [-127, -127, 5], 0, 3)).toEqual([-64765, -32763]);
  expect(pairSums([255, 255], 0, [64, 64], 0, 2)).toEqual([32640, 32640]);
  expect(pairSums([0, 9, 255, 255], 1, [0, 1, 2, 127], 1, 3)).toEqual([9 + 510 + 32385, 9 + 510 + 32385]);
});

test("rows × matrix is the Conv", () => {
  const r = random(3, "rows");
  const x = r.fillNormal(new Float32Array(2 * 4 * 5 * 6)).map((v) => Math.round(3 * v));
  const w = r.fillNormal(new Float32Array(6 * 2 * 3 * 2)).map((v) => Math.round(3 * v));
  const model = net([2, 4, 5, 6], (b, v) => {
    const weight = b.graph.initializer("w", tensor("float32", [6, 2, 3, 2], w));
    return b.op("Conv", [v, weight], { group: 2, pads: [1, 0, 1, 1], strides: [2, 1], dilations: [1, 2] });
  });
  const [layer] = layersOf(model).layers;
  const table = matrix(layer!, w);
  const k = 2 * 3 * 2;
  const got: number[] = [];
  for (const { at, channels } of rows(layer!, [2, 4, 5, 6], Infinity))
    for (let c = channels[0]; c < channels[1]; c++) {
      let sum = 0;
      for (let i = 0; i < k; i++) sum += (at(i) < 0 ? 0 : x[at(i)]!) * table[c * k + i]!;
      got.push(sum);
    }
  const [oh, ow] = [3, 5];
  const wanted: number[] = [];
  for (let n = 0; n < 2; n++)
    for (let y = 0; y < oh; y++)
      for (let z = 0; z < ow; z++)
        for (let m = 0; m < 6; m++) {
          let sum = 0;
          for (let c = 0; c < 2; c++)
            for (let p = 0; p < 3; p++)
              for (let q = 0; q < 2; q++) {
                const [row, column] = [2 * y - 1 + p, z + 2 * q];
                if (row < 0 || row >= 5 || column >= 6) continue;
                sum += x[((n * 4 + (m < 3 ? 0 : 2) + c) * 5 + row) * 6 + column]! * w[((m * 2 + c) * 3 + p) * 2 + q]!;
              }
          wanted.push(sum);
        }
  expect(got).toEqual(wanted);
});

describe("the note", () => {
  // All inputs and weights near their largest: every pair of products clips.
  const high = Float32Array.from({ length: 64 * 16 }, (_, i) => 1 - (i % 7) / 100);
  const dense = net(["n", 16], (b, v) => b.matmul(v, b.graph.initializer("w", tensor("float32", [16, 4], high.slice(0, 64)))));
  const conv = net(["n", 4, 2, 2], (b, v) =>
    b.op("Conv", [v, b.graph.initializer("w", tensor("float32", [5, 4, 2, 2], high.slice(0, 80)))]),
  );
  test.each(["dynamic", "static"] as const)("where sums clip: %s", async (mode) => {
    for (const model of mode === "static" ? [dense, conv] : [dense]) {
      const shape = model === dense ? [64, 16] : [64, 4, 2, 2];
      const notes = await notesOf(model, high, shape, { mode });
      const line = notes.find((l) => l.includes("without VNNI"))!;
      expect(line).toMatch(/would clip and change 1 of 1 layers by more than 1 %/);
      // 2 · 255 · 127 becomes 32767: half of it is lost.
      const lost = Number(/by (\d+) %;?/.exec(line.slice(line.indexOf("(")))![1]);
      expect(lost).toBeGreaterThan(44);
      expect(lost).toBeLessThan(51);
      expect(line).toContain("reduceRange=true");
      const quiet = await notesOf(model, high, shape, { mode, reduceRange: true });
      expect(quiet.some((l) => l.includes("VNNI"))).toBe(false);
    }
  });
  test("not where none does", async () => {
    const x = random(1, "x").fillNormal(new Float32Array(64 * 16));
    // Neighbours of opposite signs.
    const w = x.slice(0, 64).map((v, i) => Math.abs(v) * (Math.floor(i / 4) % 2 ? -1 : 1));
    const model = net(["n", 16], (b, v) => b.matmul(v, b.graph.initializer("w", tensor("float32", [16, 4], w))));
    expect((await notesOf(model, x, [64, 16], {})).some((l) => l.includes("VNNI"))).toBe(false);
  });
});
