import { expect, test } from "vitest";
import { Graph, newModel } from "../ir/graph.ts";
import { Build } from "../ops/build.ts";
import { observeShapes, sampleFeeds } from "../runtime/shapes.ts";
import { tensor } from "../tensor/tensor.ts";
import { macsOf } from "./macs.ts";

const zeros = (dtype: "float32" | "int8" | "uint8", shape: number[]) =>
  tensor(dtype, shape, Array(shape.reduce((a, d) => a * d, 1)).fill(1));

test("a net costs the same multiply-accumulates in floats and in integers", async () => {
  const build = (quantized: boolean) => {
    const m = newModel("m", 17);
    const b = Build.of(m);
    const x = m.graph.input("x", "float32", [1, 4, 8, 8]);
    const flat = (v: ReturnType<Build["add"]>) => b.op("Flatten", [v]);
    if (!quantized) {
      const conv = b.op("Conv", [x, m.graph.initializer("k", zeros("float32", [6, 2, 3, 3]))], { group: 2 });
      m.graph.addOutput(b.matmul(flat(conv), m.graph.initializer("w", zeros("float32", [216, 5]))));
    } else {
      const q = b.node("DynamicQuantizeLinear", [x], {}, 3);
      const conv = b.op("ConvInteger", [q.outputs[0]!, m.graph.initializer("k", zeros("int8", [6, 2, 3, 3])), q.outputs[2]!], { group: 2 });
      const r = b.node("DynamicQuantizeLinear", [flat(b.op("Cast", [conv], { to: 1 }))], {}, 3);
      m.graph.addOutput(b.op("MatMulInteger", [r.outputs[0]!, m.graph.initializer("w", zeros("int8", [216, 5])), r.outputs[2]!]));
    }
    return m;
  };
  for (const m of [build(false), build(true)]) {
    // 6 channels of 6 × 6, each from 2 × 3 × 3; then 216 × 5.
    expect(macsOf(await observeShapes(m, sampleFeeds(m)))).toBe(6 * 36 * 18 + 216 * 5);
  }
  expect(macsOf(build(true))).toBeNull();
});

test("of an If the branch that was taken counts, and no other", async () => {
  const m = newModel("m", 17);
  const b = Build.of(m);
  const x = m.graph.input("x", "float32", [2, 8]);
  const branch = (name: string, wide: number) => {
    const g = new Graph(name, m.graph);
    const inner = new Build(g, 17, name);
    const hidden = inner.matmul(x, g.initializer("w", zeros("float32", [8, wide])));
    // Said in the file of both branches.
    hidden.type = { dtype: "float32", shape: [2, wide] };
    g.addOutput(inner.matmul(hidden, g.initializer("v", zeros("float32", [wide, 4]))));
    return g;
  };
  const yes = b.op("Greater", [b.op("ReduceMax", [x], { keepdims: 0 }), b.f32(0)]);
  const y = b.op("If", [yes], { then_branch: branch("then", 3), else_branch: branch("else", 50) });
  m.graph.addOutput(b.matmul(y, m.graph.initializer("u", zeros("float32", [4, 5]))));
  const at = async (v: number) => macsOf(await observeShapes(m, { x: tensor("float32", [2, 8], Array(16).fill(v)) }));
  expect(await at(1)).toBe(2 * (8 * 3 + 3 * 4 + 4 * 5));
  expect(await at(-1)).toBe(2 * (8 * 50 + 50 * 4 + 4 * 5));
});
