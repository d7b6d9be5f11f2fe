import { expect, test } from "vitest";
import { newModel } from "../ir/graph.ts";
import { readModel } from "../onnx/read.ts";
import { writeModel } from "../onnx/write.ts";
import { open } from "../runtime/session.ts";
import { observeShapes } from "../runtime/shapes.ts";
import { numbersOf, tensor } from "../tensor/tensor.ts";
import { grad } from "../transform/grad.ts";
import { Build } from "./build.ts";

/** y = Σ |x|̄·StraightThrough(x, Sign(x)), as XNOR-Net scales its weights. */
function scaledSigns() {
  const model = newModel("signs");
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", [4]);
  const signs = b.straightThrough(x, b.op("Sign", [x]), 1);
  const y = b.mul(b.op("ReduceMean", [b.op("Abs", [x])], { keepdims: 0 }), signs);
  model.graph.addOutput(b.op("ReduceSum", [y], { keepdims: 0 }));
  return { model, b, x };
}

test("a file that is written holds an Identity in its place, and runs", async () => {
  const { model } = scaledSigns();
  const read = readModel(writeModel(model));
  expect([...read.graph.nodes].map((n) => `${n.domain}:${n.opType}`)).toEqual([
    ":Sign",
    ":Identity",
    ":Abs",
    ":ReduceMean",
    ":Mul",
    ":ReduceSum",
  ]);
  const session = await open(read, { threads: 1 });
  const out = await session.run({ x: tensor("float32", [4], [0.5, -2, 1.5, 3]) });
  expect(numbersOf(Object.values(out)[0]!)[0]).toBeCloseTo(2 * 1.75, 6);
  await session.release();
});

test("scaled by mean|x| its gradient is XNOR-Net's: α·1(|x| ≤ 1) + sign(x)·Σ g·sign / n (Rastegari et al. 2016, section 3.1)", async () => {
  const { model } = scaledSigns();
  const feeds = { x: tensor("float32", [4], [0.5, -2, 0.75, 3]) };
  const back = await observeShapes(model, feeds);
  const x = back.graph.inputs[0]!;
  const dx = grad(back, back.graph.outputs[0]!, [x]).get(x)!;
  back.graph.addOutput(Build.of(back, "out").op("Identity", [dx]));
  const session = await open(back, { threads: 1 });
  const out = await session.run(feeds);
  const alpha = 6.25 / 4;
  const through = (1 - 1 + 1 + 1) / 4;
  expect(Array.from(numbersOf(Object.values(out)[1]!))).toEqual([alpha + through, -through, alpha + through, through]);
  await session.release();
});

test("x and y of different shapes are refused", async () => {
  const model = newModel("shapes");
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", [4]);
  model.graph.addOutput(b.op("ReduceSum", [b.straightThrough(x, b.f32(1))], { keepdims: 0 }));
  const back = await observeShapes(model, { x: tensor("float32", [4], [1, 2, 3, 4]) });
  expect(() => grad(back, back.graph.outputs[0]!, [back.graph.inputs[0]!])).toThrow("x has the shape [4], y []");
});
