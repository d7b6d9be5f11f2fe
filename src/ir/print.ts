/** A graph as text, in the spelling of ONNX's own textual syntax: for reading, for diffs and for tests. */
import type { DType } from "../tensor/dtype.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { numbersOf, type Tensor } from "../tensor/tensor.ts";
import type { Attr, Dim, Graph, Model, TensorType, Value } from "./graph.ts";
import { sorted } from "./walk.ts";

/** "float32[n, 3, 224, 224]"; "?" for what is not known. */
export function printType(type: TensorType | null): string {
  return type ? printDType(type.dtype, type.shape) : "?";
}

function printDType(dtype: DType, shape: readonly Dim[] | null): string {
  return `${dtype}[${shape ? shape.map((d) => d ?? "?").join(", ") : "..."}]`;
}

/** Tensors of at most this many elements are printed with their values. */
const shownElements = 8;

function printTensor(t: Tensor): string {
  const type = printDType(t.dtype, t.shape);
  if (t.strings || t.dtype.startsWith("complex") || sizeOf(t.shape) > shownElements) return type;
  return `${type} {${Array.from(numbersOf(t), (x) => +x.toPrecision(7)).join(", ")}}`;
}

function printAttr(a: Attr, indent: string): string {
  switch (a.type) {
    case "int":
      return String(a.value);
    case "float":
      return floatText(a.value);
    case "string":
      return JSON.stringify(a.value);
    case "ints":
      return `[${a.value.join(", ")}]`;
    case "floats":
      return `[${a.value.map(floatText).join(", ")}]`;
    case "strings":
      return `[${a.value.map((s) => JSON.stringify(s)).join(", ")}]`;
    case "tensor":
      return printTensor(a.value);
    case "graph":
      return printGraph(a.value, `${indent}  `).trimStart();
    case "graphs":
      return `[${a.value.map((g) => printGraph(g, `${indent}  `).trimStart()).join(", ")}]`;
    case "opaque":
      return "<...>";
  }
}

/** A float as ONNX's parser tells it from an int: with a point or an exponent. */
function floatText(x: number): string {
  const s = String(+x.toPrecision(7));
  return /^-?\d+$/.test(s) ? `${s}.0` : s;
}

const nameOf = (v: Value | null) => v?.name ?? "";

/** The graph, nodes in topological order, one a line; a node's name follows its line where it has one. */
export function printGraph(graph: Graph, indent = ""): string {
  const typed = (v: Value) => `${printType(v.type)} ${v.name}`;
  const lines = [`${graph.name || "graph"} (${graph.inputs.map(typed).join(", ")}) => (${graph.outputs.map(typed).join(", ")})`];
  if (graph.initializers.size) {
    lines.push("<");
    for (const v of graph.initializers) lines.push(`  ${v.name} = ${printTensor(v.data!)}`);
    lines.push(">");
  }
  lines.push("{");
  for (const n of sorted(graph)) {
    const attrs = [...n.attrs].map(([k, a]) => `${k} = ${printAttr(a, `${indent}  `)}`);
    const op = n.domain ? `${n.domain}.${n.opType}` : n.opType;
    const outs = n.outputs.map((o) => (o?.shape ? `${printType(o.type)} ${o.name}` : nameOf(o)));
    const call = `${op}${attrs.length ? ` <${attrs.join(", ")}>` : ""} (${n.inputs.map(nameOf).join(", ")})`;
    lines.push(`  ${outs.join(", ")} = ${call}${n.name ? `  # ${n.name}` : ""}`);
  }
  lines.push("}");
  return lines.map((l) => indent + l).join("\n");
}

/** The whole model: header and graph. */
export function printModel(model: Model): string {
  const opsets = [...model.opsets].map(([domain, version]) => `"${domain}" : ${version}`).join(", ");
  return `<ir_version: ${model.irVersion}, opset_import: [${opsets}]>\n${printGraph(model.graph)}`;
}
