/** Sizes that exporters compute from other sizes: what is coupled, what varies with the inputs, and what removal makes of them. */
import { expect, test } from "vitest";
import type { Model, Value } from "../../src/ir/graph.ts";
import { sampleFeeds } from "../../src/runtime/shapes.ts";
import type { Group } from "../../src/transform/groups.ts";
import { difference, removed } from "./law.ts";
import { type Pieces, pieces } from "./nets.ts";

const rounding = 2e-6;
const feedsOf = (model: Model, batch = 2, time = 5) => sampleFeeds(model, { batch, shape: { x: [batch, time, 4] } });
/** [size of an axis], as exporters have it. */
const size = (p: Pieces, x: Value, axis: number) => p.next("Gather", [p.next("Shape", [x]), p.ints(axis)]);
const joined = (p: Pieces, ...sizes: Value[]) => p.next("Concat", sizes, { axis: 0 });
const free = (groups: readonly Group[]) => groups.filter((g) => !g.frozen).map((g) => `${g.name} ${g.size}`);

/** Every group, and each by itself: outputs stay, also for other sizes of the inputs. */
async function holds(model: Model, expected: readonly string[]) {
  const { found, before, after } = await removed(model, feedsOf(model, 1, 1), 0);
  expect(free(found.groups)).toEqual(expected);
  // Shapes are told as the caller's sample has them, though an open size of 1 cannot be seen in a product.
  for (const n of found.inferred.model.graph.nodes)
    for (const v of n.outputs) {
      const [says, seen] = [found.shapeWith(v!, new Map()), found.inferred.caller.typeOf(v!)?.shape];
      if (seen) expect(says).toEqual(seen);
    }
  expect(await difference(before, after, feedsOf(model, 3, 7))).toBeLessThan(rounding);
  for (const which of [() => true, ...expected.map((_, i) => (g: Group) => g.name === expected[i]!.split(" ")[0])]) {
    const { before, after, difference: here } = await removed(model, feedsOf(model), 1, which);
    expect(here).toBeLessThan(rounding);
    expect(await difference(before, after, feedsOf(model, 3, 7))).toBeLessThan(rounding);
  }
}

test("a head's width computed from the width of the stream", async () => {
  const p = pieces();
  const x = p.linear("in", p.tokens(4), [4, 8]);
  const apart = joined(p, size(p, x, 0), size(p, x, 1), p.ints(2), p.next("Div", [size(p, x, 2), p.ints(2)]));
  const heads = p.next("Reshape", [p.linear("q", x, [8, 8]), apart]);
  const y = p.next("Reshape", [p.next("Relu", [heads]), joined(p, size(p, x, 0), size(p, x, 1), size(p, x, 2))]);
  await holds(p.done(p.linear("out", p.next("Add", [x, p.linear("o", y, [8, 8])]), [8, 3]), ["batch", "time", 3]), [
    "in.w[1] 8",
    "q.w[1].0 2",
    "q.w[1].1 4",
  ]);
});

test("a width whose half comes out as 0, and one that comes out larger than before", async () => {
  const p = pieces();
  const x = p.linear("in", p.tokens(4), [4, 2]);
  const apart = joined(
    p,
    size(p, x, 0),
    size(p, x, 1),
    p.next("Div", [size(p, x, 2), p.ints(1)]),
    p.next("Div", [p.ints(6), size(p, x, 2)]),
  );
  const y = p.next("ReduceMax", [p.next("Reshape", [p.linear("q", x, [2, 6]), apart])], { axes: [2], keepdims: 0 });
  const half = p.next("Div", [size(p, x, 2), p.ints(2)]);
  const z = p.next("Reshape", [p.linear("r", x, [2, 3]), joined(p, size(p, x, 0), size(p, x, 1), half, p.ints(3))]);
  const sum = p.next("Add", [p.linear("out", y, [3, 3]), p.next("ReduceSum", [z, p.ints(2)], { keepdims: 0 })]);
  const model = p.done(sum, ["batch", "time", 3]);
  const { difference: off } = await removed(model, feedsOf(model), 0, (g) => g.name === "in.w[1]");
  expect(off).toBeLessThan(rounding);
});

test("key heads repeated for their queries, as many times as a product of sizes says", async () => {
  const p = pieces();
  const x = p.tokens(4);
  const k = p.next("Transpose", [p.next("Reshape", [p.linear("k", x, [4, 6]), p.ints(0, 0, 2, 3)])], { perm: [0, 2, 1, 3] });
  const [b, heads, t, d] = [0, 1, 2, 3].map((axis) => size(p, k, axis)) as [Value, Value, Value, Value];
  const wide = p.next("Expand", [p.next("Unsqueeze", [k, p.ints(2)]), joined(p, b, heads, p.ints(3), t, d)]);
  const all = p.next("Reshape", [wide, joined(p, b, p.next("Mul", [heads, p.ints(3)]), t, d)]);
  const q = p.next("Transpose", [p.next("Reshape", [p.linear("q", x, [4, 18]), p.ints(0, 0, 6, 3)])], { perm: [0, 2, 1, 3] });
  const y = p.next("Reshape", [p.next("Transpose", [p.next("Mul", [all, q])], { perm: [0, 2, 1, 3] }), p.ints(0, 0, 18)]);
  await holds(p.done(p.linear("out", y, [18, 3]), ["batch", "time", 3]), ["k.w[1].0 2", "k.w[1].1 3", "q.w[1].1 3"]);
});

test("heads folded into the batch can go, which varies and stays", async () => {
  const p = pieces();
  const x = p.tokens(4);
  const fold = joined(p, p.next("Mul", [size(p, x, 0), p.ints(2)]), size(p, x, 1), p.ints(3));
  const heads = p.next("Transpose", [p.next("Reshape", [p.linear("q", x, [4, 6]), p.ints(0, 0, 2, 3)])], { perm: [0, 2, 1, 3] });
  const folded = p.next("Softmax", [p.next("Reshape", [heads, fold])], { axis: 1 });
  const back = p.next("Reshape", [folded, joined(p, size(p, x, 0), p.ints(2), size(p, x, 1), p.ints(3))]);
  const y = p.next("Reshape", [p.next("Transpose", [back], { perm: [0, 2, 1, 3] }), p.ints(0, 0, 6)]);
  await holds(p.done(p.linear("out", y, [6, 3]), ["batch", "time", 3]), ["q.w[1].0 2", "q.w[1].1 3"]);
});

test("what a sequence of this length does not reach of a table stays, for longer ones", async () => {
  const p = pieces();
  const x = p.tokens(4);
  const table = p.weight("table", [1, 9, 6], "he");
  const cut = p.next("Slice", [table, p.ints(0), size(p, x, 1), p.ints(1)]);
  const model = p.done(p.linear("out", p.next("Add", [p.linear("l", x, [4, 6]), cut]), [6, 3]), ["batch", "time", 3]);
  const { found } = await removed(model, feedsOf(model), 0);
  expect(free(found.groups)).toEqual(["l.w[1] 6"]);
  expect(found.groups.find((g) => g.name === "table[1]")!.frozen).toMatch(/cuts it where is computed at run time/);
});

test("a group normalization spelled out: whole groups are exact, channels within one are not", async () => {
  const p = pieces();
  const x = p.tokens(4);
  const apart = p.next("Reshape", [p.linear("l", x, [4, 6]), p.ints(0, 0, 2, 3)]);
  const rows = p.next("Transpose", [apart], { perm: [0, 2, 1, 3] });
  const flat = p.next("Reshape", [rows, joined(p, size(p, x, 0), p.ints(2), p.ints(-1))]);
  const normed = p.next("InstanceNormalization", [flat, p.weight("scale", [2], 1.5), p.weight("bias", [2], 0.5)]);
  const shaped = p.next("Reshape", [normed, joined(p, size(p, x, 0), p.ints(2), size(p, x, 1), p.ints(3))]);
  const y = p.next("Reshape", [p.next("Transpose", [shaped], { perm: [0, 2, 1, 3] }), p.ints(0, 0, 6)]);
  const model = p.done(p.linear("out", y, [6, 3]), ["batch", "time", 3]);
  const { found, difference: off } = await removed(model, feedsOf(model), 0);
  expect(found.groups.filter((g) => !g.frozen).map((g) => [g.name, g.inexact])).toEqual([
    ["l.w[1].0", null],
    ["l.w[1].1", 'InstanceNormalization "instancenormalization6" centres over it'],
  ]);
  expect(off).toBeLessThan(rounding);
  expect((await removed(model, feedsOf(model), 0, (g) => g.inexact !== null)).difference).toBeGreaterThan(1e-3);
});
