/** A graph rewritten to 16-bit floats: types, attributes and initializers changed, casts put between what stays and what does not. */
import type { Graph, Model, Node, Use, Value } from "../../ir/graph.ts";
import { allGraphs, allNodes, constantOf, removeDead } from "../../ir/walk.ts";
import { dtypes, sizeOf } from "../../tensor/dtype.ts";
import type { Half } from "../../tensor/half.ts";
import { type Tensor, tensor } from "../../tensor/tensor.ts";
import { elementTypes } from "../../transform/elementtypes.ts";
import { dropDefault } from "../../transform/weights.ts";
import { typeAttribute } from "./halfops.ts";
import { type Site, type Sites, small } from "./sites.ts";

export interface HalveOptions {
  readonly to: Half;
  /** The 16-bit form of a stored tensor: an initializer's, or the one a Constant or ConstantOfShape gives as `v`. */
  readonly narrow: (v: Value, t: Tensor) => Tensor;
  /** Whether an initializer that only float32 nodes read is stored in 16 bits all the same, with a Cast behind it. */
  readonly store: (v: Value) => boolean;
}

/** Rewrites the graph as the sites say. Returns the inputs that had a default and are constants now. */
export function halve(model: Model, s: Sites, o: HalveOptions): string[] {
  const dropped: string[] = [];
  // All is read off first: what follows changes the readers.
  const plans = [...s.floats].map((v) => ({ v, home: s.home(v), uses: [...v.uses].map((use) => ({ use, site: s.reader(use) })) }));
  for (const node of allNodes(model.graph)) if (!node.subgraphs.length && s.of(node).half) retype(node, s, o);
  for (const { v, home, uses } of plans) {
    if (home) settle(v, home.half, uses, o.to);
    else if (settleInitializer(v, uses, o)) dropped.push(v.name);
  }
  for (const g of allGraphs(model.graph)) dropNeedless(g, model, o.to);
  return dropped;
}

type Read = { readonly use: Use; readonly site: Site | null };

const read = (use: Use, v: Value) => ("node" in use ? use.node.setInput(use.index, v) : use.graph.setOutput(use.index, v));
const code = (half: boolean, to: Half) => dtypes[half ? to : "float32"].code;
const graphOf = (use: Use) => ("node" in use ? use.node.graph : use.graph);

/** Gives a value its type, and a Cast to the other one for all readers that need that. */
function settle(v: Value, half: boolean, uses: readonly Read[], to: Half): void {
  const out = uses.find(({ use }) => "graph" in use && !use.graph.parent);
  let stored = v;
  let other: Value | null = null;
  if (out && out.site!.half !== half) {
    // The graph's output keeps its name and is the cast one.
    const node = v.producer!;
    stored = v.graph.value(`${v.name}/${half ? to : "float32"}`, v.type);
    node.outputs[node.outputs.indexOf(v)] = stored;
    stored.producer = node;
    const cast = v.graph.append("Cast", [stored], { name: `${v.name}/Cast`, attrs: { to: code(!half, to) }, outputs: [] });
    v.graph.addNodeOutput(cast, v);
    other = v;
  }
  if (half && stored.type) stored.type = { dtype: to, shape: stored.type.shape };
  if (other === v && !half) v.type = { dtype: to, shape: v.type?.shape ?? null };
  connect(stored, other, half, uses, to);
}

/** Readers read the value in the type they need. */
function connect(stored: Value, given: Value | null, half: boolean, uses: readonly Read[], to: Half): void {
  const casts = new Map<Graph, Value>();
  if (given) casts.set(stored.graph, given);
  const cast = (graph: Graph): Value => {
    let c = casts.get(graph);
    if (!c) {
      const name = `${stored.name}/${half ? "float32" : to}`;
      c = graph.append("Cast", [stored], { name: `${stored.name}/Cast`, attrs: { to: code(!half, to) }, outputs: [name] }).outputs[0]!;
      casts.set(graph, c);
    }
    return c;
  };
  for (const { use, site } of uses) {
    if (!site || site.half === half) read(use, stored);
    // What a subgraph gives has to be made in it.
    else read(use, cast("graph" in use ? graphOf(use) : stored.graph));
  }
}

/** Stores an initializer in the type its readers need; true if it was an input with a default. */
function settleInitializer(v: Value, uses: readonly Read[], o: HalveOptions): boolean {
  const needs = new Set(uses.flatMap(({ site }) => (site ? [site.half] : [])));
  const { graph } = v;
  const out = uses.find(({ use }) => "graph" in use && !use.graph.parent);
  if (needs.size === 0) return false;
  if (!needs.has(true) && (out || !o.store(v))) return false;
  const data = o.narrow(v, v.data!);
  if ((out && !out.site!.half) || (needs.size > 1 && sizeOf(data.shape) <= small)) {
    const twin = graph.initializer(`${v.name}/${o.to}`, data);
    for (const { use, site } of uses) if (site?.half) read(use, twin);
    return false;
  }
  const wasDefault = dropDefault(graph, v);
  graph.setData(v, data);
  connect(v, null, true, uses, o.to);
  return wasDefault;
}

/** The attributes of a node that say what it gives. */
function retype(node: Node, s: Sites, { to, narrow }: HalveOptions): void {
  const [first] = node.outputs;
  if (!first || !s.floats.has(first)) return;
  const name = typeAttribute(node);
  if (name && node.int(name) === dtypes.float32.code) node.attrs.set(name, { type: "int", value: dtypes[to].code });
  if (node.domain !== "" || !/^Constant(OfShape)?$/.test(node.opType)) return;
  const filled = node.opType === "Constant" ? constantOf(first)! : tensorAttribute(node);
  node.attrs.clear();
  node.attrs.set("value", { type: "tensor", value: narrow(first, filled) });
}

/** The tensor that a ConstantOfShape is filled with. */
export function tensorAttribute(node: Node): Tensor {
  const a = node.attrs.get("value");
  return a?.type === "tensor" ? a.value : tensor("float32", [1], [0]);
}

/** Casts from 16 bits alone, and to them: those between equal types go, one behind another that loses nothing reads what that one does, and two of one value become one. */
function dropNeedless(graph: Graph, model: Model, half: Half): void {
  const types = elementTypes(model);
  const wide = (from: string | null | undefined, to: string | null | undefined) => from === half && (to === "float32" || to === "float64");
  for (const n of graph.nodes) {
    if (n.opType !== "Cast" || n.domain !== "") continue;
    const before = n.inputs[0]?.producer;
    if (before?.opType !== "Cast" || before.domain !== "" || !wide(types.get(before.inputs[0]!), types.get(n.inputs[0]!))) continue;
    n.setInput(0, before.inputs[0]!);
  }
  for (const n of [...graph.nodes]) {
    if (n.opType !== "Cast" || n.domain !== "") continue;
    const [x, y] = [n.inputs[0]!, n.outputs[0]!];
    const isOutput = [...y.uses].some((u) => "graph" in u);
    if (types.get(x) !== half || types.get(y) !== half || isOutput) continue;
    y.replaceUses(x);
    graph.remove(n);
  }
  const first = new Map<Value, Map<number, Value>>();
  for (const n of [...graph.nodes]) {
    const [x, y, to] = [n.inputs[0], n.outputs[0], n.int("to")];
    if (n.opType !== "Cast" || n.domain !== "" || !x || !y || to === undefined) continue;
    if (types.get(x) !== half && to !== dtypes[half].code) continue;
    const same = first.get(x)?.get(to);
    if (!same) first.set(x, (first.get(x) ?? new Map<number, Value>()).set(to, y));
    else if (![...y.uses].some((u) => "graph" in u)) {
      y.replaceUses(same);
      graph.remove(n);
    }
  }
  if (!graph.parent) removeDead(graph);
}
