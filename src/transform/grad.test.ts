import { expect, test } from "vitest";
import { Graph, newModel } from "../ir/graph.ts";
import { Build } from "../ops/build.ts";
import { tensor } from "../tensor/tensor.ts";
import { grad } from "./grad.ts";

function square(opset = 17) {
  const model = newModel("square", opset);
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", []);
  const y = b.mul(x, x);
  y.type = { dtype: "float32", shape: [] };
  return { model, b, x, y };
}

test("an old opset is refused", () => {
  const { model, x, y } = square(13);
  expect(() => grad(model, y, [x])).toThrow("grad: rules are written for opset 17 and later; upgrade the model first; got opset 13");
});

test("a weight the loss does not depend on has no gradient, and costs no node", () => {
  const { model, y } = square();
  const w = model.graph.initializer("w", tensor("float32", [], [1]));
  const nodes = model.graph.nodes.size;
  expect(grad(model, y, [w]).size).toBe(0);
  expect(model.graph.nodes.size).toBe(nodes);
});

test("a weight read only inside a branch is not lost: the If is refused by name", () => {
  const { model, b, x, y } = square();
  const branch = (name: string) => {
    const g = new Graph(name, model.graph);
    g.addOutput(g.append("Mul", [x, y]).outputs[0]!);
    return g;
  };
  const condition = b.constant(tensor("bool", [], [1]));
  const z = b.op("If", [condition], { then_branch: branch("then"), else_branch: branch("else") });
  z.type = { dtype: "float32", shape: [] };
  expect(() => grad(model, z, [x])).toThrow('grad: no gradient rule for If (node "pith/If")');
});
