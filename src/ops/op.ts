/** What pith knows of one ONNX op. An op it does not know still loads, runs and saves; only a gradient through it is refused. */
import type { Node, Value } from "../ir/graph.ts";
import type { AxesRule } from "./axes.ts";
import type { Build } from "./build.ts";

/** What a gradient rule gets. */
export interface VjpArgs {
  readonly node: Node;
  /** Cotangent of each output, of its output's shape; null where none flows. At least one is given. */
  readonly g: readonly (Value | null)[];
  /** Which inputs a cotangent is wanted for: compute no other. */
  readonly needs: readonly boolean[];
  readonly b: Build;
}

export interface Op {
  /**
   * Vector-Jacobian product: appends nodes and returns one cotangent per input (null: none, or not wanted), each of its input's shape.
   * All shapes are known. Throws a Fault for a form it has no rule for.
   */
  readonly vjp?: (args: VjpArgs) => readonly (Value | null)[];
  /** The inputs are not differentiable by nature (comparisons, Shape, ArgMax …): gradients stop here silently. */
  readonly stops?: true;
  /** Its integers stand for numbers: gradients flow through them by its rule, or are refused by name (integers stop gradients otherwise). */
  readonly carries?: true;
  /** Multiply-accumulates of one run, from the shapes on the node's values; null where a shape is missing. */
  readonly macs?: (node: Node) => number | null;
  /** Which of its axes are the same, which pass and which are summed (see dims.ts). An op without a rule keeps all it touches from being pruned. */
  readonly axes?: AxesRule;
  /** The input that holds the weights (Conv, Gemm and MatMul: 1), and the axis of its output channels. */
  readonly weight?: { readonly input: number; readonly outputAxis: (node: Node) => number };
}
