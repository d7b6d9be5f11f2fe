/** Where a weight enters the graph, and what its gradient comes to there: for each example by itself, for each connection, and sums over them. */
import { float, type Node, type Value } from "../ir/graph.ts";
import { Build, dtypeOf, shapeOf } from "../ops/build.ts";
import { opOf } from "../ops/index.ts";
import { isFloat, sizeOf } from "../tensor/dtype.ts";
import { tensor } from "../tensor/tensor.ts";
import { grad } from "../transform/grad.ts";
import type { LossSite } from "./losssite.ts";

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

/** Ops with a gradient for each example (see {@link eachOf}), and inputs. */
const apart: typeof linear = { Gemm: [1, 2], MatMul: [1], Conv: [1, 2], Add: [0, 1], Sub: [0, 1], Mul: [0, 1], Div: [0, 1] };

const relayout = new Set(["Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"]);

/** One use of a weight by a node; `through`: nodes between that only lay it out anew, the weight's own reader first. */
export interface Place {
  readonly node: Node;
  readonly input: number;
  readonly through: readonly Node[];
}

/** All uses of a weight; null: one of them is by another op or input than those, or twice by one node. */
function placesOf(weight: Value, ops: typeof linear): Place[] | null {
  const out: Place[] = [];
  const follow = (v: Value, through: readonly Node[]): boolean => {
    for (const use of v.uses) {
      if (!("node" in use)) return false;
      const { node, index } = use;
      if (node.domain !== "" || node.subgraphs.length) return false;
      if (relayout.has(node.opType) && index === 0) {
        if (!follow(node.outputs[0]!, [...through, node])) return false;
      } else {
        if (!ops[node.opType]?.includes(index) || node.inputs.filter((x) => x === v).length > 1) return false;
        out.push({ node, input: index, through });
      }
    }
    return true;
  };
  return follow(weight, []) ? out : null;
}

/** All uses of a weight, by nodes whose outputs are linear in it; null: one is not, or gives what is not of one example each. */
export function linearPlaces(weight: Value, site: LossSite): Place[] | null {
  const found = placesOf(weight, linear);
  return found?.every((p) => site.grows(p.node.outputs[0]!)) ? found : null;
}

/** f with f(x·y) = f(x)·f(y). */
export interface Power {
  readonly of: (b: Build, v: Value) => Value;
  readonly number: (x: number) => number;
}
export const square: Power = { of: (b, v) => b.mul(v, v), number: (x) => x * x };
export const absolute: Power = { of: (b, v) => b.op("Abs", [v]), number: Math.abs };

/** `v`, an array [...lead, elements as the node sees the weight's], in the weight's own layout. */
function laidBack(b: Build, { through }: Place, v: Value, lead: readonly number[] = []): Value {
  let out = v;
  for (const node of through.toReversed()) {
    const shape = shapeOf(node.inputs[0]!);
    const perm = node.opType === "Transpose" ? (node.ints("perm") ?? shape.map((_, i) => shape.length - 1 - i)) : null;
    const back = perm && [...lead.keys(), ...shape.map((_, i) => lead.length + perm.indexOf(i))];
    out = back ? b.transpose(out, back) : b.reshape(out, [...lead, ...shape]);
  }
  return out;
}

const typed = (v: Value, like: Value, shape?: readonly number[]): Value => {
  v.type = shape ? { dtype: dtypeOf(like), shape } : like.type;
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
  return laidBack(b, place, twinGradient(b, place, others, attrs, fg));
}

/** The node's gradient rule for the weight, at other inputs. */
function twinGradient(b: Build, { node, input }: Place, inputs: readonly (Value | null)[], attrs: object, g: Value): Value {
  const twin = b.node(node.opType, inputs, { ...attrs });
  typed(twin.outputs[0]!, node.outputs[0]!);
  return opOf(node)!.vjp!({ node: twin, g: [g], needs: node.inputs.map((_, i) => i === input), b })[input]!;
}

/** The gradient of each example [examples, …shape of the weight], `g` what arrives at the node's output; null: no form for this node. */
function eachOf(b: Build, place: Place, g: Value, byExample: (v: Value) => boolean): Value | null {
  const { node, input } = place;
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  if (!byExample(y)) return null;
  const [w, shape] = [shapeOf(node.inputs[input]!), shapeOf(y)];
  const n = shape[0]!;
  const back = (each: Value) => laidBack(b, place, b.reshape(each, [n, ...w]), [n]);
  // A weight that is broadcast over the examples: the rule for a copy of it for each.
  const copied = () => {
    const some = w.length === shape.length ? w.slice(1) : w;
    if (w.length > shape.length || (w.length === shape.length && w[0] !== 1)) return null;
    const own = [n, ...Array<number>(shape.length - 1 - some.length).fill(1), ...some];
    const copy = typed(b.expand(b.reshape(node.inputs[input]!, [1, ...own.slice(1)]), own), node.inputs[input]!, own);
    return back(twinGradient(b, place, node.inputs.with(input, copy), Object.fromEntries(node.attrs), g));
  };
  switch (node.opType) {
    case "Gemm": {
      if (input === 2) return copied();
      if (node.int("transA") || !byExample(x)) return null;
      const [i, o] = [shapeOf(x)[1]!, shape[1]!];
      const each = node.int("transB")
        ? b.matmul(b.reshape(g, [n, o, 1]), b.reshape(x, [n, 1, i]))
        : b.matmul(b.reshape(x, [n, i, 1]), b.reshape(g, [n, 1, o]));
      const alpha = node.float("alpha") ?? 1;
      return back(alpha === 1 ? each : b.mul(each, b.f32(alpha)));
    }
    case "MatMul": {
      if (w.length !== 2 || shape.length < 2 || !byExample(x)) return null;
      const rows = sizeOf(shape) / n / w[1]!;
      return back(b.matmul(b.transpose(b.reshape(x, [n, rows, w[0]!]), [0, 2, 1]), b.reshape(g, [n, rows, w[1]!])));
    }
    case "Conv": {
      if (!byExample(x)) return null;
      const space = shape.slice(2);
      if (input === 2)
        return back(
          b.sum(
            g,
            space.map((_, i) => i + 2),
          ),
        );
      const m = shape[1]!;
      const [, ci, ...window] = w as [number, number, ...number[]];
      const group = node.int("group") ?? 1;
      const taps = sizeOf(window);
      // Patches by a Conv whose kernels pick one tap each.
      const columns = group * ci * taps;
      const pick = new Float32Array(columns * taps);
      for (let c = 0; c < columns; c++) pick[c * taps + (c % taps)] = 1;
      const kernels = b.constant(tensor(dtypeOf(x), [columns, 1, ...window], pick), "patches");
      const patches = b.op("Conv", [x, kernels], { ...Object.fromEntries(node.attrs), group: group * ci, kernel_shape: window });
      const each = b.matmul(
        b.reshape(g, [n, group, m / group, sizeOf(space)]),
        b.transpose(b.reshape(patches, [n, group, ci * taps, sizeOf(space)]), [0, 1, 3, 2]),
      );
      return back(each);
    }
    default:
      return copied();
  }
}

/** Whether an example meets the weight once: the square of its gradient is then a product of squares. */
function meetsOnce({ node, input }: Place, byExample: (v: Value) => boolean): boolean {
  const [x, y, w] = [node.inputs[0]!, node.outputs[0]!, shapeOf(node.inputs[input]!)];
  if (!byExample(y)) return false;
  if (node.opType === "Gemm") return input === 1 ? !node.int("transA") && byExample(x) : sizeOf(w) === shapeOf(y)[1];
  return node.opType === "MatMul" && w.length === 2 && shapeOf(y).length === 2 && byExample(x);
}

/** By weight: a value; null: nothing comes to it; "alone": of one example at a time it could be had. */
export type ByPlace = readonly (Value | null | "alone")[];

/**
 * By weight, with J_n the gradient of `target` (or what its cotangents give) of example n by itself: Σ_n f(J_n) of the weight's shape, or
 * without `f` all J_n [examples, elements]. Examples that use a weight at several places have one gradient, their sum.
 */
export function perExample(site: LossSite, target: Value | ReadonlyMap<Value, Value>, f: Power | null): ByPlace {
  const b = Build.of(site.model, "derivatives");
  if (site.size === 1) {
    const found = grad(site.model, target, present(site));
    return site.weights.map((w) => {
      const g = w && found.get(w);
      return g ? (f?.of(b, g) ?? g) : null;
    });
  }
  const places = site.weights.map((w) => w && placesOf(w, apart));
  const found = grad(site.model, target, outputsOf(places));
  return site.weights.map((w, i) => {
    if (!w) return null;
    const at = places[i];
    if (!at) return "alone";
    const reached = at.flatMap((place) => {
      const g = found.get(place.node.outputs[0]!);
      return g ? [{ place, g }] : [];
    });
    const [first] = reached;
    if (!first) return null;
    if (f && reached.length === 1 && meetsOnce(first.place, site.byExample)) return overConnections(b, first.place, f.of(b, first.g), f);
    const each = reached.map(({ place, g }) => eachOf(b, place, g, site.byExample));
    if (each.includes(null)) return "alone";
    const sum = added(b, each)!;
    return f ? b.sum(f.of(b, sum), [0]) : sum;
  });
}

/** By weight Σ over all uses of (∂target/∂w of that use)², of its shape. */
export function perConnection(site: LossSite, target: ReadonlyMap<Value, Value>): ByPlace {
  const b = Build.of(site.model, "derivatives");
  const places = site.weights.map((w) => w && linearPlaces(w, site));
  const whole = site.size > 1 ? [] : site.weights.filter((w, i): w is Value => w !== null && places[i] === null);
  const found = grad(site.model, target, [...outputsOf(places), ...whole]);
  const over = (p: Place) => {
    const g = found.get(p.node.outputs[0]!);
    return g ? overConnections(b, p, square.of(b, g), square) : null;
  };
  return site.weights.map((w, i) => {
    if (!w) return null;
    const at = places[i];
    if (at) return added(b, at.map(over));
    if (site.size > 1) return "alone";
    const g = found.get(w);
    return g ? square.of(b, g) : null;
  });
}

export const present = (site: LossSite) => site.weights.filter((w): w is Value => w !== null);

export const outputsOf = (places: readonly (readonly Place[] | null)[]): Value[] => [
  ...new Set(places.flatMap((p) => p ?? []).map((p) => p.node.outputs[0]!)),
];

export const added = (b: Build, terms: readonly (Value | null)[]): Value | null =>
  terms.reduce((a, t) => (a && t ? b.add(a, t) : (a ?? t)), null);
