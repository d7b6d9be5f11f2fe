/** Moving scale between a value and the weights that read it, without changing what the model computes: under AWQ, SmoothQuant and equalization. */
import type { Node, Value } from "../../ir/graph.ts";
import { sizeOf } from "../../tensor/dtype.ts";
import { Fault } from "../../tensor/fault.ts";
import { numbersOf, type Tensor, tensor } from "../../tensor/tensor.ts";
import { dropDefault } from "../../transform/weights.ts";

/** An initializer with the axis that the channels run along. */
export interface Channels {
  readonly value: Value;
  readonly axis: number;
}

/** A node that multiplies a value's channels by weights of its own. */
export interface Reader {
  readonly node: Node;
  readonly weight: Channels;
  /** The channels' axis in the value, from the end where negative. */
  readonly axis: number;
}

/** What makes a value: initializers (the weight first, where there is one) in each of which dividing the channels divides the value's. */
export interface Source {
  readonly node: Node;
  readonly parts: readonly (Channels & { readonly of: Node; readonly input: number })[];
}

/** The readers of a value whose weights can be multiplied by channel: MatMul, Gemm, Conv with an initializer that nothing else reads. */
export function readersOf(value: Value): Reader[] {
  const found: Reader[] = [];
  for (const use of value.uses) {
    const r = "node" in use && use.index === 0 ? readerOf(use.node) : null;
    if (r) found.push(r);
  }
  return found;
}

function readerOf(node: Node): Reader | null {
  const w = node.inputs[1];
  if (node.domain !== "" || !w?.data || w.uses.size !== 1) return null;
  const { shape } = w.data;
  if (node.opType === "MatMul" && shape.length === 2) return { node, weight: { value: w, axis: 0 }, axis: -1 };
  if (node.opType === "Gemm" && !node.int("transA")) return { node, weight: { value: w, axis: node.int("transB") ? 1 : 0 }, axis: -1 };
  if (node.opType !== "Conv") return null;
  const group = node.int("group") ?? 1;
  if (group === 1) return { node, weight: { value: w, axis: 1 }, axis: 1 };
  return group === shape[0] && shape[1] === 1 ? { node, weight: { value: w, axis: 0 }, axis: 1 } : null;
}

/** f(x·a) = f(x)·a for a > 0. */
const homogeneous = new Set(["Relu", "LeakyRelu", "PRelu", "Identity", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"]);

/**
 * What makes a value of `channels` channels along `axis` (−1: the last; 1: that of an image): a Conv, Gemm or MatMul, a normalization or a
 * Mul with constants, through the Add of a bias and positive-homogeneous activations (Relu, LeakyRelu, PRelu, poolings). Null: nothing
 * that could take a factor for each channel, or something on the way is read elsewhere too.
 */
export function sourceOf(value: Value, axis: number, channels: number): Source | null {
  const parts: Source["parts"][number][] = [];
  // Small ones may be shared: the node then gets its own.
  const take = (of: Node, input: number, at: number, small = true): boolean => {
    const v = of.inputs[input];
    if (!v?.data || v.data.shape[at] !== channels || (!small && v.uses.size !== 1)) return false;
    if (small) parts.push({ value: v, axis: at, of, input });
    else parts.unshift({ value: v, axis: at, of, input });
    return true;
  };
  for (let v = value; ; ) {
    const node = v.producer;
    if (!node || node.graph !== value.graph || node.outputs.filter((o) => o && o.uses.size > 0).length !== 1 || node.outputs[0] !== v)
      return null;
    const [x, w] = node.inputs;
    const done = (ok: boolean): Source | null => (ok ? { node, parts } : null);
    const vector = (c: Value | null | undefined) => {
      const shape = c?.data?.shape;
      if (!shape || sizeOf(shape) !== channels) return -1;
      const at = shape.lastIndexOf(channels);
      return (axis < 0 ? at === shape.length - 1 : shape.length - at === 3) || channels === 1 ? at : -1;
    };
    if (node.domain !== "" && !(node.opType.endsWith("LayerNormalization") && node.inputs.length <= 3)) return null;
    switch (node.opType) {
      case "LayerNormalization":
      case "SimplifiedLayerNormalization":
      case "RMSNormalization":
        return done(axis < 0 && w?.data?.shape.length === 1 && take(node, 1, 0) && (!node.inputs[2] || take(node, 2, 0)));
      case "BatchNormalization":
        return done(axis === 1 && take(node, 1, 0) && take(node, 2, 0));
      case "Conv":
        return done(axis === 1 && take(node, 1, 0, false) && (!node.inputs[2] || take(node, 2, 0)));
      case "MatMul":
        return done(axis < 0 && w?.data?.shape.length === 2 && take(node, 1, 1, false));
      case "Gemm": {
        const c = node.inputs[2];
        const bias = !c || (c.data !== null && take(node, 2, c.data.shape.length - 1));
        return done(axis < 0 && bias && take(node, 1, node.int("transB") ? 0 : 1, false));
      }
      case "Mul":
      case "Add": {
        const input = x?.data ? 0 : 1;
        const other = node.inputs[1 - input];
        const at = vector(node.inputs[input]);
        if (at < 0 || !other || !take(node, input, at)) return null;
        if (node.opType === "Mul") return { node, parts };
        if (other.uses.size !== 1) return null;
        v = other;
        break;
      }
      default:
        if (!homogeneous.has(node.opType) || !x || x.uses.size !== 1) return null;
        if (axis < 0 && node.opType.endsWith("Pool")) return null;
        v = x;
    }
  }
}

/** Multiplies the channels of the initializer that is an input of `node`; one that others read too gets a copy of its own. */
function multiply({ value, axis }: Channels, factors: ArrayLike<number>, node: Node, input: number): void {
  const data = scaled(value.data!, axis, factors);
  if (value.uses.size > 1) node.setInput(input, value.graph.initializer(`${value.name}/scaled`, data));
  else {
    dropDefault(value.graph, value);
    value.graph.setData(value, data);
  }
}

function scaled(t: Tensor, axis: number, factors: ArrayLike<number>): Tensor {
  const inner = sizeOf(t.shape.slice(axis + 1));
  const n = t.shape[axis]!;
  const values = numbersOf(t);
  for (let i = 0; i < values.length; i++) values[i]! *= factors[Math.floor(i / inner) % n]!;
  return tensor(t.dtype, t.shape, values);
}

/** How a value's channels were divided: in what makes it, or by a Mul. */
export type Absorbed = "source" | "mul";

/**
 * Divides the channels of `value` by s, for `readers` (all {@link readersOf} it unless given), and multiplies their weights by s: the model
 * computes what it did. The division goes into what makes the value, where only those readers read it; else into one Mul before them
 * (also where the value is an input of the graph), or nowhere and nothing is done, if `mul` is false: null. Initializers that are graph
 * inputs too stop being so. Errors: s not of the channels' number, or not all positive.
 */
export function rescale(
  value: Value,
  s: Float32Array,
  { readers = readersOf(value), mul = true }: { readonly readers?: readonly Reader[]; readonly mul?: boolean } = {},
): Absorbed | null {
  const [first] = readers;
  if (!first) return null;
  const { axis } = first;
  for (const r of readers) {
    const n = r.weight.value.data!.shape[r.weight.axis]!;
    if (n !== s.length) throw new Fault("rescale", `"${value.name}" has ${n} channels; got ${s.length} factors`);
    if (r.axis !== axis) return null;
  }
  if (!s.every((x) => x > 0 && x < Infinity)) throw new Fault("rescale", `factors of "${value.name}" must be positive numbers`);
  const own = new Set(readers.map((r) => r.node));
  const alone = [...value.uses].every((u) => "node" in u && own.has(u.node));
  const source = alone ? sourceOf(value, axis, s.length) : null;
  if (!source && !mul) return null;
  const inverse = Float64Array.from(s, (x) => 1 / x);
  if (source) for (const part of source.parts) multiply(part, inverse, part.of, part.input);
  else {
    const rank = first.weight.value.data!.shape.length;
    const shape = axis < 0 ? [s.length] : [s.length, ...new Array<number>(rank - 2).fill(1)];
    const dtype = first.weight.value.data!.dtype;
    const by = value.graph.initializer(`${value.name}/smooth`, tensor(dtype, shape, inverse));
    const node = value.graph.append("Mul", [value, by], { name: `${value.name}/Mul` });
    node.outputs[0]!.type = value.type;
    for (const r of readers) r.node.setInput(0, node.outputs[0]!);
  }
  for (const r of readers) multiply(r.weight, s, r.node, 1);
  return source ? "source" : "mul";
}

/** The largest magnitude of each channel. */
export function channelMaxima({ value, axis }: Channels): Float32Array<ArrayBuffer> {
  const { shape } = value.data!;
  const inner = sizeOf(shape.slice(axis + 1));
  const n = shape[axis]!;
  const out = new Float32Array(n);
  const values = numbersOf(value.data!);
  for (let i = 0; i < values.length; i++) {
    const c = Math.floor(i / inner) % n;
    out[c] = Math.max(out[c]!, Math.abs(values[i]!));
  }
  return out;
}
