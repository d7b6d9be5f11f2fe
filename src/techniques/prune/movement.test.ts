import { beforeAll, expect, test } from "vitest";
import { type Dataset, fromArrays } from "../../data/dataset.ts";
import { cloneModel, type Model } from "../../ir/graph.ts";
import { mlp } from "../../nets/mlp.ts";
import { compress } from "../../recipe/compress.ts";
import { random } from "../../tensor/random.ts";
import { floatsOf, tensor } from "../../tensor/tensor.ts";
import { fit, type Step } from "../../train/fit.ts";
import { crossEntropy } from "../../train/loss.ts";
import { adam } from "../../train/optimizer.ts";
import { cosine } from "../../train/schedule.ts";
import { insertMask } from "../../transform/mask.ts";
import { weightsOf } from "../../transform/weights.ts";
import { magnitude } from "./magnitude.ts";
import { movement } from "./movement.ts";
import { select } from "./pattern.ts";

const [n, inputs, classes] = [256, 12, 3];

/** Which of three groups of inputs is strongest; the second task reads other inputs than the first. */
function task(shift: number): Dataset {
  const r = random(4, `task/${shift}`);
  const x = r.fillNormal(new Float32Array(n * inputs));
  const labels = Array.from({ length: n }, (_, i) => {
    const sums = Array.from({ length: classes }, (_, c) => x[i * inputs + shift + 2 * c]! + x[i * inputs + shift + 2 * c + 1]!);
    return sums.indexOf(Math.max(...sums));
  });
  return fromArrays({ x: tensor("float32", [n, inputs], x), labels: tensor("int64", [n], labels) });
}

let pretrained: Model;
const second = task(6);
beforeAll(async () => {
  pretrained = mlp({ sizes: [inputs, 16, classes], seed: 2 });
  await fit(pretrained, { data: task(0), loss: crossEntropy(), epochs: 20, optimizer: adam({ learningRate: 1e-2 }), threads: 1 });
});

const weights = (model: Model) => weightsOf(model).map((w) => floatsOf(w.value.data!));
const kept = (model: Model) => weights(model).map((w) => Array.from(w, (x) => (x === 0 ? 0 : 1)));

test("what stays after the one removal are the highest −Σ w·∂L/∂w of the steps before", async () => {
  // 256 examples in batches of 32, 2 epochs: 16 steps, of which 8 are the ramp.
  const settings = { sparsity: 0.7, epochs: 2, batchSize: 32, ramp: 0.5, every: 1000, learningRate: 3e-3 };
  const { model } = await compress(pretrained, [movement(settings)], { train: second, threads: 1, seed: 5, measure: null });

  // The same training by hand: w before each step, and its gradient.
  const byHand = cloneModel(pretrained);
  const names = weightsOf(byHand).map((w) => w.value.name);
  let before = weights(byHand).map((w) => Float64Array.from(w));
  const sums = before.map((w) => new Float64Array(w.length));
  const onStep = (step: Step) => {
    names.forEach((name, k) => {
      const g = step.gradient(name)!;
      for (let i = 0; i < g.length; i++) sums[k]![i]! -= before[k]![i]! * g[i]!;
    });
    before = names.map((name) => Float64Array.from(step.values(name)));
    return step.step < 8;
  };
  const plain = { data: second, loss: crossEntropy(), batchSize: 32, seed: 5, threads: 1, schedule: cosine() };
  await fit(byHand, { ...plain, epochs: 2, optimizer: adam({ learningRate: 3e-3 }), onStep });
  expect(Math.min(...sums[0]!)).toBeLessThan(0);
  const least = Math.min(...sums.flatMap((s) => [...s]));
  const want = select(
    sums.map((s) => ({ scores: Float32Array.from(s, (x) => x - least), rows: 1, columns: s.length })),
    0.7,
    "global",
  );
  expect(kept(model)).toEqual(want.map((m) => [...m]));
});

test("removed weights go on being scored, and may come back", async () => {
  const model = cloneModel(pretrained);
  const [first] = weightsOf(model);
  const w = floatsOf(first!.value.data!).slice();
  const gone = Uint8Array.from(w, (_, i) => i % 2);
  const mask = insertMask(model, first!.value, gone);
  let [ofMask, ofWeight] = [new Float32Array(), new Float32Array()];
  const plain = { data: second, loss: crossEntropy(), batchSize: 64, steps: 1, threads: 1, live: mask.value.name };
  await fit(model, {
    ...plain,
    liveGradients: true,
    onStep(step) {
      ofMask = step.gradient(mask.value.name)!.slice();
      ofWeight = step.gradient(first!.value.name)!.slice();
    },
  });
  const size = Math.max(...ofMask.map(Math.abs));
  expect(size).toBeGreaterThan(1e-3);
  // The gradient of the masked weight is the mask's over w, and reaches the weight where it is kept.
  ofMask.forEach((g, i) => {
    expect(Math.abs(ofWeight[i]! * w[i]! - (gone[i] ? g : 0))).toBeLessThan(1e-5 * size);
  });
  expect(ofMask.some((g, i) => !gone[i] && Math.abs(g) > 0.1 * size)).toBe(true);
  // Without liveGradients there is none.
  await fit(model, {
    ...plain,
    onStep(step) {
      expect(step.gradient(mask.value.name)).toBeNull();
    },
  });
});

test("on the new task it keeps the weights of the inputs that count there, which magnitude does not", async () => {
  const settings = { sparsity: 0.75, scope: "layer", epochs: 10, batchSize: 32, learningRate: 5e-3, include: "fc1" } as const;
  const run = async (step: ReturnType<typeof movement>) => {
    const { model } = await compress(pretrained, [step], { train: second, threads: 1, seed: 5, measure: null });
    const mask = kept(model)[0]!;
    const all = mask.reduce<number>((a, k) => a + k, 0);
    expect(all).toBe(48);
    return mask.reduce<number>((a, k, i) => a + (i % inputs >= 6 ? k : 0), 0) / all;
  };
  const moved = await run(movement(settings));
  expect(moved).toBeGreaterThan(0.7);
  expect(await run(magnitude({ ...settings, schedule: "cubic" }))).toBeLessThan(moved);
});
