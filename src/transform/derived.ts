/** Values that are computed from constants and sizes alone: shapes for Reshape, ends for Slice, scales like 1/√d. */
import { cloneModel, type Model, type Node, type Value } from "../ir/graph.ts";
import { removeDead, sorted } from "../ir/walk.ts";
import { open, type SessionOptions } from "../runtime/session.ts";
import { type DType, isFloat, sizeOf } from "../tensor/dtype.ts";
import { type Tensor, tensor } from "../tensor/tensor.ts";
import { raiseIrVersion } from "./weights.ts";

/** The type a value has in a sample run. */
export interface Seen {
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** What is larger is no list of sizes, and no scale. */
const most = 64;
const random = /^(Random|Bernoulli|Multinomial|Dropout)/;

/** The nodes that read nothing but constants and sizes, in order; `sized`: those that do read a size. */
export function derivedNodes(model: Model): { nodes: Node[]; sized: ReadonlySet<Node> } {
  const values = new Set<Value>();
  const sized = new Set<Node>();
  const nodes: Node[] = [];
  for (const n of sorted(model.graph)) {
    const shape = (n.opType === "Shape" || n.opType === "Size") && n.domain === "";
    const pure = n.subgraphs.length === 0 && !random.test(n.opType);
    if (!shape && !(pure && n.inputs.every((v) => !v || v.data || values.has(v)))) continue;
    nodes.push(n);
    if (shape || n.inputs.some((v) => v?.producer && sized.has(v.producer))) sized.add(n);
    for (const v of n.outputs) if (v) values.add(v);
  }
  return { nodes, sized };
}

/**
 * The small ones among the values that depend on sizes and constants alone, where values have the types that `typeOf` gives: integers, and floats
 * (scales) that depend on a size and that something reads which does not. By the runtime, in one session, without running the model.
 */
export async function derive(
  model: Model,
  typeOf: (v: Value) => Seen | null,
  options: Pick<SessionOptions, "threads"> = {},
): Promise<Map<Value, Tensor>> {
  const { nodes, sized } = derivedNodes(model);
  const inside = new Set(nodes);
  const leaves = (v: Value) => [...v.uses].some((u) => "node" in u && !inside.has(u.node));
  const wanted = nodes.flatMap((n) =>
    n.outputs.filter((v): v is Value => {
      const type = v && typeOf(v);
      if (!v || !type || sizeOf(type.shape) > most || sizeOf(type.shape) === 0) return false;
      return type.dtype === "int64" || type.dtype === "int32" || (sized.has(n) && leaves(v) && isFloat(type.dtype));
    }),
  );
  const out = new Map<Value, Tensor>();
  if (wanted.length === 0) return out;
  const copies = new Map<Value, Value>();
  const probe = cloneModel(model, copies);
  raiseIrVersion(probe, 4);
  for (const n of nodes) {
    const shape = n.inputs[0] && typeOf(n.inputs[0])?.shape;
    const v = n.outputs[0] && copies.get(n.outputs[0]);
    if (!v || !shape || n.domain !== "" || (n.opType !== "Shape" && n.opType !== "Size")) continue;
    const size = n.opType === "Size" ? null : shape.slice(n.int("start") ?? 0, n.int("end") ?? shape.length);
    const node = v.producer!;
    node.outputs[0] = null;
    v.producer = null;
    probe.graph.setData(v, size ? tensor("int64", [size.length], size) : tensor("int64", [], [sizeOf(shape)]));
    probe.graph.remove(node);
  }
  probe.graph.setOutputs([]);
  for (const v of wanted) {
    const copy = copies.get(v)!;
    if (copy.data) out.set(v, copy.data);
    else probe.graph.addOutput(copy);
  }
  removeDead(probe.graph);
  for (const n of probe.graph.nodes) for (const v of n.outputs) if (v?.type) v.type = { dtype: v.type.dtype, shape: null };
  probe.graph.inputs.splice(0, probe.graph.inputs.length, ...probe.graph.inputs.filter((v) => !v.data && v.uses.size > 0));
  if (probe.graph.outputs.length === 0) return out;
  const session = await open(probe, { ...options, optimization: "disabled", spinning: false });
  try {
    const results = await session.run({});
    for (const v of wanted) {
      const t = results[v.name];
      if (t) out.set(v, t);
    }
  } finally {
    await session.release();
  }
  return out;
}
