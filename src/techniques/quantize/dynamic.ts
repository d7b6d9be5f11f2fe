/** Dynamic quantization: the range of an input is taken anew at each run. Spelled as ONNX Runtime fuses it (DynamicQuantizeMatMul, MatMulIntegerToFloat). */
import { type Graph, type Node, produce, type Value } from "../../ir/graph.ts";
import { labelOf } from "../../ir/walk.ts";
import { Build } from "../../ops/build.ts";
import { scalar, tensor } from "../../tensor/tensor.ts";
import { inputOf, type Layer, outputOf } from "./layers.ts";
import type { StoredWeight } from "./store.ts";

/**
 * Replaces each layer by
 *   q, s, z = DynamicQuantizeLinear(x);  y = float(MatMulInteger(q, W, z, 0)) · (s · scale) + bias
 * (ConvInteger for a Conv). A value that several layers read is quantized once.
 */
export function quantizeDynamically(layers: readonly Layer[], weights: ReadonlyMap<Layer, StoredWeight>, opset: number): void {
  const quantized = new Map<Graph, Map<Value, Node>>();
  const zeros = new Map<Graph, Value>();
  for (const layer of layers) {
    const { node } = layer;
    const { graph } = node;
    const b = new Build(graph, opset, labelOf(node));
    const x = inputOf(layer);
    const w = weights.get(layer)!;
    const here = quantized.get(graph) ?? new Map<Value, Node>();
    quantized.set(graph, here);
    const qx = here.get(x) ?? graph.append("DynamicQuantizeLinear", [x], { name: `${x.name}/quantize`, outputs: 3 });
    here.set(x, qx);
    const [q, s, z] = qx.outputs as [Value, Value, Value];
    const zero = zeros.get(graph) ?? graph.initializer("int8/zero", scalar("int8", 0));
    zeros.set(graph, zero);
    const conv = layer.op === "Conv";
    // Over the spatial axes of a Conv's output: [channels, 1, …].
    const spread = (v: Float32Array) => tensor("float32", conv ? [v.length, ...w.codes.shape!.slice(2).map(() => 1)] : [v.length], v);
    const sum = conv
      ? b.op("ConvInteger", [q, w.codes, z, zero], Object.fromEntries(node.attrs))
      : b.op("MatMulInteger", [q, w.codes, z, zero]);
    const scales = conv && w.scale.length > 1 ? b.constant(spread(w.scale), "scale") : w.scales;
    let y = b.node("Mul", [b.op("Cast", [sum], { to: 1 }), b.mul(s, scales)]);
    if (layer.bias) y = b.node("Add", [y.outputs[0]!, b.constant(spread(layer.bias), "bias")]);
    produce(y, outputOf(layer));
    graph.remove(node);
  }
}
