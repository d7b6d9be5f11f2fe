/** Sums of products by index names. */
import type { Node } from "../ir/graph.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { same, shapeOf } from "./build.ts";
import { type Dim, unit } from "./dims.ts";
import type { Op } from "./op.ts";
import { input, refused } from "./rule.ts";

/** The index names of each operand and of the result; "..." is spelled out with capitals of its own. */
function labelsOf(node: Node, ndimOf = (i: number) => shapeOf(input(node, i)).length): { operands: string[]; result: string } {
  const equation = node.string("equation")!.replaceAll(" ", "");
  const [left, right] = equation.split("->");
  const operands = left!.split(",");
  const letters = [...equation].filter((c) => /[A-Za-z]/.test(c));
  const spare = [..."ABCDEFGHIJKLMNOPQRSTUVWXYZ"].filter((c) => !letters.includes(c));
  let covered = 0;
  const spelled = operands.map((o, i) => {
    if (!o.includes("...")) return o;
    const n = ndimOf(i) - (o.length - 3);
    covered = Math.max(covered, n);
    return o.replace("...", `<${n}>`);
  });
  const fill = (o: string) => o.replace(/<(\d+)>/, (_, n) => spare.slice(covered - Number(n), covered).join(""));
  const once = [...new Set(letters)].filter((c) => letters.filter((l) => l === c).length === 1).sort();
  const implied = () => (left!.includes("...") ? "..." : "") + once.join("");
  const result = (right ?? implied()).replace("...", `<${covered}>`);
  return { operands: spelled.map(fill), result: fill(result) };
}

/** The cotangent of an operand is the same sum with that operand and the result exchanged. */
export const Einsum: Op = {
  axes: (t) => {
    const { operands, result } = labelsOf(t.node, (i) => t.input(i).length);
    const first = new Map<string, Dim>();
    const all: [string, readonly Dim[]][] = [...operands.map((o, i) => [o, t.input(i)] as [string, readonly Dim[]]), [result, t.output(0)]];
    for (const [labels, dims] of all)
      [...labels].forEach((c, j) => {
        const d = dims[j]!;
        const have = first.get(c);
        if (!have || have === unit) first.set(c, d);
        else if (d !== unit) t.unify(have, d);
      });
    for (const [c, d] of first)
      if (!result.includes(c))
        t.sums(
          d,
          operands.flatMap((o, i) => (o.includes(c) ? [i] : [])),
        );
    t.zero("any");
  },
  vjp({ node, g: [g], needs, b }) {
    const { operands, result } = labelsOf(node);
    const size = new Map<string, number>();
    operands.forEach((labels, i) => {
      if (new Set(labels).size !== labels.length) throw refused(node, `an index appears twice in "${labels}"`);
      [...labels].forEach((c, j) => {
        const d = shapeOf(input(node, i))[j]!;
        if (size.has(c) && size.get(c) !== d) throw refused(node, `index ${c} is broadcast`);
        size.set(c, d);
      });
    });
    return operands.map((labels, i) => {
      if (!needs[i]) return null;
      const shape = shapeOf(input(node, i));
      const others = operands.filter((_, j) => j !== i);
      const seen = new Set([...result, ...others.join("")]);
      // An index only this operand has was summed away: its cotangent is the same all along.
      const kept = [...labels].filter((c) => seen.has(c)).join("");
      const values = node.inputs.filter((_, j) => j !== i);
      const out = b.op("Einsum", [g!, ...values], { equation: `${[result, ...others].join(",")}->${kept}` });
      if (kept === labels) return out;
      const laid = [...labels].map((c) => (seen.has(c) ? size.get(c)! : 1));
      return same(laid, shape) ? b.reshape(out, shape) : b.expand(b.reshape(out, laid), shape);
    });
  },
  macs(node) {
    if (node.inputs.some((v) => !v?.shape)) return null;
    const { operands } = labelsOf(node);
    const size = new Map(operands.flatMap((o, i) => [...o].map((c, j) => [c, shapeOf(input(node, i))[j]!] as const)));
    return sizeOf([...size.values()]);
  },
};
