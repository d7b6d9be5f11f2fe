import { expect, test } from "vitest";
import { Build } from "../ops/build.ts";
import { tensor } from "../tensor/tensor.ts";
import { float, Graph, newModel } from "./graph.ts";
import { printModel } from "./print.ts";

test("a model reads as text, subgraphs and small tensors included", () => {
  const model = newModel("net");
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", ["n", 2]);
  const w = model.graph.initializer("w", tensor("float32", [2, 2], [1, 0.1, -2, 3]));
  const big = model.graph.initializer("big", tensor("float32", [3, 3], new Float32Array(9)));
  const y = b.op("Gemm", [x, w, null], { alpha: float(2), transB: 1 });
  const cond = model.graph.initializer("cond", tensor("bool", [], [1]));
  const branch = (name: string, op: string) => {
    const g = new Graph(name, model.graph);
    g.addOutput(g.append(op, [y], { name: op.toLowerCase(), outputs: [`${name}_y`] }).outputs[0]!);
    return g;
  };
  model.graph.addOutput(b.op("If", [cond], { then_branch: branch("yes", "Relu"), else_branch: branch("no", "Neg") }));
  model.graph.addOutput(b.op("Identity", [big], {}, "my.domain"));
  expect(printModel(model)).toMatchInlineSnapshot(`
    "<ir_version: 8, opset_import: ["" : 17]>
    net (float32[n, 2] x) => (? pith/If_out, ? pith/Identity_out)
    <
      w = float32[2, 2] {1, 0.1, -2, 3}
      big = float32[3, 3]
      cond = bool[] {1}
    >
    {
      pith/Gemm_out = Gemm <alpha = 2.0, transB = 1> (x, w, )  # pith/Gemm
      pith/If_out = If <then_branch = yes () => (? yes_y)
        {
          yes_y = Relu (pith/Gemm_out)  # relu
        }, else_branch = no () => (? no_y)
        {
          no_y = Neg (pith/Gemm_out)  # neg
        }> (cond)  # pith/If
      pith/Identity_out = my.domain.Identity (big)  # pith/Identity
    }"
  `);
});
