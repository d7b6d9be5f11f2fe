/** Which initializers are the weights of which nodes: what every technique starts from. */
import type { Graph, Model, Node, Value } from "../ir/graph.ts";
import { matcher, namesOf, type Selector } from "../ir/select.ts";
import { allNodes } from "../ir/walk.ts";
import { opOf } from "../ops/index.ts";
import { isFloat } from "../tensor/dtype.ts";

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
    const through: Node[] = [];
    let v = node.inputs[input];
    while (v && !v.data && v.producer && v.producer.domain === "" && seenThrough.has(v.producer.opType)) {
      through.push(v.producer);
      v = v.producer.inputs[0];
    }
    if (!v?.data || !isFloat(v.data.dtype)) continue;
    const names = [...namesOf(node), v.name];
    if (!include(names, node.opType) || exclude(names, node.opType)) continue;
    const uses = found.get(v);
    if (uses) uses.push({ node, input, through });
    else found.set(v, [{ node, input, through }]);
  }
  return [...found].map(([value, uses]) => ({ value, uses }));
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
