import { expect, test } from "vitest";
import { fromArrays } from "../data/dataset.ts";
import { find } from "../ir/walk.ts";
import { mlp } from "../nets/mlp.ts";
import { random } from "../tensor/random.ts";
import { floatsOf, tensor } from "../tensor/tensor.ts";
import { estimateStatistics } from "./statistics.ts";

test("statistics of a BatchNormalization are those of what it reads, over all batches", async () => {
  const model = mlp({ sizes: [3, 4, 2], batchNorm: true, seed: 2 });
  const x = random(1).fillNormal(new Float32Array(96 * 3), 2, 1);
  const data = fromArrays({ x: tensor("float32", [96, 3], x) });
  expect(await estimateStatistics(model, data, { batchSize: 32, seed: 0, threads: 1 })).toBe(2);
  const w = floatsOf(find(model.graph, "fc1.weight")!.data!);
  const h = Array.from({ length: 4 }, (_, o) =>
    Array.from({ length: 96 }, (_, i) => w[3 * o]! * x[3 * i]! + w[3 * o + 1]! * x[3 * i + 1]! + w[3 * o + 2]! * x[3 * i + 2]!),
  );
  const [mean, variance] = ["mean", "var"].map((s) => floatsOf(find(model.graph, `bn1.running_${s}`)!.data!));
  h.forEach((values, c) => {
    const m = values.reduce((a, b) => a + b) / 96;
    expect(mean![c]).toBeCloseTo(m, 4);
    expect(variance![c]).toBeCloseTo(values.reduce((a, v) => a + (v - m) ** 2, 0) / 96, 4);
  });
});
