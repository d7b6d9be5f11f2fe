/** Constants made initializers, where techniques look for weights. */
import type { Attr, Model, Node } from "../ir/graph.ts";
import { allGraphs } from "../ir/walk.ts";
import { type Tensor, tensor } from "../tensor/tensor.ts";

/**
 * Turns every Constant node (subgraphs included) into an initializer of the same name; those that are graph outputs or hold sparse
 * tensors stay. Returns how many there were. The model's IR version becomes at least 4, before which initializers had to be inputs.
 */
export function liftConstants(model: Model): number {
  let lifted = 0;
  for (const graph of allGraphs(model.graph)) {
    for (const node of [...graph.nodes]) {
      const value = node.outputs[0];
      const data = node.opType === "Constant" && node.domain === "" && value ? constant(node) : null;
      if (!value || !data || graph.outputs.includes(value)) continue;
      node.outputs[0] = null;
      graph.remove(node);
      value.producer = null;
      graph.setData(value, data);
      lifted++;
    }
  }
  if (lifted) model.irVersion = Math.max(4, model.irVersion);
  return lifted;
}

/** What a Constant node holds, in whichever of its attributes. */
function constant(node: Node): Tensor | null {
  for (const [name, a] of node.attrs) {
    const t = name.startsWith("value") ? ofAttr(a) : null;
    if (t) return t;
  }
  return null;
}

function ofAttr(a: Attr): Tensor | null {
  const encode = (s: string) => new TextEncoder().encode(s);
  switch (a.type) {
    case "tensor":
      return a.value;
    case "int":
      return tensor("int64", [], [a.value]);
    case "ints":
      return tensor("int64", [a.value.length], a.value);
    case "float":
      return tensor("float32", [], [a.value]);
    case "floats":
      return tensor("float32", [a.value.length], a.value);
    case "string":
      return { dtype: "string", shape: [], data: new Uint8Array(0), strings: [encode(a.value)] };
    case "strings":
      return { dtype: "string", shape: [a.value.length], data: new Uint8Array(0), strings: a.value.map(encode) };
    default:
      return null;
  }
}
