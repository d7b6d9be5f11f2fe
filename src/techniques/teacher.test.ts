import { describe, expect, test } from "vitest";
import { fromArrays } from "../data/dataset.ts";
import { cloneModel, type Model, newModel, type Value } from "../ir/graph.ts";
import { find } from "../ir/walk.ts";
import { Build } from "../ops/build.ts";
import { open } from "../runtime/session.ts";
import { random } from "../tensor/random.ts";
import { floatsOf, numbersOf, tensor } from "../tensor/tensor.ts";
import { fit } from "../train/fit.ts";
import { parseLoss } from "../train/loss.ts";
import { sgd } from "../train/optimizer.ts";
import { taught, withTeacher } from "./teacher.ts";
import type { Context } from "./technique.ts";

const n = 5;
const [steps, classes] = [4, 3];
const r = random(3, "teacher");
const x = tensor("float32", [n, steps, 6], r.fillNormal(new Float32Array(n * steps * 6)));
const data = fromArrays({ x });

type End = (b: Build, scores: Value) => Value;

/** x [n, 4, 6] → scores [n, 4, 3], and what makes the output of them. */
function ending(opset: number, end: End, shape: readonly (number | string)[] | null): Model {
  const model = newModel("ending", opset, opset < 13 ? 4 : 8);
  const b = Build.of(model);
  const input = model.graph.input("x", "float32", ["n", "steps", 6]);
  const w = model.graph.initializer("w", tensor("float32", [6, classes], r.fillNormal(new Float32Array(6 * classes))));
  // Through a Gather of unknown rank, so that nothing but the output's type tells the number of axes.
  const y = end(b, b.op("Gather", [b.matmul(input, w), b.i64([0, 1, 2])], { axis: 2 }));
  y.type = { dtype: "float32", shape: shape ? [...shape] : null } as Value["type"];
  model.graph.addOutput(y);
  return model;
}

const softmax: Record<string, { model: Model; axis: number }> = {
  "along the last axis": { model: ending(17, (b, s) => b.op("Softmax", [s], { axis: -1 }), ["n", "steps", classes]), axis: 2 },
  "along another axis": {
    model: ending(17, (b, s) => b.op("Softmax", [b.transpose(s, [0, 2, 1])], { axis: 1 }), ["n", classes, "steps"]),
    axis: 1,
  },
  "of opset 9, where it flattened the axes behind": {
    model: ending(9, (b, s) => b.op("Softmax", [s], { axis: 2 }), ["n", "steps", classes]),
    axis: 2,
  },
  "of opset 9, of an output whose number of axes is not known": {
    model: ending(9, (b, s) => b.op("Softmax", [s], { axis: 2 }), null),
    axis: 2,
  },
  "with its elements moved afterwards": {
    model: ending(17, (b, s) => b.reshape(b.op("Identity", [b.op("Softmax", [s], { axis: -1 })]), [-1, 2, 2, classes]), [
      "n",
      2,
      2,
      classes,
    ]),
    axis: 3,
  },
};

async function outputs(model: Model): Promise<{ y: number[]; shape: readonly number[] }> {
  const session = await open(model, { threads: 1 });
  const y = (await session.run({ x }))[session.outputs[0]!.name]!;
  await session.release();
  return { y: Array.from(numbersOf(y)), shape: y.shape };
}

/** The model with other weights. */
function changed(model: Model): Model {
  const other = cloneModel(model);
  const w = find(other.graph, "w")!;
  other.graph.setData(
    w,
    tensor(
      "float32",
      w.data!.shape,
      floatsOf(w.data!).map((v, i) => v + 0.3 * Math.sin(i)),
    ),
  );
  return other;
}

/** The loss with the teacher of a model before its first training step. */
async function lossOf(model: Model, teacher: Model, loss = "teacher"): Promise<number> {
  const context = { threads: 1, original: teacher, progress: () => {} } as unknown as Context;
  const lesson = await taught(data, loss, context);
  const { losses } = await fit(cloneModel(model), { ...lesson, optimizer: sgd({ learningRate: 0 }), steps: 1, batchSize: n, threads: 1 });
  return losses[0]!;
}

describe("the divergence of outputs that are probabilities is theirs", () => {
  test.each(Object.entries(softmax))("a Softmax %s", async (_, { model, axis }) => {
    const student = changed(model);
    const { y: p, shape } = await outputs(model);
    const { y: q } = await outputs(student);
    // Σ p·log(p/q) over classes, mean over all else.
    const want = p.reduce((sum, v, i) => sum + v * Math.log(v / q[i]!), 0) / (p.length / shape[axis]!);
    expect(want).toBeGreaterThan(1e-3);
    expect(await lossOf(student, model)).toBeCloseTo(want, 5);
    expect(await lossOf(model, model)).toBeCloseTo(0, 6);
  });

  test("a Sigmoid: each output is yes or no", async () => {
    const model = ending(17, (b, s) => b.op("Sigmoid", [s]), ["n", "steps", classes]);
    const student = changed(model);
    const { y: p } = await outputs(model);
    const { y: q } = await outputs(student);
    const want = (p: readonly number[], q: readonly number[]) =>
      p.reduce((sum, v, i) => sum + v * Math.log(v / q[i]!) + (1 - v) * Math.log((1 - v) / (1 - q[i]!)), 0) / p.length;
    expect(await lossOf(student, model)).toBeCloseTo(want(p, q), 5);
    expect(await lossOf(model, model)).toBeCloseTo(0, 6);
    const soft = (v: number) => 1 / (1 + Math.exp(-Math.log(v / (1 - v)) / 3));
    expect(await lossOf(student, model, "teacher:temperature=3")).toBeCloseTo(9 * want(p.map(soft), q.map(soft)), 4);
  });
});

test("a Softmax of opset 9 over [n, classes, 1, 1] has its classes on axis 1", async () => {
  const model = newModel("old", 9, 4);
  const b = Build.of(model);
  const input = model.graph.input("x", "float32", ["n", 4, 6]);
  const w = model.graph.initializer("w", tensor("float32", [24, classes], r.fillNormal(new Float32Array(24 * classes))));
  const y = b.op("Softmax", [b.reshape(b.matmul(b.reshape(input, [-1, 24]), w), [-1, classes, 1, 1])], { axis: 1 });
  y.type = { dtype: "float32", shape: ["n", classes, 1, 1] };
  model.graph.addOutput(y);
  const student = changed(model);
  const { y: p } = await outputs(model);
  const { y: q } = await outputs(student);
  const want = p.reduce((sum, v, i) => sum + v * Math.log(v / q[i]!), 0) / n;
  expect(want).toBeGreaterThan(1e-3);
  expect(await lossOf(student, model)).toBeCloseTo(want, 5);
});

test("an axis of one class says nothing: an error names the loss that would", async () => {
  const model = ending(17, (b, s) => b.reduce("ReduceSum", s, [2], true), ["n", "steps", 1]);
  const wide = await withTeacher(data, model, { as: "teacher", threads: 1 });
  const training = fit(model, { data: wide, loss: parseLoss("kl"), steps: 1, threads: 1 });
  await expect(training).rejects.toThrow(/kl: compares classes along an axis of several; mse:target=teacher would be right/);
});
