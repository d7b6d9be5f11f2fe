/** Whole nets: their groups, and the law of removal on them. */
import { expect, test } from "vitest";
import { cloneModel, type Value } from "../../src/ir/graph.ts";
import { lenet5 } from "../../src/nets/lenet5.ts";
import { resnet20 } from "../../src/nets/resnet20.ts";
import { writeModel } from "../../src/onnx/write.ts";
import { sampleFeeds } from "../../src/runtime/shapes.ts";
import { carriedOver, findGroups, type Group } from "../../src/transform/groups.ts";
import { removeChannels } from "../../src/transform/remove.ts";
import { randomMask, removed } from "./law.ts";

// Sums of a few hundred float32 terms in another order.
const rounding = 5e-6;

test("LeNet-5: each layer's channels go with the next layer's inputs, through Flatten", async () => {
  const model = lenet5();
  const { found, difference } = await removed(model, sampleFeeds(model, { batch: 2 }), 0);
  const free = found.groups.filter((g) => !g.frozen);
  expect(free.map((g) => `${g.name} ${g.size}: ${g.members.map((m) => `${m.value.name}[${m.axis}] ${m.role}`).join(", ")}`)).toEqual([
    "conv1.weight[0] 20: conv1.weight[0] out, conv1.bias[0] along, conv2.weight[1] in",
    "conv2.weight[0] 50: conv2.weight[0] out, conv2.bias[0] along, fc1.weight[1] in",
    "fc1.weight[0] 500: fc1.weight[0] out, fc1.bias[0] along, fc2.weight[1] in",
  ]);
  expect(found.groups.find((g) => g.name === "fc2.weight[0]")?.frozen).toBe('an output of the model ("logits")');
  expect(difference).toBeLessThan(rounding);
});

test("ResNet-20: the residual streams are three groups", async () => {
  const model = resnet20({ size: 8, width: 8 });
  const { found, difference, after } = await removed(model, sampleFeeds(model, { batch: 2 }), 1);
  const free = found.groups.filter((g) => !g.frozen);
  expect(free.length).toBe(12);
  expect(free.every((g) => g.inexact === null)).toBe(true);
  expect(free.filter((g) => g.members.length > 6).map((g) => g.size)).toEqual([8, 16, 32]);
  expect(difference).toBeLessThan(rounding);
  const bytes = (m: typeof model) => [...m.graph.initializers].reduce((n, v) => n + v.data!.data.byteLength, 0);
  expect(bytes(after)).toBeLessThan(0.6 * bytes(model));
});

test("a clone's groups are the original's: removing there gives the same bytes", async () => {
  const model = resnet20({ size: 8, width: 8 });
  const feeds = sampleFeeds(model, { batch: 2 });
  const copies = new Map<Value, Value>();
  const found = await findGroups(model, feeds, { threads: 1 });
  const clone = cloneModel(model, copies);
  const carried = carriedOver(found, clone, copies);
  const keepOf = (groups: readonly Group[]) => new Map(groups.filter((g) => !g.frozen).map((g) => [g, randomMask(g, 3)]));
  await removeChannels(clone, carried, keepOf(carried.groups), { threads: 1 });
  await removeChannels(model, found, keepOf(found.groups), { threads: 1 });
  expect(Buffer.from(writeModel(clone)).equals(writeModel(model))).toBe(true);
});
