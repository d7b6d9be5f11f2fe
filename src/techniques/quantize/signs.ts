/** Weights and activations of one or two magnitudes, spelled so that they train: the forward value is quantized, the gradient goes round it. */
import { type Node, produce, type Value } from "../../ir/graph.ts";
import { labelOf } from "../../ir/walk.ts";
import type { Build } from "../../ops/build.ts";
import { tensor } from "../../tensor/tensor.ts";

export interface WeightSigns {
  readonly weights: "binary" | "ternary";
  readonly scaling: "channel" | "tensor" | "none";
  readonly stochastic: boolean;
}

/** +1 where x ≥ 0, else −1: Sign without its third value. */
function sign(b: Build, x: Value): Value {
  return b.where(b.op("GreaterOrEqual", [x, b.f32(0)]), b.f32(1), b.f32(-1));
}

/**
 * The latent weight `w` (float32, its output channels on `axis`) as the nodes that read it see it.
 * Binary: α·sign(w), gradient 1 through the sign (BinaryConnect), with α = mean|w|, which has its gradient too (XNOR-Net, section 3.1).
 * Stochastic: +1 with probability clip((w + 1)/2, 0, 1) in training, sign(w) elsewhere (BinaryConnect, eq. 2).
 * Ternary: α·sign(w) where |w| > Δ = 0.7·mean|w|, else 0; α = the mean |w| of those; gradient 1 through all (TWN, eq. 6).
 */
export function signed(b: Build, w: Value, axis: number, { weights, scaling, stochastic }: WeightSigns): Value {
  const axes = w.shape!.flatMap((_, i) => (scaling === "channel" && i === axis ? [] : [i]));
  const magnitude = () => b.op("Abs", [w]);
  if (weights === "binary") {
    const noise = () => b.op("Noise", [w, b.f32(0)], {}, "pith");
    const s = stochastic ? b.where(b.op("LessOrEqual", [noise(), w]), b.f32(1), b.f32(-1)) : sign(b, w);
    const through = b.straightThrough(w, s);
    return scaling === "none" ? through : b.mul(b.reduce("ReduceMean", magnitude(), axes, true), through);
  }
  const size = magnitude();
  const kept = b.cast(b.op("Greater", [size, b.mul(b.reduce("ReduceMean", size, axes, true), b.f32(0.7))]), "float32");
  const signs = b.mul(b.op("Sign", [w]), kept);
  if (scaling === "none") return b.straightThrough(w, signs);
  const count = b.op("Max", [b.sum(kept, axes, true), b.f32(1)]);
  return b.straightThrough(w, b.mul(signs, b.div(b.sum(b.mul(size, kept), axes, true), count)));
}

/**
 * Lets a Conv, Gemm or MatMul read the signs of its input instead, with the gradient of Clip(x, −1, 1) (Rastegari et al. 2016).
 * `scaled`: times K, the mean |x| of what each output is computed from: of a row (MatMul, Gemm), or of a window, on the output (Conv).
 * Returns the initializers it made, which are no weights.
 */
export function signInput(b: Build, node: Node, scaled: boolean): Value[] {
  const x = node.inputs[0]!;
  const s = b.straightThrough(x, sign(b, x), 1);
  if (!scaled) {
    node.setInput(0, s);
    return [];
  }
  const size = b.op("Abs", [x]);
  if (node.opType !== "Conv") {
    node.setInput(0, b.mul(s, b.reduce("ReduceMean", size, [node.int("transA") ? 0 : -1], true)));
    return [];
  }
  const kernel = node.inputs[1]!.shape!.slice(2);
  const window = kernel.reduce((a, d) => a * d, 1);
  const mean = tensor("float32", [1, 1, ...kernel], new Float32Array(window).fill(1 / window));
  const weight = b.graph.initializer(`${labelOf(node)}/window`, mean);
  const attrs = { ...Object.fromEntries(node.attrs), group: 1 };
  const K = b.op("Conv", [b.reduce("ReduceMean", size, [1], true), weight], attrs);
  node.setInput(0, s);
  const y = node.outputs[0]!;
  const bias = node.inputs[2];
  node.truncateInputs(2);
  const product = node.graph.value(`${y.name}/product`);
  produce(node, product);
  const scaledProduct = b.node("Mul", [product, K]);
  const shaped = bias && b.op("Unsqueeze", [bias, b.i64(kernel.map((_, i) => i + 1))]);
  produce(shaped ? b.node("Add", [scaledProduct.outputs[0]!, shaped]) : scaledProduct, y);
  return [weight];
}
