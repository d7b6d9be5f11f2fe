/** Gradients through QuantizeLinear and DequantizeLinear: against differences of what they stand for, and against the paper's equation. */
import { expect, test } from "vitest";
import { newModel } from "../src/ir/graph.ts";
import { Build } from "../src/ops/build.ts";
import { observeShapes } from "../src/runtime/shapes.ts";
import { random } from "../src/tensor/random.ts";
import { numbersOf, tensor } from "../src/tensor/tensor.ts";
import { grad } from "../src/transform/grad.ts";
import { gradcheck, gradientOf } from "./gradcheck/check.ts";
import { learnedStep, roundTrip, trips } from "./gradcheck/quantized.ts";

test.for(
  trips.map((t) => [`${t.codes} [${t.shape}] by [${t.scales}]${t.block ? ` in blocks of ${t.block}` : ""}, zero ${t.zeros}`, t] as const),
)("%s", async ([, trip]) => {
  const subject = roundTrip(trip);
  const { error, tolerance, worst } = await gradcheck(subject);
  expect(error, worst).toBeLessThan(tolerance);
  // gradcheck draws this cotangent.
  const g = random(1, "cotangent")
    .fillNormal(new Float64Array(numbersOf(subject.inputs[0]!.value).length))
    .map(Math.fround);
  const want = learnedStep(trip, subject.inputs[0]!.value, subject.inputs[1]!.value, g);
  const [x, s] = await gradientOf(subject);
  for (const [got, right] of [
    [numbersOf(x!), want.x],
    [numbersOf(s!), want.s],
  ] as const) {
    const size = Math.max(1, ...right.map(Math.abs));
    right.forEach((v, i) => {
      expect(Math.abs(got[i]! - v)).toBeLessThan(2e-5 * size);
    });
  }
});

test("DynamicQuantizeLinear, and ops on the codes, are refused by name", async () => {
  const through = async (make: (b: Build) => void) => {
    const model = newModel("codes", 21, 10);
    model.graph.input("x", "float32", [4]);
    make(Build.of(model));
    const seen = await observeShapes(model, { x: tensor("float32", [4], [1, 2, 3, 4]) });
    return grad(seen, seen.graph.outputs[0]!, [seen.graph.inputs[0]!]);
  };
  await expect(
    through((b) => {
      const [q, s, z] = b.node("DynamicQuantizeLinear", [b.graph.inputs[0]!], {}, 3).outputs;
      b.graph.addOutput(b.op("ReduceSum", [b.op("DequantizeLinear", [q!, s!, z!])], { keepdims: 0 }));
    }),
  ).rejects.toThrow('no gradient rule for DynamicQuantizeLinear (node "pith/DynamicQuantizeLinear")');
  await expect(
    through((b) => {
      const q = b.op("QuantizeLinear", [b.graph.inputs[0]!, b.f32(0.5)]);
      b.graph.addOutput(b.op("ReduceSum", [b.op("DequantizeLinear", [b.reshape(q, [2, 2]), b.f32(0.5)])], { keepdims: 0 }));
    }),
  ).rejects.toThrow('no gradient rule for Reshape of integer codes (node "pith/Reshape")');
});
