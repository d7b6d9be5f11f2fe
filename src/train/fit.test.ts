import { expect, test } from "vitest";
import { fromArrays } from "../data/dataset.ts";
import { writeSafetensors } from "../data/safetensors.ts";
import { check } from "../ir/check.ts";
import { cloneModel, float, type Model, newModel, type Value } from "../ir/graph.ts";
import { constantOf, find } from "../ir/walk.ts";
import { mlp } from "../nets/mlp.ts";
import { writeModel } from "../onnx/write.ts";
import { random } from "../tensor/random.ts";
import { floatsOf, numbersOf, tensor } from "../tensor/tensor.ts";
import { insertMask } from "../transform/mask.ts";
import { readCheckpoint, writeCheckpoint } from "./checkpoint.ts";
import { type FitOptions, fit, type Progress } from "./fit.ts";
import { crossEntropy, mse } from "./loss.ts";
import { adam, sgd } from "./optimizer.ts";
import { cosine } from "./schedule.ts";

/** Three blobs in the plane. */
function blobs(n: number, seed = 1) {
  const r = random(seed);
  const x = new Float32Array(2 * n);
  const labels = Array.from({ length: n }, () => r.below(3));
  labels.forEach((c, i) => {
    x[2 * i] = [0, 2, -2][c]! + 0.5 * r.normal();
    x[2 * i + 1] = [2, -1, -1][c]! + 0.5 * r.normal();
  });
  return fromArrays({ x: tensor("float32", [n, 2], x), labels: tensor("int64", [n], labels) });
}
const net = () => mlp({ sizes: [2, 16, 3], seed: 3 });
const weights = (m: Model) => [...m.graph.initializers].map((v) => [v.name, floatsOf(v.data!)] as const);

test.each([
  ["adam", adam({ learningRate: 0.01 })],
  ["sgd", sgd({ learningRate: 0.1, momentum: 0.9, nesterov: true })],
])("%s learns blobs; the model keeps its names and takes the new weights", async (_, optimizer) => {
  const model = net();
  const before = cloneModel(model);
  const { history, losses, trained } = await fit(model, {
    data: blobs(200),
    validation: blobs(100, 2),
    loss: crossEntropy(),
    optimizer,
    epochs: 6,
    batchSize: 16,
    threads: 1,
  });
  check(model);
  expect(losses).toHaveLength(75);
  expect(history).toHaveLength(6);
  expect(history.at(-1)!.metric).toBeGreaterThan(97);
  expect(history.at(-1)!.loss).toBeLessThan(0.2 * history[0]!.loss);
  expect(trained).toEqual(["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]);
  expect(weights(model).map(([n]) => n)).toEqual(weights(before).map(([n]) => n));
  expect(weights(model)).not.toEqual(weights(before));
});

test("equal options give equal bytes with two threads; another seed does not", async () => {
  const bytes = async (seed: number) => {
    const model = net();
    await fit(model, { data: blobs(100), loss: crossEntropy(), epochs: 3, batchSize: 32, threads: 2, seed });
    return Buffer.from(writeModel(model));
  };
  const first = await bytes(5);
  expect(first.equals(await bytes(5))).toBe(true);
  expect(first.equals(await bytes(6))).toBe(false);
});

test("a resumed run ends bit-equal to an uninterrupted one, through a checkpoint's bytes", async () => {
  const options: FitOptions = {
    data: blobs(70),
    validation: blobs(40, 2),
    loss: crossEntropy(),
    epochs: 3,
    batchSize: 16,
    threads: 1,
    schedule: cosine({ warmup: 3 }),
    keepBest: true,
  };
  const dropping = () => mlp({ sizes: [2, 16, 3], seed: 3, dropout: 0.3 });
  for (const at of [3, 9]) {
    const whole = dropping();
    let saved: Uint8Array | null = null;
    const full = await fit(whole, {
      ...options,
      onStep(s) {
        if (s.step === at) saved = writeCheckpoint(s.checkpoint());
      },
    });
    const half = dropping();
    await fit(half, { ...options, onStep: (s) => s.step < at });
    const rest = await fit(half, { ...options, resume: readCheckpoint(saved!) });
    expect(rest.losses).toEqual(full.losses.slice(at));
    expect(rest.history).toEqual(full.history);
    expect(Buffer.compare(writeModel(half), writeModel(whole))).toBe(0);
    await expect(fit(half, { ...options, resume: readCheckpoint(saved!), seed: 9 })).rejects.toThrow(
      "checkpoint: is of a run with seed 0; this one has 9",
    );
  }
  expect(() => readCheckpoint(writeSafetensors({}))).toThrow("is not a checkpoint");
});

test("fresh examples stand in for the data in every pass after the first, also in a resumed run, bit by bit", async () => {
  // 70 examples in batches of 16: passes begin at examples 0, 70, 140, so that steps 0–4 begin in the first, 5–8 in the second, 9–13 in the third.
  const passes: number[] = [];
  const options: FitOptions = {
    data: blobs(70),
    fresh: async (pass) => {
      passes.push(pass);
      return blobs(70, 10 + pass);
    },
    loss: crossEntropy(),
    epochs: 3,
    batchSize: 16,
    threads: 1,
  };
  const run = async (more: Partial<FitOptions>) => {
    const model = net();
    const { losses } = await fit(model, { ...options, ...more });
    return { model: Buffer.from(writeModel(model)), losses };
  };
  const { fresh: _, ...same } = options;
  const plain = net();
  const { losses: old } = await fit(plain, same);
  const saved = new Map<number, Uint8Array>();
  const full = await run({ onStep: (s) => void saved.set(s.step, writeCheckpoint(s.checkpoint())) });
  expect(passes).toEqual([1, 2]);
  expect(full.losses.slice(0, 5)).toEqual(old.slice(0, 5));
  for (const step of [5, 9]) expect(full.losses[step]).not.toBe(old[step]);
  for (const at of [3, 5, 7, 9]) {
    const rest = await run({ resume: readCheckpoint(saved.get(at)!) });
    expect(rest.losses).toEqual(full.losses.slice(at));
    expect(Buffer.compare(rest.model, full.model)).toBe(0);
  }
  await expect(run({ fresh: async () => blobs(60) })).rejects.toThrow("train: a pass over 70 examples was followed by one over 60");
});

test("leftover examples are carried over: every example is seen equally often", async () => {
  const seen = new Array<number>(10).fill(0);
  const data = blobs(10);
  const counting = {
    ...data,
    take(indices: ArrayLike<number>) {
      for (const i of Array.from(indices)) seen[i]!++;
      return data.take(indices);
    },
  };
  // 14 steps of 5 are 7 epochs, of 4 they are 5 and a rest; the feeder reads the first batch once more for its shapes.
  await fit(net(), { data: counting, loss: crossEntropy(), steps: 15, batchSize: 4, threads: 1 });
  expect(seen.reduce((a, b) => a + b)).toBe(64);
  expect(Math.min(...seen)).toBe(6);
  expect(Math.max(...seen)).toBe(7);
});

test("a training that diverges says so and leaves the model alone", async () => {
  const model = net();
  const before = Buffer.from(writeModel(model));
  const diverging = fit(model, { data: blobs(50), loss: mse({ target: "far" }), optimizer: sgd({ learningRate: 1e4 }), steps: 50 });
  await expect(diverging).rejects.toThrow('has no array "far", which the loss takes; it has x, labels');
  const far = fromArrays({
    ...blobs(50).take(Array.from({ length: 50 }, (_, i) => i)),
    far: tensor("float32", [50, 3], new Float32Array(150).fill(7)),
  });
  await expect(fit(model, { data: far, loss: mse({ target: "far" }), optimizer: sgd({ learningRate: 10 }), steps: 50 })).rejects.toThrow(
    /train: diverged at step \d+ \(loss .*\); a lower learning rate would be right/,
  );
  expect(Buffer.compare(writeModel(model), before)).toBe(0);
});

test("what is wrong with the data is said in one line", async () => {
  const run = (arrays: Parameters<typeof fromArrays>[0]) =>
    fit(net(), { data: fromArrays(arrays), loss: crossEntropy(), steps: 2, batchSize: 4, threads: 1 });
  const x = tensor("float32", [4, 2], new Float32Array(8));
  const labels = tensor("int64", [4], [0, 1, 2, 0]);
  await expect(run({ x, labels: tensor("int64", [4], [0, 1, 3, 0]) })).rejects.toThrow(
    'data: "labels" holds class 3 at example 2; the model has classes 0 to 2',
  );
  await expect(run({ x, labels: tensor("int64", [4], [0, -100, 1, 0]) })).rejects.toThrow(
    "at example 1; the model has classes 0 to 2 (crossEntropy:ignore=-100 leaves such positions out)",
  );
  await expect(run({ x: tensor("float32", [4, 2], [0, 0, 0, 0, 0, Number.NaN, 0, 0]), labels })).rejects.toThrow(
    'data: array "x": holds NaN (example 2)',
  );
  await expect(fit(net(), { data: blobs(9), validation: fromArrays({ x }), loss: crossEntropy() })).rejects.toThrow(
    'validation data: has no array "labels"; it has x',
  );
  await expect(run({ labels })).rejects.toThrow('data: has no array "x", which the model takes; it has labels');
  await expect(run({ x: tensor("float32", [4, 3], new Float32Array(12)), labels })).rejects.toThrow(
    'data: array "x": a batch has the shape [4,3]; the model takes [batch,2]',
  );
  await expect(run({ x, labels: tensor("int64", [4, 1], [0, 1, 2, 0]) })).rejects.toThrow(
    `data: "labels" has the shape [4,1] a batch; the model's output [4,3] wants [4]`,
  );
  await run({ x: tensor("float64", [4, 2], new Float64Array(8)), labels: tensor("uint8", [4], [0, 1, 2, 0]) });
});

test("trainable and frozen choose by name; what the loss does not reach is told", async () => {
  const model = net();
  model.graph.addOutput(model.graph.append("Relu", [model.graph.initializer("aside", tensor("float32", [2], [1, 2]))]).outputs[0]!);
  const before = new Map(weights(cloneModel(model)));
  const notes: string[] = [];
  const { trained } = await fit(model, {
    data: blobs(20),
    loss: crossEntropy(),
    trainable: "fc*,aside",
    frozen: "*.bias",
    steps: 3,
    note: (l) => notes.push(l),
  });
  expect(trained).toEqual(["fc1.weight", "fc2.weight"]);
  for (const [name, w] of weights(model)) expect(`${w}` === `${before.get(name)}`, name).toBe(!trained.includes(name));
  expect(notes).toEqual(['"aside" was selected for training, but the loss does not depend on it']);
  await expect(fit(model, { data: blobs(20), loss: crossEntropy(), trainable: "none*", steps: 1 })).rejects.toThrow(
    'no weight matches trainable "none*"',
  );
});

test("tied weights stay tied, also in a Constant node, in float64 and behind a Softmax", async () => {
  const r = random(4);
  const w = r.fillNormal(new Float32Array(9), 0.5);
  // y = softmax(relu(x·W)·Wᵀ), once with one W, once with two copies whose gradients are added up by hand.
  const tied = (spell: "initializer" | "constant" | "float64") => {
    const model = newModel("tied");
    const { graph } = model;
    const x = graph.input("x", "float32", ["n", 3]);
    const make = () => {
      if (spell === "initializer") return graph.initializer("w", tensor("float32", [3, 3], w));
      if (spell === "constant")
        return graph.append("Constant", [], { attrs: { value: tensor("float32", [3, 3], w) }, outputs: ["w"] }).outputs[0]!;
      const wide = graph.initializer("w", tensor("float64", [3, 3], w));
      return graph.append("Cast", [wide], { attrs: { to: 1 } }).outputs[0]!;
    };
    const v = make();
    const h = graph.append("Relu", [graph.append("MatMul", [x, v]).outputs[0]!]).outputs[0]!;
    const t = graph.append("Transpose", [v]).outputs[0]!;
    const y = graph.append("Softmax", [graph.append("MatMul", [h, t]).outputs[0]!], { outputs: ["y"] }).outputs[0]!;
    y.type = { dtype: "float32", shape: ["n", 3] };
    graph.addOutput(y);
    return model;
  };
  const arrays = {
    x: tensor("float32", [8, 3], r.fillNormal(new Float32Array(24))),
    labels: tensor("int64", [8], [0, 1, 2, 0, 1, 2, 0, 1]),
  };
  const after: number[][] = [];
  for (const spell of ["initializer", "constant", "float64"] as const) {
    const model = tied(spell);
    await fit(model, {
      data: fromArrays(arrays),
      validation: fromArrays(arrays),
      loss: crossEntropy(),
      optimizer: sgd({ learningRate: 0.1 }),
      steps: 1,
      batchSize: 8,
      threads: 1,
    });
    const stored = constantOf(find(model.graph, "w"))!;
    expect(stored.dtype).toBe(spell === "float64" ? "float64" : "float32");
    after.push(Array.from(numbersOf(stored)));
  }
  expect(after[1]).toEqual(after[0]);
  expect(after[2]).toEqual(after[0]);
  // The gradient in float64, by hand.
  const X = numbersOf(arrays.x);
  const loss = (p: Float64Array) => {
    let total = 0;
    for (let i = 0; i < 8; i++) {
      const h = [0, 1, 2].map((j) =>
        Math.max(
          0,
          [0, 1, 2].reduce((s, k) => s + X[i * 3 + k]! * p[k * 3 + j]!, 0),
        ),
      );
      const z = [0, 1, 2].map((j) => h.reduce((s, v, k) => s + v * p[j * 3 + k]!, 0));
      total += Math.log(z.reduce((s, v) => s + Math.exp(v), 0)) - z[i % 3]!;
    }
    return total / 8;
  };
  const p = Float64Array.from(w);
  w.forEach((_, i) => {
    const at = (d: number) => loss(p.with(i, p[i]! + d));
    const slope = (at(1e-6) - at(-1e-6)) / 2e-6;
    expect(after[0]![i]).toBeCloseTo(p[i]! - 0.1 * slope, 5);
  });
});

test.each([
  { keepFrom: 0, wanted: [2, 10] },
  { keepFrom: 0.5, wanted: [4, 12] },
])("the best weights are kept (after a share of $keepFrom), and patience ends the training", async ({ keepFrom, wanted }) => {
  const model = net();
  const kept: Float32Array[] = [];
  // A metric that is best at the second epoch, and of the second half at the fourth.
  const script = [0.125, 0.875, 0.5, 0.375, 0.25, 0.125];
  let calls = 0;
  const { history, best, steps } = await fit(model, {
    data: blobs(32),
    validation: blobs(8, 2),
    loss: crossEntropy(),
    metric: {
      metric: "scripted",
      unit: "",
      better: "higher",
      targets: [],
      score: (outputs) => ({ scores: new Array(outputs[0]!.shape[0]!).fill(script[calls++]) }),
    },
    onStep: (s) => {
      kept.push(s.values("fc1.weight").slice());
    },
    epochs: 6,
    batchSize: 16,
    keepBest: true,
    keepFrom,
    patience: 3,
    threads: 1,
  });
  expect(history.map((e) => e.metric)).toEqual(script.slice(0, wanted[1]! / 2));
  expect([best, steps]).toEqual(wanted);
  expect(floatsOf(find(model.graph, "fc1.weight")!.data!)).toEqual(kept[2 * wanted[0]! - 1]);
});

test("a live initializer can be changed on the way, without a gradient of its own", async () => {
  const model = net();
  const { graph } = model;
  const w = find(graph, "fc1.weight")!;
  const mask = insertMask(model, w, new Uint8Array(32).fill(1));
  await fit(model, {
    data: blobs(50),
    loss: crossEntropy(),
    steps: 10,
    live: "*/mask",
    onStep(s) {
      if (s.step === 5) s.values(mask.value.name).fill(0, 0, 16);
    },
  });
  expect(Array.from(floatsOf(mask.value.data!))).toEqual([...new Array(16).fill(0), ...new Array(16).fill(1)]);
});

test("progress tells step, loss and time left", async () => {
  const lines: Progress[] = [];
  const { history } = await fit(net(), {
    data: blobs(20),
    loss: crossEntropy(),
    steps: 5,
    batchSize: 5,
    validation: blobs(9),
    evaluateEvery: 2,
    progress: (p) => lines.push(p),
  });
  expect(history.map((e) => [e.epoch, e.step])).toEqual([
    [1, 2],
    [2, 4],
    [2, 5],
  ]);
  expect(lines.map((l) => l.step)).toEqual([1, 2, 3, 4, 5]);
  expect(lines.every((l) => l.of === 5 && l.left >= 0 && l.loss > 0)).toBe(true);
  expect(lines.at(-1)!.metric).toBeGreaterThanOrEqual(0);
});

test("a model of an old opset trains as it is: a clone is upgraded", async () => {
  const model = newModel("old", 9, 4);
  const { graph } = model;
  const r = random(2);
  const weight = (name: string, shape: number[]) =>
    graph.initializer(name, tensor("float32", shape, r.fillNormal(new Float32Array(shape.reduce((a, b) => a * b)), 0.5)));
  const x = graph.input("x", "float32", ["n", 2]);
  const op = (type: string, inputs: Value[], attrs = {}) => graph.append(type, inputs, { attrs }).outputs[0]!;
  const h = op("Dropout", [op("Relu", [op("Gemm", [x, weight("a", [2, 16]), weight("b", [16])])])], { ratio: float(0.25) });
  const y = op("Softmax", [op("Gemm", [h, weight("c", [16, 3]), weight("d", [3])])], { axis: 1 });
  y.type = { dtype: "float32", shape: ["n", 3] };
  graph.addOutput(y);
  const { history, trained } = await fit(model, {
    data: blobs(200),
    validation: blobs(100, 2),
    loss: crossEntropy(),
    optimizer: adam({ learningRate: 0.02 }),
    epochs: 5,
    batchSize: 16,
    threads: 1,
  });
  expect(trained).toEqual(["a", "b", "c", "d"]);
  expect(history.at(-1)!.metric).toBeGreaterThan(97);
  expect([model.opsets.get(""), model.irVersion]).toEqual([9, 4]);
  check(model);
});
