import { expect, test } from "vitest";
import { newModel } from "../ir/graph.ts";
import { Build } from "../ops/build.ts";
import { tensor } from "../tensor/tensor.ts";
import { countParameters } from "./parameters.ts";

function model() {
  const m = newModel("m", 21, 10);
  return { m, b: Build.of(m), g: m.graph, x: m.graph.input("x", "float32", [1, 4]) };
}

test("weights count, shapes and axes do not; tied weights count once; weights in Constant nodes count too", () => {
  const { m, b, g, x } = model();
  const w = g.initializer("w", tensor("float32", [4, 4], [1, 0, 2, 0, -0, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 1]));
  const h = b.matmul(b.matmul(x, w), w);
  const c = b.op("Constant", [], { value: tensor("float32", [4], [1, 0, 0, 0]) });
  g.addOutput(b.reshape(b.add(h, c), [4]));
  expect(countParameters(m)).toEqual({ parameters: 20, nonZero: 11 });
});

test("a quantized weight is zero where its code is the zero point: for all, by axis, by block", () => {
  const { m, b, g, x } = model();
  const scale = (shape: number[]) => b.constant(tensor("float32", shape, new Float32Array(shape.reduce((a, d) => a * d, 1)).fill(0.5)));
  const codes = g.initializer("w", tensor("uint8", [4, 2], [128, 7, 128, 9, 1, 7, 128, 7]));
  const perAxis = b.op("DequantizeLinear", [codes, scale([2]), g.initializer("z", tensor("uint8", [2], [128, 7]))], { axis: 1 });
  const symmetric = b.op("DequantizeLinear", [g.initializer("s", tensor("int8", [2, 2], [0, 1, 0, -1])), scale([])]);
  const blocked = b.op(
    "DequantizeLinear",
    [g.initializer("i4", tensor("int4", [4, 1], [3, 1, -2, -2])), scale([2, 1]), g.initializer("iz", tensor("int4", [2, 1], [3, -2]))],
    { axis: 0, block_size: 2 },
  );
  g.addOutput(b.matmul(b.matmul(b.matmul(x, perAxis), symmetric), b.op("Reshape", [blocked, b.i64([2, 2])])));
  // 8 + 4 + 4; not zero are 9 and 1; ±1; the one 1 in a block of zero point 3.
  expect(countParameters(m)).toEqual({ parameters: 16, nonZero: 2 + 2 + 1 });
});

test("MatMulNBits: weights, not bytes", () => {
  const { m, b, g, x } = model();
  // N = 2, K = 20 in blocks of 16: 2 blocks of 8 bytes a row; the padding after K does not count.
  const bytes = new Uint8Array(2 * 2 * 8).fill(0x88);
  bytes[0] = 0x81;
  bytes[15] = 0x00;
  bytes[16 + 9] = 0x98;
  const w = g.initializer("w", tensor("uint8", [2, 2, 8], bytes));
  const s = g.initializer("s", tensor("float32", [4], [1, 1, 1, 1]));
  g.addOutput(b.op("MatMulNBits", [x, w, s], { K: 20, N: 2, bits: 4, block_size: 16 }, "com.microsoft"));
  expect(countParameters(m)).toEqual({ parameters: 40, nonZero: 2 });
  const z = g.initializer("z", tensor("uint8", [2], [0x81, 0x88]));
  [...g.nodes][0]!.setInput(3, z);
  // Row 0's first block now has zero point 1: its 16 codes but the first are not zero.
  expect(countParameters(m)).toEqual({ parameters: 40, nonZero: 15 + 1 });
});
