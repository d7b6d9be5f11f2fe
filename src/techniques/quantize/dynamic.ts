/** Dynamic quantization: the range of an input is taken anew at each run. Spelled as ONNX Runtime fuses it (DynamicQuantizeMatMul, MatMulIntegerToFloat). */
import { type Graph, type Node, produce, type Value } from "../../ir/graph.ts";
import { labelOf } from "../../ir/walk.ts";
import { Build } from "../../ops/build.ts";
import { scalar, tensor } from "../../tensor/tensor.ts";
import { inputOf, type Layer, outputOf } from "./layers.ts";
import type { StoredWeight } from "./store.ts";

/** Replaces each layer. A value that several layers read is quantized once. */
export function quantizeDynamically(layers: readonly Layer[], weights: ReadonlyMap<Layer, StoredWeight>, opset: number): void {
  const quantized = new Map<Graph, Map<Value, Node>>();
  for (const layer of layers) {
    const { node } = layer;
    const { graph } = node;
    const x = inputOf(layer);
    const here = quantized.get(graph) ?? new Map<Value, Node>();
    quantized.set(graph, here);
    const codes = here.get(x) ?? quantizedInput(graph, x);
    here.set(x, codes);
    produce(dynamicLayer(new Build(graph, opset, labelOf(node)), layer, codes, weights.get(layer)!), outputOf(layer));
    graph.remove(node);
  }
}

/** uint8 codes, scale and zero point of a value: scale = (max − min)/255 over all its elements, the range widened to hold 0. */
export function quantizedInput(graph: Graph, x: Value): Node {
  return graph.append("DynamicQuantizeLinear", [x], { name: `${x.name}/quantize`, outputs: 3 });
}

/**
 * Appends float(MatMulInteger(q, W, z, 0)) · (s · scale) + bias, with `codes` = (q, s, z); ConvInteger for a Conv. The last node.
 * The zero point of the weights is one scalar: kernels take no other.
 */
export function dynamicLayer(b: Build, layer: Layer, codes: Node, w: StoredWeight): Node {
  const [q, s, z] = codes.outputs as [Value, Value, Value];
  const conv = layer.op === "Conv";
  // Over the spatial axes of a Conv's output: [channels, 1, …].
  const spread = (v: Float32Array) => tensor("float32", conv ? [v.length, ...w.codes.shape!.slice(2).map(() => 1)] : [v.length], v);
  const inputs = [q, w.codes, z, b.constant(scalar(w.codes.data!.dtype, w.zeroPoints[0]!), "zero")];
  const sum = conv ? b.op("ConvInteger", inputs, Object.fromEntries(layer.node.attrs)) : b.op("MatMulInteger", inputs);
  const scales = conv && w.scale.length > 1 ? b.constant(spread(w.scale), "scale") : w.scales;
  const y = b.node("Mul", [b.op("Cast", [sum], { to: 1 }), b.mul(s, scales)]);
  return layer.bias ? b.node("Add", [y.outputs[0]!, b.constant(spread(layer.bias), "bias")]) : y;
}
