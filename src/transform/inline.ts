/** Model-local functions put in place of their calls. */
import type { AttributeProto, FunctionProto, NodeProto } from "onnx-buf";
import { type Attr, cloneModel, Graph, type Model, Node, type Value } from "../ir/graph.ts";
import { allNodes, labelOf, sorted } from "../ir/walk.ts";
import { domainOf, dropFunctions, functionsOf, readDefaults, readFunction } from "../onnx/read.ts";
import { Fault } from "../tensor/fault.ts";
import { upgrade } from "./upgrade.ts";

/** Bounds on what calls in calls may come to. */
const mostNodes = 2 ** 20;
const deepest = 500;

/**
 * Replaces every call of a model-local function, in subgraphs and in other functions too, by the function's nodes, and drops the functions.
 * Outputs keep their names; new ones are unique. Where a function imports another opset of the default domain than the model, the lower
 * of the two is upgraded. Returns how often each function was put in place.
 * Errors, which leave the model as it was: a function that calls itself, one of another version of a domain that is not the default one, an op that has no upgrade.
 */
export function inlineFunctions(model: Model): Map<string, number> {
  const functions: Functions = new Map(functionsOf(model).map((f) => [keyOf(f.domain, f.name, f.overload), f]));
  if (functions.size === 0) return new Map();
  expectBounded(model, functions);
  // A Fault halfway must not leave the model half changed.
  inlineAll(cloneModel(model), functions);
  return inlineAll(model, functions);
}

type Functions = ReadonlyMap<string, FunctionProto>;

function inlineAll(model: Model, functions: Functions): Map<string, number> {
  const done = new Map<string, number>();
  const opset = mergedOpsets(model, reached(model, functions));
  if (model.opsets.has("")) upgrade(model, opset);
  const calls = [...allNodes(model.graph)].filter((n) => functions.has(keyOfCall(n)));
  for (let node = calls.pop(); node; node = calls.pop()) {
    const f = functions.get(keyOfCall(node))!;
    for (const n of expand(model, node, f, opset)) if (functions.has(keyOfCall(n))) calls.push(n);
    done.set(f.name, (done.get(f.name) ?? 0) + 1);
  }
  dropFunctions(model);
  const used = new Set([...allNodes(model.graph)].map((n) => n.domain));
  for (const f of functions.values()) {
    const domain = domainOf(f.domain);
    if (domain !== "" && !used.has(domain)) model.opsets.delete(domain);
  }
  return done;
}

const keyOf = (domain: string, name: string, overload: string) => JSON.stringify([domainOf(domain), name, overload]);
const keyOfCall = (node: Node) => keyOf(node.domain, node.opType, (node.source as NodeProto | undefined)?.overload ?? "");

/** Refuses functions that call themselves, and calls in calls that come to too much, before anything is made. */
function expectBounded(model: Model, functions: Functions): void {
  const sizes = new Map<FunctionProto, number>();
  const sizeOf = (nodes: Iterable<Node>, inside: readonly FunctionProto[]): number => {
    let size = 0;
    for (const n of nodes) {
      const f = functions.get(keyOfCall(n));
      if (!f) {
        size++;
        continue;
      }
      const where = `function "${f.name}"`;
      if (inside.includes(f)) throw new Fault(where, "calls itself, which ONNX does not allow");
      if (inside.length === deepest) throw new Fault(where, `is called at a depth of more than ${deepest}`);
      let own = sizes.get(f);
      if (own === undefined) sizes.set(f, (own = sizeOf(allNodes(readFunction(f)), [...inside, f])));
      size += own;
      if (size > mostNodes) throw new Fault(where, `its calls in calls make more than ${mostNodes} nodes`);
    }
    return size;
  };
  sizeOf(allNodes(model.graph), []);
}

/** The functions that are called, by the graph or by one that is. */
function reached(model: Model, functions: Functions): Set<FunctionProto> {
  const out = new Set<FunctionProto>();
  const visit = (graph: Graph) => {
    for (const n of allNodes(graph)) {
      const f = functions.get(keyOfCall(n));
      if (f) out.add(f);
    }
  };
  visit(model.graph);
  // The set grows while it is walked through.
  for (const f of out) visit(readFunction(f));
  return out;
}

/** Adds what the functions import to the model's imports; the highest opset of the default domain is the result. */
function mergedOpsets(model: Model, functions: Iterable<FunctionProto>): number {
  let opset = model.opsets.get("") ?? 0;
  for (const f of functions) {
    for (const o of f.opsetImport) {
      const domain = domainOf(o.domain);
      const version = Number(o.version);
      const have = model.opsets.get(domain);
      if (domain === "") opset = Math.max(opset, version);
      else if (have !== undefined && have !== version)
        throw new Fault(`function "${f.name}"`, `imports version ${version} of "${domain}", and the model version ${have}`);
      else model.opsets.set(domain, version);
    }
  }
  if (!model.opsets.has("") && opset > 0) model.opsets.set("", opset);
  return opset;
}

/** The function's nodes in the place of one call; returns them, those inside subgraphs included. */
function expand(model: Model, call: Node, f: FunctionProto, opset: number): Node[] {
  const { graph } = call;
  const where = `node "${labelOf(call)}"`;
  if (call.inputs.length > f.input.length || call.outputs.length > f.output.length)
    throw new Fault(
      where,
      `gives ${call.inputs.length} inputs to "${f.name}" for ${call.outputs.length} outputs; it takes ${f.input.length} for ${f.output.length}`,
    );
  const body = readFunction(f);
  const prefix = labelOf(call);
  const attrs = readDefaults(f);
  for (const [name, a] of call.attrs) attrs.set(name, a);
  substitute(body, attrs, (a) => !isGraph(a));
  const own = f.opsetImport.find((o) => domainOf(o.domain) === "");
  if (own && Number(own.version) < opset)
    upgrade({ ...model, graph: body, opsets: new Map([["", Number(own.version)]]), source: undefined }, opset);
  // The caller's graphs have the model's opset already, and read the caller's values.
  substitute(body, attrs, isGraph);

  const values = new Map<Value, Value | null>();
  for (const [i, v] of body.inputs.entries()) values.set(v, call.inputs[i] ?? null);
  // The call's outputs become outputs of the nodes that compute them, so that their names stay.
  const results = [...call.outputs];
  const passed: [from: Value, to: Value][] = [];
  body.outputs.forEach((v, i) => {
    const to = results[i];
    if (!to) return;
    if (v.producer && !values.has(v)) values.set(v, to);
    else passed.push([v, to]);
  });
  call.outputs.splice(0);
  for (const r of results) if (r) r.producer = null;
  const nodes = copyNodes(body, graph, values, prefix);
  for (const [from, to] of passed) {
    const v = values.get(from);
    if (!v) throw new Fault(where, `takes the output "${from.name}" of "${f.name}", which is not computed without all its inputs`);
    const identity = new Node(graph, graph.fresh(`${prefix}/Identity`), "Identity", "", new Map());
    identity.setInput(0, v);
    graph.addNodeOutput(identity, to);
    graph.nodes.add(identity);
  }
  graph.remove(call);
  return nodes;
}

const isGraph = (a: Attr | undefined) => a?.type === "graph" || a?.type === "graphs";

/** Puts the caller's attributes, or the function's defaults, where nodes refer to them (those that `which` takes); what neither has is left out. */
function substitute(body: Graph, attrs: ReadonlyMap<string, Attr>, which: (a: Attr | undefined) => boolean): void {
  for (const node of allNodes(body)) {
    for (const [name, a] of node.attrs) {
      const ref = a.type === "opaque" ? (a.source as AttributeProto).refAttrName : "";
      const value = attrs.get(ref);
      if (!ref || !which(value)) continue;
      if (value) node.attrs.set(name, value);
      else node.attrs.delete(name);
    }
  }
}

/**
 * Copies a graph's initializers and nodes into another graph under new names. `values` takes old values to new ones (null: an input that
 * the caller omits) and holds the inputs beforehand; values that it does not know and that are not the graph's own stay as they are.
 */
export function copyNodes(from: Graph, to: Graph, values: Map<Value, Value | null>, prefix: string): Node[] {
  const made: Node[] = [];
  const name = (wish: string) => to.fresh(`${prefix}/${wish}`);
  for (const v of from.initializers) values.set(v, to.initializer(`${prefix}/${v.name}`, v.data!));
  const copyOf = (v: Value): Value | null => {
    const have = values.get(v);
    if (have !== undefined) return have;
    if (v.graph !== from) return v;
    if (!v.producer) throw new Fault(`function at "${prefix}"`, `reads "${v.name}", which nothing computes`);
    const copy = to.value(`${prefix}/${v.name}`);
    values.set(v, copy);
    return copy;
  };
  for (const n of sorted(from)) {
    const attrs = new Map<string, Attr>();
    const node = new Node(to, name(n.name || n.opType), n.opType, n.domain, attrs);
    node.source = n.source;
    made.push(node);
    n.inputs.forEach((v, i) => {
      node.setInput(i, v && copyOf(v));
    });
    for (const o of n.outputs) to.addNodeOutput(node, o && copyOf(o));
    to.nodes.add(node);
    const subgraph = (g: Graph): Graph => {
      const copy = new Graph(g.name, to);
      for (const v of g.inputs) {
        const input = copy.value(`${prefix}/${v.name}`, v.type);
        values.set(v, input);
        copy.inputs.push(input);
      }
      made.push(...copyNodes(g, copy, values, prefix));
      for (const o of g.outputs) {
        const v = values.has(o) ? values.get(o) : o;
        if (!v) throw new Fault(`function at "${prefix}"`, `needs its input "${o.name}", which the call leaves out`);
        copy.addOutput(v);
      }
      return copy;
    };
    for (const [k, a] of n.attrs) {
      if (a.type === "graph") attrs.set(k, { type: "graph", value: subgraph(a.value) });
      else if (a.type === "graphs") attrs.set(k, { type: "graphs", value: a.value.map(subgraph) });
      else attrs.set(k, a);
    }
  }
  return made;
}
