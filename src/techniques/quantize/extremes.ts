/** Constants that 16 bits cannot hold: which of them only mean "minus infinity" or "no bound", and which are numbers. */
import type { Node, Use, Value } from "../../ir/graph.ts";
import { allGraphs, allNodes, constantOf } from "../../ir/walk.ts";
import { type Half, range, type Survey, survey } from "../../tensor/half.ts";
import { numbersOf, type Tensor, tensor } from "../../tensor/tensor.ts";
import { tensorAttribute } from "./halve.ts";
import { small } from "./sites.ts";

/** A stored float32 tensor: an initializer, or what a Constant or ConstantOfShape holds. */
export interface Constant {
  readonly value: Value;
  readonly tensor: Tensor;
  readonly found: Survey;
}

/** All of them, subgraphs included. */
export function* constants(graph: Parameters<typeof allGraphs>[0], to: Half): Generator<Constant> {
  const of = (value: Value, t: Tensor): Constant[] => (t.dtype === "float32" ? [{ value, tensor: t, found: survey(t, to) }] : []);
  for (const g of allGraphs(graph)) for (const v of g.initializers) yield* of(v, v.data!);
  for (const n of allNodes(graph)) {
    const v = n.outputs[0];
    if (n.domain !== "" || !v) continue;
    if (n.opType === "ConstantOfShape") yield* of(v, tensorAttribute(n));
    else if (n.opType === "Constant") yield* of(v, constantOf(v) ?? tensor("int64", [0], []));
  }
}

/** Whether rounding breaks it: elements beyond the range, or a number (an epsilon) that becomes 0. */
export function isLost({ tensor: t, found }: Constant): boolean {
  return found.beyond > 0 || (found.vanishing > 0 && found.vanishing === found.nonZero && numbersLength(t) <= small);
}

const numbersLength = (t: Tensor) => t.shape.reduce((a, d) => a * d, 1);

/**
 * What a constant beyond the range can become with the same meaning; null: it is a number that counts.
 * - The bounds of a Clip: the largest number.
 * - A mask that a Where puts before a Softmax: the largest number.
 * - A mask that is added before a Softmax: a quarter of it, so that scores and further masks on top do not reach −∞, of which a row full
 *   gives NaN; e^−16376 is 0 in any type.
 */
export function saturation(value: Value, to: Half): number | null {
  if ([...value.uses].every((u) => "node" in u && u.node.opType === "Clip" && u.node.domain === "" && u.index > 0) && value.uses.size > 0)
    return range[to].largest;
  const how = maskUse(value);
  return how && range[to].largest / (how === "added" ? 4 : 1);
}

/** Ops that pass a mask on. */
const passing =
  /^(Mul|Div|Neg|Unsqueeze|Squeeze|Expand|Reshape|Cast|Slice|Concat|Tile|Identity|Transpose|Gather|Trilu|ScatterND|Min|Max|Flatten)$/;
const far = 32;

/** How all that comes of the value reaches a Softmax: put in by a Where, or added; null if something comes elsewhere or unmixed. */
function maskUse(value: Value): "chosen" | "added" | null {
  let added = false;
  // One way that fails ends it all, so that a node that was passed need not be passed again.
  const passed = { true: new Set<Node>(), false: new Set<Node>() };
  const reaches = (use: Use, mixed: boolean, depth: number): boolean => {
    if (!("node" in use) || depth > far) return false;
    const { node } = use;
    const before = passed[`${mixed}`];
    if (before.has(node)) return true;
    before.add(node);
    // What attention in one node takes behind query, key and value is its bias and masks.
    if (node.domain === "com.microsoft" && /Attention$/.test(node.opType) && use.index > 2) return (added = true);
    if (node.domain !== "") return false;
    if (/^(Log)?Softmax$/.test(node.opType)) return mixed;
    if (/^(Add|Sub|Sum)$/.test(node.opType)) added = true;
    else if (node.opType === "Where" ? use.index === 0 : !passing.test(node.opType)) return false;
    return after(node, mixed || /^(Add|Sub|Sum|Where|Max|Min)$/.test(node.opType), depth + 1);
  };
  const after = (node: Node, mixed: boolean, depth: number): boolean => {
    const uses = [...node.outputs.flatMap((o) => [...(o?.uses ?? [])])].filter(
      (u) => !("node" in u) || !/^(Shape|Size)$/.test(u.node.opType),
    );
    return uses.length > 0 && uses.every((u) => reaches(u, mixed, depth));
  };
  const uses = [...value.uses];
  if (uses.length === 0 || !uses.every((u) => reaches(u, false, 0))) return null;
  return added ? "added" : "chosen";
}

/** The tensor with finite magnitudes of at most `largest`, and, if given, of at least `smallest` where they are not 0. */
export function clamped(t: Tensor, largest: number, smallest = 0): Tensor {
  const values = numbersOf(t).map((x) => {
    const a = Math.abs(x);
    if (a > largest && a !== Infinity) return Math.sign(x) * largest;
    return a > 0 && a < smallest ? Math.sign(x) * smallest : x;
  });
  return tensor("float32", t.shape, values);
}
