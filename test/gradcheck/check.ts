/** Checks a gradient rule: the gradient of Σ v·y for a random v, against central differences of y, element by element. */
import { type AttrInput, type Model, newModel, type Value } from "../../src/ir/graph.ts";
import { removeDead } from "../../src/ir/walk.ts";
import { Build } from "../../src/ops/build.ts";
import { open, type SessionOptions } from "../../src/runtime/session.ts";
import { observeShapes } from "../../src/runtime/shapes.ts";
import { isFloat, sizeOf } from "../../src/tensor/dtype.ts";
import { type Random, random } from "../../src/tensor/random.ts";
import { bytesOf, numbersOf, type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { grad } from "../../src/transform/grad.ts";

/** A differentiated input: its shape, and optionally where its elements may lie; default (−2, 2) without zero and without ties. */
export type Arg = readonly number[] | { readonly shape: readonly number[]; readonly from: number; readonly to: number };

export interface Row {
  readonly op: string;
  readonly domain?: string;
  /** What is special about this row. */
  readonly note?: string;
  /** A shape is differentiated, a Tensor is a constant, null is omitted, a number repeats an earlier input (the same Value twice). */
  readonly inputs: readonly (Arg | Tensor | number | null)[];
  readonly attrs?: Readonly<Record<string, AttrInput>>;
  readonly opset?: number;
  /** Number of outputs; cotangents flow into all float ones, or into those listed in `through`. */
  readonly outputs?: number | readonly string[];
  readonly through?: readonly number[];
  /** What is differenced in its place, on the first input, where the rule is by design not the op's own derivative. */
  readonly instead?: { readonly op: string; readonly inputs?: readonly Tensor[] };
  /** Check in float32 though the op has a float64 kernel. */
  readonly float32?: true;
}

export const nameOf = (r: Row) =>
  [
    r.domain ? `${r.domain}.${r.op}` : r.op,
    r.opset,
    r.note,
    r.attrs && JSON.stringify(r.attrs),
    JSON.stringify(r.inputs.map((i) => (isTensor(i) ? "const" : i))),
  ]
    .filter(Boolean)
    .join(" ");

const isTensor = (x: Row["inputs"][number]): x is Tensor => typeof x === "object" && x !== null && "dtype" in x;

/** Ops for which ONNX Runtime's CPU build has no float64 kernel, or one that computes in float32 inside. */
const single = new Set(
  (
    "Acos Acosh Asin Asinh Atan Atanh BiasGelu Celu Cosh Elu Erf FastGelu FusedMatMul Gelu GroupNormalization HardSigmoid HardSwish " +
    "InstanceNormalization LayerNormalization Mean MeanVarianceNormalization Mish QuickGelu Selu Shrink Sinh SkipLayerNormalization " +
    "SkipSimplifiedLayerNormalization Softplus Softsign Tan ThresholdedRelu"
  ).split(" "),
);

/** Elements apart from each other and from zero by more than the steps of the differences, in random order. */
function spread(r: Random, arg: Arg, dtype: "float32" | "float64"): Tensor {
  const { shape, from, to } = "shape" in arg ? arg : { shape: arg, from: -2, to: 2 };
  const n = sizeOf(shape);
  const even = n + (n % 2);
  const at = r.permutation(even);
  // Cell centres, a little displaced: with an even count none is zero where the range is symmetric.
  return tensor(
    dtype,
    shape,
    Array.from({ length: n }, (_, i) => from + ((to - from) * (at[i]! + 0.5 + 0.2 * (r.uniform() - 0.5))) / even),
  );
}

/** Largest relative error over all checked elements; Infinity where a gradient is missing or has another shape. */
export interface Result {
  readonly error: number;
  readonly tolerance: number;
  readonly worst: string;
}

/** The graph under check: `build` returns the values whose weighted sum is differentiated with respect to `inputs`. */
export interface Subject {
  readonly opset?: number;
  readonly domains?: readonly string[];
  readonly dtype: "float32" | "float64";
  /** Step of the differences; default 2⁻¹⁰ in float64 and 2⁻⁶ in float32. */
  readonly step?: number;
  /** Level at which the gradient runs; default all, as training does. */
  readonly optimization?: SessionOptions["optimization"];
  readonly inputs: readonly { readonly name: string; readonly value: Tensor }[];
  readonly build: (b: Build, inputs: readonly Value[]) => readonly Value[];
  /** What the differences are taken of; default: what is built. */
  readonly instead?: (b: Build, inputs: readonly Value[]) => readonly Value[];
}

export function subjectOf(row: Row, seed = 1): Subject {
  const dtype = row.float32 || single.has(row.op) ? "float32" : "float64";
  const r = random(seed, nameOf(row));
  const { instead } = row;
  const inputs = row.inputs.flatMap((a, i) =>
    a === null || isTensor(a) || typeof a === "number" ? [] : [{ name: `x${i}`, value: spread(r, a, dtype) }],
  );
  return {
    dtype,
    inputs,
    ...(row.opset ? { opset: row.opset } : {}),
    ...(row.domain ? { domains: [row.domain] } : {}),
    ...(instead
      ? {
          instead: (b: Build, [x]: readonly Value[]) => [
            b.op(instead.op, [x!, ...(instead.inputs ?? []).map((t) => b.constant(tensor(dtype, t.shape, numbersOf(t))))]),
          ],
        }
      : {}),
    build(b, xs) {
      const given = [...xs];
      const values: (Value | null)[] = [];
      for (const a of row.inputs) {
        if (a === null) values.push(null);
        else if (typeof a === "number") values.push(values[a]!);
        else values.push(isTensor(a) ? b.constant(isFloat(a.dtype) ? tensor(dtype, a.shape, numbersOf(a)) : a) : given.shift()!);
      }
      const node = b.node(row.op, values, row.attrs, row.outputs ?? 1, row.domain ?? "");
      return (row.through ?? node.outputs.map((_, i) => i)).map((i) => node.outputs[i]!);
    },
  };
}

/** A graph and the one that has its gradient, for a cotangent drawn from `seed`. */
interface Pair {
  /** What the differences are taken of. */
  readonly forward: Model;
  readonly outputs: readonly string[];
  readonly backward: Model;
  readonly feeds: Readonly<Record<string, Tensor>>;
  readonly cotangents: readonly Float64Array[];
}

async function differentiate(subject: Subject, seed: number): Promise<Pair> {
  const { dtype, inputs } = subject;
  const r = random(seed, "cotangent");
  const modelOf = (build: Subject["build"]) => {
    const model = newModel("gradcheck", subject.opset ?? 17, 10);
    for (const d of subject.domains ?? []) model.opsets.set(d, 1);
    const xs = inputs.map(({ name, value }) => model.graph.input(name, dtype, value.shape));
    for (const y of build(Build.of(model), xs)) model.graph.addOutput(y);
    return model;
  };
  const forward = modelOf(subject.build);
  const differenced = subject.instead ? modelOf(subject.instead) : forward;
  const feeds = Object.fromEntries(inputs.map(({ name, value }) => [name, value]));

  const backward = await observeShapes(forward, feeds);
  const g = backward.graph;
  const ys = g.outputs.filter((y) => isFloat(y.type!.dtype));
  const outputs = differenced.graph.outputs.filter((_, i) => isFloat(g.outputs[i]!.type!.dtype)).map((y) => y.name);
  const back = Build.of(backward, "loss");
  const cotangents = ys.map((y) => r.fillNormal(new Float64Array(sizeOf(y.shape!))));
  // Types of values that are made after the shapes were observed.
  const typed = (v: Value, shape: readonly number[]) => {
    v.type = { dtype, shape };
    return v;
  };
  const terms = ys.map((y, i) => {
    const shape = y.shape!;
    const product = typed(back.mul(y, back.constant(tensor(dtype, shape, cotangents[i]!))), shape);
    const axes = shape.map((_, j) => j);
    return typed(back.sum(product, axes), []);
  });
  const loss = terms.slice(1).reduce((a, t) => typed(back.add(a, t), []), terms[0]!);
  const wrt = inputs.map(({ name }) => g.inputs.find((v) => v.name === name)!);
  const gradients = grad(backward, loss, wrt);
  g.setOutputs([]);
  for (const w of wrt) {
    const c = gradients.get(w);
    if (!c) throw new Error(`no gradient flows to ${w.name}`);
    g.addOutput(back.op("Identity", [c]));
  }
  removeDead(g);
  return { forward: differenced, outputs, backward, feeds, cotangents };
}

/** The gradients that each of `times` runs of one session gives. */
async function run({ backward, feeds }: Pair, options: SessionOptions, times = 1): Promise<Tensor[][]> {
  const s = await open(backward, { spinning: false, ...options });
  const results: Tensor[][] = [];
  for (let i = 0; i < times; i++) {
    const out = await s.run(feeds);
    results.push(backward.graph.outputs.map((o) => out[o.name]!));
  }
  await s.release();
  return results;
}

/** The gradient with respect to each input, as one run gives it. */
export async function gradientOf(subject: Subject, options: SessionOptions = {}, seed = 1): Promise<Tensor[]> {
  return (await run(await differentiate(subject, seed), options))[0]!;
}

/** Checks the gradients of runs with 1 and 2 threads, and that the same run gives the same bytes. Errors: whatever grad() or the runtime say. */
export async function gradcheck(subject: Subject, seed = 1): Promise<Result> {
  const { dtype, inputs, optimization = "all" } = subject;
  const r = random(seed, "elements");
  // The steps: truncation goes with h⁴, rounding with ε/h.
  const [step, tolerance] = dtype === "float64" ? [2 ** -10, 1e-7] : [2 ** -6, 2e-4];
  const h = subject.step ?? step;
  const pair = await differentiate(subject, seed);
  const [one] = await run(pair, { threads: 1, optimization });
  const [two, again] = await run(pair, { threads: 2, optimization }, 2);
  const found = [one!, two!];
  const unlike = again!.findIndex((t, i) => Buffer.compare(bytesOf(t), bytesOf(two![i]!)) !== 0);
  if (unlike >= 0) return { error: Infinity, tolerance, worst: `${inputs[unlike]!.name} differs between two runs with 2 threads` };
  const differences = await open(pair.forward, { threads: 1, optimization: "disabled" });
  try {
    const at = async (name: string, value: Tensor, i: number, by: number) => {
      const moved = Float64Array.from(numbersOf(value));
      moved[i]! += by;
      const out = await differences.run({ ...pair.feeds, [name]: tensor(dtype, value.shape, moved) }, pair.outputs);
      return pair.outputs.map((n) => numbersOf(out[n]!));
    };
    let [error, worst] = [0, "none"];
    for (const [k, { name, value }] of inputs.entries()) {
      const n = sizeOf(value.shape);
      const checked = n <= 48 ? Array.from({ length: n }, (_, i) => i) : Array.from(r.permutation(n).slice(0, 24));
      const want: number[] = [];
      for (const i of checked) {
        const [p1, m1, p2, m2] = [
          await at(name, value, i, h),
          await at(name, value, i, -h),
          await at(name, value, i, 2 * h),
          await at(name, value, i, -2 * h),
        ];
        let sum = 0;
        for (const [o, v] of pair.cotangents.entries())
          for (let j = 0; j < v.length; j++) sum += v[j]! * (8 * (p1[o]![j]! - m1[o]![j]!) - (p2[o]![j]! - m2[o]![j]!));
        want.push(sum / (12 * h));
      }
      const scale = Math.max(1e-3, ...want.map(Math.abs));
      for (const [t, gradients] of found.entries()) {
        const got = numbersOf(gradients[k]!);
        if (`${gradients[k]!.shape}` !== `${value.shape}`)
          return { error: Infinity, tolerance, worst: `${name} has shape [${gradients[k]!.shape}]` };
        checked.forEach((i, j) => {
          const e = Math.abs(got[i]! - want[j]!) / scale;
          if (!(e <= error)) [error, worst] = [Number.isNaN(e) ? Infinity : e, `${name}[${i}], ${t + 1} threads: ${got[i]} for ${want[j]}`];
        });
      }
    }
    return { error, tolerance, worst };
  } finally {
    await differences.release();
  }
}

/** Values for {@link Row.inputs}. */
export const ints = (...values: number[]) => tensor("int64", [values.length], values);
export const positive = (...shape: number[]) => ({ shape, from: 0.3, to: 3 });
/** A constant of the row's own float type. */
export const numbers = (shape: readonly number[], ...values: number[]) => tensor("float32", shape, values);
