/** LSTM layers in integers: DynamicQuantizeLSTM, the one recurrent kernel ONNX Runtime has. */
import type { Dataset } from "../../data/dataset.ts";
import { cloneModel, type Model, type Node, type Value } from "../../ir/graph.ts";
import { matcher, namesOf, type Selector } from "../../ir/select.ts";
import { allNodes, constantOf } from "../../ir/walk.ts";
import { leave } from "../left.ts";
import { type Coded, type ContribOptions, contribNode } from "./contrib.ts";
import { relativeErrors } from "./error.ts";

export interface RecurrentOptions {
  readonly granularity: "channel" | "tensor";
  readonly reduceRange: boolean;
  /** Largest relative change of a layer's outputs, on the data (of its weights without data). */
  readonly maxError: number;
  readonly threads: number;
}

/** What LSTMs read as weights and biases: exporters often reorder the gates at run time. */
export function recurrentWeights(model: Model): Value[] {
  return [...allNodes(model.graph)].flatMap((n) =>
    n.domain === "" && n.opType === "LSTM" ? n.inputs.slice(1, 4).filter((v) => v !== null) : [],
  );
}

export interface RecurrentFound {
  readonly nodes: readonly Node[];
  /** GRU, RNN, and LSTMs with computed weights: reason → nodes. */
  readonly left: ReadonlyMap<string, readonly Node[]>;
}

/** The recurrent nodes that the selectors name, subgraphs included. */
export function recurrentNodes(model: Model, include: Selector, exclude: Selector): RecurrentFound {
  const [wanted, unwanted] = [matcher(include), exclude.length ? matcher(exclude) : () => false];
  const nodes: Node[] = [];
  const left = new Map<string, Node[]>();
  for (const n of allNodes(model.graph)) {
    if (n.domain !== "" || !["LSTM", "GRU", "RNN"].includes(n.opType)) continue;
    const names = [...namesOf(n), ...n.inputs.slice(1, 3).flatMap((v) => (v ? [v.name] : []))];
    if (!wanted(names, n.opType) || unwanted(names, n.opType)) continue;
    if (n.opType === "LSTM" && [1, 2].every((i) => constantOf(n.inputs[i])?.dtype === "float32")) nodes.push(n);
    else {
      const why = n.opType === "LSTM" ? "its weights are computed at run time" : `ONNX Runtime has no integer kernel for ${n.opType}`;
      left.set(why, [...(left.get(why) ?? []), n]);
    }
  }
  return { nodes, left };
}

/**
 * Replaces LSTMs by DynamicQuantizeLSTM: W and R in int8, inputs and states rounded to uint8 at each step. Those whose outputs would
 * change by more than `maxError` on the data stay, with a reason. Returns those done, with that change.
 */
export async function quantizeRecurrent(
  model: Model,
  nodes: readonly Node[],
  data: Dataset | null,
  o: RecurrentOptions,
  left: Map<string, string[]>,
): Promise<Map<Node, number>> {
  const done = new Map<Node, number>();
  if (nodes.length === 0) return done;
  const errors = data ? await errorsOf(model, nodes, data, o) : new Map<Node, number>();
  const options = contribOptions(o, o.maxError);
  for (const n of nodes) {
    const e = errors.get(n) ?? 0;
    const why = e > o.maxError ? `8 bits would change its output by ${Number((100 * e).toPrecision(2))} %` : contribNode(n, options);
    if (why) leave(left, why, n);
    else done.set(n, e);
  }
  for (const { codes, scale, zeroPoint } of options.have.values())
    for (const v of [codes, scale, zeroPoint]) if (v.uses.size === 0) v.graph.removeInitializer(v);
  return done;
}

function contribOptions(o: RecurrentOptions, maxError: number): ContribOptions {
  const input = () => {
    throw new Error("DynamicQuantizeLSTM rounds its input itself");
  };
  return { weights: "int8", granularity: o.granularity, reduceRange: o.reduceRange, maxError, input, have: new Map<Value, Coded>() };
}

/** ‖y − ŷ‖ / ‖y‖ of each LSTM's first output that is read, for the same inputs; none where it never ran. */
async function errorsOf(model: Model, nodes: readonly Node[], data: Dataset, o: RecurrentOptions): Promise<Map<Node, number>> {
  const copies = new Map<Value, Value>();
  const probe = cloneModel(model, copies);
  probe.opsets.set("com.microsoft", probe.opsets.get("com.microsoft") ?? 1);
  const options = contribOptions(o, Infinity);
  const pairs = nodes.map((n) => {
    const at = n.outputs.findIndex((v) => v !== null);
    const wanted = copies.get(n.outputs[at]!)!;
    const node = wanted.producer!;
    const names = n.outputs.map((v) => (v ? `${v.name}/again` : ""));
    const again = node.graph.append("LSTM", [...node.inputs], { name: "again", attrs: Object.fromEntries(node.attrs), outputs: names });
    const got = again.outputs[at]!;
    contribNode(again, options);
    return { of: n, got, wanted };
  });
  return relativeErrors(probe, pairs, data, o.threads);
}
