/** Matrix products. */
import { float, type Value } from "../ir/graph.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { type AxesRule, broadcast } from "./axes.ts";
import { type Build, broadcast as broadcastShapes, dtypeOf, same, shapeOf } from "./build.ts";
import { type Dim, unit } from "./dims.ts";
import type { Op } from "./op.ts";
import { input } from "./rule.ts";

/** Axes of a product of matrices under broadcasting; a vector is a row (left) or a column (right). */
const multipliesMatrices: AxesRule = (t) => {
  const flip = (dims: readonly Dim[], on: number | undefined) => (on ? [...dims.slice(0, -2), dims.at(-1)!, dims.at(-2)!] : dims);
  const [as, bs] = [flip(t.input(0), t.node.int("transA")), flip(t.input(1), t.node.int("transB"))];
  const a = as.length === 1 ? [unit, ...as] : as;
  const b = bs.length === 1 ? [...bs, unit] : bs;
  const y = [...t.output(0)];
  if (bs.length === 1) y.push(unit);
  if (as.length === 1) y.splice(y.length - 1, 0, unit);
  t.unify(a.at(-1)!, b.at(-2)!);
  t.unify(a.at(-2)!, y.at(-2)!);
  t.unify(b.at(-1)!, y.at(-1)!);
  broadcast(t, a.slice(0, -2), y.slice(0, -2));
  broadcast(t, b.slice(0, -2), y.slice(0, -2));
  t.sums(a.at(-1)!, [0, 1]);
  t.zero("any", [0, 1]);
};

/** Batched matrix product with broadcast leading axes; a vector counts as a row (left) or a column (right). */
export const MatMul: Op = {
  axes: multipliesMatrices,
  vjp({ node, g, needs, b }) {
    const [a, w] = [input(node, 0), input(node, 1)];
    const [as, ws] = [shapeOf(a), shapeOf(w)];
    // Vectors become matrices, and their cotangents vectors again.
    const am = as.length === 1 ? [1, ...as] : as;
    const wm = ws.length === 1 ? [...ws, 1] : ws;
    const [m, k, n] = [am.at(-2)!, am.at(-1)!, wm.at(-1)!];
    const shaped = (v: Value, from: readonly number[], to: readonly number[]) => (same(from, to) ? v : b.reshape(v, to));
    if (wm.length === 2) {
      // One weight for all rows: the leading axes are rows too.
      const rows = sizeOf(am) / k;
      const g2 = shaped(g[0]!, shapeOf(node.outputs[0]!), [rows, n]);
      return [
        needs[0] ? shaped(gemm(b, g2, shaped(w, ws, wm), { transB: 1 }), [rows, k], as) : null,
        needs[1] ? shaped(gemm(b, shaped(a, as, [rows, k]), g2, { transA: 1 }), [k, n], ws) : null,
      ];
    }
    const lead = broadcastShapes(am.slice(0, -2), wm.slice(0, -2));
    const gm = shaped(g[0]!, shapeOf(node.outputs[0]!), [...lead, m, n]);
    const swap = (v: Value, ndim: number) => b.transpose(v, [...Array.from({ length: ndim - 2 }, (_, i) => i), ndim - 1, ndim - 2]);
    const back = (v: Value, full: readonly number[], to: readonly number[], shape: readonly number[]) =>
      shaped(b.sumTo(v, full, to), to, shape);
    return [
      needs[0] ? back(b.matmul(gm, swap(w, wm.length)), [...lead, m, k], am, as) : null,
      needs[1] ? back(b.matmul(swap(shaped(a, as, am), am.length), gm), [...lead, k, n], wm, ws) : null,
    ];
  },
  macs(node) {
    const y = node.outputs[0]?.shape;
    const k = node.inputs[0]?.shape?.at(-1);
    return y && k !== undefined ? sizeOf(y) * k : null;
  },
  weight: { input: 1, outputAxis: (node) => Math.max(0, (node.inputs[1]?.type?.shape?.length ?? 2) - 1) },
};

/** alpha · A′B′ + beta · C. */
export const Gemm: Op = {
  axes: (t) => {
    multipliesMatrices(t);
    if (!t.has(2)) return;
    broadcast(t, t.input(2), t.output(0));
    t.zero("biased", [0, 1, 2]);
  },
  vjp({ node, g: [g], needs, b }) {
    const [a, w] = [input(node, 0), input(node, 1)];
    const c = node.inputs[2];
    const alpha = node.float("alpha") ?? 1;
    const beta = node.float("beta") ?? 1;
    const transA = node.int("transA") ? 1 : 0;
    const transB = node.int("transB") ? 1 : 0;
    const dc = () => {
      const sum = b.sumTo(g!, shapeOf(node.outputs[0]!), shapeOf(c!));
      return beta === 1 ? sum : b.mul(sum, b.scalar(beta, dtypeOf(c!)));
    };
    return [
      needs[0] ? (transA ? gemm(b, w, g!, { transA: transB, transB: 1, alpha }) : gemm(b, g!, w, { transB: 1 - transB, alpha })) : null,
      needs[1] ? (transB ? gemm(b, g!, a, { transA: 1, transB: transA, alpha }) : gemm(b, a, g!, { transA: 1 - transA, alpha })) : null,
      needs[2] && c ? dc() : null,
    ];
  },
  macs(node) {
    const y = node.outputs[0]?.shape;
    const k = node.inputs[0]?.shape?.[node.int("transA") ? 0 : 1];
    return y && k !== undefined ? sizeOf(y) * k : null;
  },
  weight: { input: 1, outputAxis: (node) => (node.int("transB") ? 0 : 1) },
};

function gemm(b: Build, x: Value, z: Value, a: { transA?: number; transB?: number; alpha?: number }): Value {
  const { transA = 0, transB = 0, alpha = 1 } = a;
  return b.op("Gemm", [x, z], { transA: transA || undefined, transB: transB || undefined, alpha: alpha === 1 ? undefined : float(alpha) });
}
