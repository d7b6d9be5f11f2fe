/** Ways through a graph: order, reachability, what is behind a value. */
import { Fault } from "../tensor/fault.ts";
import { stringTensor, type Tensor, tensor } from "../tensor/tensor.ts";
import type { Graph, Node, Value } from "./graph.ts";

/** Values a node reads: its inputs and whatever its subgraphs take from outside them. */
export function reads(node: Node): Value[] {
  const out = node.inputs.filter((v): v is Value => v !== null);
  for (const g of node.subgraphs) {
    const inner = new Set<Graph>([g]);
    const visit = (graph: Graph) => {
      for (const n of graph.nodes) {
        for (const sub of n.subgraphs) inner.add(sub);
        for (const v of n.inputs) if (v && !inner.has(v.graph)) out.push(v);
        for (const sub of n.subgraphs) visit(sub);
      }
      for (const v of graph.outputs) if (!inner.has(v.graph)) out.push(v);
    };
    visit(g);
  }
  return out;
}

/** The graph's nodes so that every node comes after what it reads; the given order is kept where it already holds. Errors: a cycle. */
export function sorted(graph: Graph): Node[] {
  const state = new Map<Node, 1 | 2>();
  const out: Node[] = [];
  for (const root of graph.nodes) {
    if (state.has(root)) continue;
    const stack: { node: Node; deps: Node[]; next: number }[] = [];
    const push = (node: Node) => {
      state.set(node, 1);
      const deps = reads(node)
        .map((v) => v.producer)
        .filter((n): n is Node => n !== null && n.graph === graph);
      stack.push({ node, deps, next: 0 });
    };
    push(root);
    while (stack.length) {
      const top = stack[stack.length - 1]!;
      const dep = top.deps[top.next++];
      if (!dep) {
        state.set(top.node, 2);
        out.push(top.node);
        stack.pop();
      } else if (!state.has(dep)) push(dep);
      else if (state.get(dep) === 1) throw new Fault(`node "${labelOf(dep)}"`, "is part of a cycle; an ONNX graph has none");
    }
  }
  return out;
}

/** What to call a node in messages: its name, or (many exporters leave it empty) the name of its first output. */
export function labelOf(node: Node): string {
  return node.name || node.outputs.find((o) => o)?.name || node.opType;
}

/** Every node of the graph and of its subgraphs, outer before inner. */
export function* allNodes(graph: Graph): Generator<Node> {
  for (const n of graph.nodes) {
    yield n;
    for (const g of n.subgraphs) yield* allNodes(g);
  }
}

/** The graph and all its subgraphs. */
export function* allGraphs(graph: Graph): Generator<Graph> {
  yield graph;
  for (const n of graph.nodes) for (const g of n.subgraphs) yield* allGraphs(g);
}

/** Remove nodes and initializers that no output needs, in subgraphs too; returns how many nodes went. Graph inputs stay. */
export function removeDead(graph: Graph): number {
  let removed = 0;
  // Backwards, so that whatever only dead nodes and subgraphs read is dead by the time it is reached.
  for (const n of sorted(graph).reverse()) {
    if (n.outputs.every((o) => !o || o.uses.size === 0)) {
      graph.remove(n);
      removed++;
    } else for (const sub of n.subgraphs) removed += removeDead(sub);
  }
  const inputs = new Set(graph.inputs);
  for (const v of [...graph.initializers]) if (v.uses.size === 0 && !inputs.has(v)) graph.initializers.delete(v);
  return removed;
}

/** The tensor of an initializer or of a Constant node's output; null for anything computed. An initializer that is also a graph input counts as constant. */
export function constantOf(value: Value | null | undefined): Tensor | null {
  if (!value) return null;
  if (value.data) return value.data;
  const p = value.producer;
  if (p?.opType !== "Constant" || p.domain !== "") return null;
  for (const [name, a] of p.attrs) {
    if ((name === "value" || name === "sparse_value") && a.type === "tensor") return a.value;
    if (name === "value_int" && a.type === "int") return tensor("int64", [], [a.value]);
    if (name === "value_ints" && a.type === "ints") return tensor("int64", [a.value.length], a.value);
    if (name === "value_float" && a.type === "float") return tensor("float32", [], [a.value]);
    if (name === "value_floats" && a.type === "floats") return tensor("float32", [a.value.length], a.value);
    if (name === "value_string" && a.type === "string") return stringTensor([], [a.value]);
    if (name === "value_strings" && a.type === "strings") return stringTensor([a.value.length], a.value);
  }
  return null;
}

/** The only reader of a value if there is exactly one and it is a node (not a graph output); else null. */
export function onlyReader(value: Value): Node | null {
  if (value.uses.size !== 1) return null;
  const [use] = value.uses;
  return use && "node" in use ? use.node : null;
}

/** The value of that name in this graph (not in subgraphs), or null. */
export function find(graph: Graph, name: string): Value | null {
  for (const v of graph.inputs) if (v.name === name) return v;
  for (const v of graph.initializers) if (v.name === name) return v;
  for (const n of graph.nodes) for (const o of n.outputs) if (o?.name === name) return o;
  return null;
}

/** A tensor that is stored in the model, and the nodes that read it. */
export interface Stored {
  readonly name: string;
  readonly tensor: Tensor;
  readonly readers: readonly Node[];
}

/** Every tensor the model stores: initializers and Constant nodes, subgraphs included, each once. */
export function* stored(graph: Graph): Generator<Stored> {
  const readers = (v: Value) => [...v.uses].flatMap((u) => ("node" in u ? [u.node] : []));
  for (const g of allGraphs(graph)) {
    for (const v of g.initializers) yield { name: v.name, tensor: v.data!, readers: readers(v) };
    for (const n of g.nodes) {
      const v = n.outputs[0];
      const t = n.opType === "Constant" ? constantOf(v) : null;
      if (v && t) yield { name: v.name, tensor: t, readers: readers(v) };
    }
  }
}
