import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { fromArrays } from "../src/data/dataset.ts";
import { mlp } from "../src/nets/mlp.ts";
import { floatsOf, tensor } from "../src/tensor/tensor.ts";
import { type FitOptions, fit } from "../src/train/fit.ts";
import { crossEntropy, kl, mse, sum } from "../src/train/loss.ts";
import { adam, adamw, sgd } from "../src/train/optimizer.ts";

interface Reference {
  readonly sizes: number[];
  readonly x: number[];
  readonly labels: number[];
  readonly partly: number[];
  readonly target: number[];
  readonly teacher: number[];
  readonly soft: number[];
  readonly initial: number[][];
  readonly runs: Record<string, { readonly losses: number[]; readonly weights: number[][] }>;
}
// Made by test/reference/training.py with PyTorch.
const reference: Reference = JSON.parse(readFileSync(join(import.meta.dirname, "reference/fixtures/training.json"), "utf8"));
const { sizes, initial } = reference;
const n = reference.labels.length;
const data = fromArrays({
  x: tensor("float32", [n, sizes[0]!], reference.x),
  labels: tensor("int64", [n], reference.labels),
  partly: tensor("int32", [n], reference.partly),
  target: tensor("float32", [n, sizes.at(-1)!], reference.target),
  teacher: tensor("float32", [n, sizes.at(-1)!], reference.teacher),
  soft: tensor("float32", [n, sizes.at(-1)!], reference.soft),
});

const runs: Record<string, Pick<FitOptions, "loss" | "optimizer" | "clipNorm">> = {
  "adam, cross-entropy": { loss: crossEntropy(), optimizer: adam({ learningRate: 0.01 }) },
  "adam with L2, clipped": { loss: crossEntropy(), optimizer: adam({ learningRate: 0.01, weightDecay: 0.1 }), clipNorm: 0.1 },
  "adamw, smoothed and ignored labels": {
    loss: crossEntropy({ labels: "partly", labelSmoothing: 0.1, ignore: -100 }),
    optimizer: adamw({ learningRate: 0.02, beta1: 0.8, beta2: 0.95, weightDecay: 0.2 }),
  },
  "adam, probabilities": { loss: crossEntropy({ labels: "soft" }), optimizer: adam({ learningRate: 0.01 }) },
  "sgd, mean squared error": { loss: mse(), optimizer: sgd({ learningRate: 0.1 }) },
  "sgd with momentum": { loss: mse(), optimizer: sgd({ learningRate: 0.05, momentum: 0.9 }) },
  "nesterov with L2": { loss: mse(), optimizer: sgd({ learningRate: 0.05, momentum: 0.9, nesterov: true, weightDecay: 0.05 }) },
  "adam, distillation": {
    loss: sum([
      [0.1, crossEntropy()],
      [0.9, kl({ temperature: 4 })],
    ]),
    optimizer: adam({ learningRate: 0.01 }),
  },
};

test("the reference covers the same runs", () => expect(Object.keys(runs)).toEqual(Object.keys(reference.runs)));

test.each(Object.entries(runs))("%s: losses and weights are PyTorch's over ten steps", async (name, options) => {
  const model = mlp({ sizes });
  const weights = [...model.graph.initializers];
  weights.forEach((v, i) => {
    model.graph.setData(v, tensor("float32", v.data!.shape, initial[i]!));
  });
  const { losses } = await fit(model, { data, ...options, steps: 10, batchSize: n, threads: 1 });
  const want = reference.runs[name]!;
  // float32 sums in another order, ten steps long: 1e-6 relative; the bar is 1e-5.
  losses.forEach((l, i) => {
    expect(Math.abs(l - want.losses[i]!)).toBeLessThan(1e-5 * Math.max(1, want.losses[i]!));
  });
  weights.forEach((v, i) => {
    floatsOf(v.data!).forEach((w, k) => {
      expect(Math.abs(w - want.weights[i]![k]!), v.name).toBeLessThan(1e-4);
    });
  });
});
