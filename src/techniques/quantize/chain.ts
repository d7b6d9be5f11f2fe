/** Where integers flow: which values are quantized, which ops between quantized layers compute on the codes, and which values share a scale. */
import type { Graph, Node, Use, Value } from "../../ir/graph.ts";
import { constantOf, onlyReader } from "../../ir/walk.ts";
import { floatsOf } from "../../tensor/tensor.ts";
import { inputOf, type Layer, outputOf } from "./layers.ts";

/** Ops ONNX Runtime computes on codes: how many inputs are data (0: all), and whether input and output share a scale. */
const integerOps: Readonly<Record<string, { readonly data: number; readonly shares: boolean }>> = {
  MaxPool: { data: 1, shares: true },
  Reshape: { data: 1, shares: true },
  Flatten: { data: 1, shares: true },
  Transpose: { data: 1, shares: true },
  Squeeze: { data: 1, shares: true },
  Unsqueeze: { data: 1, shares: true },
  Slice: { data: 1, shares: true },
  Add: { data: 2, shares: false },
  Mul: { data: 2, shares: false },
  Concat: { data: 0, shares: false },
  AveragePool: { data: 1, shares: false },
  GlobalAveragePool: { data: 1, shares: false },
};

/** The value a computation ends in, after the Relu or Clip that alone reads it. */
export interface Tail {
  readonly value: Value;
  /** What the absorbed activation lets through. */
  readonly min: number;
  readonly max: number;
  readonly absorbed: readonly Node[];
}

export interface Plan {
  /** Every value to quantize, with the value whose range it takes (itself, or that of a MaxPool's, Reshape's … input). */
  readonly values: ReadonlyMap<Value, Value>;
  /** Values whose producer hands out codes: all their readers get the dequantized ones. */
  readonly whole: ReadonlyMap<Value, Tail>;
  /** The reads that are quantized where a value is not whole. */
  readonly readers: (v: Value) => readonly Use[];
}

/**
 * An op joins the chain if everything it reads comes as codes and somebody who reads it wants codes: the largest set of ops for which
 * that holds. A Conv always hands out codes; a MatMul, a Gemm or an op of the chain if anyone wants them, and the others then read what
 * the codes stand for: the runtime fuses nothing that hands out both codes and floats.
 * Without `chains` only the layers' inputs are quantized (TensorRT places the rest itself).
 */
export function planChain(graph: Graph, layers: readonly Layer[], chains: boolean): Plan {
  const byNode = new Map(layers.map((l) => [l.node, l]));
  const ends = new Map<Node, Tail>();
  for (const l of layers) ends.set(l.node, tailOf(outputOf(l)));
  const ops = new Set<Node>();
  if (chains) {
    for (const n of graph.nodes) {
      if (n.domain !== "" || !integerOps[n.opType] || n.outputs.filter(Boolean).length !== 1) continue;
      ops.add(n);
      ends.set(n, tailOf(n.outputs[0]!));
    }
  }
  const endings = new Map<Value, Node>();
  for (const [n, t] of ends) endings.set(t.value, n);
  const wantsCodes = (u: Use) =>
    "node" in u && ((byNode.has(u.node) && u.index === 0) || (ops.has(u.node) && u.index < dataInputs(u.node)));
  const comesAsCodes = (v: Value) => {
    const from = endings.get(v);
    if (!from) return false;
    return ops.has(from) || byNode.get(from)?.op === "Conv" || (byNode.has(from) && [...v.uses].some(wantsCodes));
  };
  for (let changed = true; changed; ) {
    changed = false;
    for (const n of ops) {
      const inputs = n.inputs.slice(0, dataInputs(n));
      if ([...ends.get(n)!.value.uses].some(wantsCodes) && inputs.every((v) => v && comesAsCodes(v))) continue;
      ops.delete(n);
      changed = true;
    }
  }
  const values = new Map<Value, Value>();
  const whole = new Map<Value, Tail>();
  if (chains) {
    for (const [n, t] of ends) if (byNode.has(n) && comesAsCodes(t.value)) whole.set(t.value, t);
    for (const n of ops) whole.set(ends.get(n)!.value, ends.get(n)!);
  }
  const rangeOf = (v: Value): Value => {
    const from = endings.get(v);
    return from && ops.has(from) && integerOps[from.opType]!.shares && ends.get(from)!.absorbed.length === 0 ? rangeOf(from.inputs[0]!) : v;
  };
  for (const v of [...layers.map(inputOf), ...whole.keys()]) values.set(v, rangeOf(v));
  return { values, whole, readers: (v) => [...v.uses].filter(wantsCodes) };
}

function dataInputs(n: Node): number {
  return integerOps[n.opType]!.data || n.inputs.length;
}

/** Follows a value through the Relus and Clips that alone read it. */
export function tailOf(value: Value): Tail {
  let [min, max, v] = [-Infinity, Infinity, value];
  const absorbed: Node[] = [];
  for (;;) {
    const n = onlyReader(v);
    const bounds = n && n.graph === v.graph && n.inputs[0] === v ? boundsOf(n) : null;
    if (!n || !bounds) return { value: v, min, max, absorbed };
    [min, max] = [Math.min(bounds[1], Math.max(bounds[0], min)), Math.max(bounds[0], Math.min(bounds[1], max))];
    absorbed.push(n);
    v = n.outputs[0]!;
  }
}

/** What a Relu or a Clip with constant bounds lets through; null for other ops. */
function boundsOf(n: Node): [number, number] | null {
  if (n.domain !== "") return null;
  if (n.opType === "Relu") return [0, Infinity];
  if (n.opType !== "Clip") return null;
  const bound = (i: number, name: string, open: number) => {
    const v = n.inputs[i];
    if (!v) return n.float(name) ?? open;
    const t = constantOf(v);
    return t ? (floatsOf(t)[0] ?? null) : null;
  };
  const [lo, hi] = [bound(1, "min", -Infinity), bound(2, "max", Infinity)];
  return lo !== null && hi !== null && lo <= 0 && hi >= 0 ? [lo, hi] : null;
}
