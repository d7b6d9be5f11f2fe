import { expect, test } from "vitest";
import { type AttrInput, cloneModel, newModel } from "../ir/graph.ts";
import { Build } from "../ops/build.ts";
import { channelBlock } from "../runtime/blocks.ts";
import { open } from "../runtime/session.ts";
import { random } from "../tensor/random.ts";
import { floatsOf, type Tensor, tensor } from "../tensor/tensor.ts";
import { blockConvolutions } from "./blocked.ts";

const same = { pads: [1, 1, 1, 1] };
const cases: readonly [note: string, rewritten: boolean, attrs: Record<string, AttrInput>, weights: number[]][] = [
  ["3×3", true, same, [32, 16, 3, 3]],
  ["stride and dilation", true, { strides: [2, 1], dilations: [1, 2], pads: [0, 2, 1, 2] }, [16, 16, 3, 3]],
  ["SAME_LOWER", true, { auto_pad: "SAME_LOWER" }, [16, 16, 2, 4]],
  ["depthwise", true, { ...same, group: 16 }, [16, 1, 3, 3]],
  ["1×1", false, {}, [32, 16, 1, 1]],
  ["two for each channel", false, { ...same, group: 16 }, [32, 1, 3, 3]],
  ["channels that are no whole block", false, same, [20, 16, 3, 3]],
  ["groups", false, { ...same, group: 2 }, [32, 8, 3, 3]],
];

const block = await channelBlock();

test.skipIf(block === null).each(cases)("a blocked convolution gives the same numbers: %s", async (_, rewritten, attrs, shape) => {
  const r = random(1, "blocked");
  const values = (s: readonly number[]): Tensor => tensor("float32", s, r.fillNormal(new Float32Array(s.reduce((a, d) => a * d, 1))));
  const feeds = { x: values([3, 16, 9, 8]), w: values(shape), bias: values([shape[0]!]) };
  const model = newModel("blocked");
  const [x, w, bias] = Object.entries(feeds).map(([name, t]) => model.graph.input(name, "float32", t.shape));
  const b = Build.of(model);
  // x and w are read twice: one conversion each.
  const twice = b.add(b.op("Conv", [x!, w!, bias!], attrs), b.op("Conv", [x!, w!], attrs));
  model.graph.addOutput(twice);
  const changed = cloneModel(model);
  expect(blockConvolutions(changed, block!)).toBe(rewritten ? 2 : 0);
  const count = (type: string) => [...changed.graph.nodes].filter((n) => n.opType === type).length;
  if (rewritten) expect([count("ReorderInput"), count("Transpose"), count("ReorderOutput")]).toEqual([1, 1, 2]);
  const outputs = [];
  for (const m of [model, changed]) {
    const session = await open(m, { threads: 2, spinning: false, training: true });
    outputs.push(floatsOf((await session.run(feeds))[twice.name]!));
    await session.release();
  }
  const [want, got] = outputs as [Float32Array, Float32Array];
  const scale = Math.max(...want.map(Math.abs));
  // Sums of 144 products in another order.
  for (const [i, v] of want.entries()) expect(Math.abs(got[i]! - v)).toBeLessThan(2e-6 * scale);
});

test("weights known in advance are left to the runtime", () => {
  const model = newModel("constant");
  const x = model.graph.input("x", "float32", [1, 16, 8, 8]);
  const w = model.graph.initializer("w", tensor("float32", [16, 16, 3, 3], new Float32Array(2304)));
  model.graph.addOutput(Build.of(model).op("Relu", [Build.of(model).op("Conv", [x, w])]));
  expect(blockConvolutions(model, 16)).toBe(0);
});
