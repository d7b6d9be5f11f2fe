import { expect, test } from "vitest";
import { newModel, type Value } from "../../ir/graph.ts";
import { macsOf } from "../../measure/macs.ts";
import { countParameters } from "../../measure/parameters.ts";
import { observeShapes } from "../../runtime/shapes.ts";
import { sizeOf } from "../../tensor/dtype.ts";
import { tensor } from "../../tensor/tensor.ts";
import type { Group, Groups } from "../../transform/groups.ts";
import { channelTerms, costOf, macTerms, parameterTerms, workTerms } from "./groupcost.ts";

/** Conv (a channels) → Relu → Conv (b) → GlobalAveragePool → Flatten → Gemm, on 6×6 images of 3 channels. */
function net(a: number, b: number) {
  const model = newModel("net");
  const g = model.graph;
  const zeros = (name: string, shape: readonly number[]) => g.initializer(name, tensor("float32", shape, new Float32Array(sizeOf(shape))));
  const x = g.input("x", "float32", ["n", 3, 6, 6]);
  const [w1, b1, w2, w3] = [zeros("w1", [a, 3, 3, 3]), zeros("b1", [a]), zeros("w2", [b, a, 3, 3]), zeros("w3", [5, b])];
  const h1 = g.append("Conv", [x, w1, b1]).outputs[0]!;
  const active = g.append("Relu", [h1]).outputs[0]!;
  const h2 = g.append("Conv", [active, w2]).outputs[0]!;
  const pool = g.append("GlobalAveragePool", [h2]).outputs[0]!;
  const flat = g.append("Flatten", [pool]).outputs[0]!;
  const y = g.append("Gemm", [flat, w3], { attrs: { transB: 1 } }).outputs[0]!;
  g.addOutput(y);
  const ids = (n: number) => Int32Array.from({ length: n }, (_, i) => i);
  const group = (name: string, size: number, members: readonly (readonly [Value, number, "in" | "out" | "along"])[]): Group => ({
    name,
    size,
    frozen: null,
    inexact: null,
    members: members.map(([value, axis, role]) => ({ value, axis, role, coordinate: ids(size) })),
  });
  const ga = group("w1[0]", a, [
    [w1, 0, "out"],
    [b1, 0, "along"],
    [w2, 1, "in"],
  ]);
  const gb = group("w2[0]", b, [
    [w2, 0, "out"],
    [w3, 1, "in"],
  ]);
  const shapes = new Map<Value, (s: (g: Group) => number) => number[]>([
    [x, () => [1, 3, 6, 6]],
    [w1, (s) => [s(ga), 3, 3, 3]],
    [b1, (s) => [s(ga)]],
    [w2, (s) => [s(gb), s(ga), 3, 3]],
    [w3, (s) => [5, s(gb)]],
    [h1, (s) => [1, s(ga), 4, 4]],
    [active, (s) => [1, s(ga), 4, 4]],
    [h2, (s) => [1, s(gb), 2, 2]],
    [pool, (s) => [1, s(gb), 1, 1]],
    [flat, (s) => [1, s(gb)]],
    [y, () => [1, 5]],
  ]);
  const groups: Pick<Groups, "groups" | "shapeWith"> = {
    groups: [ga, gb],
    shapeWith: (v, sizes) => shapes.get(v)?.((g) => sizes.get(g) ?? g.size) ?? null,
  };
  return { model, groups, ga, gb };
}

test("parameters and multiply-accumulates are those of the net built with these widths", async () => {
  const { model, groups, ga, gb } = net(8, 12);
  const among = [ga, gb];
  const costs = { parameters: costOf(parameterTerms(model, groups, among)), macs: costOf(macTerms(model, groups, among)) };
  for (const [a, b] of [
    [8, 12],
    [5, 12],
    [8, 3],
    [1, 7],
  ] as const) {
    const small = net(a, b).model;
    const sizes = new Map([
      [ga, a],
      [gb, b],
    ]);
    const feeds = { x: tensor("float32", [1, 3, 6, 6], new Float32Array(108)) };
    expect(costs.parameters.total(sizes)).toBe(countParameters(small).parameters);
    expect(costs.macs.total(sizes)).toBe(macsOf(await observeShapes(small, feeds)));
    for (const cost of Object.values(costs))
      expect(cost.gain(new Map(), ga, a)).toBe(cost.total(new Map()) - cost.total(new Map([[ga, a]])));
  }
  expect(costs.macs.share(ga, gb)).toBe(true);
  const channels = costOf(channelTerms(among));
  expect(channels.total(new Map())).toBe(20);
  expect(channels.share(ga, gb)).toBe(false);
});

test("work is multiply-accumulates, six for each element that nodes read and write, and 50,000 for each; neither a Relu within a Conv nor a view counts", () => {
  const { model, groups, ga, gb } = net(8, 12);
  const [work, macs] = [workTerms, macTerms].map((terms) => costOf(terms(model, groups, [ga, gb])));
  for (const [a, b] of [
    [8, 12],
    [5, 7],
  ] as const) {
    const sizes = new Map([
      [ga, a],
      [gb, b],
    ]);
    const elements = 108 + 16 * a + (16 * a + 4 * b) + (4 * b + b) + (b + 5);
    expect(work!.total(sizes)).toBe(macs!.total(sizes) + 6 * elements + 4 * 50_000);
  }
});
