/** Cross-layer equalization: the ranges of a layer's channels and of those that read them are made alike. */
import { int, text, type ValuesOf } from "../../data/params.ts";
import type { Model, Node, Value } from "../../ir/graph.ts";
import { matcher, namesOf } from "../../ir/select.ts";
import { allNodes } from "../../ir/walk.ts";
import { Fault } from "../../tensor/fault.ts";
import { liftConstants } from "../../transform/fold.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { channelMaxima, readersOf, rescale, sourceOf } from "./rescale.ts";

/**
 * Nagel et al. 2019, eq. 11: s_i = √(r1_i·r2_i)/r2_i, by which the first layer's channel i is divided and the second's multiplied, so that
 * both have the range √(r1_i·r2_i). 1 where either is 0.
 */
export function equalization(r1: Float32Array, r2: Float32Array): Float32Array<ArrayBuffer> {
  if (r1.length !== r2.length) throw new Fault("equalize", `ranges of ${r1.length} channels; got ${r2.length}`);
  return Float32Array.from(r1, (a, i) => {
    const b = r2[i]!;
    return a > 0 && b > 0 ? Math.min(1e5, Math.max(1e-5, Math.sqrt(a * b) / b)) : 1;
  });
}

const params = {
  rounds: int(20, { min: 0, max: 1000, doc: "most times over all pairs; it ends sooner where nothing moves by 0.1 %" }),
  include: text("*", { doc: "only layers this matches (globs on node and weight names, op:Type)" }),
  exclude: text("", { doc: "not these layers" }),
} as const;

export const equalize = defineTechnique({
  technique: "equalize",
  family: "quantize",
  doc: "Evens out the ranges of channels between layers that follow each other, through Relu and the like: outputs stay, quantizing per tensor loses less. Needs no data.",
  paper: "Nagel et al. 2019, Data-free quantization, section 4.1",
  params,
  neutral: { exclude: "*" },
  apply,
});

const layers = new Set(["Conv", "Gemm", "MatMul"]);

async function apply(model: Model, p: ValuesOf<typeof params>, context: Context): Promise<void> {
  liftConstants(model);
  const include = matcher(p.include);
  const exclude = p.exclude ? matcher(p.exclude) : () => false;
  const chosen = (n: Node) => {
    const names = [...namesOf(n), n.inputs[1]!.name];
    return include(names, n.opType) && !exclude(names, n.opType);
  };
  const pairs = new Map<Value, Node>();
  for (const n of allNodes(model.graph)) {
    const x = n.inputs[0];
    if (!x || pairs.has(x)) continue;
    const readers = readersOf(x);
    const [first] = readers;
    if (!first || readers.length !== x.uses.size || !readers.every((r) => r.axis === first.axis && chosen(r.node))) continue;
    const source = sourceOf(x, first.axis, first.weight.value.data!.shape[first.weight.axis]!);
    if (source && layers.has(source.node.opType) && chosen(source.node)) pairs.set(x, source.node);
  }
  let round = 0;
  for (let moved = true; moved && round < p.rounds; round++) {
    moved = false;
    for (const [x] of pairs) {
      const readers = readersOf(x);
      const weights = readers.map((r) => channelMaxima(r.weight));
      const r2 = weights[0]!.map((_, i) => Math.max(...weights.map((w) => w[i]!)));
      const source = sourceOf(x, readers[0]!.axis, r2.length)!;
      const s = equalization(channelMaxima(source.parts[0]!), r2);
      if (s.every((f) => Math.abs(f - 1) < 1e-3)) continue;
      moved = true;
      rescale(x, s, { readers, mul: false });
    }
    context.progress({ what: "equalize", step: round, of: p.rounds });
  }
  context.note(
    pairs.size
      ? `${pairs.size} pairs of layers equalized in ${round} rounds`
      : "no two layers follow each other with nothing but Relu and the like between; nothing was changed",
  );
}
