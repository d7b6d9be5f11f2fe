/** Arithmetic under broadcasting. */
import { binary, unary } from "./rule.ts";

export const Add = binary(
  ({ g }) => g,
  ({ g }) => g,
);
export const Sub = binary(
  ({ g }) => g,
  ({ b, g }) => b.neg(g),
);
export const Mul = binary(
  ({ b, g, z }) => b.mul(g, z),
  ({ b, g, x }) => b.mul(g, x),
);
/** y = x / z: dz = −g·y / z. */
export const Div = binary(
  ({ b, g, z }) => b.div(g, z),
  ({ b, g, y, z }) => b.neg(b.div(b.mul(g, y), z)),
);
export const Neg = unary(({ b, g }) => b.neg(g));
