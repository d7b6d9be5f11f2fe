import { expect, test } from "vitest";
import { cloneModel, Graph, type Model, newModel } from "../ir/graph.ts";
import { allGraphs } from "../ir/walk.ts";
import { lint } from "../lint/lint.ts";
import { sizes } from "../measure/measure.ts";
import { mlp } from "../nets/mlp.ts";
import { readModel } from "../onnx/read.ts";
import { sparseIndicesOf } from "../onnx/sparse.ts";
import { writeModel } from "../onnx/write.ts";
import { Build } from "../ops/build.ts";
import { compress } from "../recipe/compress.ts";
import { open } from "../runtime/session.ts";
import { magnitude } from "../techniques/index.ts";
import { type DType, dtypes } from "../tensor/dtype.ts";
import { random } from "../tensor/random.ts";
import { bytesOf, type Tensor, tensor, wrap } from "../tensor/tensor.ts";
import { densify, sparseInitializers, sparsify } from "./sparse.ts";

/** Bytes of every initializer, by name. */
const stored = (m: Model) =>
  Object.fromEntries(
    [...allGraphs(m.graph)].flatMap((g) => [...g.initializers].map((v) => [v.name, Buffer.from(bytesOf(v.data!)).toString("hex")])),
  );

async function outputs(model: Model, feeds: Record<string, Tensor>) {
  const session = await open(model, { threads: 1 });
  try {
    return Object.values(await session.run(feeds)).map((t) => Buffer.from(bytesOf(t)).toString("hex"));
  } finally {
    await session.release();
  }
}

/** A net of which nine tenths are zeros. */
function pruned(sizes: readonly number[]): Model {
  const model = mlp({ sizes, seed: 1 });
  for (const v of model.graph.initializers) {
    const r = random(2, v.name);
    const values = Float32Array.from({ length: v.data!.data.byteLength / 4 }, () => (r.uniform() < 0.1 ? r.normal() : 0));
    model.graph.setData(v, wrap("float32", v.data!.shape, values));
  }
  return model;
}

test.each(["int64", "narrow"] as const)("%s: fewer bytes, the same tensors, and the same outputs bit for bit", async (indices) => {
  const model = pruned([300, 200, 10]);
  const before = writeModel(model);
  const small = cloneModel(model);
  const made = sparsify(small, { indices });
  expect(made.map((s) => s.name)).toEqual(expect.arrayContaining(["fc1.weight", "fc2.weight"]));
  const after = writeModel(small);
  const saved = made.reduce((n, s) => n + s.dense - s.sparse, 0);
  // What else changes is the lengths of lengths.
  expect(before.length - after.length - saved).toBeLessThanOrEqual(2 * made.length);
  expect(before.length - after.length - saved).toBeGreaterThanOrEqual(0);
  const again = readModel(after);
  expect(stored(again)).toEqual(stored(model));
  const written = Object.fromEntries(sparseInitializers(again).map((v) => [v.name, sparseIndicesOf(v.data!)]));
  expect(written).toMatchObject(
    indices === "int64" ? { "fc1.weight": "int64", "fc2.weight": "int64" } : { "fc1.weight": "int32", "fc2.weight": "int16" },
  );
  expect(Buffer.from(writeModel(again)).equals(Buffer.from(after))).toBe(true);
  const x = { x: wrap("float32", [7, 300], random(3, "x").fillNormal(new Float32Array(2100))) };
  expect(await outputs(again, x)).toEqual(await outputs(readModel(before), x));
  expect(densify(again)).toBe(made.length);
  expect(writeModel(again).length).toBe(before.length);
});

const types = (Object.keys(dtypes) as DType[]).filter((t) => dtypes[t].bits >= 8 && dtypes[t].kind !== "c" && t !== "string");

test("every element type keeps its bits: −0, NaN and what only looks like zero", () => {
  for (const dtype of types) {
    const width = dtypes[dtype].bits / 8;
    const model = newModel("m");
    const bytes = new Uint8Array(2000 * width);
    // The highest byte alone, the lowest alone, and all: of a float −0, a denormal, a NaN.
    for (const [i, pattern] of [
      [3, [width - 1, 0x80]],
      [700, [0, 1]],
    ] as const)
      bytes[i * width + pattern[0]] = pattern[1];
    bytes.fill(0xff, 1999 * width);
    const v = model.graph.initializer("w", { dtype, shape: [40, 50], data: bytes });
    model.graph.addOutput(Build.of(model).op("Identity", [v]));
    for (const indices of ["int64", "narrow"] as const) {
      const small = cloneModel(model);
      expect(sparsify(small, { indices }), dtype).toHaveLength(1);
      const again = readModel(writeModel(small));
      expect(stored(again), dtype).toEqual(stored(model));
      expect(sparseInitializers(again)).toHaveLength(1);
    }
  }
});

test("what would not be smaller stays dense; what changes afterwards is dense again; an old file is raised to IR 6 without new inputs", () => {
  const dense = mlp({ sizes: [30, 20, 5], seed: 1 });
  const ir = dense.irVersion;
  expect(sparsify(dense).filter((s) => s.name.endsWith("weight"))).toEqual([]);
  expect(dense.irVersion).toBe(ir);

  const model = pruned([50, 40, 3]);
  model.irVersion = 3;
  for (const v of model.graph.initializers) model.graph.inputs.push(v);
  expect(sparsify(model).length).toBeGreaterThan(0);
  expect([model.irVersion, model.graph.inputs.map((v) => v.name)]).toEqual([6, ["x"]]);
  const [v] = sparseInitializers(model);
  model.graph.setData(v!, tensor("float32", v!.data!.shape, new Array(v!.data!.data.byteLength / 4).fill(1)));
  expect(sparseInitializers(readModel(writeModel(model))).map((s) => s.name)).not.toContain(v!.name);
});

test("in both branches of an If, and where the initializer is an overridable default", async () => {
  const model = newModel("m");
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", [200]);
  const values = Array.from({ length: 200 }, (_, i) => (i % 50 === 7 ? i : 0));
  const w = model.graph.initializer("w", tensor("float32", [200], values));
  model.graph.inputs.push(w);
  const branch = (name: string, op: string) => {
    const g = new Graph(name, model.graph);
    g.addOutput(Build.of({ ...model, graph: g }).op(op, [x, g.initializer("inner", tensor("float32", [200], values))]));
    return g;
  };
  const yes = model.graph.initializer("yes", tensor("bool", [], [1]));
  const y = model.graph.append("If", [yes], { attrs: { then_branch: branch("then", "Sub"), else_branch: branch("else", "Add") } });
  model.graph.addOutput(b.mul(y.outputs[0]!, w));
  const feeds = { x: tensor("float32", [200], new Array(200).fill(0.3)) };
  const want = await outputs(model, feeds);
  expect(sparsify(model)).toHaveLength(3);
  const again = readModel(writeModel(model));
  expect(sparseInitializers(again)).toHaveLength(3);
  expect(again.graph.inputs.map((v) => v.name)).toEqual(["x", "w"]);
  expect(await outputs(again, feeds)).toEqual(want);
});

test("the sizes are those of files that were written, sparse or not", async () => {
  const of = async (m: Model) => Object.fromEntries((await sizes(m)).map((s) => [s.metric, s.value]));
  const model = pruned([100, 80, 10]);
  const figures = await of(model);
  const small = cloneModel(model);
  sparsify(small);
  expect(figures).toMatchObject({ file: writeModel(model).length, sparse: writeModel(small).length });
  expect(figures.sparse).toBeLessThan(0.4 * figures.file!);
  expect(figures.sparseBrotli).not.toBe(figures.brotli);
  expect(await of(small)).toMatchObject({
    file: figures.sparse,
    sparse: figures.sparse,
    dense: figures.file,
    brotli: figures.sparseBrotli,
  });
  const plain = await of(mlp({ sizes: [100, 80, 10], batchNorm: true, seed: 1 }));
  expect(plain.dense).toBeUndefined();
});

test("compress stores sparsely for targets that load it, and says what it did", async () => {
  const model = mlp({ sizes: [100, 80, 10], seed: 1 });
  const run = (target: string, sparsity = 0.95) =>
    compress(model, [magnitude({ sparsity, epochs: 0 })], { sparse: "int64", target, measure: { seconds: 0 }, threads: 1 });
  const node = await run("node");
  expect(node.run.findings.map((f) => f.what)).toContainEqual(
    expect.stringMatching(/^stored sparsely: \d of 4 initializers, \d+ bytes instead of \d+$/),
  );
  expect(node.run.after.find((m) => m.metric === "file")!.value).toBe(writeModel(node.model).length);
  expect(sparseInitializers(node.model).map((v) => v.name)).toContain("fc1.weight");
  expect(lint(node.model, "node")).toMatchObject([{ level: "note", what: expect.stringContaining("sparse initializers") }]);
  expect(lint(node.model, "tensorrt")).toMatchObject([{ level: "error", what: expect.stringContaining("dense initializers alone") }]);
  const tensorrt = await run("tensorrt");
  expect(sparseInitializers(tensorrt.model)).toEqual([]);
  expect(tensorrt.run.findings[0]).toMatchObject({ level: "warning", what: expect.stringContaining("left dense for tensorrt") });
  expect((await run("webgpu", 0.1)).run.findings[0]!.level).toBe("note");
});
