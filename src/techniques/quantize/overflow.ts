/** The largest magnitudes that pass through a graph on data, inside sums too: what 16 bits could not hold. */
import type { Dataset } from "../../data/dataset.ts";
import { cloneModel, type Graph, type Model, type Node, type Value } from "../../ir/graph.ts";
import { allNodes } from "../../ir/walk.ts";
import { Build } from "../../ops/build.ts";
import { type Observer, observe } from "../../runtime/observe.ts";
import { type DType, dtypes, isFloat } from "../../tensor/dtype.ts";
import { valuesOf } from "../../tensor/tensor.ts";
import { elementTypes } from "../../transform/elementtypes.ts";
import { upgrade } from "../../transform/upgrade.ts";

/** What was seen of one value. */
export interface Seen {
  /** Largest finite magnitude. */
  readonly largest: number;
  /** Elements that are infinite or NaN. */
  readonly strange: number;
}

export interface Scan {
  /** By value name. */
  readonly values: ReadonlyMap<string, Seen>;
  /** By the first output of a node that sums: the largest sum of magnitudes, which no order of summation passes. */
  readonly sums: ReadonlyMap<string, number>;
  /** Whether some values lie where none can be watched (inside a Loop or Scan). */
  readonly partial: boolean;
}

export interface ScanOptions {
  readonly threads: number;
  /** Sums inside nodes too. */
  readonly sums: boolean;
  readonly progress?: (done: number, of: number) => void;
}

const merged: Observer<Seen> = {
  init: () => ({ largest: 0, strange: 0 }),
  update(s, x) {
    const [largest, strange] = valuesOf(x) as Float32Array;
    return { largest: Math.max(s.largest, largest!), strange: s.strange + strange! };
  },
};

/**
 * Runs the model over the data and keeps the largest magnitude of every float value: the runtime takes the maxima, two numbers come out of
 * each. Errors: data that does not fit, a model the runtime refuses, one below opset 9 that cannot be raised to it.
 */
export async function scan(model: Model, data: Dataset, o: ScanOptions): Promise<Scan> {
  const probe = cloneModel(model);
  upgrade(probe, Math.max(9, probe.opsets.get("") ?? 9));
  const types = elementTypes(probe);
  const nodes = [...allNodes(probe.graph)].filter((n) => watchable(n.graph));
  const partial = [...allNodes(probe.graph)].length > nodes.length;
  const values = [
    ...probe.graph.inputs.filter((v) => !v.data),
    ...nodes.flatMap((n) => n.outputs.filter((v): v is Value => v !== null)),
  ].filter((v) => isFloat(types.get(v) ?? "int64") && types.get(v) !== "float64");
  const builds = new Map<Graph, Build>();
  const opset = probe.opsets.get("") ?? 1;
  const at = (graph: Graph): Build => {
    let b = builds.get(graph);
    if (!b) builds.set(graph, (b = new Build(graph, opset, "scan")));
    return b;
  };
  const watched = new Map<Value, { value?: string; sum?: string }>();
  // Built after all values are listed, so that none of the scan's own is among them.
  const summing = o.sums ? nodes.flatMap((n) => sumsOf(n, types, at)) : [];
  for (const v of values) watched.set(extremesOf(at(v.graph), v, types.get(v)!), { value: v.name });
  for (const { node, sum } of summing) {
    watched.set(extremesOf(at(sum.graph), sum, "float32"), { sum: node.outputs.find((v) => v)!.name });
  }
  const found = await observe(probe, watched.keys(), data, merged, {
    threads: o.threads,
    batchSize: 8,
    ...(o.progress ? { progress: o.progress } : {}),
  });
  const seen = new Map<string, Seen>();
  const sums = new Map<string, number>();
  for (const [v, s] of found) {
    const { value, sum } = watched.get(v)!;
    if (value !== undefined) seen.set(value, s);
    if (sum !== undefined) sums.set(sum, s.largest);
  }
  return { values: seen, sums, partial };
}

/** The top graph and the branches of Ifs. */
function watchable(graph: Graph): boolean {
  if (!graph.parent) return true;
  const holder = [...graph.parent.nodes].find((n) => n.subgraphs.includes(graph));
  return holder?.opType === "If" && holder.domain === "" && watchable(graph.parent);
}

/** [largest finite |x|, number of elements that are not finite], of empty tensors too. */
function extremesOf(b: Build, x: Value, dtype: DType): Value {
  const wide = dtype === "float32" ? x : b.op("Cast", [x], { to: dtypes.float32.code });
  const flat = b.op("Abs", [b.op("Reshape", [wide, b.i64([-1])])]);
  const finite = b.op("Less", [flat, b.f32(Infinity)]);
  const magnitudes = b.op("Where", [finite, flat, b.f32(0)]);
  const strange = b.op("Cast", [b.op("Not", [finite])], { to: dtypes.float32.code });
  // One more element, so that a maximum of nothing is 0.
  const zero = b.constant({ dtype: "float32", shape: [1], data: new Uint8Array(4) });
  const most = b.reduce("ReduceMax", b.op("Concat", [magnitudes, zero], { axis: 0 }), [0], true);
  const count = b.sum(b.op("Concat", [strange, zero], { axis: 0 }), [0], true);
  return b.op("Concat", [most, count], { axis: 0 });
}

/** Σ|x| over what a node sums: over the same axes, with the same weights. */
function sumsOf(node: Node, types: ReadonlyMap<Value, DType | null>, at: (g: Graph) => Build): { node: Node; sum: Value }[] {
  const [x, w] = node.inputs;
  if (!x || types.get(x) !== "float32" || node.domain !== "") return [];
  const b = at(node.graph);
  const attrs = Object.fromEntries(node.attrs);
  const abs = (v: Value) => b.op("Abs", [v]);
  const again = (opType: string, inputs: readonly (Value | null)[], more: typeof attrs = attrs) => [
    { node, sum: b.op(opType, inputs, more) },
  ];
  switch (node.opType) {
    case "MatMul":
    case "Conv":
    case "ConvTranspose":
      return w && types.get(w) === "float32" ? again(node.opType, [abs(x), abs(w)]) : [];
    case "Gemm":
      return w
        ? again("Gemm", [abs(x), abs(w), b.f32(0)], { ...attrs, alpha: { type: "float", value: Math.abs(node.float("alpha") ?? 1) } })
        : [];
    case "ReduceSum":
    case "ReduceL1":
      return again(node.opType, [abs(x), ...node.inputs.slice(1)]);
    case "ReduceMean":
      return again("ReduceL1", node.inputs);
    case "ReduceL2":
      return again("ReduceSumSquare", node.inputs);
    case "GlobalAveragePool": {
      const count = (v: Value) => b.op("Cast", [b.op("Size", [v])], { to: dtypes.float32.code });
      const mean = b.op("GlobalAveragePool", [abs(x)]);
      return [{ node, sum: b.mul(mean, b.div(count(x), count(mean))) }];
    }
    default:
      return [];
  }
}
