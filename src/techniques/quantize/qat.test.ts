import { describe, expect, test } from "vitest";
import { learnedStep } from "../../../test/gradcheck/quantized.ts";
import { type Dataset, fromArrays } from "../../data/dataset.ts";
import { cloneModel, type Model, newModel } from "../../ir/graph.ts";
import { stored } from "../../ir/walk.ts";
import { mlp } from "../../nets/mlp.ts";
import { net } from "../../nets/net.ts";
import { Build } from "../../ops/build.ts";
import { compress } from "../../recipe/compress.ts";
import { observe } from "../../runtime/observe.ts";
import { histogram } from "../../runtime/observers.ts";
import { open } from "../../runtime/session.ts";
import { observeShapes } from "../../runtime/shapes.ts";
import { random } from "../../tensor/random.ts";
import { floatsOf, numbersOf, tensor } from "../../tensor/tensor.ts";
import { fit } from "../../train/fit.ts";
import { crossEntropy } from "../../train/loss.ts";
import { sgd } from "../../train/optimizer.ts";
import { grad } from "../../transform/grad.ts";
import { upgrade } from "../../transform/upgrade.ts";
import { magnitude } from "../prune/magnitude.ts";
import { planChain } from "./chain.ts";
import { bitsOf, insertFakes, namesOf } from "./fakes.ts";
import { layersOf } from "./layers.ts";
import { fakeQuantize, inputSpan, leastError, stepOf, weightSpan } from "./lsq.ts";
import { qat } from "./qat.ts";
import { ship } from "./shipped.ts";

function cnn(): Model {
  const n = net("cnn", 1);
  let x = n.model.graph.input("x", "float32", ["batch", 2, 8, 8]);
  x = n.relu("relu1", n.conv("conv1", x, [2, 8], { kernel: 3, pad: 1 }));
  const branch = n.conv("conv2", x, [8, 8], { kernel: 3, pad: 1 });
  x = n.relu("sum", n.op("add", "Add", [branch, x]));
  x = n.op("pool", "MaxPool", [x], { kernel_shape: [2, 2], strides: [2, 2] });
  x = n.relu("relu3", n.dense("fc1", n.op("flat", "Flatten", [x]), [128, 16]));
  return n.done(n.dense("fc2", x, [16, 5], "glorot"), ["batch", 5]);
}

/** Each class has a mean of its own. */
function examples(n: number, shape: readonly number[], classes: number, labels = true): Dataset {
  const size = shape.reduce((a, d) => a * d, 1);
  const r = random(7, "qat");
  const y = Array.from({ length: n }, () => r.below(classes));
  const x = r.fillNormal(new Float32Array(n * size));
  y.forEach((c, i) => {
    for (let k = 0; k < size; k++) x[i * size + k]! += (k * 7 + c) % classes === 0 ? 1 : 0;
  });
  return fromArrays({ x: tensor("float32", [n, ...shape], x), ...(labels ? { labels: tensor("int64", [n], y) } : {}) });
}

async function outputs(model: Model, data: Dataset, pairs = true): Promise<Float32Array> {
  const s = await open(model, { threads: 1, training: pairs });
  try {
    return floatsOf(Object.values(await s.run(data.take(Array.from({ length: 32 }, (_, i) => i))))[0]!);
  } finally {
    await s.release();
  }
}

describe("the training graph and the file that ships", () => {
  test.each([
    [8, 8, "channel"],
    [4, 4, "channel"],
    [3, 2, "tensor"],
    [2, 5, "channel"],
    [4, 0, "channel"],
    [2, 0, "tensor"],
  ] as const)("weights in %i bits, inputs in %i, a scale for each %s: the same numbers", async (weight, input, granularity) => {
    const model = cnn();
    upgrade(model, 25);
    const data = examples(64, [2, 8, 8], 4);
    const { layers } = layersOf(model);
    const plan = input ? planChain(model.graph, layers, true) : null;
    const seen = plan ? await observe(model, [...new Set(plan.values.values())], data, histogram()) : new Map();
    const widths = new Map(layers.map((l) => [l, { weight, input }]));
    const fakes = insertFakes(model, layers, plan, seen, {
      widths,
      granularity,
      symmetric: false,
      learn: true,
      elements: () => 64,
      ndim: () => null,
    });
    // Scales away from where they began.
    const r = random(3, "scales");
    for (const name of namesOf(fakes).learned) {
      const v = [...model.graph.initializers].find((i) => i.name === name)!;
      model.graph.setData(
        v,
        tensor(
          "float32",
          v.data!.shape,
          floatsOf(v.data!).map(() => 0.4 * (r.uniform() - 0.5)),
        ),
      );
    }
    const trained = await outputs(model, data);
    await ship(model, fakes, { packed: true, integers: input > 0, threads: 1 });
    const shipped = await outputs(model, data);
    expect(Buffer.from(shipped.buffer).equals(Buffer.from(trained.buffer))).toBe(true);
    expect([...model.graph.nodes].some((n) => n.domain === "pith" || n.opType === "Exp" || n.opType === "Round")).toBe(false);
    const rest = [...model.graph.initializers].filter((v) => /scale0|log_scale|gradient_scale|master/.test(v.name) && v.uses.size === 0);
    expect(rest).toEqual([]);
    // In integer kernels a sum may round to the next code, and 4-bit weights alone run in a kernel that rounds its input to 8 bits.
    const integer = await outputs(model, data, false);
    const norm = (v: Float32Array) => Math.sqrt(v.reduce((s, x) => s + x * x, 0));
    expect(norm(integer.map((v, i) => v - shipped[i]!)) / norm(shipped)).toBeLessThan(input === 8 || input === 0 ? 0.01 : 0.1);
  });
});

test("the spelling has the paper's gradients: eq. 3 and 5 of Esser et al. 2020, by way of s = s₀·exp(p)", async () => {
  const shape = [5, 4];
  const trip = { codes: "int4", shape, scales: [5], axis: 0, zeros: null } as const;
  const r = random(2, "lsq");
  const s = Float32Array.from({ length: 5 }, () => 0.2 + 0.3 * r.uniform());
  const x = tensor(
    "float32",
    shape,
    r.fillNormal(new Float32Array(20)).map((v, i) => (i % 3 ? v : 3 * v)),
  );
  const model = newModel("lsq", 17, 10);
  const b = Build.of(model);
  const v = model.graph.input("x", "float32", shape);
  const span = weightSpan(4);
  const step = stepOf(b, "w", s, [5, 1], span, 4, true);
  const g = r.fillNormal(new Float32Array(20));
  const y = fakeQuantize(b, v, step).outputs[0]!;
  model.graph.addOutput(b.op("ReduceSum", [b.mul(y, b.constant(tensor("float32", shape, g)))], { keepdims: 0 }));
  const p = [...model.graph.initializers].find((i) => i.name === step.learned)!;
  model.graph.setData(p, null);
  p.type = { dtype: "float32", shape: [5, 1] };
  model.graph.inputs.push(p);
  const feeds = { x, [p.name]: tensor("float32", [5, 1], [0, 0, 0, 0, 0]) };
  const seen = await observeShapes(model, feeds);
  const wrt = seen.graph.inputs;
  const gradients = grad(seen, seen.graph.outputs[0]!, wrt);
  seen.graph.removeOutput(0);
  for (const w of wrt) seen.graph.addOutput(gradients.get(w)!);
  const session = await open(seen);
  const [gx, gp] = Object.values(await session.run(feeds)).map((t) => numbersOf(t));
  await session.release();
  const want = learnedStep(trip, x, tensor("float32", [5], s), g);
  want.x.forEach((w, i) => {
    expect(gx![i]).toBeCloseTo(w, 5);
  });
  // dp = s·ds, scaled by 1/(√(N·Qp)·s₀²).
  want.s.forEach((w, i) => {
    expect(gp![i]! * s[i]!).toBeCloseTo(w / Math.sqrt(4 * 7), 4);
  });
});

test("a graph that came with QuantizeLinear and DequantizeLinear trains as the spelling in plain ops does, scales too", async () => {
  const data = examples(96, [24], 4);
  const losses = async (pairs: boolean) => {
    const model = newModel("pairs", 21, 10);
    const b = Build.of(model);
    const r = random(5, "pairs");
    const x = model.graph.input("x", "float32", ["batch", 24]);
    const [low, high] = [-8, 7];
    const through = (v: typeof x, name: string, scale: number) => {
      const s = model.graph.initializer(name, tensor("float32", [], [scale]));
      if (!pairs) return fakeQuantize(b, v, { value: s, span: { low, high }, learned: name, settings: [] }).outputs[0]!;
      const zero = b.constant(tensor("int4", [], [0]));
      return b.op("DequantizeLinear", [b.op("QuantizeLinear", [v, s, zero]), s, zero]);
    };
    const w = model.graph.initializer("w", tensor("float32", [24, 4], r.fillNormal(new Float32Array(96), 0.3)));
    model.graph.addOutput(b.matmul(through(x, "sx", 0.4), through(w, "sw", 0.1)));
    const fitted = await fit(model, {
      data,
      loss: crossEntropy(),
      optimizer: sgd({ learningRate: 0.02 }),
      trainable: ["w", "sx", "sw"],
      steps: 8,
      seed: 1,
      threads: 1,
    });
    expect([...fitted.trained].sort()).toEqual(["sw", "sx", "w"]);
    return fitted.losses;
  };
  const [pairs, plain] = [await losses(true), await losses(false)];
  expect(pairs[7]!).toBeLessThan(pairs[0]!);
  pairs.forEach((v, i) => {
    expect(v).toBeCloseTo(plain[i]!, 5);
  });
});

describe("scales and spans", () => {
  test("signed weights, 8 bits without −128; unsigned codes around the zero of the range", () => {
    expect(weightSpan(2)).toEqual({ low: -2, high: 1 });
    expect(weightSpan(8)).toEqual({ low: -127, high: 127 });
    expect(inputSpan(0, 5, 4, false)).toEqual({ low: 0, high: 15 });
    expect(inputSpan(-1, 3, 2, false)).toEqual({ low: -1, high: 2 });
    expect(inputSpan(-1, 3, 4, true)).toEqual({ low: -8, high: 7 });
  });

  test("the scale of least squared error is better than that of the whole range, and exact where codes can be", () => {
    const w = random(1, "w").fillNormal(new Float32Array(2000));
    const span = weightSpan(3);
    const error = (s: number) => w.reduce((e, v) => e + (v - s * Math.min(span.high, Math.max(span.low, Math.round(v / s)))) ** 2, 0);
    const widest = Math.max(...w.map(Math.abs)) / 4;
    const s = leastError(w, null, span);
    expect(error(s)).toBeLessThan(0.7 * error(widest));
    for (const f of [0.9, 1.1]) expect(error(s)).toBeLessThan(error(s * f));
    expect(leastError([-0.5, 0.25, 0, 0.25], null, weightSpan(2))).toBeCloseTo(0.25, 6);
    expect(leastError([0, 0], null, span)).toBe(0);
  });
});

const bytesOf = (model: Model) => Object.fromEntries([...stored(model.graph)].map((s) => [s.name, s.tensor.dtype]));

test("bits decide the stored type, the opset and the codes' Clip; the first and the last layer keep 8", async () => {
  const data = examples(48, [24], 4);
  const model = mlp({ sizes: [24, 32, 16, 4], seed: 3 });
  const run = async (params: object) => {
    const notes: string[] = [];
    const out = await compress(cloneModel(model), [qat({ epochs: 0, ...params })], { calibration: data, measure: null, seed: 1 });
    notes.push(...out.run.steps.flatMap((s) => s.notes));
    return { model: out.model, notes };
  };
  const four = await run({ weightBits: 4, activationBits: 4 });
  const types = Object.values(bytesOf(four.model));
  expect([types.filter((t) => t === "int4").length, types.filter((t) => t === "int8").length > 1]).toEqual([1, true]);
  expect(four.model.opsets.get("")).toBe(21);
  expect([...four.model.graph.nodes].filter((n) => n.opType === "Clip").length).toBe(1);
  expect(four.notes).toContain("1 layer: 4-bit weights, 4-bit inputs");
  expect(four.notes).toContain("2 layers: 8-bit weights, 8-bit inputs");
  expect(four.notes).toContain(`weights: ${24 * 32 + (32 * 16) / 2 + 64} bytes in place of ${4 * (24 * 32 + 32 * 16 + 64)}`);
  const two = await run({ weightBits: 2, activationBits: 0, endBits: 2 });
  expect(Object.values(bytesOf(two.model)).filter((t) => t === "int2").length).toBe(3);
  expect([two.model.opsets.get(""), two.model.irVersion]).toEqual([25, 13]);
  const old = await run({ weightBits: 2, activationBits: 2, endBits: 2, storage: "int8" });
  expect(old.model.opsets.get("")).toBe(model.opsets.get(""));
  for (const m of [four, two, old]) expect((await outputs(m.model, data)).every(Number.isFinite)).toBe(true);
  await expect(run({ activationBits: 1 })).rejects.toThrow("qat: activationBits must be 0 or from 2 to 8; got 1");
});

test("training wins back what rounding to 2 bits costs: on labels, and on the original's outputs without any", async () => {
  const shape = [24];
  const train = examples(512, shape, 4);
  const { model: dense } = await compress(mlp({ sizes: [24, 32, 16, 4], seed: 3 }), [qat({ exclude: "*", epochs: 0 })], {
    calibration: train,
    measure: null,
  });
  await fit(dense, { data: train, loss: crossEntropy(), epochs: 6, seed: 1, threads: 1 });
  /** Relative distance of the outputs from the dense net's. */
  const distance = async (m: Model) => {
    const [a, b] = [await outputs(dense, train), await outputs(m, train)];
    return Math.sqrt(a.reduce((s, v, i) => s + (v - b[i]!) ** 2, 0) / a.reduce((s, v) => s + v * v, 0));
  };
  const bits = { weightBits: 2, activationBits: 3, endBits: 2, learningRate: 3e-3, batchSize: 32 } as const;
  const run = async (params: object, labels: boolean) =>
    (await compress(dense, [qat({ ...bits, ...params })], { train: examples(512, shape, 4, labels), measure: null, seed: 1, threads: 1 }))
      .model;
  const rounded = await distance(await run({ epochs: 0 }, true));
  const taught = await distance(await run({ epochs: 8 }, false));
  expect(taught).toBeLessThan(0.85 * rounded);
  const fixed = await distance(await run({ epochs: 8, method: "ste" }, false));
  expect(fixed).toBeLessThan(0.9 * rounded);
  const loss = async (m: Model) => {
    const y = await outputs(m, train);
    const ids = Array.from(numbersOf(train.take(Array.from({ length: 32 }, (_, i) => i)).labels!));
    return ids.reduce((s, c, i) => {
      const row = y.slice(4 * i, 4 * i + 4);
      return s - row[c]! + Math.log(row.reduce((t, v) => t + Math.exp(v), 0));
    }, 0);
  };
  expect(await loss(await run({ epochs: 8 }, true))).toBeLessThan(await loss(await run({ epochs: 0 }, true)));
});

test("sums of branches, and what is read as floats too, keep 8 bits where the layers have 4", () => {
  const bits = (floats: string | null) => {
    const model = cnn();
    const { graph } = model;
    const read = [...graph.nodes].find((n) => n.name === floats)?.outputs[0];
    if (read) graph.addOutput(Build.of(model).op("Sigmoid", [read]));
    const { layers } = layersOf(model);
    const widths = bitsOf(planChain(graph, layers, true), new Map(layers.map((l) => [l, { weight: 4, input: 4 }])));
    return Object.fromEntries([...widths].map(([v, b]) => [v.producer?.name ?? v.name, b]));
  };
  const alone = { x: 4, relu1: 8, conv2: 8, sum: 4, pool: 4, flat: 4, relu3: 4 };
  expect(bits(null)).toEqual(alone);
  expect(bits("relu3")).toEqual({ ...alone, relu3: 8 });
});

test("what was pruned before stays pruned", async () => {
  const train = examples(128, [24], 4);
  const steps = [magnitude({ sparsity: 0.7, epochs: 0 }), qat({ weightBits: 4, activationBits: 4, epochs: 2, learningRate: 1e-2 })];
  const { model } = await compress(mlp({ sizes: [24, 32, 16, 4], seed: 3 }), steps, { train, measure: null, seed: 1, threads: 1 });
  const codes = [...stored(model.graph)].filter((s) => s.tensor.shape.length === 2).flatMap((s) => Array.from(numbersOf(s.tensor)));
  expect(codes.length).toBe(24 * 32 + 32 * 16 + 64);
  expect(codes.filter((c) => c === 0).length).toBeGreaterThanOrEqual(Math.floor(0.7 * codes.length));
});
