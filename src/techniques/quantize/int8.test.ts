import { describe, expect, test } from "vitest";
import { type Batch, type Dataset, fromArrays, fromFeeds } from "../../data/dataset.ts";
import type { ValuesOf } from "../../data/params.ts";
import { check } from "../../ir/check.ts";
import { cloneModel, float, Graph, type Model, newModel, type Value } from "../../ir/graph.ts";
import { allNodes, find } from "../../ir/walk.ts";
import { writeModel } from "../../onnx/write.ts";
import { Build } from "../../ops/build.ts";
import { open } from "../../runtime/session.ts";
import { random } from "../../tensor/random.ts";
import { floatsOf, numbersOf, type Tensor, tensor, valuesOf } from "../../tensor/tensor.ts";
import { transpose } from "../../tensor/transpose.ts";
import type { Context } from "../technique.ts";
import { int8 } from "./int8.ts";

type Params = Partial<ValuesOf<typeof int8.params>>;

const normal = (name: string, shape: readonly number[], size = 1): Tensor => {
  const x = random(1, name).fillNormal(new Float32Array(shape.reduce((a, d) => a * d, 1)));
  return tensor(
    "float32",
    shape,
    x.map((v) => size * v),
  );
};

/** A model of one input "x" and one output. */
function net(
  shape: readonly (number | string)[],
  make: (b: Build, x: Value, w: (name: string, t: Tensor) => Value) => Value,
  opset = 15,
): Model {
  const model = newModel("net", opset);
  const b = Build.of(model);
  model.graph.addOutput(make(b, model.graph.input("x", "float32", shape), (name, t) => model.graph.initializer(name, t)));
  return model;
}

async function apply(model: Model, params: Params, calibration: Dataset | null = null): Promise<{ model: Model; notes: string[] }> {
  const notes: string[] = [];
  const out = cloneModel(model);
  const context: Context = {
    seed: 0,
    train: null,
    calibration,
    original: model,
    threads: 1,
    load: async () => model,
    // What older CPUs would make of it depends on every number: saturation.test.ts looks at those lines.
    note: (line) => line.includes("without VNNI") || notes.push(line),
    progress: () => {},
  };
  // The numbers are worked out without corrections; what those do has a test of its own.
  await int8({ smallest: 0, biasCorrection: false, ...params }).apply(out, context);
  check(out);
  return { model: out, notes };
}

async function run(model: Model, feeds: Batch, optimization: "all" | "disabled" = "all"): Promise<Tensor> {
  const s = await open(model, { threads: 1, optimization });
  const y = Object.values(await s.run(feeds))[0]!;
  await s.release();
  return y;
}

function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [wrong, all] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    wrong += (a[i]! - b[i]!) ** 2;
    all += b[i]! ** 2;
  }
  return Math.sqrt(wrong / all);
}

const count = (model: Model) => {
  const out: Record<string, number> = {};
  for (const n of allNodes(model.graph)) out[n.opType] = (out[n.opType] ?? 0) + 1;
  return out;
};
const stored = (model: Model, name: string) => find(model.graph, name)!.data!;
const even = (x: number) => {
  const r = Math.round(x);
  return r - x === 0.5 && r % 2 !== 0 ? r - 1 : r;
};

/** Σ_k (x[m,k] − zero)·w[k,n], in integers. */
function integerProduct(x: ArrayLike<number>, zero: number, w: ArrayLike<number>, [m, k, n]: readonly [number, number, number]): number[] {
  const y = new Array<number>(m * n).fill(0);
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++) for (let l = 0; l < k; l++) y[i * n + j]! += (x[i * k + l]! - zero) * w[l * n + j]!;
  return y;
}

describe("the numbers, in integer arithmetic", () => {
  const [m, k, n] = [5, 257, 3];
  const w = normal("w", [k, n], 0.1);
  const bias = normal("b", [1, n]);
  const x = normal("x", [m, k]);
  const gemm = net(["m", k], (b, v, c) =>
    b.op("Gemm", [v, c("w", transpose(w)), c("b", bias)], { transB: 1, alpha: float(0.5), beta: float(2) }),
  );

  test("dynamic", async () => {
    const { model } = await apply(gemm, { mode: "dynamic" });
    const codes = Array.from(valuesOf(stored(model, "w/int8")) as Int8Array);
    const scales = floatsOf(stored(model, "w/scale"));
    expect(Math.max(...codes.map(Math.abs))).toBe(127);
    const [min, max] = [Math.min(0, ...floatsOf(x)), Math.max(0, ...floatsOf(x))];
    const s = Math.fround((max - min) / 255);
    const zero = even(Math.min(255, Math.max(0, -min / s)));
    const q = Array.from(floatsOf(x), (v) => Math.min(255, Math.max(0, even(Math.fround(v / s)) + zero)));
    const wanted = integerProduct(q, zero, codes, [m, k, n]).map((v, i) => v * s * scales[i % n]! + 2 * floatsOf(bias)[i % n]!);
    for (const level of ["all", "disabled"] as const) {
      const y = floatsOf(await run(model, { x }, level));
      wanted.forEach((v, i) => {
        expect(y[i]).toBeCloseTo(v, 4);
      });
    }
    expect(distance(wanted, floatsOf(await run(gemm, { x })))).toBeLessThan(0.02);
  });

  test("static", async () => {
    const { model } = await apply(gemm, { mode: "static" }, fromArrays({ x }));
    const codes = valuesOf(stored(model, "w/int8")) as Int8Array;
    const scales = floatsOf(stored(model, "w/scale"));
    const s = numbersOf(stored(model, "int8/x/scale"))[0]!;
    const zero = numbersOf(stored(model, "int8/x/zero"))[0]!;
    expect(s).toBe(Math.fround(Math.fround(Math.max(...floatsOf(x)) - Math.min(...floatsOf(x))) / 255));
    const q = Array.from(floatsOf(x), (v) => Math.min(255, Math.max(0, even(Math.fround(v / s)) + zero)));
    const b = Array.from(scales, (sw, i) => even((2 * floatsOf(bias)[i]!) / Math.fround(s * sw)));
    const gemmNode = [...model.graph.nodes].find((v) => v.opType === "Gemm")!;
    expect(Array.from(numbersOf(gemmNode.inputs[2]!.producer!.inputs[0]!.data!))).toEqual(b);
    const wanted = integerProduct(q, zero, codes, [m, k, n]).map((v, i) => (v + b[i % n]!) * s * scales[i % n]!);
    for (const level of ["all", "disabled"] as const) {
      const y = floatsOf(await run(model, { x }, level));
      wanted.forEach((v, i) => {
        expect(y[i]).toBeCloseTo(v, 4);
      });
    }
  });

  test("a static Conv: codes in, codes out", async () => {
    const conv = net([1, 4, 6, 6], (b, v, c) =>
      b.op("Clip", [b.op("Conv", [v, c("w", normal("w", [8, 2, 3, 3], 0.3)), c("b", normal("b", [8]))], { group: 2 }), b.f32(0), b.f32(2)]),
    );
    const x = normal("x", [1, 4, 6, 6]);
    const { model } = await apply(conv, { mode: "static" }, fromArrays({ x }));
    expect(count(model)).toEqual({ QuantizeLinear: 2, DequantizeLinear: 4, Conv: 1 });
    const node = [...model.graph.nodes].find((v) => v.opType === "Conv")!;
    const [codes, scales] = [valuesOf(stored(model, "w/int8")) as Int8Array, floatsOf(stored(model, "w/scale"))];
    const [s, zero] = [numbersOf(stored(model, "int8/x/scale"))[0]!, numbersOf(stored(model, "int8/x/zero"))[0]!];
    const pair = model.graph.outputs[0]!.producer!;
    const [t, z] = [numbersOf(pair.inputs[1]!.data!)[0]!, numbersOf(pair.inputs[2]!.data!)[0]!];
    // Nothing below 0 comes out, so all 255 steps lie between 0 and the bound.
    expect(z).toBe(0);
    expect(t).toBeLessThanOrEqual(Math.fround(2 / 255));
    const b = numbersOf(node.inputs[2]!.producer!.inputs[0]!.data!);
    const q = Array.from(floatsOf(x), (v) => Math.min(255, Math.max(0, even(Math.fround(v / s)) + zero)) - zero);
    const y = floatsOf(await run(model, { x }));
    let off = 0;
    for (let o = 0; o < 8; o++) {
      for (let i = 0; i < 4; i++) {
        for (let j = 0; j < 4; j++) {
          let sum = b[o]!;
          for (let c = 0; c < 2; c++)
            for (let p = 0; p < 9; p++)
              sum += q[((o < 4 ? 0 : 2) + c) * 36 + (i + Math.floor(p / 3)) * 6 + j + (p % 3)]! * codes[(o * 2 + c) * 9 + p]!;
          const code = Math.min(255, Math.max(0, even((sum * s * scales[o]!) / t)));
          const got = y[o * 16 + i * 4 + j]! / t;
          // The runtime multiplies in float32: ties may fall the other way.
          expect(Math.abs(got - code)).toBeLessThan(1.01);
          if (Math.abs(got - code) > 0.5) off++;
        }
      }
    }
    expect(off).toBeLessThanOrEqual(1);
  });
});

describe("weights, wherever they stand", () => {
  const x = normal("x", [4, 16]);
  const data = fromArrays({ x });
  const near = async (before: Model, after: Model, feeds: Batch = { x }) =>
    expect(distance(floatsOf(await run(after, feeds)), floatsOf(await run(before, feeds)))).toBeLessThan(0.03);

  test.each(["dynamic", "static"] as const)("behind Transpose and Cast, in Constant nodes: %s", async (mode) => {
    const model = net(["n", 16], (b, v, c) => {
      const half = c("half", tensor("float16", [8, 16], normal("half", [8, 16]).data.byteLength ? floatsOf(normal("half", [8, 16])) : []));
      const h = b.matmul(v, b.transpose(b.op("Cast", [half], { to: 1 }), [1, 0]));
      return b.matmul(b.op("Relu", [h]), b.op("Constant", [], { value: normal("k", [8, 5]) }));
    });
    const { model: small, notes } = await apply(model, { mode }, data);
    expect(notes).toEqual([`2 of 2 layers in int8 (2 ${mode === "static" ? "Gemm" : "MatMul"})`]);
    expect([...small.graph.initializers].some((v) => v.data!.dtype === "float16")).toBe(false);
    expect(count(small)).not.toHaveProperty("Transpose");
    await near(model, small);
  });

  test.each(["dynamic", "static"] as const)("shared ones are stored once: %s", async (mode) => {
    const model = net(["n", 16], (b, v, c) => {
      const w = c("w", normal("w", [16, 16], 0.2));
      return b.matmul(b.matmul(b.matmul(v, w), w), b.transpose(w, [1, 0]));
    });
    const { model: small } = await apply(model, { mode }, data);
    const codes = [...small.graph.initializers].filter((v) => v.data!.dtype === "int8" && v.data!.shape.length === 2);
    expect(codes.map((v) => v.name).sort()).toEqual(["w/int8", "w/seen/int8"]);
    await near(model, small);
  });

  test("one that a Gather reads too is also kept in float, and the note says so", async () => {
    const model = net(["n", 16], (b, v, c) => {
      const w = c("embedding", normal("w", [10, 16]));
      return b.add(b.matmul(v, b.transpose(w, [1, 0])), b.op("ReduceSum", [b.op("Gather", [w, b.i64([3])], { axis: 0 })], { keepdims: 1 }));
    });
    const { model: small, notes } = await apply(model, { mode: "dynamic" });
    expect(notes).toContain('"embedding" is also kept in float, for pith/Gather');
    await near(model, small);
  });

  test("one that was an input with a default", async () => {
    const model = net(["n", 16], (b, v, c) => b.matmul(v, c("w", normal("w", [16, 4]))));
    model.graph.inputs.push(find(model.graph, "w")!);
    const { model: small, notes } = await apply(model, { mode: "dynamic" });
    expect(small.graph.inputs.map((v) => v.name)).toEqual(["x"]);
    expect(notes).toContain("were inputs with a default and are constants now: w");
  });

  test.each(["dynamic", "static"] as const)("Gemm with transA and a C of any shape: %s", async (mode) => {
    const model = net([16, "n"], (b, v, c) => {
      const h = b.op("Gemm", [v, c("w", normal("w", [16, 8])), c("column", normal("c", [4, 1]))], { transA: 1, beta: float(0.5) });
      return b.op("Gemm", [h, c("u", normal("u", [8, 3])), b.op("Slice", [h, b.i64([0]), b.i64([3]), b.i64([1])])]);
    });
    const x = normal("x", [16, 4]);
    const { model: small, notes } = await apply(model, { mode }, fromFeeds([{ x }]));
    expect(notes).toEqual(["2 of 2 layers in int8 (2 Gemm)"]);
    await near(model, small, { x });
  });

  test("a weight of one column, and one of one row", async () => {
    const model = net(["n", 16], (b, v, c) => b.matmul(b.matmul(v, c("w", normal("w", [16, 1]))), c("u", normal("u", [1, 7]))));
    for (const mode of ["dynamic", "static"] as const) await near(model, (await apply(model, { mode }, data)).model);
  });
});

describe("what stays float", () => {
  const data = fromArrays({ x: normal("x", [32, 16]) });

  test("a MatMul of two computed values, a third axis on the weight, half precision", async () => {
    const model = net(["n", 16], (b, v, c) => {
      const square = b.matmul(b.transpose(v, [1, 0]), v);
      const half = b.op(
        "Cast",
        [b.matmul(b.op("Cast", [square], { to: 10 }), c("h", tensor("float16", [16, 4], floatsOf(normal("h", [16, 4])))))],
        { to: 1 },
      );
      return b.matmul(half, c("deep", normal("d", [2, 4, 4])));
    });
    const { notes } = await apply(model, { mode: "dynamic" });
    expect(notes.length).toBeGreaterThan(1);
    expect(notes[0]).toBe("no Conv, Gemm or MatMul with constant float32 weights among the nodes selected; nothing was changed");
  });

  test("what is excluded, and nothing changes where all is", async () => {
    const model = net(["n", 16], (b, v, c) => b.matmul(b.matmul(v, c("first", normal("w", [16, 16]))), c("last", normal("u", [16, 4]))));
    const { model: small } = await apply(model, { exclude: "last" });
    expect(count(small)).toMatchObject({ MatMul: 1, MatMulInteger: 1 });
    const { model: same } = await apply(model, { exclude: "*" });
    expect(writeModel(same)).toEqual(writeModel(model));
  });

  test.each(["dynamic", "static"] as const)("a layer behind a mask of −1e9: %s", async (mode) => {
    const model = net(["n", 16], (b, v, c) => {
      const masked = b.op("Where", [b.op("Less", [v, b.f32(-1)]), b.f32(-1e9), v]);
      const y = b.matmul(masked, c("masked", normal("w", [16, 4])));
      return b.add(b.op("Clip", [y, b.f32(-5), b.f32(5)]), b.matmul(v, c("plain", normal("u", [16, 4]))));
    });
    const x = normal("y", [8, 16]);
    const { model: small } = await apply(model, { mode }, data);
    const [a, b] = [floatsOf(await run(small, { x })), floatsOf(await run(model, { x }))];
    expect(distance(a, b)).toBeLessThan(0.1);
  });

  test("weights with one huge element per tensor, unless the scale is per channel", async () => {
    const w = floatsOf(normal("w", [16, 8])).slice();
    w[3] = 1e4;
    const model = net(["n", 16], (b, v, c) =>
      b.op("Slice", [b.matmul(v, c("spiky", tensor("float32", [16, 8], w))), b.i64([4]), b.i64([8]), b.i64([1])]),
    );
    const { notes } = await apply(model, { granularity: "tensor", maxError: 1e-5 }, data);
    expect(notes[1]).toMatch(/^stay float: pith\/MatMul: 8 bits would change its output by .* \(more than 0.001 %\)$/);
    const { model: small, notes: fine } = await apply(model, { granularity: "channel" }, data);
    expect(fine).toEqual(["1 of 1 layers in int8 (1 MatMul)"]);
    const x = normal("y", [8, 16]);
    expect(distance(floatsOf(await run(small, { x })), floatsOf(await run(model, { x })))).toBeLessThan(0.03);
  });

  const branches = net([1, 1, 16], (b, v, c) => {
    const branch = (name: string, size: number) => {
      const g = new Graph(name, b.graph);
      const inner = new Build(g, b.opset, name);
      const h = inner.op("Relu", [inner.op("Conv", [v, c(`${name}/conv`, normal(name, [4, 1, 1], size))])]);
      const k = inner.op("Conv", [h, c(`${name}/next`, normal(`${name}/next`, [3, 4, 3], 0.3))], { pads: [1, 1] });
      g.addOutput(inner.matmul(k, g.initializer(`${name}/w`, normal(`${name}/w`, [16, 4]))));
      return g;
    };
    const positive = b.op("Less", [b.f32(0), b.op("ReduceSum", [v], { keepdims: 0 })]);
    return b.op("If", [positive], { then_branch: branch("yes", 1), else_branch: branch("no", 2) });
  });
  const positive = normal("a", [1, 1, 16]);
  const both = [
    positive,
    tensor(
      "float32",
      [1, 1, 16],
      floatsOf(positive).map((x) => -x),
    ),
    normal("b", [1, 1, 16]),
  ];

  test("dynamic: Convs in the branches of an If; its MatMuls are done", async () => {
    const { model: small, notes } = await apply(branches, { mode: "dynamic" }, fromFeeds(both.map((x) => ({ x }))));
    expect(notes[0]).toBe("2 of 6 layers in int8 (2 MatMul)");
    expect(notes[1]).toMatch(/^stay float: yes\/Conv, yes\/Conv_1, no\/Conv, no\/Conv_1: dynamic int8 would make a Conv/);
    for (const x of both) expect(distance(floatsOf(await run(small, { x })), floatsOf(await run(branches, { x })))).toBeLessThan(0.03);
  });

  test("static: branches that the data take are quantized, others not", async () => {
    const { model: small, notes } = await apply(branches, { mode: "static" }, fromFeeds(both.map((x) => ({ x }))));
    expect(notes).toEqual(["6 of 6 layers in int8 (4 Conv, 2 MatMul)"]);
    for (const x of both) {
      const error = distance(floatsOf(await run(small, { x })), floatsOf(await run(branches, { x })));
      expect(error).toBeLessThan(0.04);
      expect(error).toBeGreaterThan(0);
    }
    const sum = floatsOf(positive).reduce((a, x) => a + x, 0);
    const taken = sum > 0 ? "yes" : "no";
    const one = await apply(branches, { mode: "static" }, fromFeeds([{ x: positive }]));
    expect(one.notes[0]).toBe("4 of 6 layers in int8 (2 Conv, 2 MatMul)");
    expect(one.notes[1]).toMatch(/in a branch that no example takes; dynamic int8 would make a Conv/);
    expect(one.notes[1]).not.toContain(`${taken}/Conv`);
    for (const x of both) expect(distance(floatsOf(await run(one.model, { x })), floatsOf(await run(branches, { x })))).toBeLessThan(0.04);
  });

  test("an op nobody knows is left alone", async () => {
    const model = net(["n", 16], (b, v, c) => b.matmul(b.op("Mystery", [v], {}, "com.example"), c("w", normal("w", [16, 4]))));
    model.opsets.set("com.example", 1);
    const { model: small } = await apply(model, { mode: "dynamic" });
    expect(count(small)).toMatchObject({ Mystery: 1, MatMulInteger: 1 });
  });
});

describe("settings", () => {
  const x = normal("x", [64, 3, 8, 8]);
  const data = fromArrays({ x });
  const cnn = net(["n", 3, 8, 8], (b, v, c) => {
    const h = b.op("Relu", [b.op("Conv", [v, c("w1", normal("w1", [64, 3, 3, 3], 0.2)), c("b1", normal("b1", [64]))])]);
    return b.op("Conv", [h, c("w2", normal("w2", [4, 64, 3, 3], 0.05))]);
  });

  test("outputs keep their names and types; the same input gives the same bytes", async () => {
    const [a, b] = [await apply(cnn, { mode: "static" }, data), await apply(cnn, { mode: "static" }, data)];
    expect(a.model.graph.outputs.map((v) => v.name)).toEqual(cnn.graph.outputs.map((v) => v.name));
    expect(writeModel(a.model)).toEqual(writeModel(b.model));
    expect(writeModel(a.model).byteLength).toBeLessThan(writeModel(cnn).byteLength);
  });

  test("reduceRange keeps codes within ±64", async () => {
    const { model } = await apply(cnn, { mode: "static", reduceRange: true }, data);
    const codes = valuesOf(stored(model, "w1/int8")) as Int8Array;
    expect([Math.min(...codes), Math.max(...codes)]).toEqual([-64, 64]);
  });

  test("symmetric activations: zero points 128, and 0 behind a Relu", async () => {
    const { model } = await apply(cnn, { mode: "static", activations: "symmetric" }, data);
    const zeros = [...model.graph.nodes].filter((n) => n.opType === "QuantizeLinear").map((n) => numbersOf(n.inputs[2]!.data!)[0]);
    expect(zeros).toEqual([128, 0, 128]);
  });

  test("tensorrt: int8 everywhere, every zero point 0, biases in float", async () => {
    const { model } = await apply(cnn, { mode: "static", target: "tensorrt" }, data);
    for (const n of model.graph.nodes) {
      if (n.opType !== "QuantizeLinear" && n.opType !== "DequantizeLinear") continue;
      expect(n.inputs[2]!.data!.dtype).toBe("int8");
      expect(numbersOf(n.inputs[2]!.data!).every((z) => z === 0)).toBe(true);
    }
    expect([...model.graph.initializers].some((v) => v.data!.dtype === "int32")).toBe(false);
    await expect(apply(cnn, { target: "tensorrt" })).rejects.toThrow("int8: target=tensorrt needs mode=static; got mode=dynamic");
    expect(distance(floatsOf(await run(model, { x })), floatsOf(await run(cnn, { x })))).toBeLessThan(0.03);
  });

  test("percentiles leave out the outermost elements, on inputs of any length", async () => {
    const model = net(["n", "length", 4], (b, v, c) => b.matmul(v, c("w", normal("w", [4, 4]))));
    const feeds = Array.from({ length: 20 }, (_, i) => ({ x: normal(`f${i}`, [1, 10 + 7 * i, 4]) }));
    const spike = tensor("float32", [1, 1, 4], [1000, 0, 0, 0]);
    const scale = async (p: Params) =>
      numbersOf(
        stored((await apply(model, { mode: "static", maxError: 100, ...p }, fromFeeds([...feeds, { x: spike }]))).model, "int8/x/scale"),
      )[0]!;
    expect(await scale({ calibration: "minmax" })).toBeGreaterThan(1000 / 255);
    const narrow = await scale({ calibration: "percentile", percentile: 99.9 });
    expect(narrow).toBeGreaterThan(5 / 255);
    expect(narrow).toBeLessThan(8 / 255);
  });

  test.each(["movingAverage", "mean", "entropy", "mse"] as const)("calibration by %s, on inputs of any length", async (calibration) => {
    const model = net(["n", "length", 4], (b, v, c) => b.matmul(v, c("w", normal("w", [4, 4]))));
    const feeds = Array.from({ length: 20 }, (_, i) => ({ x: normal(`f${i}`, [1, 100 + 70 * i, 4]) }));
    const spike = tensor("float32", [1, 1, 4], [40, 0, 0, 0]);
    const { model: small } = await apply(model, { mode: "static", maxError: 100, calibration }, fromFeeds([...feeds, { x: spike }]));
    const range = 255 * numbersOf(stored(small, "int8/x/scale"))[0]!;
    expect(range).toBeGreaterThan(5);
    expect(range).toBeLessThan(calibration === "mse" ? 42 : 25);
    const [a, b] = [floatsOf(await run(small, feeds[3]!)), floatsOf(await run(model, feeds[3]!))];
    expect(distance(a, b)).toBeLessThan(0.06);
  });

  test("a bias far beyond its weights keeps its value", async () => {
    const model = net(["n", 3, 8, 8], (b, v, c) =>
      b.op("Conv", [v, c("w", normal("w", [2, 3, 1, 1], 1e-7)), c("b", tensor("float32", [2], [300, -300]))]),
    );
    const { model: small } = await apply(model, { mode: "static" }, data);
    const y = floatsOf(await run(small, { x: data.take([0]).x! }));
    expect(y[0]).toBeCloseTo(300, -0.5);
    expect(y[64]).toBeCloseTo(-300, -0.5);
  });

  test("an old opset is raised as far as it must be, and no further", async () => {
    const old = () => {
      const model = net(
        ["n", 3, 8, 8],
        (b, v, c) => {
          const h = b.op("Conv", [v, c("w", normal("w", [4, 3, 1, 1]))]);
          const clipped = b.op("Clip", [h], { min: float(0), max: float(6) });
          return b.matmul(b.op("Squeeze", [b.op("GlobalAveragePool", [clipped])], { axes: [2, 3] }), c("u", normal("u", [4, 80])));
        },
        9,
      );
      model.irVersion = 3;
      for (const v of model.graph.initializers) model.graph.inputs.push(v);
      return model;
    };
    for (const [p, opset] of [
      [{ mode: "static" }, 13],
      [{ mode: "static", granularity: "tensor" }, 11],
      [{ mode: "dynamic" }, 11],
    ] as const) {
      const { model, notes } = await apply(old(), p, data);
      expect(model.opsets.get("")).toBe(opset);
      expect(notes[0]).toMatch(new RegExp(`^opset 9 → ${opset}`));
      expect(model.graph.inputs.map((v) => v.name)).toEqual(["x"]);
      expect(distance(floatsOf(await run(model, { x })), floatsOf(await run(old(), { x })))).toBeLessThan(0.03);
    }
  });

  test("static without data, in one line", async () => {
    await expect(apply(cnn, { mode: "static" })).rejects.toThrow(
      "int8: needs calibration data; give --calibration (or calibration in code)",
    );
  });

  test("what is too small to gain", async () => {
    const model = net(["n", 16], (b, v, c) => b.matmul(b.matmul(v, c("w", normal("w", [16, 16]))), c("u", normal("u", [16, 15]))));
    const { notes } = await apply(model, { smallest: int8.params.smallest.default });
    expect(notes).toEqual(["1 of 2 layers in int8 (1 MatMul)", "stay float: pith/MatMul_1: fewer than 256 weights (smallest)"]);
  });

  test("dynamic Convs on demand", async () => {
    const { model } = await apply(cnn, { mode: "dynamic", dynamicConv: true });
    expect(count(model)).toMatchObject({ ConvInteger: 2 });
    expect(distance(floatsOf(await run(model, { x })), floatsOf(await run(cnn, { x })))).toBeLessThan(0.03);
  });
});

describe("LSTM and GRU", () => {
  const x = normal("x", [12, 3, 8]);
  const recurrent = (directions: 1 | 2) =>
    net(["steps", 3, 8], (b, v, c) => {
      const direction = { direction: directions === 2 ? "bidirectional" : "forward", hidden_size: 16 };
      const part = (name: string, rows: number, columns: number, size: number) => c(name, normal(name, [directions, rows, columns], size));
      const bias = c("bias", normal("bias", [directions, 128], 0.1));
      const [y] = b.node("LSTM", [v, part("w", 64, 8, 0.4), part("r", 64, 16, 0.2), bias], direction, 3).outputs;
      const rows = b.op("Reshape", [b.op("Transpose", [y!], { perm: [0, 2, 1, 3] }), b.i64([0, 3, 16 * directions])]);
      return b.op("GRU", [rows, c("gw", normal("gw", [1, 24, 16 * directions], 0.3)), c("gr", normal("gr", [1, 24, 8], 0.3))], {
        hidden_size: 8,
      });
    });
  const near = async (a: Model, b: Model) => distance(floatsOf(await run(a, { x })), floatsOf(await run(b, { x })));

  test.each([
    [1, "channel"],
    [2, "channel"],
    [2, "tensor"],
  ] as const)("%i directions, a scale by %s", async (directions, granularity) => {
    for (const mode of ["dynamic", "static"] as const) {
      const { model, notes } = await apply(recurrent(directions), { mode, granularity }, fromFeeds([{ x }]));
      expect(count(model)).toMatchObject({ DynamicQuantizeLSTM: 1, GRU: 1 });
      expect(model.opsets.get("com.microsoft")).toBe(1);
      expect(notes).toEqual(["1 of 2 layers in int8 (1 LSTM)", "stay float: pith/GRU: ONNX Runtime has no integer kernel for GRU"]);
      const error = await near(model, recurrent(directions));
      expect(error).toBeLessThan(0.02);
      expect(error).toBeGreaterThan(0);
      expect([...model.graph.initializers].some((v) => v.name === "w")).toBe(false);
    }
  });

  test("in a branch, its gates reordered at run time, by two readers of one weight: stored once", async () => {
    const model = net(["steps", 3, 8], (b, v, c) => {
      const [w, r] = [c("w", normal("w", [64, 8], 0.4)), c("r", normal("r", [64, 16], 0.2))];
      const branch = (name: string, twice: boolean) => {
        const g = new Graph(name, b.graph);
        const inner = new Build(g, b.opset, name);
        const gates = (t: Value) => {
          const part = (from: number) => inner.op("Slice", [t, inner.i64([from]), inner.i64([from + 16]), inner.i64([0])]);
          return inner.op("Unsqueeze", [inner.op("Concat", [part(0), part(48), part(16), part(32)], { axis: 0 }), inner.i64([0])]);
        };
        const y = inner.op("LSTM", [twice ? inner.add(v, v) : v, gates(w), gates(r)], { hidden_size: 16 });
        g.addOutput(inner.op("Squeeze", [y, inner.i64([1])]));
        return g;
      };
      const positive = b.op("Less", [b.f32(0), b.op("ReduceSum", [v], { keepdims: 0 })]);
      return b.op("If", [positive], { then_branch: branch("yes", true), else_branch: branch("no", false) });
    });
    const { model: small, notes } = await apply(model, {}, fromFeeds([{ x }]));
    expect(notes).toEqual(["2 of 2 layers in int8 (2 LSTM)"]);
    const codes = [...small.graph.initializers].filter((v) => v.data!.dtype === "int8" && v.data!.shape.length === 3);
    expect(codes.map((v) => v.data!.shape)).toEqual([
      [1, 8, 64],
      [1, 16, 64],
    ]);
    expect([...small.graph.initializers].some((v) => v.data!.dtype === "float32" && v.data!.data.byteLength > 1000)).toBe(false);
    for (const feed of [
      x,
      tensor(
        "float32",
        [12, 3, 8],
        floatsOf(x).map((e) => -e),
      ),
    ])
      expect(distance(floatsOf(await run(small, { x: feed })), floatsOf(await run(model, { x: feed })))).toBeLessThan(0.02);
  });

  test("one that would change too much stays", async () => {
    const { model, notes } = await apply(recurrent(1), { maxError: 1e-4 }, fromFeeds([{ x }]));
    expect(notes.some((l) => /^stay float: pith\/LSTM: 8 bits would change its output by/.test(l))).toBe(true);
    expect(writeModel(model).byteLength).toBeLessThanOrEqual(writeModel(recurrent(1)).byteLength);
    expect(await near(model, recurrent(1))).toBe(0);
  });

  test("with tensorrt, or excluded: untouched", async () => {
    const { model } = await apply(recurrent(1), { exclude: "op:LSTM" }, fromFeeds([{ x }]));
    expect(count(model)).toMatchObject({ LSTM: 1 });
    const { model: other } = await apply(recurrent(1), { mode: "static", target: "tensorrt" }, fromFeeds([{ x }]));
    expect(count(other)).toMatchObject({ LSTM: 1 });
  });
});

describe("bias correction", () => {
  // Few weights a channel, with a mean: what rounding adds to them does not cancel.
  const x = tensor(
    "float32",
    [32, 8, 6, 6],
    floatsOf(normal("x", [32, 8, 6, 6])).map((v) => Math.abs(v)),
  );
  const test_ = tensor(
    "float32",
    [32, 8, 6, 6],
    floatsOf(normal("t", [32, 8, 6, 6])).map((v) => Math.abs(v)),
  );
  const depthwise = net(["n", 8, 6, 6], (b, v, c) => {
    let h = v;
    for (let i = 0; i < 4; i++) {
      const w = floatsOf(normal(`w${i}`, [8, 1, 3, 3], 0.3)).map((e, k) => e * (1 + Math.floor(k / 9) ** 2));
      h = b.op("Relu", [b.op("Conv", [h, c(`w${i}`, tensor("float32", [8, 1, 3, 3], w))], { group: 8, pads: [1, 1, 1, 1] })]);
    }
    return b.op("Gemm", [b.op("Flatten", [b.op("GlobalAveragePool", [h])]), c("g", normal("g", [8, 4]))]);
  });
  const meanError = (a: ArrayLike<number>, b: ArrayLike<number>) =>
    Math.hypot(
      ...[0, 1, 2, 3].map((c) => Array.from({ length: a.length / 4 }, (_, i) => a[4 * i + c]! - b[4 * i + c]!).reduce((s, e) => s + e, 0)),
    );

  test.each([
    "channel",
    "tensor",
  ] as const)("lowers the mean error of a depthwise net on other data, a scale by %s", async (granularity) => {
    const p = { mode: "static", depthwise: true, maxError: 10, granularity } as const;
    const plain = await apply(depthwise, p, fromArrays({ x }));
    const corrected = await apply(depthwise, { ...p, biasCorrection: true }, fromArrays({ x }));
    const y = floatsOf(await run(depthwise, { x: test_ }));
    const [before, after] = [floatsOf(await run(plain.model, { x: test_ })), floatsOf(await run(corrected.model, { x: test_ }))];
    expect(meanError(after, y)).toBeLessThan(0.6 * meanError(before, y));
    if (granularity === "tensor") expect(distance(after, y)).toBeLessThan(distance(before, y));
    expect([...corrected.model.graph.initializers].filter((v) => v.data!.shape.length === 4).length).toBe(4);
  });
});

test("depthwise Convs stay float, unless told otherwise or for TensorRT", async () => {
  const model = net(["n", 8, 6, 6], (b, v, c) =>
    b.op("Conv", [b.op("Conv", [v, c("w", normal("w", [8, 1, 3, 3]))], { group: 8 }), c("u", normal("u", [4, 8, 1, 1]))]),
  );
  const data = fromArrays({ x: normal("x", [32, 8, 6, 6]) });
  const { notes } = await apply(model, { mode: "static" }, data);
  expect(notes[0]).toBe("1 of 2 layers in int8 (1 Conv)");
  expect(notes[1]).toMatch(/^stay float: pith\/Conv: a depthwise Conv, which 8 bits make no faster/);
  for (const p of [{ depthwise: true }, { target: "tensorrt" }] as const)
    expect((await apply(model, { mode: "static", ...p }, data)).notes[0]).toBe("2 of 2 layers in int8 (2 Conv)");
});

describe("the outputs as a whole", () => {
  // The second layer's input has one huge element that its weights ignore: 8 bits leave nothing of the rest.
  const huge = net(["n", 16], (b, v, c) => {
    const one = floatsOf(normal("w", [16, 16], 0.3)).map((w, i) => (i % 16 === 0 ? 300 * w : w));
    const two = floatsOf(normal("u", [16, 8])).map((w, i) => (i < 8 ? 0 : w));
    const h = b.matmul(v, c("w", tensor("float32", [16, 16], one)));
    return b.matmul(b.op("Tanh", [b.matmul(h, c("u", tensor("float32", [16, 8], two)))]), c("last", normal("last", [8, 6])));
  });
  const x = normal("x", [32, 16]);
  const data = fromArrays({ x });

  test("a note tells how much they change, and names layers", async () => {
    const { notes } = await apply(huge, { maxError: 10 }, data);
    expect(notes.at(-1)).toMatch(
      /^the outputs change by \d+ % on 16 examples; the layers that change most by themselves are pith\/MatMul_1 \(/,
    );
    expect((await apply(huge, { maxError: 10 })).notes.some((l) => l.includes("outputs change"))).toBe(false);
  });

  test.each(["dynamic", "static"] as const)("maxOutputError spares the harmful layer, and no other: %s", async (mode) => {
    const { model, notes } = await apply(huge, { mode, maxError: 10, maxOutputError: 0.05 }, data);
    expect(notes[0]).toMatch(/^stay float for maxOutputError, by how much each alone changes the outputs: pith\/MatMul_1 \d+ %$/);
    expect(notes[1]).toMatch(/^2 of 3 layers in int8/);
    const error = distance(floatsOf(await run(model, { x })), floatsOf(await run(huge, { x })));
    expect(error).toBeLessThan(0.05);
    expect(error).toBeGreaterThan(0);
    const loose = await apply(huge, { mode, maxError: 10, maxOutputError: 100 }, data);
    expect(loose.notes[0]).toMatch(/^3 of 3 layers in int8/);
    const strict = await apply(huge, { mode, maxError: 10, maxOutputError: 0 }, data);
    expect(strict.notes.some((l) => l.startsWith("0 of 3 layers"))).toBe(true);
  });
});

describe("widths and formats", () => {
  const x = normal("x", [16, 3, 8, 8]);
  const data = fromArrays({ x });
  const cnn = (opset = 15) =>
    net(
      ["n", 3, 8, 8],
      (b, v, c) => {
        const h = b.op("Relu", [
          b.op("Conv", [v, c("w1", normal("w1", [8, 3, 3, 3], 0.2)), c("b1", normal("b1", [8]))], { pads: [1, 1, 1, 1] }),
        ]);
        const g = b.op("Conv", [h, c("w2", normal("w2", [8, 8, 1, 1], 0.3))]);
        const p = b.op("MaxPool", [b.op("Relu", [b.add(g, h)])], { kernel_shape: [2, 2], strides: [2, 2] });
        const q = b.op("Concat", [p, b.op("Conv", [p, c("w3", normal("w3", [4, 8, 3, 3], 0.2))], { pads: [1, 1, 1, 1] })], { axis: 1 });
        const flat = b.op("Flatten", [b.op("Conv", [q, c("w4", normal("w4", [6, 12, 4, 4], 0.1)), c("b4", normal("b4", [6]))])]);
        const k = b.op("Gemm", [flat, c("w5", normal("w5", [6, 12])), c("b5", normal("b5", [12]))]);
        return b.matmul(b.op("Relu", [k]), c("w6", normal("w6", [12, 5])));
      },
      opset,
    );
  const types = (model: Model) =>
    new Set([...model.graph.nodes].filter((n) => n.opType === "QuantizeLinear").map((n) => n.inputs[2]!.data!.dtype));

  test.each([
    ["uint8", "int8"],
    ["uint8", "uint8"],
    ["int8", "int8"],
    ["int8", "uint8"],
    ["uint16", "int8"],
    ["int16", "int16"],
    ["uint16", "uint16"],
  ] as const)("%s × %s, symmetric or not, by channel or tensor", async (activationType, weightType) => {
    for (const activations of ["symmetric", "asymmetric"] as const)
      for (const weights of ["symmetric", "asymmetric"] as const)
        for (const granularity of ["channel", "tensor"] as const) {
          const p = { mode: "static", activationType, weightType, activations, weights, granularity } as const;
          const { model, notes } = await apply(cnn(), p, data);
          expect(types(model)).toEqual(new Set([activationType]));
          expect(stored(model, `w1/${weightType}`).dtype).toBe(weightType);
          expect(notes.find((l) => l.startsWith("6 of 6 layers"))).toBeTruthy();
          const error = distance(floatsOf(await run(model, { x })), floatsOf(await run(cnn(), { x })));
          const wide = activationType.endsWith("16") && weightType.endsWith("16");
          expect(error).toBeLessThan(wide ? 2e-4 : 0.04);
          expect(error).toBeGreaterThan(0);
          expect(distance(floatsOf(await run(model, { x }, "disabled")), floatsOf(await run(model, { x })))).toBeLessThan(0.02);
        }
  });

  test("16 bits: the standard's ops where the opset has them, ONNX Runtime's below", async () => {
    for (const [opset, domain] of [
      [13, "com.microsoft"],
      [21, ""],
    ] as const) {
      const { model, notes } = await apply(cnn(opset), { mode: "static", activationType: "uint16", weightType: "int16" }, data);
      const pairs = [...model.graph.nodes].filter((n) => n.opType === "QuantizeLinear");
      expect(new Set(pairs.map((n) => n.domain))).toEqual(new Set([domain]));
      expect(model.opsets.get("")).toBe(opset);
      expect(notes[0]).toMatch(/no integer kernels for 16 bits/);
    }
  });

  test.each([
    ["uint8", "int8", "symmetric"],
    ["uint8", "uint8", "asymmetric"],
    ["int8", "int8", "symmetric"],
  ] as const)("operators in the file give what the pairs give: %s × %s", async (activationType, weightType, weights) => {
    for (const granularity of ["channel", "tensor"] as const) {
      const p = { mode: "static", activationType, weightType, weights, granularity } as const;
      const pairs = await apply(cnn(), p, data);
      const { model, notes } = await apply(cnn(), { ...p, format: "qoperator" }, data);
      expect(count(model)).toEqual({
        QuantizeLinear: 1,
        QLinearConv: 4,
        QLinearAdd: 1,
        MaxPool: 1,
        QLinearConcat: 1,
        Flatten: 1,
        QGemm: 2,
        ...(count(model).Reshape ? { Reshape: count(model).Reshape } : {}),
      });
      expect(notes.some((l) => l.includes("stay between"))).toBe(false);
      const [a, b] = [floatsOf(await run(model, { x })), floatsOf(await run(pairs.model, { x }))];
      expect(distance(a, b)).toBeLessThan(0.01);
      expect(model.graph.outputs[0]!.name).toBe(cnn().graph.outputs[0]!.name);
    }
  });

  test("what does not go together, in one line", async () => {
    for (const [p, message] of [
      [{ activationType: "uint16" }, "int8: mode=dynamic has kernels for uint8 inputs and 8-bit weights only; got activationType=uint16"],
      [{ format: "qoperator" }, "int8: format=qoperator needs mode=static"],
      [{ mode: "static", format: "qoperator", activationType: "int8", weightType: "uint8" }, "int8: format=qoperator has kernels for"],
      [{ mode: "static", target: "tensorrt", activationType: "uint8" }, "int8: target=tensorrt takes symmetric int8 codes only"],
    ] as const)
      await expect(apply(cnn(), p as Params, data)).rejects.toThrow(message);
  });

  test.each(["int8", "uint8"] as const)("dynamic: %s weights with a zero point", async (weightType) => {
    const model = net(["n", 16], (b, v, c) =>
      b.matmul(
        v,
        c(
          "w",
          tensor(
            "float32",
            [16, 8],
            floatsOf(normal("w", [16, 8])).map((w) => w + 1),
          ),
        ),
      ),
    );
    const x = normal("x", [8, 16]);
    const { model: small } = await apply(model, { weightType, weights: "asymmetric" });
    expect(numbersOf([...small.graph.nodes].find((n) => n.opType === "MatMulInteger")!.inputs[3]!.data!)[0]).not.toBe(0);
    for (const level of ["all", "disabled"] as const)
      expect(distance(floatsOf(await run(small, { x }, level)), floatsOf(await run(model, { x })))).toBeLessThan(0.02);
  });
});

describe("a model of an older opset is raised to what int8 needs", () => {
  const old = net(
    ["n", 4, 1],
    (b, x, w) => {
      const rows = b.op("Squeeze", [x], { axes: [2] });
      return b.op("MatMul", [rows, w("w", normal("w", [4, 8]))]);
    },
    9,
  );
  const data = fromArrays({ x: normal("x", [64, 4, 1]) });
  test.each([
    ["dynamic", 11],
    ["static", 13],
  ] as const)("%s: opset %i", async (mode, opset) => {
    const { model, notes } = await apply(old, { mode }, data);
    expect(model.opsets.get("")).toBe(opset);
    expect(notes[0]).toMatch(`opset 9 → ${opset}, which int8 needs`);
    const [y, z] = [await run(old, data.take([0, 1, 2])), await run(model, data.take([0, 1, 2]))];
    expect(distance(floatsOf(z), floatsOf(y))).toBeLessThan(0.03);
  });
  test("one that stays float keeps its opset", async () => {
    const { model } = await apply(old, { smallest: 1000 });
    expect(model.opsets.get("")).toBe(9);
  });
  test("what cannot be raised is named", async () => {
    const strange = cloneModel(old);
    const y = Build.of(strange).op("Frobnicate", [strange.graph.inputs[0]!]);
    strange.graph.addOutput(y);
    await expect(apply(strange, {})).rejects.toThrow(/int8: needs opset 11, the model has 9; upgrade: Frobnicate/);
  });
});
