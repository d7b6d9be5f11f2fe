/** The largest magnitudes that pass through a graph on data, inside sums too: what 16 bits could not hold. */
import type { Dataset } from "../../data/dataset.ts";
import { cloneModel, type Graph, type Model, type Node, type Value } from "../../ir/graph.ts";
import { allGraphs, allNodes, sorted } from "../../ir/walk.ts";
import { Build } from "../../ops/build.ts";
import { type Observer, observe } from "../../runtime/observe.ts";
import { type DType, dtypes } from "../../tensor/dtype.ts";
import { survey } from "../../tensor/half.ts";
import { numbersOf, tensor } from "../../tensor/tensor.ts";
import { elementTypes } from "../../transform/elementtypes.ts";
import { upgrade } from "../../transform/upgrade.ts";

/** What is looked for: the largest finite magnitude of each value, or how many of its elements are infinite or NaN. */
export type Sought = "largest" | "strange";

export interface Scan {
  /** By value name. */
  readonly values: ReadonlyMap<string, number>;
  /** With `sums`: by the first output of a node that sums, the largest sum of magnitudes, which no order of summation passes. */
  readonly sums: ReadonlyMap<string, number>;
  /** Whether some values lie where none can be watched (inside a Loop or Scan). */
  readonly partial: boolean;
}

export interface ScanOptions {
  readonly threads: number;
  readonly sums?: boolean;
  readonly progress?: (done: number, of: number) => void;
}

const kinds: Readonly<Record<Sought, Observer<number>>> = {
  largest: { init: () => 0, update: (s, x) => Math.max(s, numbersOf(x)[0]!) },
  strange: { init: () => 0, update: (s, x) => s + numbersOf(x)[0]! },
};

/** Ops that only move elements: what comes out is no larger than what went in. */
const moving =
  /^(Reshape|Transpose|Squeeze|Unsqueeze|Flatten|Identity|Slice|Split|Gather|GatherElements|GatherND|Concat|Expand|Tile|DepthToSpace|SpaceToDepth|Dropout)$/;

/**
 * Runs the model over the data and looks at every float value: the runtime takes the maxima, one number comes out of each. Errors: data that
 * does not fit, a model the runtime refuses, one below opset 9 that cannot be raised to it.
 */
export async function scan(model: Model, data: Dataset, sought: Sought, o: ScanOptions): Promise<Scan> {
  const probe = cloneModel(model);
  upgrade(probe, Math.max(9, probe.opsets.get("") ?? 9));
  const types = elementTypes(probe);
  const wanted = (v: Value | null): v is Value => v !== null && /^(b?float16|float32)$/.test(types.get(v) ?? "");
  const nodes = [...allNodes(probe.graph)];
  const watchable = nodes.filter((n) => seenInto(n.graph));
  const b = builder(probe);
  // Built after all is listed, so that none of the scan's own values is among them.
  const summing = o.sums ? watchable.flatMap((n) => sumsOf(n, types, b)) : [];
  const moves = (n: Node) => sought === "largest" && n.domain === "" && moving.test(n.opType) && n.inputs.some(wanted);
  const moved = [...allGraphs(probe.graph)].flatMap((g) => (seenInto(g) ? sorted(g).filter(moves) : []));
  const inside = new Set(moved.flatMap((n) => n.outputs));
  const values = [...probe.graph.inputs, ...watchable.flatMap((n) => n.outputs)].filter(
    (v) => wanted(v) && !v.data && !inside.has(v),
  ) as Value[];
  const watched = new Map<Value, { readonly of: string; readonly sum: boolean }>();
  for (const v of values) watched.set(reduced(b(v.graph), v, types.get(v)!, sought), { of: v.name, sum: false });
  for (const { node, sum } of summing)
    watched.set(reduced(b(sum.graph), sum, "float32", sought), { of: node.outputs.find((v) => v)!.name, sum: true });
  const { threads, progress } = o;
  const options = { threads, batchSize: 8, optimization: "disabled" as const, ...(progress ? { progress } : {}) };
  const found = await observe(probe, watched.keys(), data, kinds[sought], options);
  const seen = new Map<string, number>();
  const sums = new Map<string, number>();
  for (const [v, { of, sum }] of watched) {
    const x = found.get(v);
    if (x !== undefined) (sum ? sums : seen).set(of, x);
  }
  const largest = (v: Value) => seen.get(v.name) ?? (v.data?.dtype === "float32" ? survey(v.data, "float16").largest : 0);
  for (const n of moved) {
    const most = Math.max(0, ...n.inputs.filter(wanted).map(largest));
    for (const v of n.outputs) if (wanted(v)) seen.set(v.name, most);
  }
  return { values: seen, sums, partial: watchable.length < nodes.length };
}

function builder(model: Model): (graph: Graph) => Build {
  const builds = new Map<Graph, Build>();
  return (graph) => {
    let b = builds.get(graph);
    if (!b) builds.set(graph, (b = new Build(graph, model.opsets.get("") ?? 1, "scan")));
    return b;
  };
}

/** The top graph and the branches of Ifs. */
function seenInto(graph: Graph): boolean {
  if (!graph.parent) return true;
  const holder = [...graph.parent.nodes].find((n) => n.subgraphs.includes(graph));
  return holder?.opType === "If" && holder.domain === "" && seenInto(graph.parent);
}

/** One number: the largest finite |x|, or how many elements are not finite; of an empty tensor 0. */
function reduced(b: Build, x: Value, dtype: DType, sought: Sought): Value {
  const wide = dtype === "float32" ? x : b.op("Cast", [x], { to: dtypes.float32.code });
  const flat = b.op("Abs", [b.op("Reshape", [wide, b.i64([-1])])]);
  const finite = b.op("Less", [flat, b.f32(Infinity)]);
  // One more element, so that there is always one.
  const withZero = (v: Value) => b.op("Concat", [v, b.constant(tensor("float32", [1], [0]))], { axis: 0 });
  if (sought === "largest") return b.reduce("ReduceMax", withZero(b.op("Where", [finite, flat, b.f32(0)])), [0], true);
  return b.sum(withZero(b.op("Cast", [b.op("Not", [finite])], { to: dtypes.float32.code })), [0], true);
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
