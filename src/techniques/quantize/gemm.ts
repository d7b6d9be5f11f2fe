/** Gemm in the one form whose integer kernel takes everything in: rows × matrix plus a vector. */
import { type Node, produce, type Value } from "../../ir/graph.ts";
import { constantOf, labelOf, onlyReader } from "../../ir/walk.ts";
import { Build } from "../../ops/build.ts";
import { wrap } from "../../tensor/tensor.ts";
import { tailOf } from "./chain.ts";
import { inputOf, type Layer, outputOf, vector } from "./layers.ts";

/**
 * Rewrites a Gemm so that it is alpha·A·B′ plus at most a constant vector: transA becomes a Transpose of A, and any other C an Add behind
 * it. The graph computes the same as before.
 */
export function plainGemm(layer: Layer, opset: number): void {
  const { node } = layer;
  if (layer.op !== "Gemm") return;
  const b = new Build(node.graph, opset, labelOf(node));
  if (node.int("transA")) {
    node.setInput(0, b.transpose(inputOf(layer), [1, 0]));
    node.attrs.delete("transA");
  }
  const c = node.inputs[2];
  if (c && !layer.bias) {
    const y = outputOf(layer);
    const beta = node.float("beta") ?? 1;
    node.truncateInputs(2);
    const product = node.graph.value(`${y.name}/product`, y.type);
    produce(node, product);
    produce(b.node("Add", [product, beta === 1 ? c : b.mul(c, b.f32(beta))]), y);
  }
}

/**
 * Rewrites MatMuls as Gemms where the runtime would do so itself, but in floats, once it sees a MatMul and an Add: all MatMuls of rows
 * (`ndim` 2), with the Add of a constant vector behind them; and those of more dimensions that have such an Add, between Flatten and
 * Reshape, the Reshape behind any Relu or Clip, and left out where only the next Flatten would read it. The graph computes the same as
 * before. Returns the layers as they are now.
 */
export function asGemms(layers: readonly Layer[], ndim: (v: Value) => number | null, opset: number): Layer[] {
  const flat = new Map<Value, Value>();
  // Where the leading axes come from: the value first flattened.
  const origin = new Map<Value, Value>();
  const open: { b: Build; rows: Value; y: Value; x: Value; ndim: number; channels: number }[] = [];
  const out = layers.map((layer): Layer => {
    const x = inputOf(layer);
    const dims = layer.op === "MatMul" ? ndim(x) : null;
    if (dims === null || dims < 2) return layer;
    const add = biasAdd(layer, dims);
    if (dims > 2 && !add) return layer;
    const { node, channels } = layer;
    node.opType = "Gemm";
    if (add) {
      produce(node, add.node.outputs[0]!);
      add.node.graph.remove(add.node);
      // Gemm takes a C of two dimensions at most.
      const fits = constantOf(add.value)!.shape.length <= 2;
      node.setInput(2, fits ? add.value : node.graph.initializer(`${add.value.name}/vector`, wrap("float32", [channels], add.bias)));
    }
    if (dims > 2) {
      const b = new Build(node.graph, opset, labelOf(node));
      const given = flat.get(x) ?? b.op("Flatten", [x], { axis: dims - 1 });
      flat.set(x, given);
      node.setInput(0, given);
      const { value: y, absorbed } = tailOf(outputOf(layer));
      for (const n of [node, ...absorbed.slice(0, -1)]) n.outputs[0]!.type = null;
      const rows = node.graph.value(`${y.name}/rows`);
      produce(absorbed.at(-1) ?? node, rows);
      flat.set(y, rows);
      origin.set(y, origin.get(x) ?? x);
      open.push({ b, rows, y, x: origin.get(y)!, ndim: dims, channels });
    }
    return { ...layer, op: "Gemm", bias: add?.bias ?? null };
  });
  for (const { b, rows, y, x, ndim, channels } of open) {
    if (y.uses.size > 0) produce(b.node("Reshape", [rows, outputShape(b, x, ndim, channels)]), y);
  }
  return out;
}

/** The shape of x with `channels` for its last axis, as a constant where at most one of the others is open. */
function outputShape(b: Build, x: Value, ndim: number, channels: number): Value {
  const lead = x.type?.shape?.slice(0, -1);
  if (lead && lead.filter((d) => typeof d !== "number").length <= 1 && !lead.includes(0))
    return b.i64([...lead.map((d) => (typeof d === "number" ? d : -1)), channels]);
  return b.op("Concat", [b.op("Slice", [b.op("Shape", [x]), b.i64([0]), b.i64([ndim - 1])]), b.i64([channels])], { axis: 0 });
}

/** The Add of a constant vector that alone reads a MatMul's output of `ndim` dimensions: its bias; null if there is none. */
function biasAdd(layer: Layer, ndim: number): { readonly node: Node; readonly value: Value; readonly bias: Float32Array } | null {
  const y = outputOf(layer);
  const add = onlyReader(y);
  if (add?.opType !== "Add" || add.domain !== "" || add.graph !== layer.node.graph) return null;
  const value = add.inputs[0] === y ? add.inputs[1] : add.inputs[0];
  const bias = value && vector(value, layer.channels);
  // A constant of more dimensions would add axes to the result.
  return bias && constantOf(value)!.shape.length <= ndim ? { node: add, value, bias } : null;
}
