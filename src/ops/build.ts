/** Writing nodes as one writes formulas. */
import { type AttrInput, float, type Graph, type Model, type Node, type Value } from "../ir/graph.ts";
import { type DType, dtypes } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { type Tensor, tensor } from "../tensor/tensor.ts";
import { unbroadcast } from "./unbroadcast.ts";

type Attrs = Readonly<Record<string, AttrInput>>;

/** Appends nodes to `graph`, spelled for `opset` of the default domain. Constants of equal content are made once. */
export class Build {
  readonly graph: Graph;
  readonly opset: number;
  /** New nodes and values are named `<prefix>/<op>`. */
  readonly prefix: string;
  readonly #constants = new Map<string, Value>();

  constructor(graph: Graph, opset: number, prefix = "pith") {
    this.graph = graph;
    this.opset = opset;
    this.prefix = prefix;
  }

  static of(model: Model, prefix?: string): Build {
    return new Build(model.graph, model.opsets.get("") ?? 1, prefix);
  }

  /** A node; its first output. */
  op(opType: string, inputs: readonly (Value | null)[], attrs: Attrs = {}, domain = ""): Value {
    return this.node(opType, inputs, attrs, 1, domain).outputs[0]!;
  }

  /** A node with `outputs` outputs. */
  node(opType: string, inputs: readonly (Value | null)[], attrs: Attrs = {}, outputs: number | readonly string[] = 1, domain = ""): Node {
    return this.graph.append(opType, inputs, { name: `${this.prefix}/${opType}`, attrs, outputs, domain });
  }

  /** An initializer with this content. */
  constant(t: Tensor, name = "const"): Value {
    const key = t.data.byteLength <= 256 && t.data instanceof Uint8Array ? `${t.dtype}[${t.shape}]${t.data.join()}` : null;
    const have = key && this.#constants.get(key);
    if (have) return have;
    const v = this.graph.initializer(`${this.prefix}/${name}`, t);
    if (key) this.#constants.set(key, v);
    return v;
  }

  /** A scalar constant. */
  scalar(x: number, dtype: DType): Value {
    return this.constant(tensor(dtype, [], [x]));
  }
  /** A scalar float32 constant. */
  f32(x: number): Value {
    return this.scalar(x, "float32");
  }
  /** A 1-D int64 constant (shapes, axes). */
  i64(xs: readonly number[]): Value {
    return this.constant(tensor("int64", [xs.length], xs));
  }

  add(a: Value, b: Value): Value {
    return this.op("Add", [a, b]);
  }
  sub(a: Value, b: Value): Value {
    return this.op("Sub", [a, b]);
  }
  mul(a: Value, b: Value): Value {
    return this.op("Mul", [a, b]);
  }
  div(a: Value, b: Value): Value {
    return this.op("Div", [a, b]);
  }
  neg(a: Value): Value {
    return this.op("Neg", [a]);
  }
  matmul(a: Value, b: Value): Value {
    return this.op("MatMul", [a, b]);
  }
  cast(v: Value, dtype: DType): Value {
    return this.op("Cast", [v], { to: dtypes[dtype].code });
  }
  reshape(v: Value, shape: readonly number[]): Value {
    return this.op("Reshape", [v, this.i64(shape)]);
  }
  transpose(v: Value, perm: readonly number[]): Value {
    return perm.every((p, i) => p === i) ? v : this.op("Transpose", [v], { perm });
  }

  /** The value of `y` with the gradient of `x` (within ±bound, if given): see StraightThrough in pith.ts. For training graphs only. */
  straightThrough(x: Value, y: Value, bound?: number): Value {
    const v = this.op("StraightThrough", [x, y], bound === undefined ? {} : { bound: float(bound) }, "pith");
    v.type = x.type;
    return v;
  }

  where(condition: Value, a: Value, z: Value): Value {
    return this.op("Where", [condition, a, z]);
  }
  /** `v` broadcast to `shape`. */
  expand(v: Value, shape: readonly number[]): Value {
    return this.op("Expand", [v, this.i64(shape)]);
  }
  zeros(shape: readonly number[], dtype: DType): Value {
    return this.op("ConstantOfShape", [this.i64(shape)], { value: tensor(dtype, [1], [0]) });
  }
  /** Zeros around `v` (negative: crop), by axis. */
  pad(v: Value, begin: readonly number[], end: readonly number[]): Value {
    return [...begin, ...end].every((n) => n === 0) ? v : this.op("Pad", [v, this.i64([...begin, ...end])]);
  }

  /** ReduceSum, ReduceMean, ReduceMax … over axes, as the opset spells it (axes became an input at 13 for ReduceSum, at 18 for the others); over no axes: `v`. */
  reduce(
    opType: "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceProd",
    v: Value,
    axes: readonly number[],
    keepdims: boolean,
  ): Value {
    if (axes.length === 0) return v;
    const attrs = { keepdims: keepdims ? 1 : 0 };
    if (this.opset >= (opType === "ReduceSum" ? 13 : 18)) return this.op(opType, [v, this.i64(axes)], attrs);
    return this.op(opType, [v], { ...attrs, axes });
  }
  sum(v: Value, axes: readonly number[], keepdims = false): Value {
    return this.reduce("ReduceSum", v, axes, keepdims);
  }

  /** Undo broadcasting: sums `v` of shape `from` down to shape `to`. */
  sumTo(v: Value, from: readonly number[], to: readonly number[]): Value {
    return unbroadcast(this, v, from, to);
  }
}

/** The fully known shape of a value. Errors: a dimension that is not known. */
export function shapeOf(v: Value): readonly number[] {
  const s = v.shape;
  if (!s) throw new Fault(`value "${v.name}"`, `its shape must be known here; got ${v.type?.shape ? `[${v.type.shape}]` : "none"}`);
  return s;
}

/** The element type of a value. Errors: not known. */
export function dtypeOf(v: Value): DType {
  const t = v.type;
  if (!t) throw new Fault(`value "${v.name}"`, "its element type must be known here");
  return t.dtype;
}

/** The shape two shapes broadcast to. */
export function broadcast(a: readonly number[], z: readonly number[]): number[] {
  const n = Math.max(a.length, z.length);
  return Array.from({ length: n }, (_, i) => {
    const [p, q] = [a[i - n + a.length] ?? 1, z[i - n + z.length] ?? 1];
    return p === 1 ? q : p;
  });
}

/** Whether two shapes are the same. */
export function same(a: readonly number[], z: readonly number[]): boolean {
  return a.length === z.length && a.every((d, i) => d === z[i]);
}
