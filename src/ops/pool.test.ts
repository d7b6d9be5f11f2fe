import { expect, test } from "vitest";
import { newModel } from "../ir/graph.ts";
import { open } from "../runtime/session.ts";
import { numbersOf, tensor } from "../tensor/tensor.ts";
import { grad } from "../transform/grad.ts";
import { Build } from "./build.ts";

// A plain image region makes ties in every window; the whole of a cotangent must still arrive, not four times as much.
test("tied maxima share their window's cotangent", async () => {
  const model = newModel("ties");
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", [1, 1, 2, 5]);
  const y = b.op("MaxPool", [x], { kernel_shape: [2, 2], strides: [2, 2] });
  y.type = { dtype: "float32", shape: [1, 1, 1, 2] };
  const weighted = b.mul(y, b.constant(tensor("float32", [2], [8, 6])));
  weighted.type = y.type;
  const loss = b.sum(weighted, [0, 1, 2, 3]);
  loss.type = { dtype: "float32", shape: [] };
  const dx = grad(model, loss, [x]).get(x)!;
  model.graph.addOutput(dx);
  const s = await open(model, { threads: 1 });
  const out = await s.run({ x: tensor("float32", [1, 1, 2, 5], [1, 1, 0, 3, 9, 1, 1, 3, 2, 9]) });
  expect(Array.from(numbersOf(out[dx.name]!))).toEqual([2, 2, 0, 3, 0, 2, 2, 3, 0, 0]);
  await s.release();
});
