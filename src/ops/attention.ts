/** Attention and rotary embedding of opset 23. */

import { attentionMacs, attentionZeros, headsOf, laidOut, perPosition, positionsOf, rotates, scores } from "./heads.ts";
import type { Op } from "./op.ts";

/** softmax(Q·Kᵀ·scale + mask)·V; inputs: Q, K, V, mask, past key, past value. */
export const Attention: Op = {
  axes: (t) => {
    const [q, k, v] = [t.input(0), t.input(1), t.input(2)];
    const shape = (x: typeof q) => x.map((d) => d.size);
    const all = q.length === 4 ? q[1]!.size : t.node.int("q_num_heads")!;
    const kv = k.length === 4 ? k[1]!.size : t.node.int("kv_num_heads")!;
    const h = headsOf(t, { all, kv, width: perPosition(shape(q)) / all, value: perPosition(shape(v)) / kv });
    const batch = q[0]!;
    laidOut(t, q, batch, h.all, h.width);
    laidOut(t, k, batch, h.kv, h.width);
    laidOut(t, v, batch, h.kv, h.valueWidth);
    if (t.has(3)) scores(t, t.input(3), batch, h.all);
    if (t.has(4)) laidOut(t, t.input(4), batch, h.kv, h.width);
    if (t.has(5)) laidOut(t, t.input(5), batch, h.kv, h.valueWidth);
    laidOut(t, t.output(0), batch, h.all, h.valueWidth);
    if (t.gives(1)) laidOut(t, t.output(1), batch, h.kv, h.width);
    if (t.gives(2)) laidOut(t, t.output(2), batch, h.kv, h.valueWidth);
    if (t.gives(3)) scores(t, t.output(3), batch, h.all);
    t.size({ attr: "q_num_heads" }, h.all);
    t.size({ attr: "kv_num_heads" }, h.kv);
    t.keeps("scale", 1 / Math.sqrt(h.width.size), h.width);
    t.sums(h.width, [0]);
    attentionZeros(t, [2, 5], [1, 4]);
  },
  macs: ({ inputs: [q, k, , , past], outputs: [y] }) =>
    attentionMacs(q, y, k?.shape && positionsOf(k.shape) + (past ? (past.shape?.[2] ?? Number.NaN) : 0)),
};

/** Heads turned by their positions; inputs: x, cosines, sines, positions. */
export const RotaryEmbedding: Op = {
  axes: (t) => rotates(t, [1, 2], (_, x) => (x.length === 4 ? x[3]!.size : x[2]!.size / t.node.int("num_heads")!)),
};
