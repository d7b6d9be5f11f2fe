/** Ops that do something in training only. */
import { constantOf } from "../ir/walk.ts";
import { numbersOf } from "../tensor/tensor.ts";
import { same } from "./axes.ts";
import type { Op } from "./op.ts";
import { refused } from "./rule.ts";

/** The identity, as it is in inference. */
export const Dropout: Op = {
  axes: (t) => {
    same(t, t.input(0), t.output(0));
    if (t.gives(1)) same(t, t.input(0), t.output(1));
    t.zero("all", [0]);
  },
  vjp({ node, g }) {
    const mode = node.inputs[2];
    const on = mode ? constantOf(mode) : null;
    if (mode && !(on && numbersOf(on)[0] === 0)) {
      throw refused(node, "it draws its mask anew in each run (training_mode); use Mul with a mask that is an input");
    }
    return [g[0]!];
  },
};
