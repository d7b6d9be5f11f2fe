/** A copy of each weight for every example of a batch: gradients with respect to the copies are those of each example by itself. */
import type { Model, Node, Value } from "../ir/graph.ts";
import { Build, shapeOf } from "../ops/build.ts";
import { sizeOf } from "../tensor/dtype.ts";

/**
 * Puts Expand(w) [batch, …shape of w] in the place of every weight for its readers, and gives readers the form that takes it: Gemm and MatMul
 * become batched products, Conv a grouped one with the examples as groups, Add, Sub, Mul and Div broadcast along the batch. Shapes of all
 * values must be known; `leads` tells whose first axis is the batch. Returns the copies by weight; null, with the model unchanged, where a
 * reader has no such form.
 */
export function perExample(model: Model, weights: readonly Value[], batch: number, leads: (v: Value) => boolean): Map<Value, Value> | null {
  const chosen = new Set(weights);
  const readers = new Set<Node>();
  for (const v of weights)
    for (const use of v.uses) {
      if (!("node" in use)) return null;
      readers.add(use.node);
    }
  if (![...readers].every((n) => n.graph === model.graph && takes(n, chosen, leads))) return null;
  const b = Build.of(model, "each");
  const copies = new Map<Value, Value>();
  const copyOf = (v: Value): Value => {
    let c = copies.get(v);
    if (!c) {
      const shape = shapeOf(v);
      c = b.expand(b.reshape(v, [1, ...shape]), [batch, ...shape]);
      copies.set(v, c);
    }
    return c;
  };
  for (const n of readers) {
    const y = n.outputs[0]!;
    y.replaceUses((forms[n.opType] ?? pointwise)(b, n, copyOf, chosen));
    model.graph.remove(n);
  }
  return new Map(weights.map((v) => [v, copyOf(v)]));
}

const pointwiseOps = new Set(["Add", "Sub", "Mul", "Div"]);

function takes(n: Node, chosen: ReadonlySet<Value>, leads: (v: Value) => boolean): boolean {
  if (n.domain !== "") return false;
  const [x, w, c] = [n.inputs[0]!, n.inputs[1]!, n.inputs[2]];
  const batched = (v: Value) => !chosen.has(v) && leads(v);
  switch (n.opType) {
    case "Gemm": {
      const plain = !n.int("transA") && (n.float("alpha") ?? 1) === 1 && (n.float("beta") ?? 1) === 1;
      // A row that all examples share, or one number.
      const row = !c || ((chosen.has(c) || c.data) && sizeOf(shapeOf(c)) === (shapeOf(c).at(-1) ?? 1));
      return plain && Boolean(row) && batched(x) && w.shape?.length === 2;
    }
    case "MatMul":
      return batched(x) && x.shape!.length >= 2 && w.shape?.length === 2;
    case "Conv":
      return batched(x);
    default: {
      if (!pointwiseOps.has(n.opType)) return false;
      const ndim = n.outputs[0]!.shape?.length ?? 0;
      const shared = ({ shape }: Value) => shape !== null && (shape.length < ndim || (shape.length === ndim && shape[0] === 1));
      return n.inputs.every((v) => (chosen.has(v!) ? shared(v!) : leads(v!) && v!.shape?.length === ndim));
    }
  }
}

type CopyOf = (v: Value) => Value;
type Form = (b: Build, n: Node, copyOf: CopyOf, chosen: ReadonlySet<Value>) => Value;

/** y = x·W′ + c, row by row: [batch, 1, in] by [batch, in, out]. */
function gemm(b: Build, n: Node, copyOf: CopyOf): Value {
  const [x, w, c] = [n.inputs[0]!, n.inputs[1]!, n.inputs[2]];
  const [batch, width] = shapeOf(x) as [number, number];
  const out = shapeOf(n.outputs[0]!)[1]!;
  const wt = n.int("transB") ? b.transpose(copyOf(w), [0, 2, 1]) : copyOf(w);
  const y = b.reshape(b.matmul(b.reshape(x, [batch, 1, width]), wt), [batch, out]);
  return c ? b.add(y, b.reshape(copyOf(c), [batch, shapeOf(c).at(-1) ?? 1])) : y;
}

function matmul(b: Build, n: Node, copyOf: CopyOf): Value {
  const [x, w] = [n.inputs[0]!, n.inputs[1]!];
  const [xs, [into, out]] = [shapeOf(x), shapeOf(w) as [number, number]];
  const batch = xs[0]!;
  if (xs.length === 2) return b.reshape(b.matmul(b.reshape(x, [batch, 1, into]), copyOf(w)), [batch, out]);
  return b.matmul(x, b.reshape(copyOf(w), [batch, ...xs.slice(1, -2).map(() => 1), into, out]));
}

function conv(b: Build, n: Node, copyOf: CopyOf): Value {
  const [x, w, c] = [n.inputs[0]!, n.inputs[1]!, n.inputs[2]];
  const [batch, channels, ...space] = shapeOf(x) as [number, number, ...number[]];
  const [out, into, ...window] = shapeOf(w) as [number, number, ...number[]];
  const attrs = { ...Object.fromEntries(n.attrs), group: batch * (n.int("group") ?? 1) };
  const y = b.op("Conv", [b.reshape(x, [1, batch * channels, ...space]), b.reshape(copyOf(w), [batch * out, into, ...window])], attrs);
  const rows = b.reshape(y, [batch, out, ...shapeOf(n.outputs[0]!).slice(2)]);
  return c ? b.add(rows, b.reshape(copyOf(c), [batch, out, ...space.map(() => 1)])) : rows;
}

function pointwise(b: Build, n: Node, copyOf: CopyOf, chosen: ReadonlySet<Value>): Value {
  const y = shapeOf(n.outputs[0]!);
  const inputs = n.inputs.map((v) => {
    if (!chosen.has(v!)) return v;
    const shape = shapeOf(v!).slice(-(y.length - 1));
    return b.reshape(copyOf(v!), [y[0]!, ...Array(y.length - 1 - shape.length).fill(1), ...shape]);
  });
  return b.op(n.opType, inputs);
}

const forms: Readonly<Record<string, Form>> = { Gemm: gemm, MatMul: matmul, Conv: conv };
