/** What a model is made of: the content of `pith show`. */
import type { Dim, Model, Node, Value } from "../ir/graph.ts";
import { allGraphs, allNodes, onlyReader, stored } from "../ir/walk.ts";
import { parametersOf } from "../measure/parameters.ts";
import type { ModelSource } from "../onnx/read.ts";
import { opOf } from "../ops/index.ts";
import type { DType } from "../tensor/dtype.ts";

export interface PortSummary {
  readonly name: string;
  /** null: not a tensor. */
  readonly dtype: DType | null;
  /** null: the rank is unknown. */
  readonly shape: readonly Dim[] | null;
}

export interface OpSummary {
  readonly op: string;
  /** "" is ONNX's own domain. */
  readonly domain: string;
  readonly count: number;
  /** Elements and bytes of the stored tensors that are there for nodes of this op (behind DequantizeLinear, Transpose, Cast too); one that several read counts at the first. */
  readonly parameters: number;
  readonly bytes: number;
  /** Multiply-accumulates of one run; null: no rule, or shapes are not known. */
  readonly macs: number | null;
  /** yes: a gradient flows through; stops: no gradient by nature (Shape, comparisons); no: pith has no rule. */
  readonly gradient: "yes" | "stops" | "no";
}

export interface Summary {
  readonly producer: string;
  readonly irVersion: number;
  readonly opsets: Readonly<Record<string, number>>;
  readonly inputs: readonly PortSummary[];
  readonly outputs: readonly PortSummary[];
  readonly nodes: number;
  readonly initializers: number;
  /** Elements of all stored tensors but strings, 64-bit integers (shapes, axes, indices), and scales and zero points of quantization. */
  readonly parameters: number;
  /** Bytes of all stored tensors. */
  readonly bytes: number;
  /** Sum over the ops that have a rule and shapes; null where none has. */
  readonly macs: number | null;
  /** By op, heaviest first. */
  readonly ops: readonly OpSummary[];
  readonly dtypes: readonly { readonly dtype: DType; readonly tensors: number; readonly parameters: number; readonly bytes: number }[];
  readonly externalFiles: readonly string[];
  /** Graphs inside If, Loop and Scan; their nodes are counted with the others. */
  readonly subgraphs: readonly { readonly op: string; readonly graphs: number; readonly nodes: number }[];
  /** Model-local functions. */
  readonly functions: readonly string[];
}

/** Looks through a model. MACs need shapes on its values: see `observeShapes`. */
export function summarize(model: Model): Summary {
  const key = (n: { opType: string; domain: string }) => `${n.domain}:${n.opType}`;
  const ops = new Map<string, { -readonly [K in keyof OpSummary]: OpSummary[K] }>();
  const subgraphs = new Map<string, { op: string; graphs: number; nodes: number }>();
  let nodes = 0;
  for (const n of allNodes(model.graph)) {
    nodes++;
    const rule = opOf(n);
    const entry =
      ops.get(key(n)) ??
      ({
        op: n.opType,
        domain: n.domain,
        count: 0,
        parameters: 0,
        bytes: 0,
        macs: null,
        gradient: rule?.vjp ? "yes" : rule?.stops ? "stops" : "no",
      } as const);
    const macs = rule?.macs?.(n) ?? null;
    ops.set(key(n), { ...entry, count: entry.count + 1, macs: macs === null ? entry.macs : (entry.macs ?? 0) + macs });
    for (const g of n.subgraphs) {
      const s = subgraphs.get(n.opType) ?? { op: n.opType, graphs: 0, nodes: 0 };
      subgraphs.set(n.opType, { ...s, graphs: s.graphs + 1, nodes: s.nodes + g.nodes.size });
    }
  }
  const byType = new Map<DType, { dtype: DType; tensors: number; parameters: number; bytes: number }>();
  let parameters = 0;
  let bytes = 0;
  for (const entry of stored(model.graph)) {
    const { tensor: t, readers } = entry;
    const size = t.strings ? t.strings.reduce((n, s) => n + s.byteLength, 0) : t.data.byteLength;
    const elements = parametersOf(entry);
    parameters += elements;
    bytes += size;
    const d = byType.get(t.dtype) ?? { dtype: t.dtype, tensors: 0, parameters: 0, bytes: 0 };
    byType.set(t.dtype, {
      ...d,
      tensors: d.tensors + 1,
      parameters: d.parameters + elements,
      bytes: d.bytes + size,
    });
    const reader = readers[0] && ops.get(key(consumer(readers[0])));
    if (reader) {
      reader.parameters += elements;
      reader.bytes += size;
    }
  }
  const list = [...ops.values()].sort((a, b) => b.bytes - a.bytes || b.count - a.count || (a.op < b.op ? -1 : 1));
  const counted = list.filter((o) => o.macs !== null);
  return {
    producer: [model.producer, message(model)?.producerVersion].filter(Boolean).join(" "),
    irVersion: model.irVersion,
    opsets: Object.fromEntries(model.opsets),
    ...portsOf(model),
    nodes,
    initializers: [...allGraphs(model.graph)].reduce((n, g) => n + g.initializers.size, 0),
    parameters,
    bytes,
    macs: counted.length ? counted.reduce((n, o) => n + o.macs!, 0) : null,
    ops: list,
    dtypes: [...byType.values()].sort((a, b) => b.bytes - a.bytes),
    externalFiles: model.externalFiles,
    subgraphs: [...subgraphs.values()],
    functions: message(model)?.functions.map((f) => (f.domain ? `${f.domain}.${f.name}` : f.name)) ?? [],
  };
}

/** The node a stored tensor is there for: past those that only spell it differently. */
function consumer(node: Node): Node {
  let n = node;
  while (n.domain === "" && spelling.has(n.opType)) {
    const next = n.outputs[0] && onlyReader(n.outputs[0]);
    if (!next) break;
    n = next;
  }
  return n;
}
const spelling = new Set(["DequantizeLinear", "Transpose", "Cast", "Identity"]);

function message(model: Model) {
  return (model.source as ModelSource | undefined)?.message;
}

/** Inputs (without overridable defaults) and outputs. */
export function portsOf(model: Model): Pick<Summary, "inputs" | "outputs"> {
  return { inputs: model.graph.inputs.filter((v) => !v.data).map(port), outputs: model.graph.outputs.map(port) };
}

function port(v: Value): PortSummary {
  return { name: v.name, dtype: v.type?.dtype ?? null, shape: v.type?.shape ?? null };
}
