/** Invariants of a graph, checked after every step: what is said of links, names and order really holds. */
import { byteLengthOf, dtypes } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import type { Graph, Model, Value } from "./graph.ts";
import { allGraphs, labelOf, sorted } from "./walk.ts";

/** Throws a Fault that names the first broken invariant. */
export function check(model: Model): void {
  for (const g of allGraphs(model.graph)) checkGraph(g);
  for (const n of model.graph.nodes) {
    if (!model.opsets.has(n.domain))
      throw new Fault(`node "${labelOf(n)}"`, `its domain "${n.domain}" is not among the model's opset imports`);
  }
}

function checkGraph(graph: Graph): void {
  const where = `graph "${graph.name}"`;
  const defined = new Map<string, Value>();
  const define = (v: Value) => {
    const other = defined.get(v.name);
    if (other && other !== v) throw new Fault(where, `two values are named "${v.name}"`);
    defined.set(v.name, v);
    if (v.graph !== graph) throw new Fault(where, `value "${v.name}" belongs to another graph`);
  };
  for (const v of graph.inputs) define(v);
  for (const v of graph.initializers) {
    define(v);
    if (!v.data) throw new Fault(where, `initializer "${v.name}" has no data`);
    if (v.producer) throw new Fault(where, `initializer "${v.name}" is also computed by node "${v.producer.name}"`);
    const t = v.data;
    if (dtypes[t.dtype].bits && t.data.byteLength !== byteLengthOf(t.dtype, t.shape)) {
      throw new Fault(
        where,
        `initializer "${v.name}" has ${t.data.byteLength} bytes; ${t.dtype}[${t.shape}] takes ${byteLengthOf(t.dtype, t.shape)}`,
      );
    }
  }
  for (const n of graph.nodes) {
    if (n.graph !== graph) throw new Fault(where, `node "${n.name}" belongs to another graph`);
    for (const o of n.outputs) {
      if (!o) continue;
      define(o);
      if (o.producer !== n) throw new Fault(where, `"${o.name}" does not know node "${n.name}" as its producer`);
    }
  }
  const known = (v: Value) => (v.producer ? v.graph.nodes.has(v.producer) : v.data !== null || v.graph.inputs.includes(v));
  for (const n of graph.nodes) {
    n.inputs.forEach((v, i) => {
      if (!v) return;
      if (!known(v)) throw new Fault(`node "${labelOf(n)}"`, `reads "${v.name}", which nothing computes`);
      if (![...v.uses].some((u) => "node" in u && u.node === n && u.index === i)) {
        throw new Fault(`node "${labelOf(n)}"`, `"${v.name}" does not know it is read here`);
      }
    });
  }
  graph.outputs.forEach((v, i) => {
    if (!known(v)) throw new Fault(where, `output "${v.name}" is computed by nothing`);
    if (![...v.uses].some((u) => "graph" in u && u.graph === graph && u.index === i))
      throw new Fault(where, `output "${v.name}" is not linked`);
  });
  sorted(graph);
}
