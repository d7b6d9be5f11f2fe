/** Where a weight enters the graph linearly, and what squares of its gradient come to there. */
import { float, type Node, type Value } from "../ir/graph.ts";
import { type Build, dtypeOf, shapeOf } from "../ops/build.ts";
import { opOf } from "../ops/index.ts";
import { isFloat, sizeOf } from "../tensor/dtype.ts";
import { tensor } from "../tensor/tensor.ts";

/** Ops whose output is linear in each of these inputs. */
const linear: Readonly<Record<string, readonly number[]>> = {
  Gemm: [0, 1, 2],
  MatMul: [0, 1],
  Conv: [1, 2],
  ConvTranspose: [1, 2],
  Add: [0, 1],
  Mul: [0, 1],
  Gather: [0],
};

const relayout = new Set(["Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"]);

/** One use of a weight by a node whose output is linear in it; `through`: nodes between that only lay it out anew, the weight's own reader first. */
export interface Place {
  readonly node: Node;
  readonly input: number;
  readonly through: readonly Node[];
}

/** All uses of a weight; null: one of them is not linear, or gives what is not of one example each (`grows`). */
export function placesOf(weight: Value, grows: (v: Value) => boolean): Place[] | null {
  const out: Place[] = [];
  const follow = (v: Value, through: readonly Node[]): boolean => {
    for (const use of v.uses) {
      if (!("node" in use)) return false;
      const { node, index } = use;
      if (node.domain !== "" || node.subgraphs.length) return false;
      if (relayout.has(node.opType) && index === 0) {
        if (!follow(node.outputs[0]!, [...through, node])) return false;
      } else {
        const once = node.inputs.filter((x) => x === v).length === 1;
        if (!linear[node.opType]?.includes(index) || !once || !grows(node.outputs[0]!)) return false;
        out.push({ node, input: index, through });
      }
    }
    return true;
  };
  return follow(weight, []) ? out : null;
}

/** f with f(x·y) = f(x)·f(y). */
export interface Power {
  readonly of: (b: Build, v: Value) => Value;
  readonly number: (x: number) => number;
}
export const square: Power = { of: (b, v) => b.mul(v, v), number: (x) => x * x };
export const absolute: Power = { of: (b, v) => b.op("Abs", [v]), number: Math.abs };

/** `v`, an array of the weight's elements as the node sees them, in the weight's own layout. */
function laidBack(b: Build, { through }: Place, v: Value): Value {
  let out = v;
  for (const node of through.toReversed()) out = opOf(node)!.vjp!({ node, g: [out], needs: [true], b })[0]!;
  return out;
}

const typed = (v: Value, like: Value): Value => {
  v.type = like.type;
  return v;
};

/**
 * Σ f(∂y/∂w_c)·fg over the connections c that a weight stands for: every place in every example where it is multiplied. `fg` is what
 * arrives at y = node's output, already f of it (or, with f the square, a second derivative). It is the node's own gradient rule for the
 * weight, applied to f of the other operand: Gemm Σ f(x)ᵀ·fg; of a Conv's kernel the sum runs over positions too, as in LeCun et al. 1990, eq. 5.
 */
export function overConnections(b: Build, place: Place, fg: Value, f: Power): Value {
  const { node, input } = place;
  const others = node.inputs.map((v, i) => (v && i !== input && isFloat(dtypeOf(v)) ? typed(f.of(b, v), v) : v));
  const attrs = Object.fromEntries(node.attrs);
  for (const name of ["alpha", "beta"]) {
    const scale = node.opType === "Gemm" ? node.float(name) : undefined;
    if (scale !== undefined) attrs[name] = float(f.number(scale));
  }
  const twin = b.node(node.opType, others, attrs);
  typed(twin.outputs[0]!, node.outputs[0]!);
  const needs = node.inputs.map((_, i) => i === input);
  return laidBack(b, place, opOf(node)!.vjp!({ node: twin, g: [fg], needs, b })[input]!);
}

/**
 * Σ over the examples of f(gradient of that example), `g` what arrives at the node's output; null: no form for this node. Where an example
 * meets the weight once (a Gemm's rows) that is {@link overConnections}; else its gradient is added up over the places first: of a MatMul
 * over positions by one product an example, of a Conv over patches.
 */
export function overExamples(b: Build, place: Place, g: Value, f: Power, byExample: (v: Value) => boolean): Value | null {
  const { node, input } = place;
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  if (!byExample(y)) return null;
  const [w, shape] = [shapeOf(node.inputs[input]!), shapeOf(y)];
  const bias = (channel: number) => {
    // [examples, …, channels, …]: added up over all but the first and the channels.
    const axes = shape.flatMap((_, i) => (i === 0 || i === channel ? [] : [i]));
    return b.reshape(b.sum(f.of(b, b.sum(g, axes)), [0]), w);
  };
  const summed = (each: Value, to: readonly number[]) => laidBack(b, place, b.reshape(b.sum(f.of(b, each), [0]), to));
  const last = shape.length - 1;
  switch (node.opType) {
    case "Gemm":
      if (input === 0 || (input === 1 && (node.int("transA") || !byExample(x))) || (input === 2 && sizeOf(w) !== shape[1])) return null;
      return overConnections(b, place, f.of(b, g), f);
    case "MatMul": {
      if (input !== 1 || w.length !== 2 || last < 1 || !byExample(x)) return null;
      if (last === 1) return overConnections(b, place, f.of(b, g), f);
      const [n, k] = [shape[0]!, w[0]!];
      const rows = sizeOf(shape) / n / w[1]!;
      const each = b.matmul(b.transpose(b.reshape(x, [n, rows, k]), [0, 2, 1]), b.reshape(g, [n, rows, w[1]!]));
      return summed(each, w);
    }
    case "Add":
      return last >= 1 && w.at(-1) === shape[last] && sizeOf(w) === w.at(-1) && place.through.length === 0 ? bias(last) : null;
    case "Conv": {
      if (!byExample(x)) return null;
      if (input === 2) return bias(1);
      const [n, m] = shape as [number, number];
      const [, ci, ...window] = w as [number, number, ...number[]];
      const group = node.int("group") ?? 1;
      const taps = sizeOf(window);
      // Patches by a Conv whose kernels pick one tap each.
      const columns = group * ci * taps;
      const pick = new Float32Array(columns * taps);
      for (let c = 0; c < columns; c++) pick[c * taps + (c % taps)] = 1;
      const kernels = b.constant(tensor(dtypeOf(x), [columns, 1, ...window], pick), "patches");
      const patches = b.op("Conv", [x, kernels], { ...Object.fromEntries(node.attrs), group: group * ci, kernel_shape: window });
      const space = sizeOf(shape.slice(2));
      const each = b.matmul(
        b.reshape(g, [n, group, m / group, space]),
        b.transpose(b.reshape(patches, [n, group, ci * taps, space]), [0, 1, 3, 2]),
      );
      return summed(each, w);
    }
    default:
      return null;
  }
}
