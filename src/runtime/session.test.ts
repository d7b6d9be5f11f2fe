import { expect, test } from "vitest";
import { newModel } from "../ir/graph.ts";
import { Build } from "../ops/build.ts";
import { numbersOf, tensor } from "../tensor/tensor.ts";
import { open } from "./session.ts";

function affine() {
  const model = newModel("affine");
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", ["n", 2]);
  const w = model.graph.initializer("w", tensor("float32", [2, 2], [1, 2, 3, 4]));
  model.graph.addOutput(b.add(b.matmul(x, w), b.f32(0.5)));
  return { model, out: model.graph.outputs[0]!.name };
}

test("a graph from code runs", async () => {
  const { model, out } = affine();
  const s = await open(model, { threads: 1, spinning: false });
  const y = await s.run({ x: tensor("float32", [1, 2], [1, 1]) });
  expect(Array.from(numbersOf(y[out]!))).toEqual([4.5, 6.5]);
  await expect(s.run({})).rejects.toThrow('input "x" was not given');
  await s.release();
});

test("a bound run reads and writes fixed memory", async () => {
  const { model, out } = affine();
  const s = await open(model, { threads: 1, training: true });
  const x = new Float32Array([1, 1]);
  const y = new Float32Array(2);
  const run = s.bind({ x: tensor("float32", [1, 2], x) }, { [out]: tensor("float32", [1, 2], y) });
  await run();
  expect(Array.from(y)).toEqual([4.5, 6.5]);
  x[0] = 0;
  await run();
  expect(Array.from(y)).toEqual([3.5, 4.5]);
  await s.release();
});
