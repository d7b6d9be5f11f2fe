/** The pairs around each op written as ONNX Runtime's integer operators: what it makes of them itself, put into the file. */
import { type Attr, type Graph, type Model, type Node, produce, type Value } from "../../ir/graph.ts";
import { allGraphs, labelOf, onlyReader, removeDead, sorted } from "../../ir/walk.ts";
import { numbersOf } from "../../tensor/tensor.ts";

/** Codes of a value: what a DequantizeLinear reads, or a QuantizeLinear gives. */
interface Coded {
  readonly codes: Value;
  readonly scale: Value;
  readonly zero: Value;
}

const sameCodes = new Set(["MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice"]);
const binary: Readonly<Record<string, string>> = { Add: "QLinearAdd", Mul: "QLinearMul" };
const pooling: Readonly<Record<string, string>> = {
  AveragePool: "QLinearAveragePool",
  GlobalAveragePool: "QLinearGlobalAveragePool",
};

/**
 * Replaces nodes between DequantizeLinear and QuantizeLinear by QLinearConv, QLinearMatMul and com.microsoft's QGemm, QLinearAdd,
 * QLinearMul, QLinearConcat, QLinear(Global)AveragePool; MatMul and Gemm with a float output by MatMulIntegerToFloat and QGemm; nodes that
 * only move elements take the codes themselves. Returns a line for what stays between pairs.
 */
export function toOperators(model: Model): string[] {
  const left: string[] = [];
  for (const graph of allGraphs(model.graph)) {
    for (const node of [...sorted(graph)]) {
      if (node.domain !== "" || !node.inputs.some((v) => v && coded(v))) continue;
      if (!rewritten(node) && node.opType !== "QuantizeLinear") left.push(`${node.opType} "${labelOf(node)}"`);
    }
    removeDead(graph);
  }
  return left.length ? [`format=qoperator: stay between QuantizeLinear and DequantizeLinear: ${left.join(", ")}`] : [];
}

/** What a value is dequantized from. */
function coded(v: Value | null | undefined): Coded | null {
  const n = v?.producer;
  if (n?.opType !== "DequantizeLinear" || n.domain !== "") return null;
  const [codes, scale, zero] = n.inputs;
  return codes && scale && zero ? { codes, scale, zero } : null;
}

/** What a node's only reader makes of its output, where that is codes. */
function codesOut(node: Node): (Coded & { readonly quantize: Node }) | null {
  const q = onlyReader(node.outputs[0]!);
  if (q?.opType !== "QuantizeLinear" || q.domain !== "" || q.graph !== node.graph || q.inputs[0] !== node.outputs[0]) return null;
  const [, scale, zero] = q.inputs;
  return scale && zero ? { codes: q.outputs[0]!, scale, zero, quantize: q } : null;
}

function rewritten(node: Node): boolean {
  const { graph } = node;
  const [x, w, c] = node.inputs.map(coded);
  const y = codesOut(node);
  const { opType } = node;
  if (opType === "Conv") {
    if (!x || !w || !y || (node.inputs[2] && !c)) return false;
    const inputs = [x.codes, x.scale, x.zero, w.codes, w.scale, w.zero, y.scale, y.zero, ...(c ? [c.codes] : [])];
    return replace(graph, node, "QLinearConv", inputs, "", node.attrs, y.quantize);
  }
  if (opType === "MatMul") {
    if (!x || !w) return false;
    if (y) {
      const inputs = [x.codes, x.scale, x.zero, w.codes, w.scale, w.zero, y.scale, y.zero];
      return replace(graph, node, "QLinearMatMul", inputs, "", new Map(), y.quantize);
    }
    return replace(graph, node, "MatMulIntegerToFloat", [x.codes, w.codes, x.scale, w.scale, x.zero, w.zero], "com.microsoft", new Map());
  }
  if (opType === "Gemm") {
    if (!x || !w || (node.inputs[2] && !c)) return false;
    const inputs = [x.codes, x.scale, x.zero, w.codes, w.scale, w.zero, c?.codes ?? null, ...(y ? [y.scale, y.zero] : [])];
    while (inputs.at(-1) === null) inputs.pop();
    return replace(graph, node, "QGemm", inputs, "com.microsoft", new Map(), y?.quantize);
  }
  if (!y) return false;
  if (sameCodes.has(opType)) {
    if (!x || !equal(x, y)) return false;
    node.setInput(0, x.codes);
    return take(node, y.quantize);
  }
  if (binary[opType]) {
    if (!x || !w) return false;
    const inputs = [x.codes, x.scale, x.zero, w.codes, w.scale, w.zero, y.scale, y.zero];
    return replace(graph, node, binary[opType], inputs, "com.microsoft", new Map(), y.quantize);
  }
  if (opType === "Concat") {
    const parts = node.inputs.map(coded);
    if (!parts.every((p) => p !== null)) return false;
    const inputs = [y.scale, y.zero, ...parts.flatMap((p) => [p.codes, p.scale, p.zero])];
    return replace(graph, node, "QLinearConcat", inputs, "com.microsoft", node.attrs, y.quantize);
  }
  if (pooling[opType]) {
    if (!x) return false;
    return replace(graph, node, pooling[opType], [x.codes, x.scale, x.zero, y.scale, y.zero], "com.microsoft", node.attrs, y.quantize);
  }
  return false;
}

function equal(a: Coded, z: Coded): boolean {
  const same = (u: Value, v: Value) => u === v || Boolean(u.data && v.data && String(numbersOf(u.data)) === String(numbersOf(v.data)));
  return same(a.scale, z.scale) && same(a.zero, z.zero);
}

/** The integer op takes the node's place, and that of the QuantizeLinear behind it where it gives codes. */
function replace(
  graph: Graph,
  node: Node,
  opType: string,
  inputs: readonly (Value | null)[],
  domain: string,
  attrs: ReadonlyMap<string, Attr>,
  quantize?: Node,
): boolean {
  const made = graph.append(opType, inputs, { name: labelOf(node), domain, attrs: Object.fromEntries(attrs) });
  if (quantize) {
    const codes = quantize.outputs[0]!;
    produce(made, codes);
    graph.remove(quantize);
  } else produce(made, node.outputs[0]!);
  graph.remove(node);
  return true;
}

/** The node itself gives the codes. */
function take(node: Node, quantize: Node): boolean {
  produce(node, quantize.outputs[0]!);
  node.graph.remove(quantize);
  return true;
}
