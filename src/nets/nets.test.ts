import { expect, test } from "vitest";
import { check } from "../ir/check.ts";
import type { Model } from "../ir/graph.ts";
import { writeModel } from "../onnx/write.ts";
import { open } from "../runtime/session.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { random } from "../tensor/random.ts";
import { floatsOf, numbersOf, tensor } from "../tensor/tensor.ts";
import { lenet5 } from "./lenet5.ts";
import { lenet300, mlp } from "./mlp.ts";
import { resnet20 } from "./resnet20.ts";
import { transformer } from "./transformer.ts";

const encoder = (pool: boolean) =>
  transformer({ layers: 2, width: 16, heads: 4, vocabulary: 7, length: 5, classes: 3, pool, dropout: 0.1 });

test.each<[string, () => Model, number, readonly number[], readonly number[]]>([
  ["lenet300", () => lenet300({ dropout: 0.5 }), 266_610, [2, 784], [2, 10]],
  ["lenet5", () => lenet5({ dropout: 0.5 }), 431_080, [2, 1, 28, 28], [2, 10]],
  ["resnet20", () => resnet20({}), 272_474 + 1_568, [2, 3, 32, 32], [2, 10]],
  ["transformer", () => encoder(true), 6_835, [2, 5], [2, 3]],
  ["transformer, every position", () => encoder(false), 6_835, [2, 5], [2, 5, 3]],
])("%s runs, is deterministic and has its number of parameters", async (_, make, parameters, input, output) => {
  const model = make();
  check(model);
  expect(Buffer.compare(writeModel(make()), writeModel(model))).toBe(0);
  const floats = [...model.graph.initializers].filter((v) => v.data!.dtype === "float32" && v.data!.shape.length > 0);
  expect(floats.reduce((n, v) => n + sizeOf(v.data!.shape), 0)).toBe(parameters);
  const session = await open(model, { threads: 1 });
  const x = model.graph.inputs[0]!;
  const values = random(1).fillNormal(new Float32Array(sizeOf(input)));
  const feed =
    x.name === "ids"
      ? tensor(
          "int64",
          input,
          Array.from(values, (v) => Math.abs(Math.round(v))),
        )
      : tensor("float32", input, values);
  const { logits } = await session.run({ [x.name]: feed });
  expect(logits!.shape).toEqual(output);
  expect(numbersOf(logits!).every(Number.isFinite)).toBe(true);
  await session.release();
});

test("initial weights have the deviations of He and Glorot, and depend on the seed", () => {
  const weight = (m: Model, name: string) => floatsOf([...m.graph.initializers].find((v) => v.name === name)!.data!);
  const deviation = (x: Float32Array) => Math.sqrt(x.reduce((s, v) => s + v * v, 0) / x.length);
  const net = mlp({ sizes: [400, 300, 200] });
  expect(deviation(weight(net, "fc1.weight"))).toBeCloseTo(Math.sqrt(2 / 400), 3);
  expect(deviation(weight(net, "fc2.weight"))).toBeCloseTo(Math.sqrt(2 / 500), 3);
  expect(weight(net, "fc1.bias").every((v) => v === 0)).toBe(true);
  expect(deviation(weight(resnet20(), "stage3.block3.2.conv.weight"))).toBeCloseTo(Math.sqrt(2 / (64 * 9)), 3);
  expect(weight(mlp({ sizes: [4, 3], seed: 1 }), "fc1.weight")).not.toEqual(weight(mlp({ sizes: [4, 3], seed: 2 }), "fc1.weight"));
  expect(() => mlp({ sizes: [4] })).toThrow("mlp: sizes must be two or more whole numbers of units; got [4]");
});
