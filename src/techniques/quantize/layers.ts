/** The layers that can be computed in integers: what they read, their weights as they see them, their biases. */
import type { Model, Node, Value } from "../../ir/graph.ts";
import type { Selector } from "../../ir/select.ts";
import { constantOf } from "../../ir/walk.ts";
import { floatsOf, type Tensor, wrap } from "../../tensor/tensor.ts";
import { transpose } from "../../tensor/transpose.ts";
import { type WeightUse, weightSeenBy, weightsOf } from "../../transform/weights.ts";
import { leave } from "../left.ts";

export interface Layer {
  readonly node: Node;
  readonly op: "Conv" | "Gemm" | "MatMul";
  /** The stored weight, and how the node sees it. */
  readonly weight: Value;
  readonly use: WeightUse;
  /** The axis of the output channels in {@link weightOf}: 0 of Conv's [M, C/group, …], 1 of [K, N]. */
  readonly axis: 0 | 1;
  /** Output channels. */
  readonly channels: number;
  /** Conv and Gemm: a constant bias, one number per channel (beta applied). */
  readonly bias: Float32Array | null;
}

/** What is quantized, and what stays float and why: reason → names. */
export interface Found {
  readonly layers: readonly Layer[];
  readonly left: Map<string, string[]>;
}

export const inputOf = (layer: Layer): Value => layer.node.inputs[0]!;
export const outputOf = (layer: Layer): Value => layer.node.outputs[0]!;

/** The Conv, Gemm and MatMul nodes with a constant float32 weight that the selectors name, in graph order. */
export function layersOf(model: Model, options: { include?: Selector; exclude?: Selector } = {}): Found {
  const left = new Map<string, string[]>();
  const layers: Layer[] = [];
  for (const { value, uses } of weightsOf(model, options)) {
    for (const use of uses) {
      const found = layerOf(value, use);
      if (typeof found === "string") leave(left, found, use.node);
      else if (found) layers.push(found);
    }
  }
  return { layers, left };
}

/** The layer, or why it is none; null for ops that have no integer kernel. */
function layerOf(weight: Value, use: WeightUse): Layer | string | null {
  const { node } = use;
  if (node.domain !== "" || (node.opType !== "Conv" && node.opType !== "Gemm" && node.opType !== "MatMul")) return null;
  const op = node.opType;
  const t = weightSeenBy(use, weight);
  if (!t) return "the weight is computed at run time";
  if (t.dtype !== "float32") return `computes in ${t.dtype}; integer kernels need float32 around them`;
  if (op !== "Conv" && t.shape.length !== 2) return `its weight has ${t.shape.length} dimensions; integer kernels take 2`;
  if (t.shape.includes(0)) return "its weight is empty";
  const axis = op === "Conv" ? 0 : 1;
  const channels = t.shape[op === "Gemm" && node.int("transB") ? 0 : axis]!;
  const c = op === "MatMul" ? null : (node.inputs[2] ?? null);
  const bias = c && vector(c, channels, op === "Gemm" ? (node.float("beta") ?? 1) : 1);
  if (op === "Conv" && c && !bias) return "its bias is computed at run time";
  return { node, op, weight, use, axis, channels, bias };
}

/** A constant that adds one number per channel: shapes [], [1], [N], [1, N]; null if it is something else. */
export function vector(v: Value, n: number, factor = 1): Float32Array | null {
  const t = constantOf(v);
  if (t?.dtype !== "float32") return null;
  const lead = t.shape.slice(0, -1);
  const width = t.shape.at(-1) ?? 1;
  if (lead.some((d) => d !== 1) || (width !== n && width !== 1)) return null;
  const values = floatsOf(t);
  return Float32Array.from({ length: n }, (_, i) => factor * values[width === 1 ? 0 : i]!);
}

/** The float weight as the integer node will hold it: Conv [M, C/group, …], Gemm and MatMul [K, N] with alpha and transB applied. */
export function weightOf(layer: Layer): Tensor {
  const { node } = layer;
  let t = weightSeenBy(layer.use, layer.weight)!;
  if (layer.op === "Gemm") {
    const alpha = node.float("alpha") ?? 1;
    if (node.int("transB")) t = transpose(t, [1, 0]);
    if (alpha !== 1)
      t = wrap(
        "float32",
        t.shape,
        floatsOf(t).map((w) => alpha * w),
      );
  }
  return t;
}

/** Two layers with equal keys see the same tensor, which is then stored once. */
export function weightKey(layer: Layer): string {
  const { node, use } = layer;
  const between = use.through.map((n) => {
    const shape = n.opType === "Transpose" ? n.ints("perm") : (constantOf(n.inputs[1])?.data ?? n.ints("axes"));
    return `${n.opType}${n.int("to") ?? ""}[${shape ?? ""}]`;
  });
  const gemm = layer.op === "Gemm" ? `${node.float("alpha") ?? 1}` : "1";
  // A Gemm's transB is one more transposition of what it sees.
  if (layer.op === "Gemm" && node.int("transB")) between.push("Transpose[1,0]");
  return [layer.weight.graph.name, layer.weight.name, ...between, layer.axis, gemm].join("|");
}
