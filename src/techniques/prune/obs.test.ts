import { beforeAll, describe, expect, test } from "vitest";
import { type Dataset, fromArrays } from "../../data/dataset.ts";
import { cloneModel, type Model, type Value } from "../../ir/graph.ts";
import { mlp } from "../../nets/mlp.ts";
import { net } from "../../nets/net.ts";
import { open } from "../../runtime/session.ts";
import { random } from "../../tensor/random.ts";
import { floatsOf, numbersOf, tensor } from "../../tensor/tensor.ts";
import { fit } from "../../train/fit.ts";
import { gaussNewton } from "../../train/gaussnewton.ts";
import { crossEntropy } from "../../train/loss.ts";
import { adam } from "../../train/optimizer.ts";
import { outputError } from "../hessian.ts";
import { elementsOf } from "../matrix.ts";
import { withMoments } from "../moments.ts";
import type { Context, Step } from "../technique.ts";
import { weightLayers } from "../weightlayers.ts";
import { magnitude } from "./magnitude.ts";
import { obs } from "./obs.ts";

const r = random(1, "obs");
const n = 160;
const labels = Array.from({ length: n }, (_, i) => i % 2);
// The first two of four inputs tell the ring; the others are one of them again, and noise.
const x = new Float32Array(4 * n);
labels.forEach((ring, i) => {
  const angle = 2 * Math.PI * r.uniform();
  const radius = 0.5 + ring + 0.1 * r.normal();
  const [a, b] = [radius * Math.cos(angle), radius * Math.sin(angle)];
  x.set([a, b, a + 0.05 * r.normal(), 0.3 * r.normal()], 4 * i);
});
const data: Dataset = fromArrays({ x: tensor("float32", [n, 4], x), labels: tensor("int64", [n], labels) });
let trained: Model;
let notes: string[] = [];
const context = (train: Dataset | null): Context => ({
  seed: 0,
  train,
  calibration: data,
  original: trained,
  threads: 1,
  load: () => Promise.reject(new Error("no files here")),
  note: (line) => notes.push(line),
  progress: () => {},
});
const all = (m: Model) => [...m.graph.initializers].filter((v) => /weight|bias/.test(v.name));
const left = (m: Model) => all(m).flatMap((v) => [...numbersOf(v.data!)].filter((e) => e !== 0)).length;
async function lossOf(m: Model): Promise<number> {
  const g = await gaussNewton(m, { data, loss: crossEntropy(), weights: all(m), threads: 1 });
  const { loss } = await g.value(g.initial);
  await g.release();
  return loss;
}

beforeAll(async () => {
  trained = mlp({ sizes: [4, 8, 2], seed: 3 });
  await fit(trained, { data, loss: crossEntropy(), epochs: 60, batchSize: 32, threads: 1, optimizer: adam({ learningRate: 0.02 }) });
});

describe("obs on the whole net", () => {
  test("leaves as many weights as asked for, biases counted, and a lower loss than magnitude at the same number", async () => {
    const model = cloneModel(trained);
    await obs({ sparsity: 0.4, scope: "network", every: 4 }).apply(model, context(data));
    const total = left(trained);
    const weights = all(trained).reduce((s, v) => s + numbersOf(v.data!).length, 0);
    expect(left(model)).toBe(weights - Math.round(0.4 * weights));
    const rival = cloneModel(trained);
    const values = all(rival).map((v) => ({ v, w: numbersOf(v.data!) }));
    const order = values.flatMap(({ w }, i) => [...w.keys()].map((k) => [i, k] as const));
    order.sort(([i, k], [j, l]) => Math.abs(values[i]!.w[k]!) - Math.abs(values[j]!.w[l]!));
    for (const [i, k] of order.slice(0, total - left(model))) values[i]!.w[k] = 0;
    for (const { v, w } of values) v.graph.setData(v, tensor("float32", v.data!.shape, w));
    expect(left(rival)).toBe(left(model));
    expect(await lossOf(model)).toBeLessThan(await lossOf(rival));
  });

  test("stops before the loss it may not pass; trains on with its zeros held", async () => {
    const bound = (await lossOf(trained)) + 0.05;
    const model = cloneModel(trained);
    notes = [];
    await obs({ left: 0, maxLoss: bound, every: 4 }).apply(model, context(data));
    expect(left(model)).toBeLessThan(left(trained));
    expect(left(model)).toBeGreaterThan(0);
    expect(await lossOf(model)).toBeLessThanOrEqual(bound);
    expect(notes.join("\n")).toContain("stopped before 0 weights");
    const again = cloneModel(trained);
    await obs({ left: left(model), scope: "network", every: 4, epochs: 10 }).apply(again, context(data));
    const zeros = (m: Model) => all(m).map((v) => [...numbersOf(v.data!)].map((e) => e === 0));
    expect(zeros(again)).toEqual(zeros(model));
    expect(await lossOf(again)).toBeLessThan(await lossOf(model));
  });

  test("biases stay where they are not asked for", async () => {
    const model = cloneModel(trained);
    await obs({ left: 3, scope: "network", biases: false }).apply(model, context(data));
    const count = (name: RegExp) =>
      all(model)
        .filter((v) => name.test(v.name))
        .flatMap((v) => [...numbersOf(v.data!)].filter((e) => e !== 0)).length;
    expect(count(/weight/)).toBe(3);
    expect(count(/bias/)).toBe(10);
  });
});

test("obs by layer: each layer's outputs change less than by magnitude", async () => {
  const errors = async (m: Model) => {
    const out: number[] = [];
    const changed = weightLayers(m).layers;
    await withMoments(trained, weightLayers(trained).layers, data, 1, (l, moments) => {
      const other = changed.find((c) => c.weight.name === l.weight.name)!;
      out.push(outputError(elementsOf(l.matrix), elementsOf(other.matrix), l.matrix.rows, moments!.hessian));
    });
    return out;
  };
  const model = cloneModel(trained);
  await obs({ scope: "layer", sparsity: 0.5 }).apply(model, context(null));
  const rival = cloneModel(trained);
  await magnitude({ scope: "layer", sparsity: 0.5, epochs: 0 }).apply(rival, context(null));
  const [ours, theirs] = [await errors(model), await errors(rival)];
  expect(ours.length).toBe(2);
  ours.forEach((e, i) => {
    expect(e).toBeLessThan(theirs[i]!);
  });
  const zeros = weightLayers(model).layers.map((l) => elementsOf(l.matrix).filter((v) => v === 0).length);
  expect(zeros).toEqual([16, 8]);
});

test("obs by layer: a weight that two layers read, turned, is done once, by what both read", async () => {
  const tied = net("tied", 2);
  const input = tied.model.graph.input("x", "float32", ["batch", 4]);
  const w = tied.weight("w", [4, 4], "glorot");
  const read = (name: string, v: Value) => tied.op(name, "MatMul", [v, tied.op(`${name}.turned`, "Transpose", [w], { perm: [1, 0] })]);
  const model = tied.done(read("second", tied.op("tanh", "Tanh", [read("first", input)])), ["batch", 4]);
  const outputs = async (m: Model) => {
    const session = await open(m);
    const y = floatsOf((await session.run({ x: tensor("float32", [n, 4], x) }))[m.graph.outputs[0]!.name]!);
    await session.release();
    return y;
  };
  const before = await outputs(model);
  const off = async (technique: Step) => {
    const m = cloneModel(model);
    await technique.apply(m, context(null));
    expect(numbersOf([...m.graph.initializers].find((v) => v.name === "w")!.data!).filter((v) => v === 0).length).toBe(8);
    const y = await outputs(m);
    return Math.hypot(...y.map((v, i) => v - before[i]!));
  };
  expect(await off(obs({ scope: "layer", sparsity: 0.5 }))).toBeLessThan(await off(magnitude({ sparsity: 0.5, epochs: 0 })));
});

test("what it refuses is said in one line", async () => {
  await expect(obs({ scope: "network" }).apply(cloneModel(trained), context(null))).rejects.toThrow("obs: needs training data");
  await expect(obs({ include: "nothing" }).apply(cloneModel(trained), context(data))).rejects.toThrow("no weight");
  await expect(obs({ scope: "layer", maxLoss: 1 }).apply(cloneModel(trained), context(data))).rejects.toThrow(
    "scope=network would be right",
  );
  const wide = mlp({ sizes: [784, 300, 2], seed: 1 });
  const digits = fromArrays({ x: tensor("float32", [2, 784], new Float32Array(1568)) });
  await expect(obs({ include: "fc1" }).apply(wide, { ...context(null), calibration: digits })).rejects.toThrow(
    "sparsegpt does such layers",
  );
  await expect(obs({ scope: "network" }).apply(wide, context(data))).rejects.toThrow("up to 8000 weights; got 236102");
});
