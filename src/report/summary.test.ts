import { expect, test } from "vitest";
import { newModel } from "../ir/graph.ts";
import { Build } from "../ops/build.ts";
import { tensor } from "../tensor/tensor.ts";
import { bytes, count, grouped, seconds, share, wrap } from "./format.ts";
import { summarize } from "./summary.ts";
import { table } from "./table.ts";

test("weights count where they are used, behind DequantizeLinear too, shared ones once", () => {
  const model = newModel("net");
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", ["n", 4]);
  const w = model.graph.initializer("w", tensor("int8", [4, 4], new Int8Array(16)));
  const scale = model.graph.initializer("s", tensor("float32", [], [0.5]));
  const axes = model.graph.initializer("axes", tensor("int64", [1], [1]));
  const dq = b.op("DequantizeLinear", [w, scale]);
  const bias = model.graph.append("Constant", [], { attrs: { value: tensor("float32", [4], [1, 2, 3, 4]) } }).outputs[0]!;
  const h = b.add(b.matmul(x, dq), bias);
  model.graph.addOutput(b.op("Squeeze", [b.add(h, bias), axes]));
  const s = summarize(model);
  const of = (op: string) => s.ops.find((o) => o.op === op)!;
  expect([of("MatMul").parameters, of("MatMul").bytes]).toEqual([16, 20]);
  expect([of("Add").count, of("Add").parameters]).toEqual([2, 4]);
  expect([of("Squeeze").parameters, of("Squeeze").bytes]).toEqual([0, 8]);
  expect([s.parameters, s.bytes, s.nodes]).toEqual([20, 44, 6]);
  expect(s.ops.reduce((n, o) => n + o.bytes, 0)).toBe(s.bytes);
  expect(s.dtypes.map((d) => [d.dtype, d.tensors, d.bytes])).toEqual([
    ["float32", 2, 20],
    ["int8", 1, 16],
    ["int64", 1, 8],
  ]);
});

test("numbers as people read them", () => {
  expect([0, 999, 1000, 1234, 999_960, 10_828_000].map(bytes)).toEqual(["0 B", "999 B", "1 kB", "1.23 kB", "1 MB", "10.8 MB"]);
  expect([9999, 266_610, 2_312_441].map(count)).toEqual(["9999", "266.6 k", "2.31 M"]);
  expect(grouped(1234567)).toBe("1,234,567");
  expect([share(1, 8), share(0, 0)]).toEqual(["12.5 %", "–"]);
  expect([1.25, 59.7, 75].map(seconds)).toEqual(["1.3 s", "1 min 0 s", "1 min 15 s"]);
});

test("text breaks between words", () => {
  expect(wrap("one two three four", 9)).toEqual(["one two", "three", "four"]);
  expect(wrap("unbreakable", 3)).toEqual(["unbreakable"]);
});

test("a table lines up", () => {
  expect(table([{ title: "a" }, { title: "n", align: "right" }], [["x", "1"], null, ["longer", "100"]])).toBe(
    ["a         n", "───────────", "x         1", "───────────", "longer  100"].join("\n"),
  );
});
