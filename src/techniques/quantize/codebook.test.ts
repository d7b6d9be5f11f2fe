import { describe, expect, test } from "vitest";
import { type Model, newModel } from "../../ir/graph.ts";
import { allNodes } from "../../ir/walk.ts";
import { writeModel } from "../../onnx/write.ts";
import { Build } from "../../ops/build.ts";
import { compress } from "../../recipe/compress.ts";
import { open } from "../../runtime/session.ts";
import { random } from "../../tensor/random.ts";
import { floatsOf, numbersOf, type Tensor, tensor } from "../../tensor/tensor.ts";
import { codebook } from "../index.ts";
import { kmeans } from "./kmeans.ts";

const normal = (shape: readonly number[], seed: number) =>
  tensor("float32", shape, random(seed).fillNormal(new Float32Array(shape.reduce((a, d) => a * d, 1))));

/** Conv → Flatten → Gemm → MatMul by a table's transpose, which Gather reads too. */
function net(map: (name: string, w: Tensor) => Tensor = (_, w) => w, opset = 17, odd = false): Model {
  const model = newModel("net", opset);
  const b = new Build(model.graph, opset, "n");
  const weight = (name: string, shape: readonly number[], seed: number) => model.graph.initializer(name, map(name, normal(shape, seed)));
  const x = model.graph.input("x", "float32", [2, 4, 6, 6]);
  const y = b.op("Flatten", [b.op("Conv", [x, weight("conv", [8, 4, 3, 3], 1)])]);
  const z = b.op("Gemm", [y, weight("fc", [32, 128], 2)], { transB: 1 });
  const table = weight("table", [50, 32], 3);
  const out = b.add(b.matmul(z, b.transpose(table, [1, 0])), b.op("ReduceSum", [b.op("Gather", [table, b.i64([3])])], { keepdims: 0 }));
  model.graph.addOutput(odd ? b.op("Mystery", [out]) : out);
  return model;
}

async function run(model: Model): Promise<number[]> {
  const session = await open(model, { threads: 1 });
  const y = await session.run({ x: normal([2, 4, 6, 6], 9) });
  await session.release();
  return [...numbersOf(Object.values(y)[0]!)];
}

const apply = async (model: Model, params: Parameters<typeof codebook>[0]) => {
  const { model: result, run } = await compress(model, [codebook({ smallest: 0, ...params })], { measure: null, threads: 1 });
  return { result, notes: run.steps[0]!.notes.join("\n") };
};

const shared = (bits: number) => (_: string, w: Tensor) => {
  const { centroids, codes } = kmeans(floatsOf(w), 2 ** bits);
  return tensor(
    "float32",
    w.shape,
    Float32Array.from(codes, (c) => centroids[c]!),
  );
};

describe.each([1, 2, 3, 4, 6, 8])("%i bits", (bits) => {
  test("the runtime computes on k-means' values; places take the next width there is; a shared table stays one", async () => {
    const { result, notes } = await apply(net(), { bits });
    const width = bits <= 2 ? 2 : bits <= 4 ? 4 : 8;
    expect(result.opsets.get("")).toBe({ 2: 25, 4: 21, 8: 17 }[width]);
    const places = [...result.graph.initializers].filter((v) => v.name.endsWith("/places"));
    expect(places.map((v) => [v.data!.dtype, v.data!.shape])).toEqual([
      [`uint${width}`, [8, 4, 3, 3]],
      [`uint${width}`, [32, 128]],
      [`uint${width}`, [50, 32]],
    ]);
    expect(notes).toMatch(/3 of 3 weights/);
    expect(notes).toMatch(/"table" is read by node "n\/Gather" too/);
    const want = await run(net(shared(bits)));
    (await run(result)).forEach((y, i) => {
      expect(Math.abs(y - want[i]!)).toBeLessThanOrEqual(1e-5 * Math.max(...want.map(Math.abs)));
    });
  });
});

test("float16 weights have float16 values", async () => {
  const model = newModel("half", 17);
  const b = new Build(model.graph, 17, "h");
  const w = model.graph.initializer("w", tensor("float16", [64, 32], numbersOf(normal([64, 32], 4))));
  const x = model.graph.input("x", "float32", [2, 64]);
  model.graph.addOutput(b.op("Cast", [b.matmul(b.op("Cast", [x], { to: 10 }), w)], { to: 1 }));
  const { result } = await apply(model, { bits: 8 });
  expect([...result.graph.initializers].map((v) => [v.name, v.data!.dtype])).toEqual([
    ["w/values", "float16"],
    ["w/places", "uint8"],
  ]);
  await (await open(result)).release();
});

test("an op in the way of the opset: places in 8 bits, and said", async () => {
  const { result, notes } = await apply(net(undefined, 17, true), { bits: 4 });
  expect(result.opsets.get("")).toBe(17);
  expect(notes).toMatch(/places take 8 bits, as 4 need opset 21, and .*Mystery/);
  expect([...allNodes(result.graph)].filter((n) => n.opType === "Gather")).toHaveLength(4);
});

test("what stays is said; the same input gives the same bytes", async () => {
  const { result, notes } = await apply(net(), { bits: 4, smallest: 500, maxError: 0.1 });
  expect(notes).toMatch(/stay as they are: n\/Conv: fewer than 500 weights/);
  expect(notes).toMatch(/16 values would change its weights by \d+ % \(more than 10 %\)|[12] of 3 weights/);
  const again = await apply(net(), { bits: 4, smallest: 500, maxError: 0.1 });
  expect(Buffer.from(writeModel(again.result)).equals(Buffer.from(writeModel(result)))).toBe(true);
});
