import { expect, test } from "vitest";
import { fromArrays } from "../../data/dataset.ts";
import { Graph, type Model, newModel, type Value } from "../../ir/graph.ts";
import { Build } from "../../ops/build.ts";
import { compress } from "../../recipe/compress.ts";
import { open } from "../../runtime/session.ts";
import { random } from "../../tensor/random.ts";
import { numbersOf, type Tensor, tensor } from "../../tensor/tensor.ts";
import { weightOnly } from "../index.ts";
import { withMoments } from "../moments.ts";
import { weightLayers } from "../weightlayers.ts";

const normal = (shape: readonly number[], seed: number, deviation = 1): Tensor =>
  tensor("float32", shape, random(seed).fillNormal(new Float32Array(shape.reduce((a, d) => a * d, 1)), deviation));

/** Rows of 40 numbers that hang together, of very different sizes. */
const correlated = (n: number, seed: number): Tensor => {
  const r = random(seed);
  const size = Array.from({ length: 40 }, (_, i) => Math.exp(((i * 7) % 11) / 3 - 2));
  const x = r.fillNormal(new Float32Array(n * 40));
  for (let i = 1; i < x.length; i++) x[i]! += 0.8 * x[i - 1]!;
  return tensor(
    "float32",
    [n, 40],
    x.map((v, i) => v * size[i % 40]!),
  );
};

function modelOf(make: (b: Build, x: Value) => Value): Model {
  const model = newModel("m", 21, 10);
  const b = Build.of(model, "m");
  model.graph.addOutput(make(b, model.graph.input("x", "float32", ["batch", 40])));
  return model;
}

/** A MatMul, a Gemm, and a MatMul in the branches of an If. */
const dense = () =>
  modelOf((b, x) => {
    const w = (shape: number[], seed: number) => b.graph.initializer(`w${seed}`, normal(shape, seed, 0.2));
    const h = b.op("Gelu", [b.matmul(x, w([40, 48], 1))]);
    const y = b.op("Gemm", [h, w([32, 48], 2)], { transB: 1 });
    const branch = (seed: number) => {
      const g = new Graph(`branch${seed}`, b.graph);
      const inner = new Build(g, b.opset, `branch${seed}`);
      g.addOutput(inner.matmul(y, g.initializer(`w${seed}`, normal([32, 24], seed, 0.2))));
      return g;
    };
    const positive = b.op("Greater", [b.reduce("ReduceMax", x, [0, 1], false), b.f32(0)]);
    return b.op("If", [positive], { then_branch: branch(3), else_branch: branch(4) });
  });

const conv = () =>
  modelOf((b, x) => {
    const image = b.reshape(x, [-1, 2, 4, 5]);
    const w = b.graph.initializer("w", normal([24, 2, 3, 2], 5, 0.3));
    return b.op("Conv", [image, w], { pads: [1, 0, 1, 1], strides: [1, 2], dilations: [1, 1] });
  });

async function outputs(model: Model, x: Tensor): Promise<Float64Array | Float32Array> {
  const session = await open(model, { threads: 1, config: { "session.qdq_matmulnbits_accuracy_level": "0" } });
  const y = await session.run({ x });
  await session.release();
  return numbersOf(Object.values(y)[0]!);
}

const data = fromArrays({ x: correlated(600, 9) });
const fresh = correlated(200, 10);

async function errorOf(model: Model, algorithm: "rtn" | "gptq" | "awq" | "hqq" | "adaround", params: object, calibration = data) {
  const step = weightOnly({ algorithm, smallest: 0, maxError: 1e9, blockSize: 16, ...params });
  const { model: result, run } = await compress(model, [step], { measure: null, threads: 1, calibration });
  const [want, got] = [await outputs(model, fresh), await outputs(result, fresh)];
  let sum = 0;
  for (let i = 0; i < want.length; i++) sum += (want[i]! - got[i]!) ** 2;
  return { error: sum, notes: run.steps[0]!.notes.join("\n"), got };
}

test.each([
  ["dense", "int4", dense()],
  ["dense", "int3", dense()],
  ["conv", "int4", conv()],
] as const)("%s in %s: each algorithm's outputs are nearer than rounding to nearest's, on data it has not seen", async (name, type, model) => {
  const plain = await errorOf(model, "rtn", { type });
  for (const [algorithm, most] of [
    ["gptq", name === "conv" ? 0.9 : 0.75],
    ["awq", name === "conv" ? 1 : 0.95],
    ["hqq", 1],
    ["adaround", 0.95],
  ] as const) {
    const { error, got } = await errorOf(model, algorithm, { type });
    expect(got).not.toEqual(plain.got);
    expect(error).toBeLessThan(most * plain.error);
  }
});

test("moments are those of the rows a layer multiplies, a Conv's patches too", async () => {
  const x = correlated(7, 3);
  for (const model of [dense(), conv()]) {
    const { layers } = weightLayers(model);
    const [l] = layers;
    let seen = 0;
    await withMoments(model, [l!], fromArrays({ x }), 1, (_, m) => {
      // Σ ‖Wx‖² both ways.
      seen = m!.n;
      const { rows, columns } = l!.matrix;
      const w = numbersOf(l!.weight.data!);
      let sum = 0;
      for (let r = 0; r < rows; r++)
        for (let i = 0; i < columns; i++)
          for (let j = 0; j < columns; j++) {
            const at = (c: number) => (l!.matrix.turned ? w[c * rows + r]! : w[r * columns + c]!);
            sum += at(i) * at(j) * m!.hessian[i * columns + j]!;
          }
      seen = sum;
    });
    const only = model.graph;
    only.setOutput(0, l!.node.outputs[0]!);
    const y = await outputs(model, x);
    const squares = Array.from(y).reduce((a, v) => a + v * v, 0);
    expect(seen / squares).toBeCloseTo(1, 4);
  }
});

test("AWQ divides what it multiplied weights by, also the input of a graph", async () => {
  const model = dense();
  const step = weightOnly({ algorithm: "awq", type: "int4", smallest: 0, maxError: 1e9, blockSize: 16 });
  const { model: result, run } = await compress(model, [step], { measure: null, threads: 1, calibration: data });
  expect(run.steps[0]!.notes.join()).toMatch(/awq: the inputs of [123] of 3 groups of layers rescaled, [123] of them by a Mul/);
  const [x] = result.graph.inputs;
  const readers = [...x!.uses].map((u) => ("node" in u ? u.node.opType : ""));
  expect(readers).toContain("Mul");
  expect(readers).not.toContain("MatMulNBits");
});

test("what is left to rounding to nearest is said", async () => {
  const model = modelOf((b, x) => {
    const table = b.graph.initializer("w", normal([4, 10, 16], 5, 0.3));
    return b.matmul(b.reshape(x, [-1, 4, 1, 10]), table);
  });
  const { notes } = await errorOf(model, "gptq", { type: "int4" });
  expect(notes).toMatch(/gptq: rounded to nearest: .*: a batch of matrices has an input each/);
  const few = await errorOf(dense(), "gptq", { type: "int4" }, fromArrays({ x: correlated(20, 9) }));
  expect(few.notes).toContain("fewer rows of calibration data than inputs");
  await expect(errorOf(dense(), "gptq", { type: "nf4" })).rejects.toThrow("nf4 is rounded to nearest only");
});
