import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { fromArrays } from "../../data/dataset.ts";
import { check } from "../../ir/check.ts";
import { cloneModel, type Model } from "../../ir/graph.ts";
import { mlp } from "../../nets/mlp.ts";
import { load, save } from "../../onnx/file.ts";
import { open } from "../../runtime/session.ts";
import { random } from "../../tensor/random.ts";
import { numbersOf, tensor } from "../../tensor/tensor.ts";
import { weightsOf } from "../../transform/weights.ts";
import { withTeacher } from "../teacher.ts";
import type { Context } from "../technique.ts";
import { distill } from "./distill.ts";

const r = random(5);
const n = 400;
const x = tensor(
  "float32",
  [n, 4],
  Array.from({ length: 4 * n }, () => r.normal()),
);
// Labels that say nothing: whatever the student learns, it learns from the teacher.
const data = fromArrays({ x, labels: tensor("int64", [n], new Array(n).fill(0)) });
const teacher = mlp({ sizes: [4, 24, 3], seed: 1 });

const context = (original: Model): Context => ({
  seed: 0,
  train: data,
  calibration: null,
  original,
  threads: 1,
  load: async (path) => load(path),
  note: () => {},
  progress: () => {},
});

async function logits(model: Model): Promise<Float32Array> {
  const s = await open(model, { threads: 1 });
  const y = await s.run({ x });
  await s.release();
  return numbersOf(y.logits!) as Float32Array;
}

/** Mean KL(teacher/T ‖ student/T), by its definition. */
function divergence(t: Float32Array, s: Float32Array, temperature: number): number {
  const soft = (v: Float32Array) => {
    const e = [...v].map((z) => Math.exp(z / temperature));
    const sum = e.reduce((a, b) => a + b);
    return e.map((z) => z / sum);
  };
  let total = 0;
  for (let i = 0; i < n; i++) {
    const p = soft(t.subarray(3 * i, 3 * i + 3));
    const q = soft(s.subarray(3 * i, 3 * i + 3));
    total += p.reduce((a, pk, k) => a + pk * Math.log(pk / q[k]!), 0);
  }
  return total / n;
}

test("a student comes close to its teacher without labels", async () => {
  const student = mlp({ sizes: [4, 12, 3], seed: 2 });
  const answers = await logits(teacher);
  const before = divergence(answers, await logits(student), 2);
  await distill({ alpha: 1, temperature: 2, epochs: 30, learningRate: 0.01 }).apply(student, context(teacher));
  check(student);
  expect(divergence(answers, await logits(student), 2)).toBeLessThan(0.1 * before);
});

test("a student from a file takes the model's place; alpha weighs teacher and labels", async () => {
  const path = join(mkdtempSync(join(tmpdir(), "pith-")), "student.onnx");
  save(mlp({ sizes: [4, 6, 3], seed: 2 }), path);
  const model = cloneModel(teacher);
  await distill({ student: path, alpha: 0, epochs: 20, learningRate: 0.02 }).apply(model, context(teacher));
  expect(weightsOf(model).map((w) => w.value.shape)).toEqual([
    [6, 4],
    [3, 6],
  ]);
  // alpha 0: the labels alone, and they all say 0.
  const y = await logits(model);
  for (let i = 0; i < n; i++) expect(y[3 * i]).toBeGreaterThan(Math.max(y[3 * i + 1]!, y[3 * i + 2]!));
});

test("pruned weights stay pruned", async () => {
  const model = cloneModel(teacher);
  const w = weightsOf(model)[0]!.value;
  const zeroed = numbersOf(w.data!).map((v, i) => (i % 3 ? v : 0));
  w.graph.setData(w, tensor("float32", w.shape!, zeroed));
  await distill({ epochs: 3 }).apply(model, context(teacher));
  numbersOf(w.data!).forEach((v, i) => {
    if (i % 3 === 0) expect(v).toBe(0);
    else expect(v).not.toBe(zeroed[i]);
  });
  expect(model.graph.nodes.size).toBe(teacher.graph.nodes.size);
});

test("the teacher's answers are its logits, example by example", async () => {
  const wide = await withTeacher(data, teacher, { as: "teacher", batchSize: 7 });
  const answers = await logits(teacher);
  const some = wide.take([399, 3]);
  const rows = [...answers.subarray(3 * 399), ...answers.subarray(9, 12)];
  [...numbersOf(some.teacher!)].forEach((v, i) => {
    expect(v).toBeCloseTo(rows[i]!, 5);
  });
  expect(Object.keys(some)).toEqual(["x", "labels", "teacher"]);
});

test("a teacher that ends in a Softmax hands out what goes into it, or what comes out where that is asked for", async () => {
  const ends = cloneModel(teacher);
  const [y] = ends.graph.outputs;
  const { outputs } = ends.graph.append("Softmax", [y!], { name: "softmax", attrs: { axis: -1 } });
  ends.graph.removeOutput(0);
  ends.graph.addOutput(outputs[0]!);
  const answers = await logits(teacher);
  const got = numbersOf((await withTeacher(data, ends, { as: "teacher" })).take([0]).teacher!);
  Array.from(got).forEach((v, i) => {
    expect(v).toBeCloseTo(answers[i]!, 5);
  });
  const shares = numbersOf((await withTeacher(data, ends, { as: "teacher", probabilities: true })).take([0]).teacher!);
  expect(Array.from(shares).reduce((a, v) => a + v, 0)).toBeCloseTo(1, 5);
});
