/** What follows a Conv, ConvTranspose or Gemm channel by channel, folded into its weights. */
import { type Graph, type Model, type Node, produce, type Value } from "../ir/graph.ts";
import { allGraphs, constantOf, onlyReader, sorted } from "../ir/walk.ts";
import { numbersOf, type Tensor, tensor } from "../tensor/tensor.ts";
import { dropDefault, raiseIrVersion } from "./weights.ts";

/** y ↦ scale·y + shift, by channel. */
interface PerChannel {
  readonly scale: Float64Array;
  readonly shift: Float64Array;
}

/**
 * Folds BatchNormalization (scale = γ/√(σ²+ε), shift = β − μ·scale) and constant Mul, Div, Add and Sub that alone read a Conv,
 * ConvTranspose or Gemm with constant float32 weights into those weights and the bias: W′ = scale·W, b′ = scale·b + shift. Subgraphs
 * included. Weights that others read too get a copy. Returns how many nodes went.
 */
export function fuse(model: Model, note: (line: string) => void = () => {}): number {
  let folded = 0;
  let defaults = 0;
  for (const graph of allGraphs(model.graph)) {
    for (const node of sorted(graph)) {
      for (;;) {
        const next = layerOf(node) && onlyReader(node.outputs[0]!);
        const f = next && next.graph === graph ? perChannel(next, node) : null;
        if (!next || !f) break;
        defaults += fold(graph, node, f);
        produce(node, next.outputs[0]!);
        const inputs = [...next.inputs];
        graph.remove(next);
        for (const v of inputs) if (v) drop(graph, v);
        folded++;
      }
    }
  }
  if (folded) raiseIrVersion(model, 4);
  if (defaults) note(`${defaults} weights were inputs with a default; they are constants now`);
  return folded;
}

/** Removes a constant that nobody reads any more. */
function drop(graph: Graph, v: Value): void {
  if (v.uses.size > 0 || v.graph !== graph) return;
  if (v.data) graph.removeInitializer(v);
  else if (v.producer?.opType === "Constant") graph.remove(v.producer);
}

/** The node's constant weight, its number of output channels and their axis in what it computes, counted from the end. */
function layerOf(node: Node): { weight: Tensor; channels: number; fromEnd: number } | null {
  if (node.domain !== "" || !["Conv", "ConvTranspose", "Gemm"].includes(node.opType)) return null;
  const weight = constantOf(node.inputs[1]);
  const c = node.inputs[2];
  if (weight?.dtype !== "float32" || (c && constantOf(c)?.dtype !== "float32")) return null;
  if (node.opType === "Conv") return { weight, channels: weight.shape[0]!, fromEnd: weight.shape.length - 1 };
  if (node.opType === "ConvTranspose")
    return { weight, channels: weight.shape[1]! * (node.int("group") ?? 1), fromEnd: weight.shape.length - 1 };
  const channels = weight.shape[node.int("transB") ? 0 : 1]!;
  const bias = c ? constantOf(c)! : null;
  if (bias && (bias.shape.slice(0, -1).some((d) => d !== 1) || ![1, channels].includes(bias.shape.at(-1) ?? 1))) return null;
  return { weight, channels, fromEnd: 1 };
}

/** What a node does to its input channel by channel; null if it is something else. */
function perChannel(next: Node, layer: Node): PerChannel | null {
  const { channels, fromEnd, weight } = layerOf(layer)!;
  if (next.domain !== "") return null;
  const y = layer.outputs[0]!;
  if (next.opType === "BatchNormalization") {
    if (next.int("training_mode") || next.inputs[0] !== y || next.outputs.slice(1).some((o) => o)) return null;
    // Before opset 9 `spatial: 0` meant statistics for every position.
    if (next.int("spatial") === 0) return null;
    const p = next.inputs.slice(1, 5).map((v) => constantOf(v));
    if (p.length < 4 || p.some((t) => !t || t.shape[0] !== channels)) return null;
    const [gamma, beta, mean, variance] = p.map((t) => numbersOf(t!)) as [Float32Array, Float32Array, Float32Array, Float32Array];
    const epsilon = next.float("epsilon") ?? 1e-5;
    const scale = Float64Array.from(gamma, (g, i) => g / Math.sqrt(variance[i]! + epsilon));
    return { scale, shift: scale.map((s, i) => beta[i]! - mean[i]! * s) };
  }
  if (!["Mul", "Div", "Add", "Sub"].includes(next.opType)) return null;
  const other = next.inputs[0] === y ? next.inputs[1] : next.inputs[0];
  const t = constantOf(other);
  const ndim = layer.opType === "Gemm" ? 2 : weight.shape.length;
  // The constant may vary over the channels alone, and must not add axes.
  if (t?.dtype !== "float32" || t.shape.length > ndim) return null;
  const axis = t.shape.length - fromEnd;
  if (t.shape.some((d, i) => d !== 1 && !(i === axis && d === channels))) return null;
  const c = numbersOf(t);
  const at = (i: number) => c[c.length === 1 ? 0 : i]!;
  const all = (f: (i: number) => number) => Float64Array.from({ length: channels }, (_, i) => f(i));
  const first = next.inputs[0] === y;
  switch (next.opType) {
    case "Mul":
      return { scale: all(at), shift: all(() => 0) };
    case "Div":
      return first && c.every((x) => x !== 0) ? { scale: all((i) => 1 / at(i)), shift: all(() => 0) } : null;
    case "Add":
      return { scale: all(() => 1), shift: all(at) };
    default:
      return { scale: all(() => (first ? 1 : -1)), shift: all((i) => (first ? -at(i) : at(i))) };
  }
}

/** Writes scale·W and scale·b + shift; returns how many inputs with a default that took away. */
function fold(graph: Graph, node: Node, { scale, shift }: PerChannel): number {
  const { weight, channels } = layerOf(node)!;
  const gemm = node.opType === "Gemm";
  const beta = gemm ? (node.float("beta") ?? 1) : 1;
  let defaults = 0;
  const put = (index: number, name: string, t: Tensor) => {
    const v: Value | null = node.inputs[index] ?? null;
    if (v?.data && v.uses.size === 1 && v.graph === graph) {
      if (dropDefault(graph, v)) defaults++;
      graph.setData(v, t);
    } else {
      node.setInput(index, graph.initializer(v ? `${v.name}/folded` : name, t));
      if (v) drop(graph, v);
    }
  };
  const old = node.inputs[2] ? numbersOf(constantOf(node.inputs[2])!) : [0];
  const bias = Float32Array.from(shift, (s, i) => scale[i]! * beta * old[old.length === 1 ? 0 : i]! + s);
  if (scale.some((s) => s !== 1)) {
    const w = numbersOf(weight);
    const outer = node.opType === "Conv" || (gemm && node.int("transB")) ? 0 : 1;
    const inner = weight.shape.slice(outer + 1).reduce((a, d) => a * d, 1);
    const width = weight.shape[outer]!;
    // A ConvTranspose's weight is [C, M/group, …]: which of the M channels depends on the group of its row.
    const rows = outer === 0 ? 1 : weight.shape[0]!;
    const group = node.opType === "ConvTranspose" ? (node.int("group") ?? 1) : 1;
    for (let r = 0, i = 0; r < rows; r++) {
      const lead = Math.floor((r * group) / rows) * width;
      for (let c = 0; c < width; c++) for (let k = 0; k < inner; k++) w[i++]! *= scale[lead + c]!;
    }
    put(1, "weight", tensor("float32", weight.shape, w));
  }
  if (node.inputs[2] || bias.some((x) => x !== 0)) {
    put(2, `${node.inputs[1]!.name}/bias`, tensor("float32", [channels], bias));
    node.attrs.delete("beta");
  }
  return defaults;
}
