/** Which way each layer goes to integers, which layers stay float, and why. */
import type { Graph } from "../../ir/graph.ts";
import { labelOf } from "../../ir/walk.ts";
import { sizeOf } from "../../tensor/dtype.ts";
import { leave } from "../left.ts";
import type { Found, Layer } from "./layers.ts";
import { depthwise as isDepthwise } from "./patches.ts";

export interface Choice {
  readonly mode: "dynamic" | "static";
  readonly target: "cpu" | "tensorrt";
  readonly dynamicConv: boolean;
  /** Static depthwise Convs on a CPU too. */
  readonly depthwise: boolean;
  /** Fewest weights of a Gemm or MatMul. */
  readonly smallest: number;
}

export interface Sorted {
  readonly static: readonly Layer[];
  readonly dynamic: readonly Layer[];
  readonly left: Map<string, string[]>;
  /** All layers found. */
  readonly all: number;
}

/** The layers by what is to become of them. */
export function sortLayers({ layers, left }: Found, p: Choice): Sorted {
  const ways: Record<"static" | "dynamic", Layer[]> = { static: [], dynamic: [] };
  for (const l of layers) {
    const way = wayOf(l, p);
    if (way === "static" || way === "dynamic") ways[way].push(l);
    else leave(left, way, l.node);
  }
  return { ...ways, left, all: layers.length };
}

/** How a layer is quantized, or why it is not. `unseen`: no range was observed, because its branch never ran. */
export function wayOf(l: Layer, p: Choice, unseen = false): "static" | "dynamic" | string {
  if (l.op !== "Conv" && sizeOf(l.weight.data!.shape) < p.smallest) return `fewer than ${p.smallest} weights (smallest)`;
  const hidden = unseen
    ? "in a branch that no example takes"
    : looped(l.node.graph)
      ? "inside a Loop or Scan, where no ranges can be observed"
      : null;
  if (p.mode === "static" && p.target === "cpu" && !p.depthwise && isDepthwise(l))
    return "a depthwise Conv, which 8 bits make no faster and in small nets slower (depthwise=true does it all the same)";
  if (p.mode === "static" && !hidden) return "static";
  if (hidden && p.target === "tensorrt") return hidden;
  if (l.op !== "Conv" || (p.mode === "dynamic" && p.dynamicConv)) return "dynamic";
  const slower = "dynamic int8 would make a Conv several times slower";
  return hidden && p.mode === "static" ? `${hidden}; ${slower}` : `${slower}; mode=static makes it faster`;
}

/** Whether a graph lies inside anything but branches of Ifs. */
export function looped(graph: Graph): boolean {
  const { parent } = graph;
  if (!parent) return false;
  const holder = [...parent.nodes].find((n) => n.subgraphs.includes(graph))!;
  return holder.opType !== "If" || holder.domain !== "" || looped(parent);
}

/** The layers whose error is small enough; the others are left, and named. `kept` gets the errors of the former. */
export function accepted(
  layers: readonly Layer[],
  errors: ReadonlyMap<Layer, number>,
  maxError: number,
  left: Map<string, string[]>,
  kept: Map<string, number>,
): Layer[] {
  return layers.filter((l) => {
    const e = errors.get(l)!;
    if (e <= maxError) {
      kept.set(labelOf(l.node), e);
      return true;
    }
    leave(left, `8 bits would change its output by ${percent(e)} (more than ${percent(maxError)})`, l.node);
    return false;
  });
}

/** Notes how many layers of which op were done, and what stays float. */
export function report(done: readonly string[], { all, left }: Pick<Sorted, "all" | "left">, note: (line: string) => void): void {
  const ops = new Map<string, number>();
  for (const op of done) ops.set(op, (ops.get(op) ?? 0) + 1);
  const what = [...ops].map(([op, n]) => `${n} ${op}`).join(", ");
  if (all === 0) note("no Conv, Gemm or MatMul with constant float32 weights among the nodes selected; nothing was changed");
  else note(`${done.length} of ${all} layers in int8${what ? ` (${what})` : "; nothing was changed"}`);
  for (const [why, names] of left) note(`stay float: ${listed(names)}: ${why}`);
}

export const percent = (x: number) => `${Number((100 * x).toPrecision(2))} %`;

export function listed(names: readonly string[]): string {
  return names.length <= 5 ? names.join(", ") : `${names.slice(0, 4).join(", ")} and ${names.length - 4} more`;
}
