import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type Batch, fromArrays } from "../src/data/dataset.ts";
import type { Model } from "../src/ir/graph.ts";
import { find } from "../src/ir/walk.ts";
import { lenet5 } from "../src/nets/lenet5.ts";
import { mlp } from "../src/nets/mlp.ts";
import { resnet20 } from "../src/nets/resnet20.ts";
import { transformer } from "../src/nets/transformer.ts";
import { writeModel } from "../src/onnx/write.ts";
import { random } from "../src/tensor/random.ts";
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
  readonly cnn: NetReference & { readonly images: number[]; readonly running: Record<string, [number[], number[]]> };
  readonly transformer: NetReference & { readonly ids: number[] };
}
interface NetReference {
  readonly classes: number[];
  readonly initial: Named;
  readonly losses: number[];
  readonly final: Named;
}
type Named = Record<string, { readonly shape: number[]; readonly values: number[] }>;
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

/** Puts the reference's weights into a net and trains it for ten steps; the losses and some weights must be PyTorch's. */
async function follows(model: Model, want: NetReference, arrays: Batch, options: Partial<FitOptions> = {}) {
  for (const [name, { shape, values }] of Object.entries(want.initial)) {
    model.graph.setData(find(model.graph, name)!, tensor("float32", shape, values));
  }
  const labels = tensor("int64", [want.classes.length], want.classes);
  const data = fromArrays({ ...arrays, labels });
  const optimizer = adam({ learningRate: 0.01 });
  const { losses } = await fit(model, { data, loss: crossEntropy(), optimizer, steps: 10, batchSize: data.length, threads: 1, ...options });
  losses.forEach((l, i) => {
    expect(Math.abs(l - want.losses[i]!), `loss ${i}`).toBeLessThan(2e-5 * Math.max(1, want.losses[i]!));
  });
  for (const [name, { values }] of Object.entries(want.final)) near(model, name, values, 2e-4);
}
function near(model: Model, name: string, want: readonly number[], tolerance: number) {
  const got = floatsOf(find(model.graph, name)!.data!);
  want.forEach((w, i) => {
    expect(Math.abs(got[i]! - w), `${name}[${i}]`).toBeLessThanOrEqual(tolerance);
  });
}

test("a residual CNN trains by batch statistics as PyTorch does, the running ones following", async () => {
  const { cnn } = reference;
  const model = resnet20({ classes: 3, channels: 1, size: 8, width: 2, blocks: 1 });
  await follows(model, cnn, { x: tensor("float32", [8, 1, 8, 8], cnn.images) }, { batchStatistics: true });
  for (const [name, [mean, variance]] of Object.entries(cnn.running)) {
    near(model, `${name}.bn.running_mean`, mean, 1e-4);
    near(model, `${name}.bn.running_var`, variance, 1e-3);
  }
});

test("frozen statistics stay as they are when a net with BatchNormalization is tuned", async () => {
  const model = resnet20({ classes: 3, channels: 1, size: 8, width: 2, blocks: 1 });
  const { cnn } = reference;
  const data = fromArrays({ x: tensor("float32", [8, 1, 8, 8], cnn.images), labels: tensor("int64", [8], cnn.classes) });
  const { losses, trained } = await fit(model, { data, loss: crossEntropy(), steps: 30, batchSize: 8, threads: 1 });
  expect(losses.at(-1)!).toBeLessThan(0.95 * losses[0]!);
  expect(trained).toContain("stage2.block1.1.bn.weight");
  expect(trained.some((name) => name.includes("running"))).toBe(false);
  near(model, "stem.bn.running_mean", [0, 0], 0);
  near(model, "stem.bn.running_var", [1, 1], 0);
});

test("a transformer trains as PyTorch's does", async () => {
  const model = transformer({ layers: 2, width: 8, heads: 2, hidden: 16, vocabulary: 7, length: 4, classes: 3 });
  await follows(model, reference.transformer, { ids: tensor("int64", [8, 4], reference.transformer.ids) });
});

test("with two threads, repeated ids and parallel sizes, the same training gives the same bytes", async () => {
  const r = random(3);
  const ids = tensor(
    "int64",
    [32, 64],
    Array.from({ length: 2048 }, () => Math.floor(20 * r.uniform() ** 3)),
  );
  const labels = tensor(
    "int64",
    [32],
    Array.from({ length: 32 }, () => r.below(10)),
  );
  const digits = tensor("float32", [32, 1, 28, 28], r.fillUniform(new Float32Array(32 * 784)));
  const nets: [() => Model, Batch][] = [
    [() => transformer({ layers: 1, width: 256, heads: 4, hidden: 256, vocabulary: 20, length: 64, classes: 10 }), { ids, labels }],
    [() => lenet5(), { x: digits, labels }],
  ];
  for (const [make, arrays] of nets) {
    const bytes = [];
    for (let i = 0; i < 2; i++) {
      const model = make();
      await fit(model, { data: fromArrays(arrays), loss: crossEntropy(), steps: 6, batchSize: 16, threads: 2 });
      bytes.push(writeModel(model));
    }
    expect(Buffer.compare(bytes[0]!, bytes[1]!)).toBe(0);
  }
});
