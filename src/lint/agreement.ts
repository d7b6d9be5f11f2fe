/** What must agree within a model, whatever it runs on: types of a node's inputs, of outputs with what is declared, attributes with the opset. */
import type { Model, Node } from "../ir/graph.ts";
import { allNodes, labelOf } from "../ir/walk.ts";
import type { DType } from "../tensor/dtype.ts";
import type { Finding } from "./finding.ts";
import { outputType, type Types } from "./types.ts";

const all =
  "Add Sub Mul Div Max Min Mean Sum Mod MatMul Gemm Conv ConvTranspose PRelu Concat Equal Less Greater LessOrEqual GreaterOrEqual BitwiseAnd BitwiseOr BitwiseXor Clip Einsum InstanceNormalization GroupNormalization LayerNormalization Range";
/** Ops of the default domain → the inputs that have one type; null: all. */
const together: Readonly<Record<string, readonly number[] | null>> = {
  ...Object.fromEntries(all.split(" ").map((op) => [op, null])),
  Where: [1, 2],
  Pad: [0, 2],
  ScatterElements: [0, 2],
  ScatterND: [0, 2],
  LSTM: [0, 1, 2, 3],
  GRU: [0, 1, 2, 3],
  RNN: [0, 1, 2, 3],
};

const reductions = "L1 L2 LogSum LogSumExp Max Mean Min Prod SumSquare";
/** Attributes that became inputs, or were dropped, and the opset since which they are refused. */
const gone: Readonly<Record<string, readonly (readonly [attribute: string, since: number])[]>> = {
  ...Object.fromEntries(reductions.split(" ").map((r) => [`Reduce${r}`, [["axes", 18]] as const])),
  ReduceSum: [["axes", 13]],
  Squeeze: [["axes", 13]],
  Unsqueeze: [["axes", 13]],
  Split: [["split", 13]],
  Slice: ["starts", "ends", "axes"].map((a) => [a, 10] as const),
  Clip: ["min", "max"].map((a) => [a, 11] as const),
  Pad: ["pads", "value"].map((a) => [a, 11] as const),
  TopK: [["k", 10]],
  Dropout: [["ratio", 12]],
  Upsample: [["scales", 9]],
  BatchNormalization: [["spatial", 9]],
};

export function agreementFindings(model: Model, types: Types): Finding[] {
  const out: Finding[] = [];
  const opset = model.opsets.get("") ?? 1;
  const basis = "ONNX's definitions";
  const outputs = new Set(model.graph.outputs);
  for (const node of allNodes(model.graph)) {
    const mixed = typesOfInputs(node, types);
    if (mixed.length > 1)
      out.push({
        level: "error",
        what: `${node.opType} takes inputs of one type; got ${mixed.join(" and ")}. A Cast is missing`,
        nodes: [labelOf(node)],
        basis,
      });
    for (const [name, since] of (node.domain === "" && gone[node.opType]) || [])
      if (opset >= since && node.attrs.has(name))
        out.push({
          level: "error",
          what: `${node.opType} has no attribute "${name}" since opset ${since}; the model is of opset ${opset}`,
          nodes: [labelOf(node)],
          basis,
        });
    node.outputs.forEach((v, i) => {
      const made = v && outputs.has(v) && node.domain === "" && sure.has(node.opType) ? outputType(node, i, types) : null;
      if (v?.type && made && made !== v.type.dtype)
        out.push({
          level: "error",
          what: `"${v.name}" is declared ${v.type.dtype} and comes out as ${made}`,
          nodes: [labelOf(node)],
          basis,
        });
    });
  }
  return out;
}

/** Ops whose output's type follows without doubt. */
const sure = new Set(
  "Cast Add Sub Mul Div MatMul Gemm Conv Relu Sigmoid Tanh Softmax Transpose Reshape Concat Unsqueeze Squeeze Slice Gather LayerNormalization Shape Equal".split(
    " ",
  ),
);

function typesOfInputs(node: Node, types: Types): DType[] {
  if (node.domain !== "" || !Object.hasOwn(together, node.opType)) return [];
  const which = together[node.opType] ?? node.inputs.map((_, i) => i);
  return [...new Set(which.flatMap((i) => types(node.inputs[i]) ?? []))];
}
