/** Residual blocks: what a net adds to its stream, x + f(x), and the net without some of them. */
import { type Graph, type Model, type Node, produce, type Value } from "../ir/graph.ts";
import { constantOf, labelOf, onlyReader, reads, removeDead, sorted } from "../ir/walk.ts";

export interface Block {
  /** The label of the Add. */
  readonly name: string;
  /** What stays where the block is removed: the stream before it, or its projection to another shape. */
  readonly skip: Value;
  /** The stream behind it, which becomes `skip`. */
  readonly output: Value;
  /** The nodes that nothing else needs, in graph order: they go with it. */
  readonly nodes: readonly Node[];
  /** Initializers that only those nodes read. */
  readonly weights: readonly Value[];
  /** It has a Softmax inside. */
  readonly attention: boolean;
}

/** Ops with learned weights: a branch without any is no block, but arithmetic (x·cos + rot(x)·sin, a polynomial of x). */
const learned =
  /^(Conv|ConvTranspose|ConvInteger|Gemm|QGemm|MatMul\w*|QLinear(Conv|MatMul)|LSTM|GRU|RNN|Attention|QAttention|MultiHeadAttention)$/;

/** What a skip may go through on its way around a block: what changes its shape or its type, and further blocks beside this one. */
const onTheWay = new Set(
  "Add AveragePool BatchNormalization Cast Conv DequantizeLinear Dropout Flatten Gemm Identity MatMul MaxPool Pad QuantizeLinear Reshape Resize Slice Squeeze Transpose Unsqueeze".split(
    " ",
  ),
);
const norms = new Set([
  "LayerNormalization",
  "RMSNormalization",
  "SimplifiedLayerNormalization",
  "BatchNormalization",
  "InstanceNormalization",
]);

/**
 * The residual blocks of the top graph, in graph order: an Add of a skip and a branch that both begin at one value, with equal shapes, and
 * learned weights in the branch. Where the skip comes out of a normalization, and the sum goes into one of the same kind and nowhere
 * else (post-norm), that goes with the block, so that without it the stream stays what it was. `shapeOf`: shapes seen in a run.
 */
export function residualBlocks(model: Model, shapeOf: (v: Value) => readonly number[] | null): Block[] {
  const { graph } = model;
  const order = sorted(graph);
  return order.flatMap((node) => {
    if (node.domain !== "" || (node.opType !== "Add" && node.opType !== "Sum") || node.inputs.length !== 2) return [];
    const [a, b] = node.inputs as [Value, Value];
    if (!a || !b || a === b || constantOf(a) || constantOf(b)) return [];
    const found = [blockOf(graph, order, node, a, b, shapeOf), blockOf(graph, order, node, b, a, shapeOf)].filter((f) => f !== null);
    // Where either side could be the skip, the one with more to it is the block.
    return found.sort((x, y) => elements(y) - elements(x)).slice(0, 1);
  });
}

const elements = (block: Block) => block.weights.reduce((n, v) => n + v.data!.shape.reduce((p, d) => p * d, 1), 0);

function blockOf(
  graph: Graph,
  order: readonly Node[],
  add: Node,
  skip: Value,
  branch: Value,
  shapeOf: (v: Value) => readonly number[] | null,
): Block | null {
  const sum = add.outputs[0]!;
  const shape = shapeOf(sum);
  if (!shape || `${shapeOf(skip)}` !== `${shape}` || `${shapeOf(branch)}` !== `${shape}`) return null;
  if (!branch.producer || !shareStem(skip, behind(branch))) return null;
  const inside = onlyFor(order, branch, add);
  if (!inside.some((n) => learned.test(n.opType))) return null;
  const norm = normBehind(sum, skip);
  const all = norm ? [...inside, norm] : inside;
  const nodes = new Set(all);
  const isInside = (v: Value) => [...v.uses].every((u) => "node" in u && nodes.has(u.node));
  const weights = [...graph.initializers].filter((v) => v.uses.size > 0 && isInside(v));
  return {
    name: labelOf(add),
    skip,
    output: norm?.outputs[0] ?? sum,
    nodes: all,
    weights,
    attention: inside.some((n) => n.opType === "Softmax" || n.opType.endsWith("Attention")),
  };
}

/** Everything a value is computed from, itself included. */
function behind(value: Value): Set<Value> {
  const seen = new Set<Value>([value]);
  const stack = [value];
  for (let v = stack.pop(); v; v = stack.pop())
    if (v.producer)
      for (const r of reads(v.producer))
        if (!seen.has(r)) {
          seen.add(r);
          stack.push(r);
        }
  return seen;
}

/** Whether the skip is, or comes straight from, a float value that the branch is computed from. */
function shareStem(skip: Value, branch: ReadonlySet<Value>): boolean {
  const seen = new Set<Value>();
  const look = (v: Value): boolean => {
    if (branch.has(v)) return true;
    const p = v.producer;
    if (!p || seen.has(v) || p.domain !== "" || !onTheWay.has(p.opType)) return false;
    seen.add(v);
    const data = p.opType === "Add" || p.opType === "MatMul" ? p.inputs : p.inputs.slice(0, 1);
    return data.some((i) => i && !constantOf(i) && i.type?.dtype !== "int64" && look(i));
  };
  return look(skip);
}

/** The nodes whose results are for `value` alone, which only `reader` reads; in graph order. */
function onlyFor(order: readonly Node[], value: Value, reader: Node): Node[] {
  const inside = new Set<Node>([reader]);
  const out: Node[] = [];
  for (const n of order.slice(0, order.indexOf(reader)).reverse()) {
    const users = n.outputs.flatMap((v) => (v ? [...v.uses] : []));
    if (n === value.producer ? users.length !== 1 : !users.length || !users.every((u) => "node" in u && holds(inside, u.node))) continue;
    // What the reader reads beside the value stays.
    if (n !== value.producer && users.some((u) => "node" in u && u.node === reader)) continue;
    inside.add(n);
    out.push(n);
  }
  return out.reverse();
}

/** Whether a node, or the one whose subgraph it is in, is among them. */
function holds(nodes: ReadonlySet<Node>, node: Node): boolean {
  if (nodes.has(node)) return true;
  for (const n of nodes) if (n.subgraphs.some((g) => within(node.graph, g))) return true;
  return false;
}

function within(graph: Graph, outer: Graph): boolean {
  for (let g: Graph | null = graph; g; g = g.parent) if (g === outer) return true;
  return false;
}

/** The normalization that is the only reader of the sum, where the skip comes out of one too. */
function normBehind(sum: Value, skip: Value): Node | null {
  const [use] = sum.uses;
  if (sum.uses.size !== 1 || !use || !("node" in use) || use.index !== 0) return null;
  return norms.has(use.node.opType) && use.node.opType === skip.producer?.opType ? use.node : null;
}

/** What follows a layer and belongs to it: biases, normalization, activation. */
const follows = new Set(
  "Add BatchNormalization Celu Clip Dropout Elu Gelu HardSigmoid HardSwish Identity LayerNormalization LeakyRelu Mish Mul PRelu Relu Selu Sigmoid Softplus Tanh".split(
    " ",
  ),
);

/**
 * Layers without a skip whose output has the shape of their input: a node with learned weights, and the bias, normalization and activation that
 * alone read it. Without one its reader gets its input. What lies inside of `residual` blocks is none.
 */
export function plainLayers(model: Model, shapeOf: (v: Value) => readonly number[] | null, residual: readonly Block[]): Block[] {
  const inner = new Set(residual.flatMap((b) => b.nodes));
  return sorted(model.graph).flatMap((node): Block[] => {
    if (!learned.test(node.opType) || inner.has(node)) return [];
    const data = node.inputs.filter((v): v is Value => v !== null && !constantOf(v) && !isWeight(v));
    const skip = data[0];
    if (data.length !== 1 || !skip || data[0]!.type?.dtype === "int64") return [];
    const nodes = [node];
    let output = node.outputs[0]!;
    for (let next = onlyReader(output); next && belongs(next, output); next = onlyReader(output)) {
      nodes.push(next);
      output = next.outputs[0]!;
    }
    if (!shapeOf(output) || `${shapeOf(output)}` !== `${shapeOf(skip)}`) return [];
    const inside = new Set(nodes);
    const weights = [...model.graph.initializers].filter(
      (v) => v.uses.size > 0 && [...v.uses].every((u) => "node" in u && inside.has(u.node)),
    );
    return [{ name: labelOf(node), skip, output, nodes, weights, attention: false }];
  });
}

function belongs(node: Node, output: Value): boolean {
  return node.domain === "" && follows.has(node.opType) && node.inputs.every((v) => !v || v === output || constantOf(v));
}

/** Computed from constants alone: a weight that is stored otherwise than the node reads it. */
function isWeight(v: Value): boolean {
  return v.producer !== null && [...behind(v)].every((b) => b.producer !== null || b.data !== null);
}

/** Takes the blocks out of their model; graph outputs keep their names. */
export function removeBlocks(model: Model, blocks: readonly Block[]): void {
  const now = new Map<Value, Value>();
  for (const { output, skip } of blocks) {
    let by = skip;
    for (let next = now.get(by); next; next = now.get(by)) by = next;
    const outer = [...output.uses].some((u) => !("node" in u));
    output.replaceUses(by, { keepOutputs: true });
    now.set(output, by);
    if (outer) produce(output.graph.append("Identity", [by]), output);
  }
  removeDead(model.graph);
}
