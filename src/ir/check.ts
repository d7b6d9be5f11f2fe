/** Invariants of a graph, checked after every step: what is said of links, names, scopes and order really holds. */
import { byteLengthOf, dtypes, sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import type { Graph, Model, Node, Use, Value } from "./graph.ts";
import { allGraphs, labelOf, sorted } from "./walk.ts";

/** Throws a Fault that names the first broken invariant. Linear in the size of the model. */
export function check(model: Model): void {
  const graphs = new Set<Graph>();
  for (const g of allGraphs(model.graph)) {
    if (graphs.has(g)) throw new Fault(`graph "${g.name}"`, "is held by two attributes; each needs a graph of its own");
    graphs.add(g);
  }
  const reads = new Map<Value, number>();
  for (const g of graphs) {
    for (const v of checkDefinitions(g)) if (!reads.has(v)) reads.set(v, 0);
    for (const n of g.nodes) {
      if (!model.opsets.has(n.domain)) throw new Fault(at(n), `its domain "${n.domain}" is not among the model's opset imports`);
      for (const sub of n.subgraphs) if (sub.parent !== g) throw new Fault(at(n), `holds the graph "${sub.name}", which belongs elsewhere`);
    }
  }
  const inputs = new Map([...graphs].map((g) => [g, new Set(g.inputs)]));
  const checkRead = (v: Value, reader: Graph, where: () => string) => {
    reads.set(v, (reads.get(v) ?? 0) + 1);
    let scope: Graph | null = reader;
    while (scope && scope !== v.graph) scope = scope.parent;
    if (!scope || !graphs.has(scope)) throw new Fault(where(), `reads "${v.name}", which belongs to a graph it cannot see`);
    const computed = v.producer ? v.graph.nodes.has(v.producer) && v.producer.outputs.includes(v) : v.graph.initializers.has(v);
    if (!computed && !inputs.get(scope)!.has(v)) throw new Fault(where(), `reads "${v.name}", which nothing computes`);
  };
  for (const g of graphs) {
    for (const n of g.nodes) for (const v of n.inputs) if (v) checkRead(v, g, () => at(n));
    for (const v of g.outputs) checkRead(v, g, () => `graph "${g.name}"`);
    sorted(g);
  }
  // Every use is a read, and there are as many of one as of the other.
  const holds = (use: Use, v: Value) =>
    "node" in use
      ? use.node.inputs[use.index] === v && use.node.graph.nodes.has(use.node) && graphs.has(use.node.graph)
      : use.graph.outputs[use.index] === v && graphs.has(use.graph);
  for (const [v, count] of reads) {
    for (const use of v.uses) {
      if (holds(use, v)) continue;
      const reader = "node" in use ? at(use.node) : `graph "${use.graph.name}"`;
      throw new Fault(`value "${v.name}"`, `is said to be read by ${reader}, which does not (any more)`);
    }
    if (v.uses.size !== count) throw new Fault(`value "${v.name}"`, `is read ${count} times but knows of ${v.uses.size}`);
  }
}

const at = (n: Node) => `node "${labelOf(n)}"`;

/** Names, owners and data of all values that a graph defines; returns them. */
function checkDefinitions(graph: Graph): Iterable<Value> {
  const where = `graph "${graph.name}"`;
  const defined = new Map<string, Value>();
  const define = (v: Value) => {
    const other = defined.get(v.name);
    if (other && other !== v) throw new Fault(where, `two values are named "${v.name}"`);
    defined.set(v.name, v);
    if (v.graph !== graph) throw new Fault(where, `value "${v.name}" belongs to another graph`);
  };
  for (const v of graph.inputs) {
    define(v);
    if (v.producer) throw new Fault(where, `input "${v.name}" is also computed by ${at(v.producer)}`);
  }
  for (const v of graph.initializers) {
    define(v);
    const t = v.data;
    if (!t) throw new Fault(where, `initializer "${v.name}" has no data`);
    if (v.producer) throw new Fault(where, `initializer "${v.name}" is also computed by ${at(v.producer)}`);
    const have = t.strings ? t.strings.length : t.data.byteLength;
    const need = t.strings || !dtypes[t.dtype].bits ? sizeOf(t.shape) : byteLengthOf(t.dtype, t.shape);
    if (have !== need) {
      throw new Fault(
        where,
        `initializer "${v.name}" has ${have} ${t.strings ? "strings" : "bytes"}; ${t.dtype}[${t.shape}] takes ${need}`,
      );
    }
  }
  for (const n of graph.nodes) {
    if (n.graph !== graph) throw new Fault(where, `${at(n)} belongs to another graph`);
    for (const o of n.outputs) {
      if (!o) continue;
      define(o);
      if (o.data) throw new Fault(where, `"${o.name}" is computed by ${at(n)} and has data too`);
      if (o.producer !== n) throw new Fault(where, `"${o.name}" does not know ${at(n)} as its producer`);
    }
  }
  return defined.values();
}
