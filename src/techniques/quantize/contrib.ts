/** ONNX Runtime's own integer ops for whole layers: QAttention, DynamicQuantizeLSTM, QEmbedLayerNormalization. */
import { type Attr, type Graph, type Node, produce, type Value } from "../../ir/graph.ts";
import { constantOf, labelOf } from "../../ir/walk.ts";
import { floatsOf, type Tensor, tensor, wrap } from "../../tensor/tensor.ts";
import { transpose } from "../../tensor/transpose.ts";
import { codesOf } from "./codes.ts";
import type { Int8 } from "./scheme.ts";

export interface ContribOptions {
  readonly weights: Int8;
  readonly granularity: "tensor" | "channel";
  readonly reduceRange: boolean;
  /** A change of a weight, ‖W − Ŵ‖/‖W‖, above which it stays float. */
  readonly maxError: number;
  /** uint8 codes, scale and zero point of a value. */
  readonly input: (graph: Graph, x: Value) => Node;
  /** What replaced weights have in common: a weight of several nodes is stored once. */
  readonly have: Map<Value, Coded>;
}

export interface Coded {
  readonly codes: Value;
  readonly scale: Value;
  readonly zeroPoint: Value;
  readonly error: number;
}

/** Replaces a node by its integer twin. Returns why not, or null; undefined for ops that have none. */
export function contribNode(node: Node, o: ContribOptions): string | null | undefined {
  if (node.domain === "com.microsoft" && node.opType === "Attention") return attention(node, o);
  if (node.domain === "" && node.opType === "LSTM") return lstm(node, o);
  if (node.domain === "com.microsoft" && node.opType === "EmbedLayerNormalization") return embedLayerNorm(node, o);
  return undefined;
}

const float32 = (v: Value | null | undefined): Tensor | null => {
  const t = constantOf(v);
  return t?.dtype === "float32" ? t : null;
};
const tooFar = (error: number) => `8 bits would change its weights by ${Number((100 * error).toPrecision(2))} %`;

/** Stores codes of a tensor beside it; `dims`: the shape of scale and zero point, one number for each channel of `axis`. */
function stored(
  v: Value,
  t: Tensor,
  dtype: Int8,
  axis: number | null,
  dims: readonly number[],
  laidOut: (codes: Tensor) => Tensor,
  o: ContribOptions,
): Coded {
  const known = o.have.get(v);
  if (known) return known;
  const c = codesOf(floatsOf(t), t.shape, { dtype, axis, reduceRange: o.reduceRange });
  const { graph } = v;
  const coded: Coded = {
    codes: graph.initializer(`${v.name}_quantized`, laidOut(wrap(dtype, t.shape, c.codes))),
    scale: graph.initializer(`${v.name}_scale`, tensor("float32", dims, c.scales)),
    zeroPoint: graph.initializer(`${v.name}_zero_point`, wrap(dtype, dims, c.zeroPoints)),
    error: c.error,
  };
  o.have.set(v, coded);
  return coded;
}

/** The integer node takes over name and outputs. */
function replace(node: Node, opType: string, inputs: readonly (Value | null)[], attrs: ReadonlyMap<string, Attr>): void {
  const { graph } = node;
  while (inputs.at(-1) === null) inputs = inputs.slice(0, -1);
  const outputs = [...node.outputs];
  const made = graph.append(opType, inputs, {
    name: `${labelOf(node)}_quant`,
    domain: "com.microsoft",
    attrs: Object.fromEntries(attrs),
    outputs: outputs.map((v) => (v ? `${v.name}_quant` : "")),
  });
  outputs.forEach((v, i) => {
    if (!v) return;
    if (i === 0) produce(made, v);
    else {
      node.outputs[i] = null;
      const old = made.outputs[i];
      if (old) old.producer = null;
      made.outputs[i] = v;
      v.producer = made;
    }
  });
  graph.remove(node);
}

/** Inputs of Attention: input, weights [in, 3·hidden], bias, mask, past, …; those of QAttention are ordered otherwise. */
function attention(node: Node, o: ContribOptions): string | null {
  const [x, weight, bias, mask, past] = node.inputs;
  const w = float32(weight);
  if (!x || !weight || !w || !bias || w.shape.length !== 2) return "its weights are computed at run time, or it has no bias";
  if (node.attrs.has("qkv_hidden_sizes") || node.inputs.slice(5).some(Boolean)) return "QAttention has no such form";
  const channel = o.granularity === "channel";
  const c = stored(weight, w, o.weights, channel ? 1 : null, channel ? [w.shape[1]!] : [], (t) => t, o);
  if (c.error > o.maxError) return tooFar(c.error);
  const [q, scale, zero] = o.input(node.graph, x).outputs as [Value, Value, Value];
  replace(node, "QAttention", [q, c.codes, bias, scale, c.scale, mask ?? null, zero, c.zeroPoint, past ?? null], node.attrs);
  return null;
}

/** W and R [directions, 4·hidden, in] are int8 and stored as [directions, in, 4·hidden]; scales by direction, or by direction and row. */
function lstm(node: Node, o: ContribOptions): string | null {
  const [w, r] = [float32(node.inputs[1]), float32(node.inputs[2])];
  if (!w || !r || w.shape.length !== 3 || r.shape.length !== 3) return "its weights are computed at run time";
  if (node.attrs.has("layout") && node.int("layout") !== 0) return "DynamicQuantizeLSTM has no batch-first layout";
  const code = (v: Value, t: Tensor) => {
    const [directions, rows, columns] = t.shape as [number, number, number];
    const channel = o.granularity === "channel";
    // A channel is a row of one direction.
    const flat = channel ? { ...t, shape: [directions * rows, columns], source: undefined } : t;
    return stored(
      v,
      flat,
      "int8",
      0,
      channel ? [directions, rows] : [directions],
      (codes) => transpose({ ...codes, shape: t.shape }, [0, 2, 1]),
      o,
    );
  };
  const [cw, cr] = [code(node.inputs[1]!, w), code(node.inputs[2]!, r)];
  const error = Math.max(cw.error, cr.error);
  if (error > o.maxError) return tooFar(error);
  const rest = [3, 4, 5, 6, 7].map((i) => node.inputs[i] ?? null);
  replace(
    node,
    "DynamicQuantizeLSTM",
    [node.inputs[0]!, cw.codes, cr.codes, ...rest, cw.scale, cw.zeroPoint, cr.scale, cr.zeroPoint],
    new Map([...node.attrs].filter(([name]) => name !== "layout")),
  );
  return null;
}

/** Three tables, gamma and beta, in uint8 with a scale each. */
function embedLayerNorm(node: Node, o: ContribOptions): string | null {
  const parts = [2, 3, 4, 5, 6].map((i) => node.inputs[i] ?? null);
  const coded: (Coded | null)[] = [];
  for (const v of parts) {
    const t = float32(v);
    if (v && !t) return "its tables are computed at run time";
    coded.push(v && stored(v, t!, "uint8", null, [], (c) => c, o));
  }
  const error = Math.max(...coded.map((c) => c?.error ?? 0));
  if (error > o.maxError) return tooFar(error);
  const all = (part: "codes" | "scale" | "zeroPoint") => coded.map((c) => c?.[part] ?? null);
  const inputs = [node.inputs[0]!, node.inputs[1] ?? null, ...all("codes"), node.inputs[7] ?? null, ...all("scale"), ...all("zeroPoint")];
  replace(node, "QEmbedLayerNormalization", inputs, new Map([...node.attrs].filter(([name]) => name === "epsilon")));
  return null;
}
