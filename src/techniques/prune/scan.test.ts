import fc from "fast-check";
import { expect, test } from "vitest";
import { fromArrays } from "../../data/dataset.ts";
import { cloneModel } from "../../ir/graph.ts";
import { mlp } from "../../nets/mlp.ts";
import { random } from "../../tensor/random.ts";
import { numbersOf, tensor } from "../../tensor/tensor.ts";
import { fit } from "../../train/fit.ts";
import { crossEntropy } from "../../train/loss.ts";
import { adam } from "../../train/optimizer.ts";
import { weightsOf } from "../../transform/weights.ts";
import type { Context } from "../technique.ts";
import { magnitude } from "./magnitude.ts";
import { spread, type Trial } from "./scan.ts";

test("sparsities of layers sum to the wanted one, at the least error of any choice", () => {
  const convex = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 4, maxLength: 4 }).map((slopes) => {
    let error = 0;
    const steps = slopes.toSorted((a, b) => a - b).map((s, i): Trial => ({ sparsity: (i + 1) / 5, error: (error += s) }));
    return [{ sparsity: 0, error: 0 }, ...steps];
  });
  const errorAt = (trials: readonly Trial[], s: number) => {
    const i = Math.min(trials.length - 2, Math.floor(5 * s + 1e-9));
    const [a, b] = [trials[i]!, trials[i + 1]!];
    return a.error + ((s - a.sparsity) / (b.sparsity - a.sparsity)) * (b.error - a.error);
  };
  fc.assert(
    fc.property(convex, convex, fc.integer({ min: 1, max: 79 }), (a, b, percent) => {
      const sizes = [300, 100];
      const wanted = percent / 100;
      const got = spread([a, b], sizes, wanted);
      expect((got[0]! * 300 + got[1]! * 100) / 400).toBeCloseTo(wanted, 9);
      const error = errorAt(a, got[0]!) + errorAt(b, got[1]!);
      for (let other = 0; other <= 0.8; other += 0.01) {
        const rest = (400 * wanted - 300 * other) / 100;
        if (rest < 0 || rest > 0.8) continue;
        expect(error).toBeLessThanOrEqual(errorAt(a, other) + errorAt(b, rest) + 1e-9);
      }
    }),
  );
});

const r = random(9);
const labels = Array.from({ length: 600 }, () => r.below(3));
const x = r.fillNormal(new Float32Array(600 * 12));
labels.forEach((c, i) => {
  for (let k = 0; k < 4; k++) x[12 * i + 3 * k + c]! += 2;
});
const data = fromArrays({ x: tensor("float32", [600, 12], x), labels: tensor("int64", [600], labels) });

test.each(["train", "calibration"] as const)("a layer that matters keeps more, by %s data; the scan is in the notes", async (kind) => {
  const trained = mlp({ sizes: [12, 24, 24, 3], seed: 3 });
  await fit(trained, { data, loss: crossEntropy(), epochs: 8, threads: 1, optimizer: adam({ learningRate: 0.01 }) });
  const run = async (scope: "layer" | "sensitivity", sparsity = 0.8) => {
    const model = cloneModel(trained);
    const notes: string[] = [];
    const context: Context = {
      seed: 0,
      train: kind === "train" ? data : null,
      calibration: kind === "calibration" ? data : null,
      original: trained,
      threads: 1,
      load: () => Promise.reject(new Error("no files here")),
      note: (line) => notes.push(line),
      progress: () => {},
    };
    await magnitude({ scope, sparsity, epochs: 0 }).apply(model, context);
    const gone = weightsOf(model).map(({ value }) => numbersOf(value.data!).filter((v) => v === 0).length);
    const loss = (await fit(cloneModel(model), { data, loss: crossEntropy(), steps: 1, batchSize: 600, threads: 1 })).losses[0]!;
    return { gone, notes, loss };
  };
  const { gone, notes, loss } = await run("sensitivity");
  const sizes = [288, 576, 72];
  expect(Math.abs(gone.reduce((a, b) => a + b) - 0.8 * 936)).toBeLessThanOrEqual(2);
  // The last layer, of few weights, keeps more of them.
  expect(gone[2]! / sizes[2]!).toBeLessThan(0.8);
  expect(loss).toBeLessThan((await run("layer")).loss);
  expect(notes[0]).toBe("sensitivity on 512 examples, each layer pruned alone:");
  const one =
    kind === "train"
      ? /^fc2\.weight gets [\d.]+ %; (33\.2 %: loss [+−][\d.e-]+, ).*$/
      : /^fc2\.weight gets [\d.]+ %; 33\.2 %: outputs off by /;
  expect(notes[2]).toMatch(one);
  expect((await run("sensitivity", 0)).gone).toEqual([0, 0, 0]);
});

test("n:m leaves nothing to scan for", async () => {
  const context = { train: data, calibration: null, seed: 0, threads: 1 } as unknown as Context;
  await expect(magnitude({ scope: "sensitivity", pattern: "2:4", epochs: 0 }).apply(mlp({ sizes: [12, 3] }), context)).rejects.toThrow(
    "magnitude: pattern 2:4 prunes all layers alike",
  );
});
