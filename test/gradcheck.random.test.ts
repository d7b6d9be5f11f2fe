/** Gradients of random graphs: rules composed, values read twice, branches that join, broadcasting on the way. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Value } from "../src/ir/graph.ts";
import { type Build, broadcast } from "../src/ops/build.ts";
import { sizeOf } from "../src/tensor/dtype.ts";
import { random } from "../src/tensor/random.ts";
import { numbersOf, tensor } from "../src/tensor/tensor.ts";
import { gradcheck, gradientOf, type Subject } from "./gradcheck/check.ts";

interface Term {
  readonly v: Value;
  readonly shape: readonly number[];
}
/** One op of a program: applied to terms `a` and `z` (counted modulo how many there are), varied by `n`. */
interface Step {
  readonly op: number;
  readonly a: number;
  readonly z: number;
  readonly n: number;
}
type Make = (c: { b: Build; x: Term; z: Term; n: number; k: (v: number) => Value }) => Term | null;

const keep =
  (f: (b: Build, v: Value, k: (v: number) => Value) => Value): Make =>
  ({ b, x, k }) => ({ v: f(b, x.v, k), shape: x.shape });
const simple = (op: string) => keep((b, v) => b.op(op, [v]));
const fits = (p: readonly number[], q: readonly number[]) => {
  const s = broadcast(p, q);
  return [p, q].every((t) => t.every((d, i) => d === 1 || d === s[s.length - t.length + i])) && sizeOf(s) <= 64 ? s : null;
};
const joined =
  (f: (b: Build, x: Value, z: Value, k: (v: number) => Value) => Value): Make =>
  ({ b, x, z, k }) => {
    const shape = fits(x.shape, z.shape);
    return shape && { v: f(b, x.v, z.v, k), shape };
  };
const along =
  (f: (b: Build, v: Value, axis: number, size: number, n: number) => [Value, number]): Make =>
  ({ b, x, n }) => {
    if (x.shape.length === 0) return null;
    const axis = n % x.shape.length;
    const [v, size] = f(b, x.v, axis, x.shape[axis]!, n);
    return { v, shape: x.shape.map((d, i) => (i === axis ? size : d)) };
  };
const reduced =
  (op: "ReduceSum" | "ReduceMean" | "ReduceMax"): Make =>
  ({ b, x, n }) => {
    if (x.shape.length === 0) return null;
    const axis = n % x.shape.length;
    const keepdims = n % 2 === 0;
    return {
      v: b.reduce(op, x.v, [axis], keepdims),
      shape: keepdims ? x.shape.map((d, i) => (i === axis ? 1 : d)) : x.shape.toSpliced(axis, 1),
    };
  };
const onePlusSquare = (b: Build, v: Value, k: (v: number) => Value) => b.add(b.mul(v, v), k(1));

const makes: readonly Make[] = [
  ...["Tanh", "Sigmoid", "Sin", "Cos", "Relu", "Abs", "Neg"].map(simple),
  keep((b, v, k) => b.op("Sqrt", [onePlusSquare(b, v, k)])),
  keep((b, v, k) => b.op("Log", [onePlusSquare(b, v, k)])),
  keep((b, v, k) => b.op("Reciprocal", [onePlusSquare(b, v, k)])),
  keep((b, v, k) => b.op("Pow", [onePlusSquare(b, v, k), k(0.7)])),
  keep((b, v, k) => b.op("Pow", [b.op("Tanh", [v]), k(2)])),
  keep((b, v) => b.op("Exp", [b.op("Tanh", [v])])),
  keep((b, v, k) => b.op("Clip", [v, k(-0.9), k(0.9)])),
  joined((b, x, z) => b.add(x, z)),
  joined((b, x, z) => b.sub(x, z)),
  joined((b, x, z) => b.mul(x, z)),
  joined((b, x, z, k) => b.div(x, onePlusSquare(b, z, k))),
  joined((b, x, z) => b.op("Max", [x, z])),
  joined((b, x, z) => b.op("Where", [b.op("Less", [x, z]), x, z])),
  ({ b, x, z }) => {
    if (x.shape.length < 2 || z.shape.length < 2 || x.shape.at(-1) !== z.shape.at(-2)) return null;
    const lead = fits(x.shape.slice(0, -2), z.shape.slice(0, -2));
    return lead && { v: b.matmul(x.v, z.v), shape: [...lead, x.shape.at(-2)!, z.shape.at(-1)!] };
  },
  ({ b, x, n }) => {
    const perm = x.shape.map((_, i) => (i + n) % x.shape.length);
    return { v: b.op("Transpose", [x.v], { perm }), shape: perm.map((p) => x.shape[p]!) };
  },
  ({ b, x }) => ({ v: b.reshape(x.v, [sizeOf(x.shape)]), shape: [sizeOf(x.shape)] }),
  ({ b, x }) => (sizeOf(x.shape) % 2 ? null : { v: b.reshape(x.v, [2, sizeOf(x.shape) / 2]), shape: [2, sizeOf(x.shape) / 2] }),
  ({ b, x }) => ({ v: b.expand(x.v, [2, ...x.shape]), shape: [2, ...x.shape] }),
  along((b, v, axis, size) => [b.op("Softmax", [v], { axis }), size]),
  along((b, v, axis, size) => [b.op("LogSoftmax", [v], { axis }), size]),
  along((b, v, axis, size) => [b.op("CumSum", [v, b.constant(tensor("int64", [], [axis]))], { reverse: size % 2 }), size]),
  along((b, v, axis, size, n) => [b.op("Gather", [v, b.i64([n % size, 0, -1])], { axis }), 3]),
  along((b, v, axis, size) => [b.op("Slice", [v, b.i64([size > 1 ? 1 : 0]), b.i64([99]), b.i64([axis])]), Math.max(1, size - 1)]),
  along((b, v, axis, size) => [b.op("Concat", [v, b.op("Sin", [v])], { axis }), 2 * size]),
  ({ b, x }) => ({
    v: b.pad(
      x.v,
      x.shape.map(() => 1),
      x.shape.map(() => 0),
    ),
    shape: x.shape.map((d) => d + 1),
  }),
  reduced("ReduceSum"),
  reduced("ReduceMean"),
  reduced("ReduceMax"),
];

interface Program {
  readonly opset: number;
  readonly shapes: readonly (readonly number[])[];
  readonly steps: readonly Step[];
  readonly seed: number;
}

const program: fc.Arbitrary<Program> = fc.record({
  opset: fc.constantFrom(17, 18, 21),
  shapes: fc.array(fc.constantFrom<readonly number[]>([2, 3], [3], [2, 1], [3, 2], [2, 2, 3], [], [4]), { minLength: 1, maxLength: 3 }),
  steps: fc.array(fc.record({ op: fc.nat(999), a: fc.nat(9), z: fc.nat(9), n: fc.nat(11) }), { minLength: 1, maxLength: 9 }),
  seed: fc.nat(1e6),
});

/** The program as a graph whose outputs are the terms nobody reads: an input that nothing reads is one. */
function subjectOf({ opset, shapes, steps, seed }: Program, dtype: "float32" | "float64"): Subject {
  const r = random(seed, "program");
  return {
    opset,
    dtype,
    // So small that a kink is hardly ever straddled.
    step: 2 ** -16,
    // In float64 ONNX Runtime's own fusions make nodes that it has no kernels for (x·σ(x) becomes QuickGelu).
    optimization: dtype === "float64" ? "basic" : "all",
    inputs: shapes.map((shape, i) => ({ name: `x${i}`, value: tensor(dtype, shape, r.fillNormal(new Float32Array(sizeOf(shape)))) })),
    build(b, xs) {
      const terms: Term[] = xs.map((v, i) => ({ v, shape: shapes[i]! }));
      const k = (v: number) => b.scalar(v, dtype);
      for (const { op, a, z, n } of steps) {
        // The latest terms first, so that programs grow deep.
        const pick = (i: number) => terms[terms.length - 1 - (i % terms.length)]!;
        const x = pick(a);
        const c = { b, x, z: pick(z), n, k };
        const made = makes[op % makes.length]!(c) ?? makes[0]!(c)!;
        terms.push(sizeOf(made.shape) > 64 ? reduced("ReduceMean")({ ...c, x: made })! : made);
      }
      return terms.filter(({ v }) => v.uses.size === 0).map(({ v }) => (v.producer ? v : b.op("Identity", [v])));
    },
  };
}

// More of them with other seeds: fc's own variables, e.g. numRuns in fc.configureGlobal.
const settings = { seed: Number(process.env.FC_SEED ?? 20), numRuns: Number(process.env.FC_RUNS ?? 40), endOnFailure: false };

test("a random graph's gradient is that of differences", async () => {
  await fc.assert(
    fc.asyncProperty(program, async (p) => {
      const { error, worst } = await gradcheck(subjectOf(p, "float64"));
      expect(error, worst).toBeLessThan(1e-6);
    }),
    settings,
  );
});

test("the optimized float32 graph gives the same gradient", async () => {
  await fc.assert(
    fc.asyncProperty(program, async (p) => {
      const want = await gradientOf(subjectOf(p, "float64"), { threads: 1, optimization: "basic" });
      for (const threads of [1, 2]) {
        const got = await gradientOf(subjectOf(p, "float32"), { threads, optimization: "all" });
        got.forEach((g, i) => {
          const [a, e] = [numbersOf(g), numbersOf(want[i]!)];
          const scale = Math.max(1e-3, ...Array.from(e, Math.abs));
          a.forEach((v, j) => {
            expect(Math.abs(v - e[j]!) / scale, `x${i}[${j}]: ${v} for ${e[j]}`).toBeLessThan(1e-4);
          });
        });
      }
    }),
    settings,
  );
});
