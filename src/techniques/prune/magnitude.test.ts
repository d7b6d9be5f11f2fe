import { beforeAll, describe, expect, test } from "vitest";
import { type Dataset, fromArrays } from "../../data/dataset.ts";
import { check } from "../../ir/check.ts";
import { cloneModel, type Model } from "../../ir/graph.ts";
import { mlp } from "../../nets/mlp.ts";
import { writeModel } from "../../onnx/write.ts";
import { random } from "../../tensor/random.ts";
import { numbersOf, tensor } from "../../tensor/tensor.ts";
import { fit } from "../../train/fit.ts";
import { crossEntropy } from "../../train/loss.ts";
import { adam } from "../../train/optimizer.ts";
import { weightsOf } from "../../transform/weights.ts";
import type { Context } from "../technique.ts";
import { magnitude } from "./magnitude.ts";

/** Points on two noisy rings. */
function rings(n: number, seed: number): Dataset {
  const r = random(seed);
  const x = new Float32Array(2 * n);
  const labels = Array.from({ length: n }, (_, i) => i % 2);
  labels.forEach((ring, i) => {
    const angle = 2 * Math.PI * r.uniform();
    const radius = 0.5 + ring + 0.1 * r.normal();
    x.set([radius * Math.cos(angle), radius * Math.sin(angle)], 2 * i);
  });
  return fromArrays({ x: tensor("float32", [n, 2], x), labels: tensor("int64", [n], labels) });
}

const data = rings(512, 1);
let trained: Model;
const notes: string[] = [];
const context = (train: Dataset | null): Context => ({
  seed: 0,
  train,
  calibration: null,
  original: trained,
  threads: 1,
  load: () => Promise.reject(new Error("no files here")),
  note: (line) => notes.push(line),
  progress: () => {},
});

const zeros = (m: Model) => {
  const all = weightsOf(m).flatMap((w) => [...numbersOf(w.value.data!)]);
  return all.filter((x) => x === 0).length / all.length;
};

async function lossOf(model: Model): Promise<number> {
  const { losses } = await fit(cloneModel(model), { data, loss: crossEntropy(), steps: 1, batchSize: 512, threads: 1 });
  return losses[0]!;
}

beforeAll(async () => {
  trained = mlp({ sizes: [2, 32, 16, 2], seed: 3 });
  await fit(trained, { data, loss: crossEntropy(), epochs: 20, batchSize: 64, threads: 1, optimizer: adam({ learningRate: 0.01 }) });
});

describe("magnitude", () => {
  test.each(["global", "layer"] as const)("at once, %s: the smallest go, the others keep their bits", async (scope) => {
    const model = cloneModel(trained);
    await magnitude({ sparsity: 0.7, scope }).apply(model, context(null));
    check(model);
    expect(zeros(model)).toBeCloseTo(0.7, 2);
    const before = weightsOf(trained).map((w) => numbersOf(w.value.data!));
    const after = weightsOf(model).map((w) => numbersOf(w.value.data!));
    const gone = before.flatMap((b, l) => [...b].filter((_, i) => after[l]![i] === 0).map(Math.abs));
    const kept = before.flatMap((b, l) => [...b].filter((_, i) => after[l]![i] !== 0).map(Math.abs));
    after.forEach((a, l) => {
      a.forEach((x, i) => {
        if (x !== 0) expect(x).toBe(before[l]![i]);
      });
    });
    if (scope === "global") expect(Math.max(...gone)).toBeLessThanOrEqual(Math.min(...kept));
  });

  test.each(["oneshot", "iterative", "cubic"] as const)("%s with training keeps its zeros and wins back the loss", async (schedule) => {
    const raw = cloneModel(trained);
    await magnitude({ sparsity: 0.8 }).apply(raw, context(null));
    const model = cloneModel(trained);
    await magnitude({ sparsity: 0.8, schedule, epochs: 12, rounds: 3, every: 4, learningRate: 0.01 }).apply(model, context(data));
    check(model);
    expect([...model.graph.nodes].map((n) => n.opType)).toEqual([...trained.graph.nodes].map((n) => n.opType));
    expect(zeros(model)).toBeCloseTo(0.8, 2);
    expect(await lossOf(model)).toBeLessThan(0.5 * (await lossOf(raw)));
  });

  test("the same seed gives the same bytes, another one others", async () => {
    const run = async (seed: number) => {
      const model = cloneModel(trained);
      await magnitude({ sparsity: 0.5, schedule: "cubic", epochs: 1 }).apply(model, { ...context(data), seed });
      return Buffer.from(writeModel(model));
    };
    const first = await run(0);
    expect((await run(0)).equals(first)).toBe(true);
    expect((await run(1)).equals(first)).toBe(false);
  });

  test("what it cannot do is said in one line", async () => {
    await expect(magnitude({ schedule: "cubic" }).apply(cloneModel(trained), context(null))).rejects.toThrow(
      "magnitude: needs training data",
    );
    await expect(magnitude({ include: "nothing" }).apply(cloneModel(trained), context(null))).rejects.toThrow("no weight");
    expect(() => magnitude.from({ bits: 4 })).toThrow('magnitude: unknown parameter "bits"; it takes sparsity');
  });
});
