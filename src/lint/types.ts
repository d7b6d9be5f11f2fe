/** Element types of all values, as far as they follow from the graph without running it. */
import type { Graph, Model, Node, Value } from "../ir/graph.ts";
import { constantOf, sorted } from "../ir/walk.ts";
import { type DType, dtypeOfCode } from "../tensor/dtype.ts";

/** A value's element type; null: it does not follow. */
export type Types = (v: Value | null | undefined) => DType | null;

const fixed: Readonly<Record<string, DType>> = {
  Shape: "int64",
  Size: "int64",
  ArgMax: "int64",
  ArgMin: "int64",
  NonZero: "int64",
  NonMaxSuppression: "int64",
  ConvInteger: "int32",
  MatMulInteger: "int32",
  DynamicQuantizeMatMul: "float32",
  DynamicQuantizeLSTM: "float32",
  MatMulIntegerToFloat: "float32",
};
const truths = /^(Equal|Less|Greater|LessOrEqual|GreaterOrEqual|And|Or|Xor|Not|IsNaN|IsInf)$/;

/** The element type of output `index`, from those of the inputs. */
export function outputType(node: Node, index: number, of: Types): DType | null {
  const input = (i: number) => of(node.inputs[i]);
  const named = (attr: string) => dtypeOfCode(node.int(attr) ?? 0);
  if (fixed[node.opType]) return fixed[node.opType]!;
  if (truths.test(node.opType)) return "bool";
  switch (node.opType) {
    case "Cast":
      return named("to");
    case "CastLike":
    case "Where":
      return input(1);
    case "OneHot":
      return input(2);
    case "Dropout":
      return index === 0 ? input(0) : "bool";
    case "TopK":
    case "MaxPool":
      return index === 0 ? input(0) : "int64";
    case "DynamicQuantizeLinear":
      return index === 1 ? "float32" : "uint8";
    case "QuantizeLinear":
      return input(2) ?? named("output_dtype") ?? "uint8";
    case "DequantizeLinear":
      return named("output_dtype") ?? input(1);
    case "GatherBlockQuantized":
      return input(2);
    case "QLinearConv":
    case "QLinearMatMul":
      return input(7);
    case "ConstantOfShape": {
      const a = node.attrs.get("value");
      return a?.type === "tensor" ? a.value.dtype : "float32";
    }
    case "EyeLike":
    case "RandomNormal":
    case "RandomUniform":
    case "RandomNormalLike":
    case "RandomUniformLike":
    case "Bernoulli":
      return named("dtype") ?? input(0) ?? "float32";
    case "Shrink":
    case "If":
    case "Loop":
    case "Scan":
      return of(node.subgraphs[0]?.outputs[index + (node.opType === "Loop" ? 1 : 0)]) ?? input(0);
    default:
      return input(0);
  }
}

/** Types of the model's values, subgraphs included: declared, of constants, or by what the ops before make of them. */
export function typesOf(model: Model): Types {
  const known = new Map<Value, DType>();
  const of: Types = (v) => (v ? (v.data?.dtype ?? known.get(v) ?? constantOf(v)?.dtype ?? v.type?.dtype ?? null) : null);
  const visit = (graph: Graph) => {
    for (const node of sorted(graph)) {
      for (const g of node.subgraphs) visit(g);
      node.outputs.forEach((v, i) => {
        const t = v && (constantOf(v)?.dtype ?? v.type?.dtype ?? outputType(node, i, of));
        if (v && t) known.set(v, t);
      });
    }
  };
  visit(model.graph);
  return of;
}
