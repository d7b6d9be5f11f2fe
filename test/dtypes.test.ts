import { describe, expect, test } from "vitest";
import { newModel } from "../src/ir/graph.ts";
import { open } from "../src/runtime/session.ts";
import { type DType, dtypes, smallFloats } from "../src/tensor/dtype.ts";
import { integersOf, numbersOf, type Tensor, tensor, valuesOf } from "../src/tensor/tensor.ts";

/** The tensor, an initializer of the model, as ONNX Runtime's Cast reads it: every code of a type held against an implementation not ours. */
async function runtimeReads(t: Tensor): Promise<Float32Array | Float64Array> {
  const model = newModel("cast", 25, 13);
  const out = model.graph.append("Cast", [model.graph.initializer("t", t)], { attrs: { to: dtypes.float32.code } }).outputs[0]!;
  model.graph.addOutput(out);
  const s = await open(model, { optimization: "disabled" });
  const y = numbersOf((await s.run({}))[out.name]!);
  await s.release();
  return y;
}

/** float32 numbers through ONNX Runtime's Cast to `dtype` and back. */
async function runtimeCasts(dtype: DType, x: Float32Array): Promise<Float32Array | Float64Array> {
  const model = newModel("cast", 25, 13);
  const g = model.graph;
  const code = g.append("Cast", [g.input("x", "float32", [x.length])], { attrs: { to: dtypes[dtype].code } }).outputs[0]!;
  const out = g.append("Cast", [code], { attrs: { to: dtypes.float32.code } }).outputs[0]!;
  g.addOutput(out);
  const s = await open(model, { optimization: "disabled" });
  const y = numbersOf((await s.run({ x: tensor("float32", [x.length], x) }))[out.name]!);
  await s.release();
  return y;
}

const floats = ["float16", "bfloat16", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "float8e8m0"] as const;
/** Compares with Object.is: NaN and −0 count. */
const same = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  expect(a.length).toBe(b.length);
  for (let i = 0; i < a.length; i++) if (!Object.is(a[i], b[i])) expect([i, a[i]]).toEqual([i, b[i]]);
};

describe.each(floats)("%s", (dtype) => {
  const n = 2 ** dtypes[dtype].bits;
  const codes = dtypes[dtype].bits === 16 ? Uint16Array.from({ length: n }, (_, i) => i) : Uint8Array.from({ length: n }, (_, i) => i);
  const all: Tensor = { dtype, shape: [n], data: new Uint8Array(codes.buffer) };

  test("every code is read as ONNX Runtime reads it", async () => {
    same(numbersOf(all), await runtimeReads(all));
  });

  test("every finite number is written as its own code again", () => {
    const back = valuesOf(tensor(dtype, [n], numbersOf(all)));
    for (let i = 0; i < n; i++) if (Number.isFinite(smallFloats(dtype)[i]!)) expect(back[i]).toBe(i);
  });

  test("midpoints, their neighbours and what lies beyond are rounded as ONNX Runtime's Cast does", async () => {
    const finite = [...smallFloats(dtype)].filter(Number.isFinite).sort((a, b) => a - b);
    const x: number[] = [0, -0, Infinity, -Infinity, Number.NaN, 1e38, -1e38, 1e-44, -1e-44];
    finite.forEach((v, i) => {
      const next = finite[i + 1] ?? 2 * v;
      const mid = Math.fround(v / 2 + next / 2);
      x.push(v, mid, Math.fround(mid * (1 + 2 ** -20)), Math.fround(mid * (1 - 2 ** -20)));
    });
    const feed = Float32Array.from(x);
    same(numbersOf(tensor(dtype, [x.length], Array.from(feed))), await runtimeCasts(dtype, feed));
  });
});

test("a float64 is rounded once, not by way of float32", () => {
  // Just above the midpoint of 1 and the next half: as a float32 it is the midpoint, a tie that would go to 1.
  const x = 1 + 2 ** -11 + 2 ** -40;
  expect(numbersOf(tensor("float16", [2], [x, -x]))).toEqual(Float32Array.of(1 + 2 ** -10, -1 - 2 ** -10));
  const y = 1 + 2 ** -8 + 2 ** -40;
  expect(numbersOf(tensor("bfloat16", [1], [y]))).toEqual(Float32Array.of(1 + 2 ** -7));
  expect(numbersOf(tensor("float16", [2], [65519.999, 65520]))).toEqual(Float32Array.of(65504, Infinity));
});

test.each([
  "uint8",
  "int8",
  "uint4",
  "int4",
  "uint2",
  "int2",
] as const)("%s: packed as ONNX Runtime unpacks it, odd lengths too", async (dtype) => {
  const { bits, kind } = dtypes[dtype];
  const min = kind === "i" ? -(2 ** (bits - 1)) : 0;
  const values = Array.from({ length: 2 ** bits + 1 }, (_, i) => min + (i % 2 ** bits));
  const t = tensor(dtype, [values.length], values);
  expect(t.data.byteLength).toBe(Math.ceil((values.length * bits) / 8));
  expect(Array.from(numbersOf(t))).toEqual(values);
  expect(Array.from(await runtimeReads(t))).toEqual(values);
});

test("float4e2m1 holds the sixteen numbers of its definition", () => {
  const numbers = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6];
  const t: Tensor = { dtype: "float4e2m1", shape: [16], data: Uint8Array.from({ length: 8 }, (_, i) => 2 * i + ((2 * i + 1) << 4)) };
  expect(Array.from(numbersOf(t))).toEqual(numbers);
  expect(tensor("float4e2m1", [16], numbers).data).toEqual(t.data);
  // Ties to even codes, saturation, and no NaN to go to.
  expect(Array.from(numbersOf(tensor("float4e2m1", [6], [0.25, 0.75, 5, 7, -100, Number.NaN])))).toEqual([0, 1, 4, 6, -6, 6]);
});

test("integers are rounded half to even and saturate; NaN is refused", () => {
  const x = [0.5, 1.5, 2.5, -0.5, -1.5, 1e30, -1e30, Infinity];
  const near = [0, 2, 2, -0, -2];
  expect(Array.from(numbersOf(tensor("int8", [8], x)), (v) => v + 0)).toEqual([...near, 127, -128, 127].map((v) => v + 0));
  expect(Array.from(numbersOf(tensor("uint32", [8], x)))).toEqual([0, 2, 2, 0, 0, 2 ** 32 - 1, 0, 2 ** 32 - 1]);
  const big = (dtype: DType, v: number[] | bigint[]) => Array.from(valuesOf(tensor(dtype, [v.length], v)) as BigInt64Array);
  expect(big("int64", x)).toEqual([0n, 2n, 2n, 0n, -2n, 2n ** 63n - 1n, -(2n ** 63n), 2n ** 63n - 1n]);
  expect(big("uint64", [-1, 2 ** 63, 2 ** 65])).toEqual([0n, 2n ** 63n, 2n ** 64n - 1n]);
  expect(big("uint64", [2n ** 64n - 1n, -5n])).toEqual([2n ** 64n - 1n, 0n]);
  expect(() => tensor("int8", [1], [Number.NaN])).toThrow("NaN is no int8");
  expect(() => tensor("int64", [1], [Number.NaN])).toThrow("NaN is no int64");
  // ONNX's "to the end" stays the end.
  expect(integersOf(tensor("int64", [1], [2n ** 63n - 1n]))[0]).toBeGreaterThanOrEqual(2 ** 53);
});

test("complex elements are pairs", () => {
  const t: Tensor = { dtype: "complex64", shape: [2], data: new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer) };
  expect(valuesOf(t)).toEqual(Float32Array.of(1, 2, 3, 4));
  expect(() => numbersOf(t)).toThrow("not numbers");
});
