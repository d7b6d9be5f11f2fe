/** Ops that lay elements out anew without changing them. */
import { shapeOf } from "./build.ts";
import type { Op } from "./op.ts";
import { layout } from "./rule.ts";

const reshapeBack = layout(({ b, x, g }) => b.reshape(g, shapeOf(x)));

export const Reshape: Op = reshapeBack;
export const Flatten: Op = reshapeBack;
export const Squeeze: Op = reshapeBack;
export const Unsqueeze: Op = reshapeBack;
export const Identity: Op = layout(({ g }) => g);

export const Transpose: Op = layout(({ b, node, x, g }) => {
  const perm = node.ints("perm") ?? shapeOf(x).map((_, i, s) => s.length - 1 - i);
  const back = perm.map((_, i) => perm.indexOf(i));
  return b.transpose(g, back);
});
