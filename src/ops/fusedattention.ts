/** ONNX Runtime's own attention: what its optimizer and model builder write into transformers. */
import { sizeOf } from "../tensor/dtype.ts";
import { type Axes, same } from "./axes.ts";
import { type Dim, product, sum, units } from "./dims.ts";
import { attended, attentionMacs, attentionZeros, headsOf, laidOut, positionsOf, rotates, scores } from "./heads.ts";
import type { Op } from "./op.ts";

/** A bias that is computed may be other than zero where the weights are. */
function constant(t: Axes, input: number): void {
  if (!t.node.inputs[input]!.data) throw t.refuse("its bias is computed");
}

/**
 * Queries, keys and values by one matrix; inputs: x [N, S, in], weights [in, q + k + v], bias, mask, past [2, N, heads, P, width], what is added
 * to the scores.
 */
export const Attention: Op = {
  axes: (t) => {
    if (t.node.int("do_rotary")) throw t.refuse("it turns its heads");
    const [x, w, y] = [t.input(0), t.input(1), t.output(0)];
    const all = t.node.int("num_heads")!;
    const [q, , v] = t.node.ints("qkv_hidden_sizes") ?? [w[1]!.size / 3, 0, w[1]!.size / 3];
    const cached = t.has(4) || t.gives(1);
    const h = headsOf(t, { all, kv: all, width: q! / all, value: cached ? null : v! / all });
    const [keys, values] = [product([h.all, h.width]), product([h.all, h.valueWidth])];
    t.unify(x[2]!, w[0]!);
    t.unify(w[1]!, sum([keys, keys, values]));
    if (t.has(2)) t.unify(t.input(2)[0]!, w[1]!);
    if (t.has(2)) constant(t, 2);
    const past = (d: readonly Dim[]) => {
      same(t, d, [units(2), x[0]!, h.all, d[3]!, h.width]);
      attended(t, d[3]!);
    };
    if (t.has(4)) past(t.input(4));
    if (t.has(5)) scores(t, t.input(5), x[0]!, h.all);
    if (t.gives(1)) past(t.output(1));
    laidOut(t, y, x[0]!, h.all, h.valueWidth);
    t.unify(x[1]!, y[1]!);
    t.size({ attr: "num_heads" }, h.all);
    [keys, keys, values].forEach((d, at) => {
      t.size({ attr: "qkv_hidden_sizes", at, lacks: true }, d);
    });
    t.keeps("scale", 1 / Math.sqrt(h.width.size), h.width);
    t.sums(x[2]!, [0, 1]);
    t.sums(h.width, [1]);
    attentionZeros(t, [1, 2, 4], []);
  },
  macs: ({ inputs: [x, w, , , past], outputs: [y] }) => {
    const [xs, ws, ys] = [x?.shape, w?.shape, y?.shape];
    if (!xs || !ws || !ys || (past && !past.shape)) return null;
    const keys = xs[1]! + (past?.shape?.[3] ?? 0);
    // Columns are those of queries, of as many keys, and of values.
    const attends = ((ws[1]! - ys[2]!) / 2 + ys[2]!) * keys;
    return xs[0]! * xs[1]! * (sizeOf(ws) + attends);
  },
};

/**
 * Inputs: queries [N, S, heads · width], keys and values as those or as [N, heads, L, width], bias of all three, mask, what is added to the
 * scores, past key and value [N, heads, P, width]. Packed into one tensor they run on no CPU, and are left alone.
 */
export const MultiHeadAttention: Op = {
  axes: (t) => {
    if (!t.has(2)) throw t.refuse("queries, keys and values in one");
    const [q, k, v] = [t.input(0), t.input(1), t.input(2)];
    const all = t.node.int("num_heads")!;
    const apart = v.length === 3 && !t.has(6) && !t.gives(1);
    const h = headsOf(t, { all, kv: all, width: q[2]!.size / all, value: apart ? v[2]!.size / all : null });
    const batch = q[0]!;
    laidOut(t, q, batch, h.all, h.width);
    laidOut(t, k, batch, h.all, h.width);
    laidOut(t, v, batch, h.all, h.valueWidth);
    if (t.has(3)) {
      const keys = product([h.all, h.width]);
      const bias = sum([keys, keys, product([h.all, h.valueWidth])]);
      if (bias.size !== t.input(3)[0]!.size) throw t.refuse("a bias of another length than that of queries, keys and values");
      t.unify(t.input(3)[0]!, bias);
      constant(t, 3);
    }
    if (t.has(5)) scores(t, t.input(5), batch, h.all);
    for (const i of [6, 7]) if (t.has(i)) laidOut(t, t.input(i), batch, h.all, h.width);
    laidOut(t, t.output(0), batch, h.all, h.valueWidth);
    for (const o of [1, 2]) if (t.gives(o)) laidOut(t, t.output(o), batch, h.all, h.width);
    if (t.gives(3)) scores(t, t.output(3), batch, h.all);
    t.size({ attr: "num_heads" }, h.all);
    t.keeps("scale", 1 / Math.sqrt(h.width.size), h.width);
    t.sums(h.width, [0]);
    attentionZeros(t, [2, 3, 7], [1, 6]);
  },
  macs: ({ inputs: [q, k, v, , , , past], outputs: [y] }) => {
    if (!k?.shape || !v || (past && !past.shape)) return null;
    return attentionMacs(q, y, positionsOf(k.shape) + (past?.shape?.[2] ?? 0));
  },
};

/**
 * Heads of queries in groups that share keys and values; inputs: queries [N, S, heads · width] (or queries, keys and values side by side), keys,
 * values, past key and value [N, shared heads, P, width], lengths, cosines and sines, positions, what is added to the scores, sinks.
 */
export const GroupQueryAttention: Op = {
  axes: (t) => {
    if (t.has(12) || t.has(13)) throw t.refuse("its cache is quantized");
    const q = t.input(0);
    const [all, kv] = [t.node.int("num_heads")!, t.node.int("kv_num_heads")!];
    const one = !t.has(1);
    const h = headsOf(t, { all, kv, width: q[2]!.size / (one ? all + 2 * kv : all), value: null });
    const batch = q[0]!;
    t.freeze(h.width, t.says("takes only heads whose width is a multiple of 8"));
    if (one) {
      const keys = product([h.kv, h.width]);
      t.unify(q[2]!, sum([product([h.all, h.width]), keys, keys]));
      attended(t, q[1]!);
    } else {
      laidOut(t, q, batch, h.all, h.width);
      for (const i of [1, 2]) laidOut(t, t.input(i), batch, h.kv, h.width);
    }
    for (const i of [3, 4]) if (t.has(i)) laidOut(t, t.input(i), batch, h.kv, h.width);
    if (t.has(10)) scores(t, t.input(10), batch, h.all);
    if (t.has(11)) t.unify(t.input(11)[0]!, h.all);
    laidOut(t, t.output(0), batch, h.all, h.width);
    for (const o of [1, 2]) if (t.gives(o)) laidOut(t, t.output(o), batch, h.kv, h.width);
    if (t.gives(3)) scores(t, t.output(3), batch, h.all);
    t.size({ attr: "num_heads" }, h.all);
    t.size({ attr: "kv_num_heads" }, h.kv);
    attentionZeros(t, [one ? 0 : 2, 4], [one ? 0 : 1, 3]);
  },
  macs: ({ inputs: [q, , , past], outputs: [y, present] }) => {
    const [qs, ys] = [q?.shape, y?.shape];
    const keys = present?.shape?.[2] ?? (past ? null : qs?.[1]);
    return ys && keys != null ? ys[0]! * ys[1]! * keys * 2 * ys[2]! : null;
  },
};

/** Heads turned by their positions; inputs: x, positions, cosines, sines. */
export const RotaryEmbedding: Op = {
  axes: (t) =>
    rotates(t, [2, 3], (half, x) => {
      if (x.length === 4) return x[3]!.size;
      return t.node.int("rotary_embedding_dim") ? x[2]!.size / t.node.int("num_heads")! : 2 * half;
    }),
};

/** Word, position and segment embeddings, added and normalized; outputs: that, a mask, the sum. */
export const EmbedLayerNormalization: Op = {
  axes: (t) => {
    const y = t.output(0);
    const hidden = y[2]!;
    for (const i of [2, 3, 4]) {
      if (!t.has(i)) continue;
      t.unify(t.input(i)[1]!, hidden);
      t.freeze(t.input(i)[0]!, t.says("looks rows up in it"));
    }
    for (const i of [5, 6]) t.unify(t.input(i)[0]!, hidden);
    if (t.gives(2)) same(t, t.output(2), y);
    t.inexact(hidden, "centres over it");
    t.zero("none");
  },
};
