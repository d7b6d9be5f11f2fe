import { expect, test } from "vitest";
import { fromArrays, fromFeeds } from "../data/dataset.ts";
import { newModel, type Value } from "../ir/graph.ts";
import { Build } from "../ops/build.ts";
import { random } from "../tensor/random.ts";
import { tensor } from "../tensor/tensor.ts";
import { accuracy, argmax, change, evaluate, type Metric, mse, perplexity } from "./accuracy.ts";
import { fidelity } from "./fidelity.ts";

/** y = x · factor, so that labels and outputs are what the test says. */
function scaled(factor: number, batch: number | string = "n") {
  const model = newModel("scaled");
  const b = Build.of(model);
  model.graph.addOutput(b.mul(model.graph.input("x", "float32", [batch, 3]), b.f32(factor)));
  return model;
}

const n = 50;
const r = random(5);
const xs = r.fillNormal(new Float32Array(n * 3));
const top = argmax(tensor("float32", [n, 3], xs));
/** Wrong for every seventh example. */
const labels = Array.from(top, (t, i) => (i % 7 === 0 ? (t + 1) % 3 : t));
const data = fromArrays({ x: tensor("float32", [n, 3], xs), labels: tensor("int64", [n], labels) });

test.each([1, 8, 50, 64])("accuracy counts every example once at batch size %i", async (batchSize) => {
  const { measurement } = await evaluate(scaled(2), data, accuracy(), { batchSize });
  expect(measurement.value).toBeCloseTo((100 * (n - 8)) / n, 10);
  expect(measurement.n).toBe(n);
  expect(measurement.interval![0]).toBeLessThan(84);
  expect(measurement.interval![1]).toBeGreaterThan(84);
});

test("a fixed batch, larger than what is left or than all of the data, counts each example once", async () => {
  for (const batch of [8, 64]) {
    const { measurement } = await evaluate(scaled(2, batch), data, accuracy());
    expect(measurement.value).toBeCloseTo((100 * (n - 8)) / n, 10);
    expect(measurement.n).toBe(n);
  }
});

test("two models on the same examples: the paired change", async () => {
  const a = await evaluate(scaled(1), data, accuracy());
  const b = await evaluate(scaled(-1), data, accuracy());
  const d = change(a, b);
  expect(d.metric).toBe("accuracyChange");
  expect(d.unit).toBe("points");
  expect(d.value).toBeCloseTo(b.measurement.value - a.measurement.value, 10);
  expect(d.interval![0]).toBeLessThan(d.value);
  expect(change(a, a).value).toBe(0);
  // The same errors again: far narrower than the interval of either.
  const self = change(a, a).interval!;
  expect(self[1] - self[0]).toBeLessThan(a.measurement.interval![1] - a.measurement.interval![0]);
});

test("labels: out of range, of another length, missing, not integers; padding is left out", async () => {
  const of = (ls: ArrayLike<number>, dtype: "int64" | "float32" = "int64", name = "labels") =>
    evaluate(scaled(1), fromArrays({ x: tensor("float32", [n, 3], xs), [name]: tensor(dtype, [n], Array.from(ls)) }), accuracy());
  await expect(of(labels.map((l, i) => (i === 3 ? 7 : l)))).rejects.toThrow(
    "accuracy: label 7 is out of range; the model has the classes 0 … 2",
  );
  await expect(of(labels, "int64", "y")).rejects.toThrow('accuracy: the data has no array "labels"; it has x, y');
  await expect(of(labels, "float32")).rejects.toThrow('accuracy: "labels" must be integers; got float32');
  expect((await of(labels.map((l, i) => (i % 7 === 0 ? -100 : l)))).measurement).toMatchObject({ value: 100, n: n - 8 });
  await expect(of(labels.map(() => -100))).rejects.toThrow("there is nothing to measure");
  await expect(
    evaluate(
      scaled(1),
      fromFeeds([{ x: tensor("float32", [2, 3], xs.subarray(0, 6)), labels: tensor("int64", [3], [0, 0, 0]) }]),
      accuracy(),
    ),
  ).rejects.toThrow('"labels" has the shape [3]; the output\'s [2,3] wants [2]');
});

test("sequences: each position counts, with examples of their own lengths", async () => {
  const model = newModel("sequence");
  model.graph.addOutput(Build.of(model).neg(model.graph.input("x", "float32", ["n", "t", 2])));
  const feeds = [1, 3].map((t) => ({
    x: tensor(
      "float32",
      [1, t, 2],
      Array.from({ length: t * 2 }, (_, i) => i % 2),
    ),
    labels: tensor(
      "int32",
      [1, t],
      Array.from({ length: t }, (_, i) => (i === 2 ? 1 : 0)),
    ),
  }));
  const e = await evaluate(model, fromFeeds(feeds), accuracy());
  expect(Array.from(e.scores)).toEqual([1, 1, 1, 0]);
});

test("a model whose first output is the class itself", async () => {
  const model = newModel("classifier");
  const b = Build.of(model);
  model.graph.addOutput(b.op("ArgMax", [model.graph.input("x", "float32", ["n", 3])], { axis: 1, keepdims: 0 }));
  expect((await evaluate(model, data, accuracy())).measurement.value).toBeCloseTo((100 * (n - 8)) / n, 10);
});

test("mean squared error by example, and a metric of one's own with weights", async () => {
  const targets = tensor(
    "float32",
    [n, 3],
    xs.map((v) => v * 2 + 1),
  );
  const d = fromArrays({ x: tensor("float32", [n, 3], xs), targets });
  const e = await evaluate(scaled(2), d, mse(), { batchSize: 7 });
  expect(e.measurement.value).toBeCloseTo(1, 5);
  expect(e.measurement.n).toBe(n);
  const own: Metric = {
    metric: "own",
    unit: "",
    better: "lower",
    targets: [],
    score: (outputs) => ({
      scores: Array.from({ length: outputs[0]!.shape[0]! }, (_, i) => i + 1),
      weights: Array.from({ length: outputs[0]!.shape[0]! }, () => 2),
    }),
  };
  expect((await evaluate(scaled(1), d, own, { batchSize: 50 })).measurement.value).toBeCloseTo(25.5 / 2, 10);
});

test("argmax: the first of equals, never NaN", () => {
  expect(Array.from(argmax(tensor("float32", [4, 2], [1, 1, 0, 2, Number.NaN, 3, -Infinity, -Infinity])))).toEqual([0, 1, -1, 0]);
  expect(argmax(tensor("float32", [0, 2], []))).toHaveLength(0);
});

test("fidelity by hand", async () => {
  const one = fromArrays({ x: tensor("float32", [2, 3], [1, 2, 3, -4, 0, 1]) });
  const by = async (factor: number) => Object.fromEntries((await fidelity(scaled(1), scaled(factor), one)).map((m) => [m.metric, m.value]));
  expect(await by(1)).toEqual({ maxError: 0, relativeError: 0, cosine: 1, agreement: 100 });
  const half = await by(0.5);
  expect(half.maxError).toBe(2);
  expect(half.relativeError).toBeCloseTo(50, 6);
  expect(half.cosine).toBeCloseTo(1, 6);
  const flipped = await by(-1);
  expect(flipped.cosine).toBeCloseTo(-1, 6);
  expect(flipped.agreement).toBe(0);
  await expect(by(Number.POSITIVE_INFINITY)).rejects.toThrow("fidelity: output 0 holds Infinity where the original's holds 1");
});

test("agreement is about the first output only: classes, integers, or nothing", async () => {
  const by = async (make: (b: Build, x: Value) => Value) => {
    const models = [1, -1].map((f) => {
      const model = newModel("m");
      const b = Build.of(model);
      model.graph.addOutput(make(b, b.mul(model.graph.input("x", "float32", [1, 3]), b.f32(f))));
      return model;
    });
    const one = fromArrays({
      x: tensor(
        "float32",
        [4, 3],
        Array.from({ length: 12 }, (_, i) => i),
      ),
    });
    return (await fidelity(models[0]!, models[1]!, one)).find((m) => m.metric === "agreement");
  };
  expect((await by((_, x) => x))!.value).toBe(0);
  expect((await by((b, x) => b.op("ArgMax", [x], { axis: 1 })))!.value).toBe(0);
  expect((await by((b, x) => b.op("ArgMax", [b.op("Abs", [x])], { axis: 1 })))!.value).toBe(100);
  expect(await by((b, x) => b.op("ReduceSum", [x]))).toBeUndefined();
});

test("perplexity is exp of the mean of −log softmax at the labels, its change that of the figure", async () => {
  const [even, sharp] = [await evaluate(scaled(0), data, perplexity()), await evaluate(scaled(1), data, perplexity())];
  expect(even.measurement.value).toBeCloseTo(3, 12);
  let sum = 0;
  for (let i = 0; i < n; i++) {
    const row = Array.from(xs.subarray(3 * i, 3 * i + 3));
    sum -= Math.log(Math.exp(row[labels[i]!]!) / row.reduce((a, x) => a + Math.exp(x), 0));
  }
  const { value, interval } = sharp.measurement;
  expect(value).toBeCloseTo(Math.exp(sum / n), 5);
  expect(interval![0]).toBeLessThan(value);
  expect(interval![1]).toBeGreaterThan(value);
  const d = change(even, sharp);
  expect(d.value).toBeCloseTo(value - 3, 5);
  expect(d.interval![0]).toBeLessThan(d.value);
  expect(d.interval![1]).toBeGreaterThan(d.value);
  await expect(evaluate(scaled(1), fromArrays({ x: data.take([0]).x!, labels: tensor("int64", [1], [3]) }), perplexity())).rejects.toThrow(
    "label 3 is out of range; the model has the classes 0 … 2",
  );
});
