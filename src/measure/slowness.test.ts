import { describe, expect, test } from "vitest";
import { host } from "#host";
import { type Model, newModel, type Value } from "../ir/graph.ts";
import { Build } from "../ops/build.ts";
import type { DType } from "../tensor/dtype.ts";
import { random } from "../tensor/random.ts";
import { tensor } from "../tensor/tensor.ts";
import type { Measurement } from "./measurement.ts";
import { causes, type Ran, slowness } from "./slowness.ts";

const shape = [1, 4, 16, 16];
const weights = [4, 4, 3, 3];
const normals = (s: readonly number[], seed: number) =>
  tensor("float32", s, random(seed).fillNormal(new Float32Array(s.reduce((a, d) => a * d, 1))));

function net(build: (b: Build, x: Value) => Value): Model {
  const model = newModel("net", 17);
  const b = Build.of(model);
  model.graph.addOutput(build(b, model.graph.input("x", "float32", shape)));
  return model;
}
const conv = (b: Build, x: Value, w: Value) => b.graph.append("Conv", [x, w], { name: "conv", attrs: { pads: [1, 1, 1, 1] } }).outputs[0]!;
const float = net((b, x) => conv(b, x, b.graph.initializer("w", normals(weights, 1))));
const scalar = (b: Build, dtype: DType, v: number) => b.graph.initializer("s", tensor(dtype, [], [v]));
const codes = (b: Build) =>
  b.graph.initializer(
    "w",
    tensor(
      "int8",
      weights,
      Array.from({ length: 144 }, (_, i) => (i % 100) - 50),
    ),
  );

/** Through its codes; `zero` of another type than the kernels take keeps them from fusing. */
function round(b: Build, v: Value, dtype: DType = "uint8"): Value {
  const [s, z] = [scalar(b, "float32", 0.05), scalar(b, dtype, dtype === "uint8" ? 128 : 0)];
  return b.op("DequantizeLinear", [b.op("QuantizeLinear", [v, s, z]), s, z]);
}
const weightsOf = (b: Build) => b.op("DequantizeLinear", [codes(b), scalar(b, "float32", 0.01), scalar(b, "int8", 0)]);

const dynamic = net((b, x) => {
  const q = b.node("DynamicQuantizeLinear", [x], {}, 3).outputs as [Value, Value, Value];
  const y = b.graph.append("ConvInteger", [q[0], codes(b), q[2]], { name: "dynamic", attrs: { pads: [1, 1, 1, 1] } }).outputs[0]!;
  return b.mul(b.cast(y, "float32"), b.mul(q[1], b.f32(0.01)));
});
/** A Conv, which has no float16 kernel, and a Transpose, which has one. */
const half = net((b, x) => {
  const w = b.graph.initializer("w", tensor("float16", weights, new Array(144).fill(0.5)));
  return b.cast(
    b.op("Transpose", [conv(b, b.op("Transpose", [b.cast(x, "float16")], { perm: [0, 1, 3, 2] }), w)], { perm: [0, 1, 3, 2] }),
    "float32",
  );
});
/** Its second Conv has no codes for its output, so that it stays a float one. */
const loose = net((b, x) => {
  const first = round(b, conv(b, round(b, x), weightsOf(b)));
  return b.graph.append("Conv", [first, weightsOf(b)], { name: "loose", attrs: { pads: [1, 1, 1, 1] } }).outputs[0]!;
});

const feeds = { x: normals(shape, 3) };
const run = (model: Model) => host.inspect!(model, feeds, { threads: 1, seconds: 0.02 });
const speedup = (value: number, interval: [number, number]): Measurement => ({ metric: "speedup", value, unit: "×", n: 6, interval });

describe("causes are read off the graph that ran", async () => {
  const original = await run(float);

  test("what was not fused, by name", async () => {
    const { text, nodes } = causes(loose, original, await run(loose));
    expect(text).toMatch(/^1 of 2 nodes on dequantized inputs not fused: Conv \(first: loose\)/);
    expect(nodes).toEqual(["loose"]);
    const whole = net((b, x) => round(b, conv(b, round(b, x), weightsOf(b))));
    expect(causes(whole, original, await run(whole)).text).not.toContain("not fused");
  });

  test("Casts that the runtime put in, and the op without a kernel", async () => {
    const { text, nodes } = causes(half, original, await run(half));
    expect(text).toMatch(/^no float16 kernel for Conv: computed in float32, with \d Casts? inserted by the runtime/);
    expect(nodes).toEqual([expect.stringContaining("conv")]);
  });

  test("dynamic Convs, with what they were measured to cost", async () => {
    const { text, nodes } = causes(dynamic, original, await run(dynamic));
    expect(text).toMatch(/1 × a dynamically quantized Conv \(ConvInteger\) takes [\d.]+ times as long/);
    expect(nodes).toContain("dynamic");
  });

  test("nothing but the same kernels", () => {
    expect(causes(float, original, original).text).toMatch(/^the same \d kernels? run as in the original, and a zero takes as long/);
  });
});

test("time is compared by kind of work", () => {
  const of = (...times: [string, string, number][]): Ran => ({ graph: null, times: times.map(([name, op, ms]) => ({ name, op, ms })) });
  const { text } = causes(
    float,
    of(["a", "Conv", 1], ["b", "FusedConv", 1], ["c", "Relu", 0.1]),
    of(["a", "QLinearConv", 3.5], ["q", "QuantizeLinear", 1], ["c", "Relu", 0.12]),
  );
  expect(text).toBe(
    "by the profile QLinearConv 3.5 ms where Conv and FusedConv took 2 ms, QuantizeLinear 1 ms, which the original has not",
  );
});

test("it speaks where the result is slower, or not faster for certain, and is silent where it is faster", async () => {
  const at = (value: number, interval: [number, number]) =>
    slowness({ model: float, feeds }, { model: dynamic, feeds }, [speedup(value, interval)], { threads: 1 });
  expect(await at(0.5, [0.4, 0.6])).toMatchObject([{ level: "warning", what: expect.stringMatching(/^slower \(0\.5×\): /) }]);
  expect(await at(1.01, [0.9, 1.1])).toMatchObject([{ level: "note", what: expect.stringMatching(/^no faster \(1\.01×\): /) }]);
  expect(await at(2, [1.9, 2.1])).toEqual([]);
  expect(await slowness({ model: float, feeds }, { model: float, feeds }, [])).toEqual([]);
});
