/** QuantizeLinear and DequantizeLinear in a graph. */
import type { Node, Value } from "../../ir/graph.ts";
import type { Build } from "../../ops/build.ts";
import { scalar, tensor } from "../../tensor/tensor.ts";
import type { Layer } from "./layers.ts";
import { type Affine, type IntType, quantizeBias } from "./scheme.ts";
import type { StoredWeight } from "./store.ts";

/** Where the ops for codes of this type are: the standard has those of 16 bits since opset 21, ONNX Runtime at any opset. */
export function domainOf(dtype: IntType, opset: number): "" | "com.microsoft" {
  return dtype.endsWith("16") && opset < 21 ? "com.microsoft" : "";
}

/** The node that gives `v` after a round trip through its codes. */
export function roundTrip(b: Build, v: Value, a: Affine): Node {
  const scale = b.constant(scalar("float32", a.scale), `${v.name}/scale`);
  const zero = b.constant(scalar(a.dtype, a.zeroPoint), `${v.name}/zero`);
  const domain = domainOf(a.dtype, b.opset);
  const q = b.graph.append("QuantizeLinear", [v, scale, zero], { name: `${v.name}/quantize`, domain }).outputs[0]!;
  return b.graph.append("DequantizeLinear", [q, scale, zero], { name: `${v.name}/dequantize`, domain });
}

/** Its codes dequantized: with a scale per channel of `axis`, or one. */
function dequantized(b: Build, codes: Value, scales: Value, zeroPoints: Int32Array | null, axis: number, name: string): Value {
  const dtype = codes.data!.dtype;
  const dims = scales.data!.shape;
  const zero = b.constant(
    dims.length === 1 ? tensor(dtype, dims, zeroPoints ?? new Array(dims[0]!).fill(0)) : scalar(dtype, zeroPoints?.[0] ?? 0),
    "zero",
  );
  return b.graph.append("DequantizeLinear", [codes, scales, zero], {
    name,
    domain: domainOf(dtype as IntType, b.opset),
    attrs: dims.length === 1 ? { axis } : {},
  }).outputs[0]!;
}

/**
 * Appends the layer on `x`, already through its codes with scale `a`, with dequantized weights, and its bias as int32 codes (ONNX Runtime)
 * or in floats (TensorRT); the node.
 */
export function quantizedLayer(b: Build, layer: Layer, x: Value, a: Affine, w: StoredWeight, integerBias: boolean): Node {
  const { node, bias } = layer;
  const name = `${node.name || node.opType}/int8`;
  const inputs = [x, dequantized(b, w.codes, w.scales, w.zeroPoints, layer.axis, `${w.codes.name}/dequantize`)];
  if (bias) {
    const q = quantizeBias(bias, a.scale, w.scale);
    const scales = b.constant(tensor("float32", w.scales.data!.shape, q.scales), `${name}/bias_scale`);
    const codes = tensor(integerBias ? "int32" : "float32", [bias.length], integerBias ? q.codes : bias);
    const stored = b.constant(codes, `${name}/bias`);
    inputs.push(integerBias ? dequantized(b, stored, scales, null, 0, `${name}/bias/dequantize`) : stored);
  }
  if (layer.op === "Conv") return b.graph.append("Conv", inputs, { name, attrs: Object.fromEntries(node.attrs) });
  return b.graph.append(layer.op, inputs, { name });
}
