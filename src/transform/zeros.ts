/** Where removing channels whose weights are all zero changes what a model computes, and by which node. */
import type { Value } from "../ir/graph.ts";
import { labelOf } from "../ir/walk.ts";
import { atoms, type Dim } from "../ops/dims.ts";
import type { Dimensions, Said } from "./dimensions.ts";

/**
 * Follows zeros through the graph: of each value, the atoms at whose removed positions it is zero if every initializer is. A sum over an
 * atom's positions is not changed by removing zeros; whatever else goes over them is. Returns the reason of each atom that has one.
 */
export function inexactAtoms({ of, said }: Dimensions): Map<Dim, string> {
  const why = new Map<Dim, string>();
  const zeros = new Map<Value, Set<Dim>>();
  const none = new Set<Dim>();
  const carried = (v: Value) => {
    const out = new Set<Dim>();
    for (const d of of(v) ?? []) atoms(d, out);
    return out;
  };
  const zeroOf = (v: Value): Set<Dim> => {
    let z = zeros.get(v);
    if (!z && v.data) zeros.set(v, (z = carried(v)));
    return z ?? none;
  };
  const note = (dim: Dim, reason: string, but: (atom: Dim) => boolean) => {
    for (const a of atoms(dim)) if (!but(a) && !why.has(a)) why.set(a, reason);
  };
  for (const s of said) {
    for (const v of s.gives) {
      if (!v) continue;
      const dims = of(v) ?? [];
      // On two axes of the output, or summed over too: an operand that is zero there does not make all of it zero.
      const twice = new Set<Dim>();
      const here = new Set<Dim>();
      for (const { dim } of s.sums) atoms(dim, twice);
      for (const d of dims) for (const a of atoms(d)) (here.has(a) ? twice : here).add(a);
      zeros.set(v, new Set([...here].filter((a) => zeroAt(a, s.zero.kind, s.zero.from, zeroOf, carried, twice.has(a)))));
    }
    const name = `${s.node.opType} "${labelOf(s.node)}"`;
    const isZero = (from: readonly number[]) => (a: Dim) => from.some((i) => s.node.inputs[i] && zeroOf(s.node.inputs[i]).has(a));
    for (const { dim, from } of s.sums) note(dim, `${name} sums over it what need not be zero`, isZero(from));
    for (const { dim } of s.averages) note(dim, `${name} averages over it what need not be zero`, isZero([0]));
    for (const { dim, why: reason } of s.inexact) note(dim, reason, () => false);
  }
  return why;
}

function zeroAt(
  atom: Dim,
  kind: Said["zero"]["kind"],
  ins: readonly Value[],
  zeroOf: (v: Value) => ReadonlySet<Dim>,
  carried: (v: Value) => ReadonlySet<Dim>,
  twice: boolean,
): boolean {
  const zero = (v: Value) => zeroOf(v).has(atom);
  const carrying = () => ins.filter((v) => carried(v).has(atom));
  switch (kind) {
    case "any":
      return twice ? carrying().every(zero) : ins.some(zero);
    case "all":
      return ins.length > 0 && ins.every(zero);
    case "biased":
      return zero(ins.at(-1)!) && ins.slice(0, -1).some(zero);
    case "joined":
      return carrying().every(zero);
    case "always":
      return true;
    default:
      return false;
  }
}
