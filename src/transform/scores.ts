/** What a model's output is before it becomes probabilities. */
import type { Node, Value } from "../ir/graph.ts";
import type { Build } from "../ops/build.ts";
import { dtypeOfCode, isFloat } from "../tensor/dtype.ts";

export interface Scores {
  /** Of the output's shape. */
  readonly value: Value;
  /** What makes probabilities of it; null: nothing does, the output itself is given. */
  readonly squash: "Softmax" | "Sigmoid" | null;
  /** The axis of the Softmax's classes; null where it is not known. */
  readonly axis: number | null;
}

const movers = new Set(["Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"]);
const moves = (n: Node) => n.domain === "" && (movers.has(n.opType) || (n.opType === "Cast" && isFloat(dtypeOfCode(n.int("to") ?? 1)!)));

/**
 * What goes into the Softmax, LogSoftmax or Sigmoid that `v` comes from. Nodes that only move elements may lie between: they are appended
 * anew, on what goes in. For opset 13 and later, where a Softmax goes along one axis.
 */
export function scoresOf(b: Build, v: Value): Scores {
  const between: Node[] = [];
  let last = v.producer;
  while (last && moves(last)) {
    between.unshift(last);
    last = last.inputs[0]?.producer ?? null;
  }
  if (last?.domain !== "" || !["Softmax", "LogSoftmax", "Sigmoid"].includes(last.opType)) return { value: v, squash: null, axis: null };
  const value = between.reduce(
    (x, { opType, inputs, attrs }) => b.op(opType, [x, ...inputs.slice(1)], Object.fromEntries(attrs)),
    last.inputs[0]!,
  );
  if (last.opType === "Sigmoid") return { value, squash: "Sigmoid", axis: null };
  return { value, squash: "Softmax", axis: between.length === 0 ? (last.int("axis") ?? -1) : flattened(last, between) };
}

/** The first of the axes that a Softmax before opset 13 flattened, as upgrade() writes it: Flatten, Softmax, Reshape to what it was. */
function flattened(softmax: Node, between: readonly Node[]): number | null {
  const [x, back] = [softmax.inputs[0]!.producer, between[0]!.inputs[1]?.producer];
  if (between.length !== 1 || x?.opType !== "Flatten" || back?.opType !== "Shape" || back.inputs[0] !== x.inputs[0]) return null;
  return x.int("axis") ?? 1;
}
