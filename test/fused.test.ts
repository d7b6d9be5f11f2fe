import { describe, expect, test } from "vitest";
import type { Dataset } from "../src/data/dataset.ts";
import { fromArrays } from "../src/data/dataset.ts";
import type { ValuesOf } from "../src/data/params.ts";
import { check } from "../src/ir/check.ts";
import { cloneModel, type Dim, float, type Model, newModel, type Value } from "../src/ir/graph.ts";
import { Build } from "../src/ops/build.ts";
import { open } from "../src/runtime/session.ts";
import { int8 } from "../src/techniques/quantize/int8.ts";
import { qat } from "../src/techniques/quantize/qat.ts";
import type { Context } from "../src/techniques/technique.ts";
import { random } from "../src/tensor/random.ts";
import { floatsOf, tensor } from "../src/tensor/tensor.ts";
import { kernels } from "./kernels.ts";

type Params = Partial<ValuesOf<typeof int8.params>>;

/** Writes layers with seeded random weights. */
class Net {
  readonly model: Model;
  readonly b: Build;
  readonly #random = random(5, "net");
  constructor(shape: readonly Dim[], opset = 15) {
    this.model = newModel("net", opset);
    this.b = Build.of(this.model);
    this.model.graph.input("x", "float32", shape);
  }
  get x(): Value {
    return this.model.graph.inputs[0]!;
  }
  w(...shape: number[]): Value {
    const n = shape.reduce((a, d) => a * d, 1);
    const fanIn = shape.length > 2 ? n / shape[0]! : shape[0]!;
    const values = this.#random.fillNormal(new Float32Array(n)).map((v) => v / Math.sqrt(fanIn));
    return this.model.graph.initializer("w", tensor("float32", shape, values));
  }
  conv(x: Value, co: number, ci: number, k = 3, attrs: Record<string, number | number[]> = {}): Value {
    const p = (k - 1) / 2;
    const group = typeof attrs.group === "number" ? attrs.group : 1;
    return this.b.op("Conv", [x, this.w(co, ci / group, k, k), this.w(co)], { pads: [p, p, p, p], ...attrs });
  }
  relu(x: Value): Value {
    return this.b.op("Relu", [x]);
  }
  norm(x: Value, n: number): Value {
    const ones = (v: number) => this.b.constant(tensor("float32", [n], new Float32Array(n).fill(v)));
    return this.b.op("BatchNormalization", [x, this.w(n), this.w(n), this.w(n), ones(0.9)]);
  }
  end(y: Value): Model {
    this.model.graph.addOutput(y);
    return this.model;
  }
}

const image: readonly Dim[] = ["n", 16, 12, 12];
const nets: Record<string, () => Model> = {
  "MatMul, three axes"() {
    const n = new Net(["n", 8, 64]);
    return n.end(n.b.matmul(n.relu(n.b.matmul(n.x, n.w(64, 32))), n.w(32, 48)));
  },
  "MatMul and bias, three axes"() {
    const n = new Net(["n", 8, 64]);
    return n.end(n.b.add(n.b.matmul(n.relu(n.b.add(n.w(32), n.b.matmul(n.x, n.w(64, 32)))), n.w(32, 48)), n.w(48)));
  },
  "MatMul and bias, three axes of which two are open"() {
    const n = new Net(["n", "length", 64]);
    return n.end(n.b.add(n.b.matmul(n.b.op("Tanh", [n.b.add(n.w(32), n.b.matmul(n.x, n.w(64, 32)))]), n.w(32, 48)), n.w(48)));
  },
  "MatMul and bias, all axes fixed"() {
    const n = new Net([4, 8, 64]);
    return n.end(n.b.add(n.b.matmul(n.b.op("Tanh", [n.b.add(n.w(1, 1, 32), n.b.matmul(n.x, n.w(64, 32)))]), n.w(32, 48)), n.w(48)));
  },
  "a Relu or Clip between a layer and floats"() {
    const n = new Net([4, 8, 64]);
    const h = n.b.op("Abs", [n.relu(n.b.matmul(n.x, n.w(64, 32)))]);
    const flat = n.b.op("Exp", [
      n.b.op("Clip", [n.b.op("Gemm", [n.b.reshape(h, [32, 32]), n.w(32, 16), n.w(16)]), n.b.f32(0), n.b.f32(1)]),
    ]);
    return n.end(n.b.op("Abs", [n.relu(n.b.add(n.b.matmul(n.b.reshape(flat, [4, 8, 16]), n.w(16, 16)), n.w(16)))]));
  },
  "a Gemm read by a quantized layer and by others"() {
    const n = new Net([4, 64]);
    const h = n.b.op("Gemm", [n.x, n.w(64, 32), n.w(32)]);
    return n.end(n.b.add(n.b.op("Gemm", [h, n.w(32, 32), n.w(32)]), n.b.op("Exp", [h])));
  },
  "MatMul, two axes, and what is no bias"() {
    const n = new Net([4, 64]);
    return n.end(n.b.add(n.b.matmul(n.x, n.w(64, 64)), n.x));
  },
  "MatMul and bias, two axes"() {
    const n = new Net(["n", 64]);
    return n.end(n.b.add(n.b.matmul(n.relu(n.b.add(n.w(32), n.b.matmul(n.x, n.w(64, 32)))), n.w(32, 48)), n.w(48)));
  },
  "Gemm in all forms"() {
    const n = new Net(["n", 64]);
    const h1 = n.relu(n.b.op("Gemm", [n.x, n.w(40, 64), n.w(1, 40)], { transB: 1, alpha: float(0.5), beta: float(2) }));
    const h2 = n.relu(n.b.op("Gemm", [h1, n.w(40, 32)]));
    return n.end(n.b.op("Gemm", [h2, n.w(32, 10), n.w(10)]));
  },
  "one value into three MatMuls"() {
    const n = new Net(["n", 8, 32]);
    const [q, k, v] = [n.b.matmul(n.x, n.w(32, 32)), n.b.matmul(n.x, n.w(32, 32)), n.b.matmul(n.x, n.w(32, 32))];
    return n.end(n.b.matmul(n.b.op("Softmax", [n.b.matmul(q!, n.b.transpose(k!, [0, 2, 1]))], { axis: -1 }), v!));
  },
  "plain CNN"() {
    const n = new Net(image);
    const h = n.b.op("MaxPool", [n.relu(n.norm(n.conv(n.x, 16, 16), 16))], { kernel_shape: [2, 2], strides: [2, 2] });
    const flat = n.b.op("Flatten", [n.b.op("Clip", [n.norm(n.conv(h, 32, 16), 32), n.b.f32(0), n.b.f32(6)])]);
    return n.end(n.b.op("Gemm", [flat, n.w(32 * 36, 10), n.w(10)]));
  },
  "residual CNN"() {
    const n = new Net(image);
    let h = n.relu(n.conv(n.x, 16, 16));
    for (let i = 0; i < 2; i++) h = n.relu(n.b.add(n.conv(n.relu(n.conv(h, 16, 16)), 16, 16), h));
    const pooled = n.b.op("Flatten", [n.b.op("GlobalAveragePool", [h])]);
    return n.end(n.b.op("Gemm", [pooled, n.w(16, 10), n.w(10)]));
  },
  "residual CNN, floats at the end"() {
    const n = new Net(image);
    let h = n.relu(n.conv(n.x, 16, 16));
    for (let i = 0; i < 3; i++) h = n.relu(n.b.add(n.conv(n.relu(n.conv(h, 16, 16)), 16, 16), h));
    return n.end(n.b.op("Exp", [h]));
  },
  "depthwise, squeeze and hard-swish"() {
    const n = new Net(image);
    const c = n.conv(n.conv(n.x, 16, 16, 3, { group: 16 }), 32, 16, 1);
    const swish = n.b.mul(c, n.b.div(n.b.op("Clip", [n.b.add(c, n.b.f32(3)), n.b.f32(0), n.b.f32(6)]), n.b.f32(6)));
    return n.end(n.conv(swish, 8, 32, 1));
  },
};

/** The kernels each must become; QuantizeLinear and DequantizeLinear stand only where floats come in or are wanted. */
const expected: Record<string, { dynamic: Record<string, number>; static: Record<string, number> }> = {
  "MatMul, three axes": {
    dynamic: { DynamicQuantizeMatMul: 2, Relu: 1 },
    static: { QuantizeLinear: 1, QLinearMatMul: 1, MatMulIntegerToFloat: 1 },
  },
  "MatMul and bias, three axes": {
    dynamic: { DynamicQuantizeMatMul: 2, Relu: 1 },
    static: { Flatten: 1, QuantizeLinear: 1, QGemm: 2, Reshape: 1 },
  },
  "MatMul and bias, three axes of which two are open": {
    dynamic: { DynamicQuantizeMatMul: 2, Tanh: 1 },
    static: { Flatten: 2, QuantizeLinear: 2, QGemm: 2, Tanh: 1, Reshape: 2, Shape: 2 },
  },
  "MatMul and bias, all axes fixed": {
    dynamic: { DynamicQuantizeMatMul: 2, Tanh: 1 },
    static: { QuantizeLinear: 2, QGemm: 2, Tanh: 1, Reshape: 2 },
  },
  "a Relu or Clip between a layer and floats": {
    dynamic: { DynamicQuantizeMatMul: 3, Relu: 2, Clip: 1 },
    static: { QuantizeLinear: 3, MatMulIntegerToFloat: 1, QGemm: 2, Relu: 2, Clip: 1 },
  },
  "a Gemm read by a quantized layer and by others": {
    dynamic: { DynamicQuantizeMatMul: 2, Exp: 1, Add: 1 },
    static: { QuantizeLinear: 1, QGemm: 2, DequantizeLinear: 1, Exp: 1, Add: 1 },
  },
  "MatMul, two axes, and what is no bias": {
    dynamic: { DynamicQuantizeMatMul: 1, Add: 1 },
    static: { QuantizeLinear: 1, QGemm: 1, Add: 1 },
  },
  "MatMul and bias, two axes": {
    dynamic: { DynamicQuantizeMatMul: 2, Relu: 1 },
    static: { QuantizeLinear: 1, QGemm: 2 },
  },
  "Gemm in all forms": {
    dynamic: { DynamicQuantizeMatMul: 3, Relu: 2 },
    static: { QuantizeLinear: 1, QGemm: 3 },
  },
  "one value into three MatMuls": {
    dynamic: { DynamicQuantizeLinear: 1, MatMulIntegerToFloat: 3, FusedMatMul: 1, MatMul: 1, Softmax: 1 },
    static: { QuantizeLinear: 1, MatMulIntegerToFloat: 3, FusedMatMul: 1, MatMul: 1, Softmax: 1 },
  },
  "plain CNN": {
    dynamic: { DynamicQuantizeMatMul: 1 },
    static: { QuantizeLinear: 1, QLinearConv: 2, NhwcMaxPool: 1, QGemm: 1, Flatten: 1, Transpose: 2 },
  },
  "residual CNN": {
    dynamic: { DynamicQuantizeMatMul: 1 },
    static: { QuantizeLinear: 1, QLinearConv: 5, QLinearAdd: 2, QLinearGlobalAveragePool: 1, QGemm: 1, Flatten: 1, Transpose: 2 },
  },
  "residual CNN, floats at the end": {
    dynamic: { Exp: 1 },
    static: { QuantizeLinear: 1, QLinearConv: 7, QLinearAdd: 2, Add: 1, Exp: 1 },
  },
  "depthwise, squeeze and hard-swish": {
    dynamic: {},
    static: { QLinearConv: 3 },
  },
};

const context = (calibration: Dataset | null, original: Model, notes: string[] = []): Context => ({
  seed: 0,
  train: null,
  calibration,
  original,
  threads: 1,
  load: async () => original,
  note: (line) => notes.push(line),
  progress: () => {},
});

function examples(model: Model, n: number): Dataset {
  const shape = model.graph.inputs[0]!.type!.shape!.slice(1).map((d) => (typeof d === "number" ? d : 6));
  const x = random(9, "x").fillNormal(new Float32Array(n * shape.reduce((a, d) => a * d, 1)));
  return fromArrays({ x: tensor("float32", [n, ...shape], x) });
}

async function quantized(model: Model, params: Params): Promise<Model> {
  const out = cloneModel(model);

  await int8({ smallest: 0, ...params }).apply(out, context(examples(model, 32), model));
  check(out);
  return out;
}

async function outputs(model: Model, data: Dataset): Promise<Float32Array> {
  const s = await open(model, { threads: 1 });
  const y = Object.values(await s.run(data.take([0, 1, 2, 3])))[0]!;
  await s.release();
  return floatsOf(y);
}

describe.each(Object.keys(nets))("%s", (name) => {
  test.each(["dynamic", "static"] as const)("%s int8 runs in integer kernels, near the float net", async (mode) => {
    const model = nets[name]!();
    const small = await quantized(model, { mode, depthwise: true });
    const count = await kernels(small);
    expect(count).toMatchObject(expected[name]![mode]);
    if (mode === "static") {
      expect(count.Conv ?? 0).toBe(0);
      expect(count.Gemm ?? 0).toBe(0);
    }
    const data = examples(model, 4);
    const [a, b] = [await outputs(model, data), await outputs(small, data)];
    const norm = (v: Float32Array) => Math.sqrt(v.reduce((s, x) => s + x * x, 0));
    expect(norm(a.map((x, i) => x - b[i]!)) / norm(a)).toBeLessThan(0.03);
  });

  test("what qat leaves runs in the same kernels, and with 4-bit weights in int4 too", async () => {
    const model = nets[name]!();
    for (const bits of [8, 4]) {
      const out = cloneModel(model);
      const params = { weightBits: bits, endBits: bits, activationBits: 8, epochs: 0 };
      await qat(params).apply(out, context(examples(model, 32), model));
      check(out);
      expect(await kernels(out)).toMatchObject(expected[name]!.static);
    }
  });
});
