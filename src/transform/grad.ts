/** Reverse-mode differentiation: appends the gradient of a loss to its own graph. */
import type { Model, Value } from "../ir/graph.ts";
import { labelOf, reads, sorted } from "../ir/walk.ts";
import { Build } from "../ops/build.ts";
import { opOf } from "../ops/index.ts";
import { isFloat } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { tensor } from "../tensor/tensor.ts";

/**
 * Appends nodes that compute ∂loss/∂w for every w in `wrt` and returns them by w; a w the loss does not depend on has no entry.
 * `loss` is a float scalar (shape [] or [1]), or values of any shape with their cotangents c: then Σ Jᵀc, the c taken as constant.
 * Element types and shapes of all values between must be known; opset ≥ 17.
 * Nothing is computed where no gradient is needed. Errors: an op without a rule on the way, by name.
 */
export function grad(model: Model, loss: Value | ReadonlyMap<Value, Value>, wrt: readonly Value[]): Map<Value, Value> {
  const b = Build.of(model, "grad");
  if (b.opset < 17) throw new Fault("grad", `rules are written for opset 17 and later; upgrade the model first; got opset ${b.opset}`);
  const order = sorted(model.graph);
  // Forward: which values depend on any w.
  const active = new Set<Value>(wrt);
  for (const n of order) {
    const op = opOf(n);
    if (op?.stops) continue;
    const from = reads(n).filter((v) => active.has(v));
    if (from.length > 0) {
      const carries = op?.carries || from.some(isCodes);
      for (const o of n.outputs) if (o && (carries || !o.type || isFloat(o.type.dtype))) active.add(o);
    }
  }
  const one = (l: Value) => b.constant(tensor(l.type?.dtype ?? "float32", l.shape ?? [], [1]));
  const seeds = "get" in loss ? [...loss] : active.has(loss) ? [[loss, one(loss)] as const] : [];
  const cotangents = new Map<Value, Value>(seeds.filter(([l]) => active.has(l)));
  if (cotangents.size === 0) return new Map();
  for (const n of order.reverse()) {
    const g = n.outputs.map((o) => (o ? (cotangents.get(o) ?? null) : null));
    if (g.every((x) => x === null)) continue;
    if (!reads(n).some((v) => active.has(v))) continue;
    const needs = n.inputs.map((v) => v !== null && active.has(v));
    const op = opOf(n);
    const codes = !op?.carries && n.inputs.some((v) => v && active.has(v) && isCodes(v));
    if (!op?.vjp || n.subgraphs.length > 0 || codes) {
      const domain = n.domain ? `${n.domain}.` : "";
      throw new Fault("grad", `no gradient rule for ${domain}${n.opType}${codes ? " of integer codes" : ""} (node "${labelOf(n)}")`);
    }
    const back = op.vjp({ node: n, g, needs, b });
    n.inputs.forEach((v, i) => {
      const c = back[i];
      if (!v || !needs[i] || !c) return;
      const have = cotangents.get(v);
      cotangents.set(v, have ? b.add(have, c) : c);
    });
  }
  const out = new Map<Value, Value>();
  for (const w of wrt) {
    const c = cotangents.get(w);
    if (c) out.set(w, c);
  }
  return out;
}

/** Integers that stand for numbers, where they depend on a weight. */
const isCodes = (v: Value) => v.type !== null && !isFloat(v.type.dtype);
