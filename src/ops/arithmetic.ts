/** Arithmetic under broadcasting. */
import type { Value } from "../ir/graph.ts";
import { constantOf } from "../ir/walk.ts";
import { numbersOf } from "../tensor/tensor.ts";
import { type AxesRule, elementwise, keepsZero, keepsZeroOfFirst, multiplies, same } from "./axes.ts";
import { type Build, dtypeOf, shapeOf } from "./build.ts";
import type { Op } from "./op.ts";
import { binary, input, type Operands, unary, type Variadic, variadic } from "./rule.ts";

export const Add = binary(
  keepsZero,
  ({ g }) => g,
  ({ g }) => g,
);
export const Sub = binary(
  keepsZero,
  ({ g }) => g,
  ({ b, g }) => b.neg(g),
);
export const Mul = binary(
  multiplies,
  ({ b, g, z }) => b.mul(g, z),
  ({ b, g, x }) => b.mul(g, x),
);
/** y = x / z: dz = −g·y / z. */
export const Div = binary(
  keepsZeroOfFirst,
  ({ b, g, z }) => b.div(g, z),
  ({ b, g, y, z }) => b.neg(b.div(b.mul(g, y), z)),
);
export const Neg = unary(keepsZero, ({ b, g }) => b.neg(g));

/** 0^z = 0 for z > 0. */
const raises: AxesRule = (t) => {
  keepsZeroOfFirst(t);
  const e = constantOf(t.node.inputs[1]);
  if (!e || numbersOf(e).some((z) => !(z > 0))) t.zero("none");
};

/** y = x^z: dx = g·z·x^(z−1), zero where z is 0; dz = g·y·ln x, zero where x is not positive. The exponent may be of another type. */
export const Pow = binary(
  raises,
  (p) => {
    const { b, g, x, z } = p;
    const fixed = constantOf(z);
    const e = fixed && fixed.data.byteLength <= 8 ? numbersOf(fixed)[0]! : null;
    if (e === 2) return b.mul(b.mul(g, p.k(2)), x);
    if (e === 3) return b.mul(b.mul(g, p.k(3)), b.mul(x, x));
    const dz = dtypeOf(z);
    const power = b.op("Pow", [x, b.sub(z, b.scalar(1, dz))]);
    const scaled = b.mul(asBase(p), power);
    if (e !== null && e !== 0) return b.mul(g, scaled);
    return b.mul(g, b.where(b.op("Equal", [z, b.scalar(0, dz)]), p.k(0), scaled));
  },
  ({ b, g, x, y, k }) => {
    const positive = b.op("Greater", [x, k(0)]);
    return b.mul(b.mul(g, y), b.where(positive, b.op("Log", [b.where(positive, x, k(1))]), k(0)));
  },
);
const asBase = ({ b, x, z }: Operands) => (dtypeOf(z) === dtypeOf(x) ? z : b.cast(z, dtypeOf(x)));

/** C's fmod (ONNX allows no other on floats): y = x − z·trunc(x/z). */
export const Mod = binary(
  keepsZeroOfFirst,
  ({ g }) => g,
  ({ b, g, x, y, z }) => b.neg(b.mul(g, b.op("Round", [b.div(b.sub(x, y), z)]))),
);

export const Sum = variadic(keepsZero, ({ g }) => g);
export const Mean = variadic(keepsZero, ({ b, g, k, count }) => b.mul(g, k(1 / count)));
/** Operands that tie share the cotangent. */
const chosen = ({ b, g, x, xs, y, once }: Variadic) => {
  const is = (v: Value) => b.cast(b.op("Equal", [v, y]), dtypeOf(y));
  const share = once(() => (xs.length === 1 ? g : b.div(g, b.op("Sum", xs.map(is)))));
  return b.mul(share, is(x));
};
export const Max = variadic(keepsZero, chosen);
export const Min = variadic(keepsZero, chosen);

/** Inputs: condition, x, z. */
export const Where: Op = {
  axes: elementwise("all", [1, 2]),
  vjp({ node, g: [g], needs, b }) {
    const [c, x, z] = [input(node, 0), input(node, 1), input(node, 2)];
    const zero = b.scalar(0, dtypeOf(x));
    const down = (v: Value, to: Value) => b.sumTo(v, shapeOf(node.outputs[0]!), shapeOf(to));
    return [null, needs[1] ? down(b.where(c, g!, zero), x) : null, needs[2] ? down(b.where(c, zero, g!), z) : null];
  },
};

/** Inputs: x, and optionally the scalars min and max, which have a cotangent too: that of the elements held at them. */
export const Clip: Op = {
  axes: (t) => {
    same(t, t.input(0), t.output(0));
    const bound = (input: number, attr: string, none: number) => {
      if (!t.has(input)) return t.node.float(attr) ?? none;
      const c = constantOf(t.node.inputs[input]);
      return c ? numbersOf(c)[0]! : Number.NaN;
    };
    const zero = bound(1, "min", -Infinity) <= 0 && bound(2, "max", Infinity) >= 0;
    t.zero(zero ? "all" : "none", [0]);
  },
  vjp({ node, g: [g], needs, b }) {
    const x = input(node, 0);
    const held = (op: string, bound: Value) => b.sumTo(b.mul(g!, mask(b, op, x, bound)), shapeOf(x), shapeOf(bound));
    const [, min, max] = node.inputs;
    return [
      needs[0] ? b.mul(g!, mask(b, "Equal", x, node.outputs[0]!)) : null,
      needs[1] && min ? held("Less", min) : null,
      needs[2] && max ? held("Greater", max) : null,
    ];
  },
};

/** 1 where the comparison holds, else 0, in the element type of its operands. */
function mask(b: Build, op: string, x: Value, z: Value): Value {
  return b.cast(b.op(op, [x, z]), dtypeOf(x));
}
