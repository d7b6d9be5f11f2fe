/** One linear layer as two: W ≈ U·V in the graph, for MatMul, Gemm and 1×1 Conv. */
import type { Value } from "../../ir/graph.ts";
import { labelOf } from "../../ir/walk.ts";
import { type Tensor, tensor } from "../../tensor/tensor.ts";
import { transposed, type Weight, type WeightUse } from "../../transform/weights.ts";

/** Why a node that reads a weight cannot be split in two, or null if it can. `weight` is the initializer itself. */
export function cannotSplit(use: WeightUse, weight: Value): string | null {
  const { node, input, through } = use;
  const shape = weight.data!.shape;
  if (node.domain !== "" || !["MatMul", "Gemm", "Conv"].includes(node.opType)) return `${node.opType} is not split`;
  if (input !== 1) return "it is not the right-hand side";
  if (transposed(use) === null) return `it is read through ${through.map((n) => n.opType).join(", ")}`;
  if (node.opType !== "Conv") return shape.length === 2 ? null : `it has ${shape.length} axes`;
  if (shape.length < 3 || shape.slice(2).some((d) => d !== 1)) return "its kernel is larger than 1×1";
  if ((node.int("group") ?? 1) !== 1) return "it is grouped";
  return through.length === 0 ? null : "it is read through a Transpose";
}

/**
 * Puts W = U·V in the place of an initializer W [rows, columns] (of a Conv: [rows, columns, 1, 1]) for all its readers: `u` [rows, rank],
 * `v` [rank, columns]. Each reader keeps its name, its bias and its output, and reads a new node before it. Then W and what only spelled it
 * differently are gone.
 */
export function splitWeight({ value, uses }: Weight, u: Tensor, v: Tensor, opset: number): void {
  const { graph } = value;
  const ones = value.data!.shape.slice(2);
  const factor = (t: Tensor, suffix: string) => graph.initializer(`${value.name}_${suffix}`, { ...t, shape: [...t.shape, ...ones] });
  const left = factor(u, "U");
  const right = factor(v, "V");
  for (const use of uses) splitNode(use, left, right, opset);
  for (const use of uses) {
    for (const n of use.through) if (n.graph.nodes.has(n) && n.outputs.every((o) => !o || o.uses.size === 0)) n.graph.remove(n);
  }
  graph.removeInitializer(value);
}

function splitNode(use: WeightUse, left: Value, right: Value, opset: number): void {
  const { node } = use;
  const { graph } = node;
  const x = node.inputs[0]!;
  const swapped = transposed(use)!;
  const name = `${labelOf(node)}_svd`;
  let hidden: Value;
  if (node.opType === "MatMul") {
    const turn = (v: Value) => (swapped ? graph.append("Transpose", [v], { name: `${v.name}_T`, attrs: { perm: [1, 0] } }).outputs[0]! : v);
    // x·W = (x·U)·V, and x·Wᵀ = (x·Vᵀ)·Uᵀ.
    hidden = graph.append("MatMul", [x, turn(swapped ? right : left)], { name }).outputs[0]!;
    node.setInput(1, turn(swapped ? left : right));
  } else if (node.opType === "Gemm") {
    const transB = (node.int("transB") ?? 0) !== (swapped ? 1 : 0) ? 1 : 0;
    // Until opset 11 a Gemm had to have a bias, until 7 it had to be told to broadcast it.
    const bias = opset < 11 ? [graph.initializer(`${name}_zero`, tensor(left.data!.dtype, [1], [0]))] : [];
    const attrs = { transA: node.int("transA") || undefined, transB: transB || undefined, broadcast: opset < 7 ? 1 : undefined };
    hidden = graph.append("Gemm", [x, transB ? right : left, ...bias], { name, attrs }).outputs[0]!;
    node.setInput(1, transB ? left : right);
    node.attrs.delete("transA");
    if (transB) node.attrs.set("transB", { type: "int", value: 1 });
    else node.attrs.delete("transB");
  } else {
    // Strides and padding go with the first, so that the second works on fewer positions; a padded zero stays zero before the bias.
    hidden = graph.append("Conv", [x, right], { name, attrs: Object.fromEntries(node.attrs) }).outputs[0]!;
    node.setInput(1, left);
    for (const gone of ["strides", "pads", "auto_pad", "dilations"]) node.attrs.delete(gone);
  }
  const shape = node.outputs[0]?.type?.shape;
  const axis = node.opType === "Conv" ? 1 : (shape?.length ?? 0) - 1;
  const rank = left.data!.shape[1]!;
  if (shape) hidden.type = { dtype: left.data!.dtype, shape: shape.map((d, i) => (i === axis ? rank : d)) };
  node.setInput(0, hidden);
}
