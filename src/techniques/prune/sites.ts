/** Where a layer's weights can be fitted: the layer, the bias behind it, and the value at which its outputs are compared with what they were. */
import type { Model, Node, Value } from "../../ir/graph.ts";
import { constantOf, onlyReader, reads } from "../../ir/walk.ts";
import { floatsOf } from "../../tensor/tensor.ts";
import { otherReader, type Weight, weightsOf } from "../../transform/weights.ts";
import { leave } from "../left.ts";
import { unseen } from "../moments.ts";
import { readersOf, type WeightLayer, weightLayers } from "../weightlayers.ts";
import { layoutOf } from "./layout.ts";

export interface Site {
  readonly layer: WeightLayer;
  readonly weight: Weight;
  /** What adds to the layer's outputs, channel by channel, and by how much it must change for the outputs to rise by 1. */
  readonly bias: { readonly value: Value; readonly by: Float64Array } | null;
  /** By what each output is multiplied on the way to the point. */
  readonly scale: Float64Array;
  /** Affine in the layer's outputs, channel by channel: Conv, BatchNormalization, bias. */
  readonly own: Value;
  /** Where that is added to something else, as at the end of a residual branch: the sum, and all nodes that the other summand is computed by. */
  readonly sum: { readonly value: Value; readonly behind: ReadonlySet<Node> } | null;
}

/** Sites of the top graph, in graph order; reason → names of the layers that are none. */
export function sitesOf(model: Model, shapeOf: (v: Value) => readonly number[] | null): { sites: Site[]; left: Map<string, string[]> } {
  const { layers, left } = weightLayers(model);
  const sites: Site[] = [];
  for (const weight of weightsOf(model)) {
    const { own, alike } = readersOf(layers, weight);
    const layer = own[0];
    if (!layer) continue;
    const other = otherReader(weight);
    const why =
      (layer.node.graph !== model.graph ? "it stands in a subgraph" : null) ??
      unseen(layer) ??
      (other ? `${other} reads the weight too` : own.length > 1 || !alike ? "several layers share the weight" : null);
    const output = shapeOf(layer.node.outputs[0]!);
    const layout = layoutOf(weight);
    if (why) leave(left, why, layer.node);
    else if (output && layout && layout.rows === layer.matrix.rows && output[axisOf(layer, output)] === layout.rows)
      sites.push(siteOf(layer, weight, shapeOf));
  }
  return { sites, left };
}

/** The axis of the outputs' channels. */
export const axisOf = ({ op }: WeightLayer, shape: readonly number[]) => (op === "Conv" ? 1 : shape.length - 1);

function siteOf(layer: WeightLayer, weight: Weight, shapeOf: (v: Value) => readonly number[] | null): Site {
  const { rows } = layer.matrix;
  const { node } = layer;
  const beta = layer.op === "Gemm" ? (node.float("beta") ?? 1) : 1;
  const scale = new Float64Array(rows).fill(layer.alpha);
  let v = node.outputs[0]!;
  const axis = axisOf(layer, shapeOf(v)!);
  const ndim = shapeOf(v)!.length;
  let bias: Site["bias"] = null;
  const take = (value: Value | null | undefined, by: (r: number) => number) => {
    if (!bias && value && alone(value) && value.data!.shape.reduce((a, d) => a * d, 1) === rows)
      bias = { value, by: Float64Array.from({ length: rows }, (_, r) => by(r)) };
  };
  if (layer.op !== "MatMul" && beta !== 0) take(node.inputs[2], (r) => scale[r]! / beta);
  let sum: Site["sum"] = null;
  for (let next = onlyReader(v); next && !sum && next.domain === ""; next = onlyReader(v)) {
    const constant = next.inputs.find((i) => i !== v && i?.data);
    if (next.opType === "Identity") v = next.outputs[0]!;
    else if (next.opType === "BatchNormalization" && axis === 1 && next.outputs.length === 1 && next.inputs.slice(1).every(constantOf)) {
      const [gamma, , , variance] = next.inputs.slice(1).map((i) => floatsOf(constantOf(i)!));
      take(next.inputs[3], (r) => -scale[r]!);
      const epsilon = next.float("epsilon") ?? 1e-5;
      for (let r = 0; r < rows; r++) scale[r]! *= gamma![r]! / Math.sqrt(variance![r]! + epsilon);
      v = next.outputs[0]!;
    } else if ((next.opType === "Add" || next.opType === "Mul") && constant && along(constant, axis, ndim, rows)) {
      if (next.opType === "Add") take(constant, (r) => scale[r]!);
      else {
        const by = floatsOf(constant.data!);
        for (let r = 0; r < rows; r++) scale[r]! *= by[r]!;
      }
      v = next.outputs[0]!;
    } else if (next.opType === "Add" && !constant && next.inputs.every((i) => i && `${shapeOf(i)}` === `${shapeOf(v)}`)) {
      const other = next.inputs.find((i) => i !== v);
      if (!other) break;
      sum = { value: next.outputs[0]!, behind: behind(other) };
    } else break;
  }
  return { layer, weight, bias, scale, own: v, sum };
}

/** Whether it is an initializer that one node alone reads. */
const alone = (v: Value) => v.data !== null && v.uses.size === 1 && onlyReader(v) !== null;

/** Whether a constant has one element for each channel. */
function along({ data }: Value, axis: number, ndim: number, rows: number): boolean {
  const { shape } = data!;
  return (
    shape.length <= ndim &&
    shape.every((d, i) => d === (i + ndim - shape.length === axis ? rows : 1)) &&
    (rows === 1 || shape.length >= ndim - axis)
  );
}

function behind(v: Value): Set<Node> {
  const out = new Set<Node>();
  const stack = [v];
  for (let at = stack.pop(); at; at = stack.pop()) {
    const node = at.producer;
    if (!node || out.has(node)) continue;
    out.add(node);
    stack.push(...reads(node));
  }
  return out;
}
