/** Which initializers are the weights of which nodes: what every technique starts from. */
import type { Graph, Model, Node, Value } from "../ir/graph.ts";
import { matcher, namesOf, type Selector } from "../ir/select.ts";
import { allGraphs, allNodes, constantOf, labelOf } from "../ir/walk.ts";
import { opOf } from "../ops/index.ts";
import { type DType, dtypeOfCode, isFloat, sizeOf } from "../tensor/dtype.ts";
import { integersOf, numbersOf, reshape, type Tensor, tensor } from "../tensor/tensor.ts";
import { transpose } from "../tensor/transpose.ts";

/** One node that uses a weight, and the nodes between (outermost first) that only spell it differently: Transpose, Cast, Identity, Reshape, DequantizeLinear. */
export interface WeightUse {
  readonly node: Node;
  readonly input: number;
  readonly through: readonly Node[];
}

/** An initializer and all nodes whose weight it is: one entry however many share it, so that a change serves all alike. */
export interface Weight {
  readonly value: Value;
  readonly uses: readonly WeightUse[];
}

export interface WeightOptions {
  /** Only nodes this matches (by node name, weight name or op type); default all. */
  readonly include?: Selector;
  /** Not nodes this matches. */
  readonly exclude?: Selector;
}

const seenThrough = new Set(["Transpose", "Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "DequantizeLinear"]);

/** The initializer that an input of a node comes from by another spelling alone, integers that are dequantized included; null: it is computed. */
export function storedBehind(node: Node, input: number): { readonly value: Value | null; readonly through: readonly Node[] } {
  const through: Node[] = [];
  let v = node.inputs[input];
  while (v && !v.data && v.producer && v.producer.domain === "" && seenThrough.has(v.producer.opType)) {
    through.push(v.producer);
    v = v.producer.inputs[0];
  }
  return { value: v?.data ? v : null, through };
}

/**
 * The float weights of Conv, Gemm, MatMul … (ops that declare `weight`), subgraphs included, in graph order. Weights in Constant nodes
 * are found once they are lifted. Each weight is listed with those of its nodes that are selected.
 */
export function weightsOf(model: Model, options: WeightOptions = {}): Weight[] {
  const include = options.include ? matcher(options.include) : () => true;
  const exclude = options.exclude ? matcher(options.exclude) : () => false;
  const found = new Map<Value, WeightUse[]>();
  for (const node of allNodes(model.graph)) {
    const input = opOf(node)?.weight?.input;
    if (input === undefined) continue;
    const { value: v, through } = storedBehind(node, input);
    if (!v || !isFloat(v.data!.dtype)) continue;
    const names = [...namesOf(node), v.name];
    if (!include(names, node.opType) || exclude(names, node.opType)) continue;
    const uses = found.get(v);
    if (uses) uses.push({ node, input, through });
    else found.set(v, [{ node, input, through }]);
  }
  return [...found].map(([value, uses]) => ({ value, uses }));
}

/** Whether a node reads a matrix transposed, counting the Transposes between; null where anything but those and Identity lies between. */
export function transposed({ through }: WeightUse): boolean | null {
  let odd = false;
  for (const n of through) {
    if (n.opType === "Transpose" && `${n.ints("perm") ?? "1,0"}` === "1,0") odd = !odd;
    else if (n.opType !== "Identity") return null;
  }
  return odd;
}

/** Whatever reads a weight beside the given uses of it, in words; null: nothing. */
export function otherReader({ value, uses }: Weight): string | null {
  const own = new Map(uses.map((u) => [u.node, u.input]));
  const between = new Set(uses.flatMap((u) => u.through));
  const look = (v: Value): string | null => {
    for (const use of v.uses) {
      if (!("node" in use)) return "an output of the graph";
      if (between.has(use.node)) {
        const found = look(use.node.outputs[0]!);
        if (found) return found;
      } else if (own.get(use.node) !== use.index) return `node "${labelOf(use.node)}"`;
    }
    return null;
  };
  return look(value);
}

/**
 * The weight as a node sees it, after the Transpose, Cast, Identity, Reshape, Squeeze and Unsqueeze between; null where one of those
 * depends on what is only known at run time, or is a DequantizeLinear.
 */
export function weightSeenBy(use: WeightUse, value: Pick<Value, "data">): Tensor | null {
  let t = value.data;
  for (const n of [...use.through].reverse()) t = t && through(n, t);
  return t;
}

function through(node: Node, t: Tensor): Tensor | null {
  const axes = () => node.ints("axes") ?? (constantOf(node.inputs[1]) ? integersOf(constantOf(node.inputs[1])!) : null);
  switch (node.opType) {
    case "Identity":
      return t;
    case "Transpose":
      return transpose(t, node.ints("perm"));
    case "Cast": {
      const to: DType | null = dtypeOfCode(node.int("to") ?? 0);
      return to && isFloat(to) && isFloat(t.dtype) ? tensor(to, t.shape, numbersOf(t)) : null;
    }
    case "Reshape": {
      const c = constantOf(node.inputs[1]);
      if (!c) return null;
      const wanted = integersOf(c).map((d, i) => (d === 0 && !node.int("allowzero") ? (t.shape[i] ?? 0) : d));
      const known = wanted.reduce((a, d) => (d < 0 ? a : a * d), 1);
      const shape = wanted.map((d) => (d < 0 ? sizeOf(t.shape) / known : d));
      return reshape(t, shape);
    }
    case "Squeeze": {
      const given = axes()?.map((a) => (a < 0 ? a + t.shape.length : a));
      return reshape(
        t,
        t.shape.filter((d, i) => (given ? !given.includes(i) : d !== 1)),
      );
    }
    case "Unsqueeze": {
      const given = axes();
      if (!given) return null;
      const ndim = t.shape.length + given.length;
      const at = new Set(given.map((a) => (a < 0 ? a + ndim : a)));
      const rest = [...t.shape];
      return reshape(
        t,
        Array.from({ length: ndim }, (_, i) => (at.has(i) ? 1 : rest.shift()!)),
      );
    }
    default:
      return null;
  }
}

/**
 * The graph that owns an initializer stays its owner; one that was also a graph input (an overridable default) stops being one, because a
 * caller who overrides it would undo the change. Returns true if it was.
 */
export function dropDefault(graph: Graph, value: Value): boolean {
  const at = graph.inputs.indexOf(value);
  if (at < 0) return false;
  graph.inputs.splice(at, 1);
  return true;
}

/**
 * Makes the model's IR version at least `version`. Before 4 every initializer had to be an input too and none could be overridden; since
 * then one that is an input is an overridable default, so that crossing 4 takes them out of the inputs: the model computes what it did.
 */
export function raiseIrVersion(model: Model, version: number): void {
  if (model.irVersion < 4 && version >= 4) {
    for (const g of allGraphs(model.graph)) {
      for (const v of [...g.inputs]) if (v.data) dropDefault(g, v);
    }
  }
  model.irVersion = Math.max(model.irVersion, version);
}
