/** The rules of all nodes of one model, asked for its axes: terms for every axis, and what else the rules said. */
import type { Graph, Model, Node, Value } from "../ir/graph.ts";
import { allGraphs, allNodes, labelOf, sorted } from "../ir/walk.ts";
import { type Average, type Axes, type Slot, unrelated, type Zero } from "../ops/axes.ts";
import { type Dim, free, freeze, squares, unify } from "../ops/dims.ts";
import { opOf } from "../ops/index.ts";
import { Fault } from "../tensor/fault.ts";
import { integersOf, type Tensor } from "../tensor/tensor.ts";

/** What one node's rule said beside unifying. */
export interface Said {
  readonly node: Node;
  /** Of which values it speaks: the node's outputs, or of an If one of them. */
  readonly gives: readonly (Value | null)[];
  zero: { readonly kind: Zero; readonly from: readonly Value[] };
  readonly sums: { readonly dim: Dim; readonly from: readonly number[] }[];
  readonly averages: { readonly dim: Dim; readonly keep: Average }[];
  readonly inexact: { readonly dim: Dim; readonly why: string }[];
  readonly sizes: { readonly slot: Slot; readonly dim: Dim }[];
  readonly keeps: { readonly attr: string; readonly value: number; readonly dim: Dim }[];
}

export interface Dimensions {
  /** The axes of a value; null: its shape is not known. */
  of(value: Value): readonly Dim[] | null;
  /** In the order of execution. */
  readonly said: readonly Said[];
}

/**
 * @param shapeOf the concrete shape of a value in a sample run
 * @param derived what values computed from sizes were in it; `null`: they vary with the inputs' sizes
 */
export function dimensions(
  model: Model,
  shapeOf: (v: Value) => readonly number[] | null,
  derived: ReadonlyMap<Value, Tensor | null>,
): Dimensions {
  const { graph } = model;
  const known = new Map<Value, readonly Dim[] | null>();
  const of = (v: Value) => {
    let dims = known.get(v);
    if (dims === undefined) {
      dims = shapeOf(v)?.map((n) => free(n)) ?? null;
      known.set(v, dims);
    }
    return dims;
  };
  const hold = (v: Value | null | undefined, why: string) => {
    for (const d of (v && of(v)) ?? []) freeze(d, why);
  };
  for (const v of graph.inputs) if (!v.data) hold(v, `an input of the model ("${v.name}")`);
  for (const v of graph.outputs) hold(v, `an output of the model ("${v.name}")`);
  const said: Said[] = [];
  const opset = model.opsets.get("") ?? 1;
  const branches = (node: Node, name: string) => {
    const made = node.outputs.map((): Value[] => []);
    const forks = node.opType === "If" && node.domain === "";
    const why = `${name} reads or gives it${forks ? " where the sample does not go" : ""}`;
    for (const body of node.subgraphs) {
      if (forks && [...body.nodes].every((n) => n.outputs.every((v) => !v || of(v)))) visit(body);
      else leaveBody(body, why);
      if (!forks) continue;
      body.outputs.forEach((v, i) => {
        const out = node.outputs[i];
        if (!out) return;
        made[i]!.push(v);
        const [a, b] = [of(v), of(out)];
        if (a && b && `${a.map((d) => d.size)}` === `${b.map((d) => d.size)}`) a.forEach((d, k) => void unify(d, b[k]!, why));
        else for (const w of [v, out]) hold(w, why);
      });
    }
    node.outputs.forEach((v, i) => {
      if (v) said.push({ ...silent(node), gives: [v], zero: { kind: "all", from: made[i]! } });
    });
  };
  /** All that is in a body, or that it reads. */
  const leaveBody = (body: Graph, why: string) => {
    for (const n of allNodes(body)) for (const v of [...n.inputs, ...n.outputs]) hold(v, why);
    for (const g of allGraphs(body)) for (const v of g.outputs) hold(v, why);
  };
  const visit = (body: Graph) => {
    for (const node of sorted(body)) {
      const name = `${node.opType} "${labelOf(node)}"`;
      const leave = (why: string) => {
        for (const v of [...node.inputs, ...node.outputs]) hold(v, why);
      };
      if (node.subgraphs.length) {
        if (node.opType !== "If" || node.domain !== "") leave(`${name} reads or gives it`);
        branches(node, name);
        continue;
      }
      const rule = opOf(node)?.axes;
      if (!rule) {
        leave(`no rule for ${name}`);
        continue;
      }
      // What is computed from sizes is followed in the top graph alone.
      if (body !== graph && (node.opType === "Shape" || node.opType === "Size")) hold(node.inputs[0], `${name} counts it inside a branch`);
      const words = silent(node);
      try {
        const asked = new Set<number>();
        rule(axesOf(node, name, opset, of, derived, words, asked));
        said.push(words);
        // What a rule says nothing of (scales, regions, seeds) is no row of channels.
        for (const [i, v] of node.inputs.entries()) if (rule !== unrelated && !asked.has(i)) hold(v, `${name} reads it as a whole`);
      } catch (e) {
        if (!(e instanceof Fault)) throw e;
        leave(`${name}: ${e.message.slice(e.where.length + 2)}`);
      }
      if (body === graph) continue;
      for (const { slot, dim } of words.sizes)
        if ("input" in slot && node.inputs[slot.input] && !node.inputs[slot.input]!.data)
          freeze(dim, `${name} computes its size inside a branch`);
    }
  };
  visit(graph);
  for (const [v, dims] of known) {
    for (const d of dims ?? []) for (const atom of squares(d)) freeze(atom, `"${v.name}" has two of it on one axis`);
  }
  return { of, said };
}

function silent(node: Node): Said {
  return { node, gives: node.outputs, zero: { kind: "none", from: [] }, sums: [], averages: [], inexact: [], sizes: [], keeps: [] };
}

function axesOf(
  node: Node,
  name: string,
  opset: number,
  of: (v: Value) => readonly Dim[] | null,
  derived: ReadonlyMap<Value, Tensor | null>,
  words: Said,
  asked: Set<number>,
): Axes {
  const refuse = (why: string) => new Fault("groups", why);
  const dimsOf = (v: Value | null | undefined, what: string) => {
    if (!v) throw refuse(`${what} is missing`);
    const dims = of(v);
    if (!dims) throw refuse(`the shape of ${what} is not known`);
    return dims;
  };
  const every = node.inputs.flatMap((v, i) => (v ? [i] : []));
  return {
    node,
    opset,
    inputs: node.inputs.length,
    outputs: node.outputs.length,
    has: (i) => !!node.inputs[i],
    gives: (o) => !!node.outputs[o],
    dim: (i) => (node.inputs[i] ? (of(node.inputs[i])?.[0]?.size ?? null) : null),
    input(i) {
      asked.add(i);
      return dimsOf(node.inputs[i], `input ${i}`);
    },
    output: (o) => dimsOf(node.outputs[o], `output ${o}`),
    ints(i) {
      const v = node.inputs[i];
      if (!v) return undefined;
      const t = v.data ?? derived.get(v);
      return t ? integersOf(t) : null;
    },
    unify: (a, b) => unify(a, b, `${name} mixes it with others`),
    freeze,
    sums: (dim, from) => words.sums.push({ dim, from }),
    averages: (dim, keep) => words.averages.push({ dim, keep }),
    inexact: (dim, how) => words.inexact.push({ dim, why: `${name} ${how}` }),
    zero: (kind, from = every) => {
      words.zero = { kind, from: from.flatMap((i) => node.inputs[i] ?? []) };
    },
    size: (slot, dim) => words.sizes.push({ slot, dim }),
    keeps: (attr, value, dim) => words.keeps.push({ attr, value, dim }),
    says: (what) => `${name} ${what}`,
    refuse,
  };
}
