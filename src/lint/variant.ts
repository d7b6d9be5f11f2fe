/** What a runtime's support of a node depends on: its op, the op's version, element types and widths, in one line of text. */
import type { Node, Value } from "../ir/graph.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { changes } from "../transform/opsets.ts";
import type { Types } from "./types.ts";

/** The op with its domain: "Conv", "com.microsoft.MatMulNBits". */
export function opName(node: Node): string {
  return node.domain ? `${node.domain}.${node.opType}` : node.opType;
}

/** The version of the node's op that `opset` means; 1 for other domains, null where it has none yet. */
export function versionOf(node: Node, opset: number): number | null {
  if (node.domain !== "") return 1;
  return (
    changes
      .get(node.opType)
      ?.filter((c) => c.version <= opset)
      .at(-1)?.version ?? null
  );
}

/** The input whose type an op's kernels are chosen by, where that is not the first. */
const typedInput: Readonly<Record<string, number>> = { Where: 1, EmbedLayerNormalization: 2, QLinearConcat: 2 };

/** A scale for the tensor, one for each channel, or one for each block. */
function granularity(scale: Value | null | undefined, blockSize?: number): string {
  if (blockSize) return "block";
  const shape = scale?.data?.shape ?? scale?.type?.shape ?? [];
  return shape.length === 0 || (shape.every((d) => typeof d === "number") && sizeOf(shape as number[]) === 1) ? "tensor" : "channel";
}

/** Which axis of a recurrent layer's input is the batch. */
const batchwise = (n: Node) => (n.int("layout") === 1 ? "batchwise" : "timewise");

type Of = (node: Node, t: (input: number) => string) => readonly string[];

/** Ops whose kernels depend on more than one type. */
const special: Readonly<Record<string, Of>> = {
  Cast: (_, t) => [t(0), t(-1)],
  CastLike: (_, t) => [t(0), t(1)],
  Constant: (_, t) => [t(-1)],
  ConstantOfShape: (_, t) => [t(-1)],
  QuantizeLinear: (n, t) => [t(0), t(-1), granularity(n.inputs[1], n.int("block_size"))],
  DequantizeLinear: (n, t) => [t(0), t(1), granularity(n.inputs[1], n.int("block_size"))],
  QLinearConv: (n, t) => [t(0), t(3), granularity(n.inputs[4])],
  QLinearMatMul: (n, t) => [t(0), t(3), granularity(n.inputs[4])],
  ConvInteger: (n, t) => [t(0), t(1), granularity(n.inputs[3])],
  MatMulInteger: (n, t) => [t(0), t(1), granularity(n.inputs[3])],
  DynamicQuantizeMatMul: (n, t) => [t(0), t(1), granularity(n.inputs[2])],
  MatMulIntegerToFloat: (n, t) => [t(0), t(1), granularity(n.inputs[3])],
  DynamicQuantizeLSTM: (_, t) => [t(0), t(1)],
  MatMulNBits: (n, t) => [
    t(0),
    `${n.int("bits") ?? 4}bit`,
    `block${n.int("block_size") ?? 0}`,
    !n.inputs[3] ? "none" : t(3) === "uint8" ? "packed" : t(3),
    `level${n.int("accuracy_level") ?? 0}`,
  ],
  MatMulBnb4: (n, t) => [t(0), n.int("quant_type") === 0 ? "fp4" : "nf4", `block${n.int("block_size") ?? 0}`],
  GatherBlockQuantized: (n, t) => [t(0), `${n.int("bits") ?? 4}bit`, t(2), `block${n.int("block_size") ?? 128}`],
  Pow: (_, t) => [t(0), t(1)],
  OneHot: (_, t) => [t(0), t(1), t(2)],
  RNN: (n, t) => [t(0), batchwise(n)],
  GRU: (n, t) => [t(0), batchwise(n)],
  LSTM: (n, t) => [t(0), batchwise(n)],
  // Control flow is the same for all types; of windows only the size has one.
  BlackmanWindow: () => ["any"],
  HannWindow: () => ["any"],
  HammingWindow: () => ["any"],
  If: () => ["any"],
  Loop: () => ["any"],
  Scan: () => ["any"],
};

/** Types and widths of a node as its row in a runtime's table calls them: "uint8/int8/channel"; null: a type is not known. */
export function variantOf(node: Node, types: Types): string | null {
  const t = (i: number) => types(i < 0 ? node.outputs[0] : node.inputs[i]) ?? "?";
  const of = special[node.opType];
  const variant = of ? of(node, t).join("/") : t(typedInput[node.opType] ?? 0);
  return variant.includes("?") ? null : variant;
}

/** True where a row names combinations, of which not all were tried. */
export function isCombined(node: Node): boolean {
  return Object.hasOwn(special, node.opType);
}
