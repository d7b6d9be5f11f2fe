/** LSTM, GRU and RNN. */
import { type AxesRule, same } from "./axes.ts";
import { product, units } from "./dims.ts";
import type { Op } from "./op.ts";

/**
 * X [T, N, in], W [directions, gates·H, in], R [directions, gates·H, H], B [directions, 2·gates·H], states [directions, N, H]; with layout 1
 * the batch comes first. A unit whose weights are all zero stays at zero: every cell multiplies tanh 0 or its own former state.
 */
function recurrent(gates: number, peepholes: number): AxesRule {
  return (t) => {
    const [x, w, r] = [t.input(0), t.input(1), t.input(2)];
    const hidden = r[2]!;
    const first = t.node.int("layout") === 1;
    const [batch, time] = first ? [x[0]!, x[1]!] : [x[1]!, x[0]!];
    const directions = units(w[0]!.size);
    const rows = product([units(gates), hidden]);
    t.unify(x[2]!, w[2]!);
    for (const v of [w, r]) t.unify(v[1]!, rows);
    if (t.has(3)) t.unify(t.input(3)[1]!, product([units(2 * gates), hidden]));
    if (t.has(7)) t.unify(t.input(7)[1]!, product([units(peepholes), hidden]));
    for (const i of [1, 2, 3, 7]) if (t.has(i)) t.unify(t.input(i)[0]!, directions);
    if (t.has(4)) t.unify(t.input(4)[0]!, batch);
    const state = first ? [batch, directions, hidden] : [directions, batch, hidden];
    const all = first ? [batch, time, directions, hidden] : [time, directions, batch, hidden];
    for (const i of [5, 6]) if (t.has(i)) same(t, t.input(i), state);
    if (t.gives(0)) same(t, t.output(0), all);
    for (const o of [1, 2]) if (t.gives(o)) same(t, t.output(o), state);
    t.size({ attr: "hidden_size" }, hidden);
    t.freeze(time, t.says("steps along it"));
    t.sums(x[2]!, [0, 1]);
    t.sums(hidden, [2]);
    const still = !t.node.attrs.has("activations") && !t.node.attrs.has("clip");
    t.zero(still ? "all" : "none", [1, 2, 3, 5, 6, 7]);
  };
}

export const LSTM: Op = { axes: recurrent(4, 3) };
export const GRU: Op = { axes: recurrent(3, 0) };
export const RNN: Op = { axes: recurrent(1, 0) };
