import { describe, expect, test } from "vitest";
import { type Dataset, fromArrays } from "../../data/dataset.ts";
import { cloneModel, type Model, newModel } from "../../ir/graph.ts";
import { Build } from "../../ops/build.ts";
import { compress } from "../../recipe/compress.ts";
import { open } from "../../runtime/session.ts";
import { random } from "../../tensor/random.ts";
import { numbersOf, tensor } from "../../tensor/tensor.ts";
import { weightsOf } from "../../transform/weights.ts";
import type { Step } from "../technique.ts";
import { magnitude } from "./magnitude.ts";
import { sparsegpt } from "./sparsegpt.ts";
import { wanda } from "./wanda.ts";

const normal = (shape: readonly number[], seed: number, by = 0.3) =>
  tensor(
    "float32",
    shape,
    random(seed)
      .fillNormal(new Float32Array(shape.reduce((a, d) => a * d, 1)))
      .map((x) => x * by),
  );

/** Inputs whose channels differ in size and hang together. */
function inputs(n: number, channels: number, space: readonly number[], seed: number): Dataset {
  const r = random(seed, "x");
  const places = space.reduce((a, d) => a * d, 1);
  const x = new Float32Array(n * channels * places);
  for (let i = 0; i < n; i++)
    for (let p = 0; p < places; p++) {
      const shared = r.normal();
      for (let c = 0; c < channels; c++)
        x[(i * channels + c) * places + p] = Math.exp(((7 * c) % channels) / 4 - 1) * (r.normal() + shared);
    }
  return fromArrays({ x: tensor("float32", [n, channels, ...space], x) });
}

/** MatMul (stored [inputs, outputs]), Relu, a Gemm with transB, and a MatMul behind a Transpose. */
function dense(): Model {
  const model = newModel("dense");
  const b = Build.of(model);
  const g = model.graph;
  let x = g.input("x", "float32", ["N", 16]);
  x = b.op("Relu", [b.matmul(x, g.initializer("a", normal([16, 24], 1)))]);
  x = b.op("Relu", [b.op("Gemm", [x, g.initializer("b", normal([20, 24], 2))], { transB: 1 })]);
  x = b.matmul(x, b.transpose(g.initializer("c", normal([8, 20], 3)), [1, 0]));
  g.addOutput(x);
  return model;
}

/** A Conv, a depthwise one, and a Conv. */
function conv(): Model {
  const model = newModel("conv");
  const b = Build.of(model);
  const g = model.graph;
  let x = g.input("x", "float32", ["N", 4, 6, 6]);
  x = b.op("Relu", [b.op("Conv", [x, g.initializer("a", normal([8, 4, 3, 3], 1))], { pads: [1, 1, 1, 1] })]);
  x = b.op("Conv", [x, g.initializer("deep", normal([8, 1, 3, 3], 2))], { group: 8 });
  x = b.op("Conv", [x, g.initializer("c", normal([6, 8, 2, 2], 3))]);
  g.addOutput(x);
  return model;
}

async function outputs(model: Model, data: Dataset) {
  const session = await open(model, { threads: 1 });
  const y = await session.run(data.take(Array.from({ length: data.length }, (_, i) => i)));
  await session.release();
  return numbersOf(Object.values(y)[0]!);
}

const cases = {
  dense: { model: dense(), calibration: inputs(256, 16, [], 1), test: inputs(128, 16, [], 2), exclude: "" },
  conv: { model: conv(), calibration: inputs(64, 4, [6, 6], 1), test: inputs(32, 4, [6, 6], 2), exclude: "deep" },
};
type Case = keyof typeof cases;

async function run(name: Case, step: Step) {
  const { model, calibration, test } = cases[name];
  const { model: small, run } = await compress(model, [step], { calibration, measure: null, threads: 1 });
  const want = await outputs(model, test);
  const got = await outputs(small, test);
  const weights = new Map(weightsOf(small).map(({ value }) => [value.name, numbersOf(value.data!)]));
  return { error: Array.from(got).reduce((sum, y, i) => sum + (y - want[i]!) ** 2, 0), weights, notes: run.steps[0]!.notes.join("\n") };
}

const zeros = (w: ArrayLike<number>) => Array.from(w).filter((x) => x === 0).length;

describe.each(Object.keys(cases) as Case[])("%s", (name) => {
  const { exclude } = cases[name];
  test("outputs on other data: nearer with Wanda than with magnitude, and with SparseGPT nearer still", async () => {
    const options = { sparsity: 0.5, epochs: 0, exclude };
    const plain = await run(name, magnitude({ ...options, scope: "layer" }));
    const looked = await run(name, wanda({ ...options, refine: "none" }));
    const swapped = await run(name, wanda({ ...options, refine: "swaps" }));
    const refined = await run(name, wanda({ ...options, refine: "loss" }));
    const solved = await run(name, sparsegpt(options));
    const later = await run(name, sparsegpt({ ...options, sequential: true }));
    expect(looked.error).toBeLessThan(0.9 * plain.error);
    expect(swapped.error).toBeLessThan(looked.error);
    expect(refined.error).toBeLessThan(0.9 * looked.error);
    expect(refined.notes).toMatch(/refined by the curvature of the outputs' squares: error of what goes −/);
    expect(solved.error).toBeLessThan(looked.error);
    expect(solved.error).toBeLessThan(0.9 * plain.error);
    expect(later.error).toBeLessThan(0.9 * plain.error);
    expect([...later.weights.values()]).not.toEqual([...solved.weights.values()]);
    expect(later.notes).toMatch(/in [23] passes over the data/);
    const all = (r: typeof refined) => [...r.weights.values()].reduce((n, w) => n + zeros(w), 0);
    expect(all(refined)).toBe(all(looked));
    for (const { weights } of [looked, swapped, solved, later])
      for (const [n, w] of weights) expect(zeros(w)).toBe(n === exclude ? 0 : w.length / 2);
  });
});

test("Wanda: |w| times the input's norm, half of each output's weights", async () => {
  const { weights } = await run("dense", wanda({ refine: "none", epochs: 0, include: "a" }));
  const x = numbersOf(cases.dense.calibration.take(Array.from({ length: 256 }, (_, i) => i)).x!);
  const before = numbersOf(weightsOf(cases.dense.model).find((w) => w.value.name === "a")!.value.data!);
  for (let r = 0; r < 24; r++) {
    const score = (k: number) => {
      let squares = 0;
      for (let i = 0; i < 256; i++) squares += x[i * 16 + k]! ** 2;
      return Math.abs(before[k * 24 + r]!) * Math.sqrt(squares);
    };
    const order = Array.from({ length: 16 }, (_, k) => k).sort((i, j) => score(i) - score(j));
    order.forEach((k, rank) => {
      expect(weights.get("a")![k * 24 + r]).toBe(rank < 8 ? 0 : before[k * 24 + r]);
    });
  }
});

test("2:4 along the inputs, as layers see them", async () => {
  const patterned = (refine: "none" | "swaps" | "loss") => wanda({ pattern: "2:4", epochs: 0, refine });
  for (const step of [patterned("none"), patterned("swaps"), patterned("loss"), sparsegpt({ pattern: "2:4" })]) {
    const { weights } = await run("dense", step);
    const c = weights.get("c")!;
    for (let i = 0; i < c.length; i += 4) expect(zeros(c.slice(i, i + 4))).toBe(2);
    const a = weights.get("a")!;
    for (let r = 0; r < 24; r++) for (let k = 0; k < 16; k += 4) expect(zeros([0, 1, 2, 3].map((i) => a[(k + i) * 24 + r]!))).toBe(2);
  }
});

test("what cannot be done is named", async () => {
  const solved = await run("conv", sparsegpt({ epochs: 0 }));
  expect(solved.notes).toMatch(/stay as they are: .*: the groups of a Conv have an input each/);
  expect(zeros(solved.weights.get("deep")!)).toBe(0);
  const looked = await run("conv", wanda({ epochs: 0 }));
  expect(looked.notes).toContain("by magnitude alone, as their inputs cannot be gathered or were not seen: deep");
  await expect(run("conv", sparsegpt({ include: "deep" }))).rejects.toThrow("no selected weight has inputs that can be gathered");
});

test("training afterwards leaves what was removed at 0", async () => {
  const { model, calibration } = cases.dense;
  const all = Array.from({ length: calibration.length }, (_, i) => i);
  const target = tensor("float32", [calibration.length, 8], await outputs(model, calibration));
  const train = fromArrays({ x: calibration.take(all).x!, target });
  const step = sparsegpt({ epochs: 4, loss: "mse:target=target", learningRate: 0.003 });
  const options = { calibration, measure: null, threads: 1 } as const;
  const { model: trained } = await compress(model, [step], { ...options, train });
  const { model: plain } = await compress(model, [sparsegpt({ epochs: 0 })], options);
  const [a, b] = [trained, plain].map((m) => weightsOf(m).map(({ value }) => numbersOf(value.data!)));
  a!.forEach((w, i) => {
    expect([...w]).not.toEqual([...b![i]!]);
    w.forEach((x, k) => {
      if (b![i]![k] === 0) expect(x).toBe(0);
    });
  });
});

test("moments of a model of opset 9", async () => {
  const { model, calibration } = cases.conv;
  const old = cloneModel(model);
  old.opsets.set("", 9);
  const { model: small } = await compress(old, [sparsegpt({ exclude: "deep" })], { calibration, measure: null, threads: 1 });
  for (const { value } of weightsOf(small)) {
    const w = numbersOf(value.data!);
    expect(zeros(w)).toBe(value.name === "deep" ? 0 : w.length / 2);
  }
});
