import { expect, test } from "vitest";
import { fromArrays } from "../../data/dataset.ts";
import { check } from "../../ir/check.ts";
import { cloneModel, float, type Model, newModel, type Value } from "../../ir/graph.ts";
import { allNodes } from "../../ir/walk.ts";
import { lenet5 } from "../../nets/lenet5.ts";
import { transformer } from "../../nets/transformer.ts";
import { Build } from "../../ops/build.ts";
import { compress } from "../../recipe/compress.ts";
import { open } from "../../runtime/session.ts";
import { random } from "../../tensor/random.ts";
import { numbersOf, type Tensor, tensor } from "../../tensor/tensor.ts";
import { equalize, smoothquant } from "../index.ts";
import { equalization } from "./equalize.ts";
import { channelMaxima, readersOf, rescale, sourceOf } from "./rescale.ts";
import { smoothScales } from "./smoothquant.ts";

const normal = (shape: readonly number[], seed: number, deviation = 0.3): Tensor =>
  tensor("float32", shape, random(seed).fillNormal(new Float32Array(shape.reduce((a, d) => a * d, 1)), deviation));
const factors = (n: number) => Float32Array.from({ length: n }, (_, i) => 2 ** ((i % 7) - 3) * 1.1);

async function outputs(model: Model, x: Tensor): Promise<number[]> {
  const session = await open(model, { threads: 1 });
  const y = await session.run({ [session.inputs[0]!.name]: x });
  await session.release();
  return Object.values(y).flatMap((t) => [...numbersOf(t)]);
}

function close(got: readonly number[], want: readonly number[]) {
  const most = Math.max(...want.map(Math.abs));
  expect(got.length).toBe(want.length);
  got.forEach((y, i) => {
    expect(Math.abs(y - want[i]!)).toBeLessThanOrEqual(1e-5 * most);
  });
}

type Make = (b: Build, x: Value, w: (shape: number[], deviation?: number) => Value) => Value;

/** A model of input [3, …shape], and the value that `make` names "here". */
function modelOf(make: Make, shape: readonly number[]): Model {
  const model = newModel("m", 17);
  const b = Build.of(model, "m");
  let seed = 1;
  const w = (dims: number[], deviation = 0.3) => b.graph.initializer("w", normal(dims, seed++, deviation));
  model.graph.addOutput(make(b, model.graph.input("x", "float32", [3, ...shape]), w));
  return model;
}

const cases: Record<string, { make: Make; shape: number[]; how: "source" | "mul" }> = {
  "a MatMul's input of the graph": { make: (b, x, w) => b.matmul(x, w([8, 5])), shape: [8], how: "mul" },
  "two MatMuls behind a LayerNormalization": {
    make: (b, x, w) => {
      const y = b.op("LayerNormalization", [x, w([8], 1), w([8])], { axis: -1 });
      return b.add(b.matmul(y, w([8, 5])), b.op("MatMul", [y, w([8, 5])]));
    },
    shape: [4, 8],
    how: "source",
  },
  "a LayerNormalization that is read elsewhere too": {
    make: (b, x, w) => {
      const y = b.op("LayerNormalization", [x, w([8], 1)], { axis: -1 });
      return b.add(y, b.matmul(y, w([8, 8])));
    },
    shape: [4, 8],
    how: "mul",
  },
  "a norm spelled out, its weight a Mul": {
    make: (b, x, w) => {
      const root = b.op("Sqrt", [b.reduce("ReduceMean", b.mul(x, x), [-1], true)]);
      return b.matmul(b.mul(w([8], 1), b.div(x, root)), w([8, 5]));
    },
    shape: [4, 8],
    how: "source",
  },
  "a MatMul, its bias and a Relu": {
    make: (b, x, w) => b.matmul(b.op("Relu", [b.add(b.matmul(x, w([6, 8])), w([8]))]), w([8, 5])),
    shape: [4, 6],
    how: "source",
  },
  "Gemms of both spellings, PRelu": {
    make: (b, x, w) =>
      b.op("Gemm", [b.op("PRelu", [b.op("Gemm", [x, w([8, 6]), w([1, 8])], { transB: 1 }), w([8])]), w([8, 5])], { alpha: float(0.7) }),
    shape: [6],
    how: "source",
  },
  "a Gelu, which does not let factors through": {
    make: (b, x, w) => b.matmul(b.op("Sigmoid", [b.matmul(x, w([6, 8]))]), w([8, 5])),
    shape: [6],
    how: "mul",
  },
  "Convs through LeakyRelu and pooling": {
    make: (b, x, w) => {
      const y = b.op("LeakyRelu", [b.op("Conv", [x, w([8, 2, 3, 3]), w([8])])], { alpha: float(0.1) });
      return b.op("Conv", [b.op("MaxPool", [y], { kernel_shape: [2, 2] }), w([5, 8, 2, 2]), w([5])]);
    },
    shape: [2, 6, 6],
    how: "source",
  },
  "a depthwise Conv behind BatchNormalization": {
    make: (b, x, w) => {
      const square = (v: Value) => {
        v.graph.setData(
          v,
          tensor(
            "float32",
            [8],
            numbersOf(v.data!).map((n) => n * n + 0.1),
          ),
        );
        return v;
      };
      const y = b.op("BatchNormalization", [b.op("Conv", [x, w([8, 2, 3, 3])]), w([8]), w([8]), w([8]), square(w([8]))]);
      return b.op("Conv", [y, w([8, 1, 3, 3])], { group: 8 });
    },
    shape: [2, 6, 6],
    how: "source",
  },
  "a Conv's input of the graph": { make: (b, x, w) => b.op("Conv", [x, w([5, 8, 3, 3])]), shape: [8, 4, 4], how: "mul" },
  "one constant that is weight and bias of a norm": {
    make: (b, x, w) => {
      const both = w([8], 1);
      const y = b.op("LayerNormalization", [x, both, both], { axis: -1 });
      return b.matmul(y, w([8, 5]));
    },
    shape: [4, 8],
    how: "source",
  },
};

test.each(Object.entries(cases))("%s: rescaled, the outputs stay", async (_, { make, shape, how }) => {
  const before = modelOf(make, shape);
  const model = cloneModel(before);
  // The last value that a MatMul, Gemm or Conv with weights for 8 channels reads.
  const value = [...model.graph.nodes]
    .map((n) => n.inputs[0]!)
    .filter((v) => readersOf(v).some((r) => r.weight.value.data!.shape[r.weight.axis] === 8))
    .at(-1)!;
  const weights = readersOf(value).map((r) => ({ value: r.weight, most: channelMaxima(r.weight) }));
  const s = factors(8);
  expect(rescale(value, s, { mul: false })).toBe(how === "source" ? how : null);
  if (how === "mul") expect(rescale(value, s)).toBe("mul");
  check(model);
  for (const { value: w, most } of weights)
    channelMaxima(w).forEach((m, i) => {
      expect(m / most[i]! / s[i]!).toBeCloseTo(1, 5);
    });
  const muls = (m: Model) => [...m.graph.nodes].filter((n) => n.opType === "Mul").length;
  expect(muls(model) - muls(before)).toBe(how === "mul" ? 1 : 0);
  const x = normal([3, ...shape], 77, 1);
  close(await outputs(model, x), await outputs(before, x));
});

test("a weight that something else reads is no reader; wrong factors are refused", () => {
  const model = modelOf(
    (b, x, w) => {
      const shared = w([8, 8]);
      return b.matmul(b.matmul(x, shared), shared);
    },
    [8],
  );
  const [x] = model.graph.inputs;
  expect(readersOf(x!)).toEqual([]);
  expect(rescale(x!, factors(8))).toBeNull();
  expect(sourceOf(x!, -1, 8)).toBeNull();
  const other = modelOf((b, v, w) => b.matmul(v, w([8, 5])), [8]).graph.inputs[0]!;
  expect(() => rescale(other, factors(7))).toThrow('"x" has 8 channels; got 7 factors');
  expect(() => rescale(other, new Float32Array(8))).toThrow("must be positive numbers");
});

test("the papers' factors", () => {
  // √(4·1)/1 = 2: both ranges become 2.
  expect([...equalization(Float32Array.of(4, 0, 9), Float32Array.of(1, 1, 9))]).toEqual([2, 1, 1]);
  expect([...smoothScales(Float32Array.of(16, 0, 4), Float32Array.of(4, 1, 4), 0.5)]).toEqual([2, 1, 1]);
  expect(smoothScales(Float32Array.of(16), Float32Array.of(4), 0.75)[0]).toBeCloseTo(16 ** 0.75 / 4 ** 0.25, 5);
});

test("equalize: Convs and Gemms of a net have channels of equal ranges, and its outputs stay", async () => {
  const model = lenet5({ seed: 1 });
  // Channels of very different sizes.
  for (const n of allNodes(model.graph)) {
    const w = n.inputs[1];
    if (n.opType === "Conv" && w?.data) {
      const values = numbersOf(w.data);
      const each = values.length / w.data.shape[0]!;
      w.graph.setData(
        w,
        tensor(
          "float32",
          w.data.shape,
          values.map((v, i) => v * 3 ** (Math.floor(i / each) % 4)),
        ),
      );
    }
  }
  const { model: result, run } = await compress(model, [equalize()], { measure: null, threads: 1 });
  expect(run.steps[0]!.notes.join()).toMatch(/\d pairs of layers equalized/);
  const x = normal([3, 1, 28, 28], 5, 1);
  close(await outputs(result, x), await outputs(model, x));
  const spread = (m: Model) => {
    const conv = [...m.graph.nodes].find((n) => n.opType === "Conv")!;
    const most = channelMaxima({ value: conv.inputs[1]!, axis: 0 });
    return Math.max(...most) / Math.min(...most);
  };
  expect(spread(result)).toBeLessThan(0.6 * spread(model));
});

test("smoothquant: the inputs of layers behind norms are evened out, and the outputs stay", async () => {
  const model = transformer({ layers: 2, width: 16, heads: 2, vocabulary: 20, length: 8, classes: 3 });
  // A norm with outlier channels, as trained ones have.
  for (const n of allNodes(model.graph)) {
    const w = n.inputs[1];
    if (n.opType === "LayerNormalization" && w)
      w.graph.setData(
        w,
        tensor(
          "float32",
          [16],
          Float32Array.from({ length: 16 }, (_, i) => (i % 5 ? 1 : 20)),
        ),
      );
  }
  const ids = tensor(
    "int64",
    [32, 8],
    Array.from({ length: 256 }, (_, i) => (i * 7 + (i >> 3)) % 20),
  );
  const calibration = fromArrays({ ids });
  for (const [mul, pattern] of [
    [false, /^4 of 9 inputs of layers smoothed$/m],
    [true, /9 of 9 inputs of layers smoothed, 5 of them by a Mul/],
  ] as const) {
    const { model: result, run } = await compress(model, [smoothquant({ mul })], { measure: null, threads: 1, calibration });
    expect(run.steps[0]!.notes.join("\n")).toMatch(pattern);
    check(result);
    close(await outputs(result, ids), await outputs(model, ids));
    const gains = [...result.graph.nodes]
      .filter((n) => n.opType === "LayerNormalization")
      .map((n) => channelMaxima({ value: n.inputs[1]!, axis: 0 }));
    // The last one is averaged first: a Mul behind that takes its factors.
    for (const g of gains.slice(0, 4)) expect(Math.max(...g) / Math.min(...g)).toBeLessThan(12);
  }
  await expect(compress(model, [smoothquant()], { measure: null })).rejects.toThrow("needs calibration data");
});
