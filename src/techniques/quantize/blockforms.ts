/** Layers on weights in blocks, in the operators and names of ONNX Runtime's own quantizers. */
import { type Graph, type Model, type Node, produce, type Value } from "../../ir/graph.ts";
import { labelOf } from "../../ir/walk.ts";
import { Build } from "../../ops/build.ts";
import type { DType } from "../../tensor/dtype.ts";
import { type Tensor, tensor, wrap } from "../../tensor/tensor.ts";
import type { WeightLayer } from "../weightlayers.ts";
import { type BlockCodes, groupsOf } from "./blocks.ts";
import { type FloatBlocks, type FloatCode, quantType } from "./floatcodes.ts";
import { arranged, gatherRows, type PackedBlocks, packElements, packRows, shiftOf, widthOf } from "./packing.ts";

const microsoft = "com.microsoft";

/** Writes layers of one model on their new weights; a weight that several layers share is stored once. */
export interface Forms {
  /** MatMul, Gemm → MatMulNBits. */
  nbits(layer: WeightLayer, blocks: PackedBlocks, accuracyLevel: number): void;
  /** MatMul, Gemm → MatMulBnb4. */
  bnb4(layer: WeightLayer, floats: FloatBlocks, blockSize: number, type: FloatCode): void;
  /** Gather → GatherBlockQuantized; `shared`: on the tensors that a MatMulNBits of the same weight reads. */
  gather(layer: WeightLayer, blocks: PackedBlocks, shared: boolean): void;
  /** Any layer, on what DequantizeLinear makes of the codes; `stored`: of the tensor as it lies in the file, transposed behind it where the layer sees it so. */
  dequantized(layer: WeightLayer, codes: BlockCodes, perChannel: boolean, stored: boolean): void;
}

export function formsOf(model: Model): Forms {
  const made = new Map<string, Value>();
  const once = (key: string, make: () => Value): Value => {
    const have = made.get(key) ?? make();
    made.set(key, have);
    return have;
  };
  const initializer = ({ weight, key }: WeightLayer, what: string, name: string, make: () => Tensor) =>
    once(`${key}|${what}`, () => weight.graph.initializer(`${weight.name}${name}`, make()));
  const build = (graph: Graph, node: Node) => new Build(graph, model.opsets.get("") ?? 1, labelOf(node));
  const own = () => {
    if (!model.opsets.has(microsoft)) model.opsets.set(microsoft, 1);
  };

  /** A node of ONNX Runtime's own that takes the layer's place, with the Transpose and Add that are left of a Gemm. */
  const product = (layer: WeightLayer, opType: string, suffix: string, weights: readonly Value[], attrs: Record<string, number>) => {
    own();
    const { node } = layer;
    const { graph } = node;
    const b = build(graph, node);
    const out = node.outputs[0]!;
    const x = node.int("transA") ? b.transpose(node.inputs[0]!, [1, 0]) : node.inputs[0]!;
    const y = graph.append(opType, [x, ...weights], { name: `${labelOf(node)}${suffix}`, domain: microsoft, attrs });
    const c = layer.op === "Gemm" ? node.inputs[2] : null;
    const beta = node.float("beta") ?? 1;
    const last = c && beta !== 0 ? b.node("Add", [y.outputs[0]!, beta === 1 ? c : b.mul(c, b.scalar(beta, layer.dtype))]) : y;
    produce(last, out);
    graph.remove(node);
  };

  const blockTensors = (layer: WeightLayer, p: PackedBlocks) => {
    const { rows, columns, groupSize, bits, packed } = p;
    const groups = groupsOf(columns, groupSize);
    const codes = initializer(layer, "nbits", `_Q${bits}`, () => wrap("uint8", [rows, groups, (groupSize * bits) / 8], packed));
    const scales = initializer(layer, `nbits scales ${layer.alpha}`, "_scales", () =>
      scaled(layer.dtype, [rows * groups], p.scales, layer.alpha),
    );
    if (!p.zeroPoints) return [codes, scales];
    const zeroPoints = initializer(layer, "nbits zeros", "_zero_points", () => {
      const bytes = packRows(p.zeroPoints!, rows, groups, bits);
      return wrap("uint8", [bytes.length], bytes);
    });
    return [codes, scales, zeroPoints];
  };

  return {
    nbits(layer, blocks, accuracyLevel) {
      const { rows, columns, bits, groupSize } = blocks;
      const attrs = { K: columns, N: rows, bits, block_size: groupSize, ...(accuracyLevel ? { accuracy_level: accuracyLevel } : {}) };
      product(layer, "MatMulNBits", `_Q${bits}`, blockTensors(layer, blocks), attrs);
    },

    bnb4(layer, { packed, absmax }, blockSize, type) {
      const { rows, columns } = layer.matrix;
      const codes = initializer(layer, type, "_Bnb4", () => wrap("uint8", [packed.length], packed));
      const most = initializer(layer, `${type} ${layer.alpha}`, "_absmax", () => scaled(layer.dtype, [absmax.length], absmax, layer.alpha));
      const attrs = { K: columns, N: rows, block_size: blockSize, quant_type: quantType[type] };
      product(layer, "MatMulBnb4", "_Bnb4", [codes, most], attrs);
    },

    gather(layer, blocks, shared) {
      own();
      const { node } = layer;
      const { graph } = node;
      const { rows, columns, groupSize, bits } = blocks;
      const groups = groupsOf(columns, groupSize);
      let inputs: Value[];
      if (shared) {
        const b = build(graph, node);
        // MatMulNBits has one axis more in its codes and one less in its scales.
        inputs = blockTensors({ ...layer, alpha: 1 }, blocks).map((v) => b.reshape(v, [rows, -1]));
      } else {
        const bytes = gatherRows(blocks)!;
        inputs = [
          initializer(layer, "gather", `_Q${bits}`, () => wrap("uint8", [rows, bytes.length / rows], bytes)),
          initializer(layer, "gather scales", "_scales", () => scaled(layer.dtype, [rows, groups], blocks.scales, 1)),
        ];
        if (blocks.zeroPoints)
          inputs.push(
            initializer(layer, "gather zeros", "_zero_points", () => {
              const zeros = packRows(blocks.zeroPoints!, rows, groups, bits);
              return wrap("uint8", [rows, zeros.length / rows], zeros);
            }),
          );
      }
      const [codes, scales, zeroPoints] = inputs as [Value, Value, Value?];
      const indices = node.inputs[1]!;
      const last = graph.append("GatherBlockQuantized", [codes, indices, scales, ...(zeroPoints ? [zeroPoints] : [])], {
        name: `${labelOf(node)}_Q${bits}`,
        domain: microsoft,
        attrs: { gather_axis: 0, quantize_axis: 1, block_size: groupSize, bits },
      });
      produce(last, node.outputs[0]!);
      graph.remove(node);
    },

    dequantized(layer, codes, perChannel, stored) {
      const { node, use } = layer;
      const { rows, columns } = layer.matrix;
      const bits = widthOf(codes.bits);
      // The runtime (1.30) fuses DequantizeLinear and MatMul (not across a Transpose) wrongly in 2 bits where the outputs are no multiple of
      // four, and fails to load where the codes lie outside of the subgraph.
      const awkward = !perChannel && ((bits === 2 && rows % 4 !== 0) || layer.weight.graph !== node.graph);
      const turn = (stored || awkward) && layer.axis === 0 && layer.shape.length === 2;
      const as: Arrangement = turn ? { shape: [rows, columns], axis: 1, layout: { outer: rows, inner: 1 } } : layer;
      const form = `dq ${as.axis} ${as.shape}`;
      const { graph } = node;
      const b = build(graph, node);
      const here = `${layer.key}|${form}|${graph.name}`;
      const value = once(here, () => {
        const { tensors, attrs, flat } = dequantizing(codes, as, layer.dtype, perChannel);
        const inputs = tensors.map((t, i) =>
          initializer(layer, `${form} ${i}`, `_DQ${[`_Q${bits}`, "_scales", "_zero_points"][i]}`, () => t),
        );
        const dq = graph.append("DequantizeLinear", inputs, { name: `${labelOf(node)}_DQ_Q${bits}`, attrs }).outputs[0]!;
        return flat ? b.reshape(dq, [...as.shape]) : dq;
      });
      node.setInput(use.input, turn ? once(`${here} turned`, () => b.transpose(value, [1, 0])) : value);
    },
  };
}

function scaled(dtype: DType, shape: readonly number[], values: Float32Array, factor: number): Tensor {
  return tensor(dtype, shape, factor === 1 ? values : values.map((s) => s * factor));
}

/** A tensor [outer, columns, inner] in its own shape. */
type Arrangement = Pick<WeightLayer, "shape" | "axis" | "layout">;

interface Dequantizing {
  /** Codes, scales and, unless the codes are signed, zero points. */
  readonly tensors: readonly Tensor[];
  readonly attrs: Readonly<Record<string, number>>;
  /** The codes are a matrix; the tensor has more axes. */
  readonly flat: boolean;
}

/** What DequantizeLinear reads to give a tensor, its blocks along the columns. */
function dequantizing(c: BlockCodes, { shape, axis, layout }: Arrangement, dtype: DType, perChannel: boolean): Dequantizing {
  const { rows, columns } = c;
  const bits = widthOf(c.bits);
  const groups = groupsOf(columns, c.groupSize);
  const shift = shiftOf(c.bits, c.zeroPoints);
  // A Conv's blocks run over input channels and positions alike, as a matrix; with one position only they fit the tensor itself.
  const flat = !perChannel && shape[axis] !== columns;
  const dims = flat ? [rows, columns] : [...shape];
  const scaleDims = perChannel ? [rows] : dims.map((d, i) => (i === axis ? groups : d));
  const integers = (values: Uint8Array, dims: readonly number[], signed: boolean): Tensor => ({
    dtype: `${signed ? "int" : "uint"}${bits}` as DType,
    shape: dims,
    data: packElements(values, bits, signed),
  });
  const inOrder = <T extends Uint8Array | Float32Array>(v: T) => (perChannel ? v : arranged(v, groups, layout));
  const codes = arranged(shift ? c.codes.map((q) => q + shift) : c.codes, columns, layout);
  const tensors = [integers(codes, dims, !c.zeroPoints), tensor(dtype, scaleDims, inOrder(c.scales))];
  if (c.zeroPoints) tensors.push(integers(inOrder(c.zeroPoints), scaleDims, false));
  const outputs = axis === 0 ? 1 : 0;
  return { tensors, attrs: perChannel ? { axis: outputs } : { axis, block_size: c.groupSize }, flat };
}
