/** Low-rank factorization: one linear layer becomes two thin ones. */
import { flag, int, number, optional, text } from "../../data/params.ts";
import { Fault } from "../../tensor/fault.ts";
import { svd as decompose } from "../../tensor/linalg/svd.ts";
import { numbersOf, tensor } from "../../tensor/tensor.ts";
import { liftConstants } from "../../transform/fold.ts";
import { dropDefault, otherReader, type Weight, weightsOf } from "../../transform/weights.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { cannotSplit, splitWeight } from "./pair.ts";
import { largestSmaller, lost, rankByEnergy, ranksByBudget, type Spectrum } from "./ranks.ts";

/**
 * W ≈ U_k √S_k · √S_k V_kᵀ, the best approximation of its rank in the Frobenius and the spectral norm (Eckart, Young 1936). With rows × columns
 * weights before, rank · (rows + columns) after. Notes each layer's rank, relative error ‖W − UV‖ / ‖W‖ and parameters, and every layer that stays.
 */
export const svd = defineTechnique({
  technique: "svd",
  family: "factorize",
  doc: "Splits MatMul, Gemm and 1×1 Conv in two thin layers by truncated singular value decomposition.",
  paper: "Eckart & Young 1936; in neural nets: Denton et al. 2014, Exploiting Linear Structure Within Convolutional Networks",
  params: {
    rank: optional(int(1, { min: 1, doc: "singular values kept in every layer" })),
    energy: optional(
      number(1, { min: 0, max: 1, doc: "fraction of each layer's squared singular values kept; 0.9 where neither of the others is given" }),
    ),
    budget: optional(
      number(1, { min: 0, max: 1, doc: "fraction of the selected layers' weights kept in all; ranks follow by error per weight" }),
    ),
    include: optional(text("*", { doc: "only layers this selector matches" })),
    exclude: optional(text("", { doc: "not layers this selector matches" })),
    evenIfLarger: flag(false, { doc: "split layers that do not get smaller too" }),
  },
  neutral: { energy: 1 },
  stronger: [{ energy: 0.9 }, { energy: 0.5 }],
  async apply(model, p, context) {
    const given = [p.rank, p.energy, p.budget].filter((x) => x !== null);
    if (given.length > 1) throw new Fault("svd", `takes one of rank, energy and budget; got ${given.length}`);
    liftConstants(model);
    const selected = weightsOf(model, { ...(p.include ? { include: p.include } : {}), ...(p.exclude ? { exclude: p.exclude } : {}) });
    const weights = splittable(selected, context);
    if (weights.length === 0) throw new Fault("svd", "no MatMul, Gemm or 1×1 Conv with weights of its own is selected");
    const layers: Layer[] = [];
    for (const weight of weights) {
      context.progress({ what: "svd", step: layers.length, of: weights.length });
      layers.push(decomposed(weight, p.evenIfLarger));
      await new Promise((resolve) => setTimeout(resolve));
    }
    const ranks =
      p.budget === null
        ? layers.map((l) => (p.rank === null ? rankByEnergy(l.s, p.energy ?? 0.9) : Math.min(p.rank, l.s.length)))
        : ranksByBudget(layers, p.budget);
    if (!ranks) throw new Fault("svd", `budget ${p.budget} is less than rank 1 takes in every layer; a larger one would be right`);
    const opset = model.opsets.get("") ?? 1;
    layers.forEach((layer, i) => {
      replace(layer, ranks[i]!, p.evenIfLarger, opset, context);
    });
    context.progress({ what: "svd", step: layers.length, of: layers.length });
  },
});

interface Layer extends Spectrum {
  readonly weight: Weight;
  /** √S folded into both sides; `u` [rows, kept], `v` [kept, columns], kept being the largest rank that can be chosen. */
  readonly u: Float32Array | Float64Array;
  readonly v: Float32Array | Float64Array;
  readonly kept: number;
}

/** The weights that can be split. Notes the others, by reason. */
function splittable(weights: readonly Weight[], context: Context): Weight[] {
  const reasons = new Map<string, string[]>();
  const out = weights.filter((w) => {
    const other = otherReader(w);
    const reason = w.uses.map((u) => cannotSplit(u, w.value)).find((r) => r !== null) ?? (other ? `${other} reads it too` : null);
    if (reason) reasons.set(reason, [...(reasons.get(reason) ?? []), w.value.name]);
    return !reason;
  });
  for (const [reason, names] of reasons) context.note(`stays as it is (${reason}): ${names.join(", ")}`);
  return out;
}

function decomposed(weight: Weight, whole: boolean): Layer {
  const { data, name } = weight.value;
  const [rows, columns] = data!.shape as [number, number];
  const numbers = numbersOf(data!);
  let parts: ReturnType<typeof decompose>;
  try {
    parts = decompose(numbers, rows, columns);
  } catch (e) {
    throw e instanceof Fault ? new Fault(`svd: weight "${name}"`, e.message, { cause: e }) : e;
  }
  const { s } = parts;
  const kept = whole ? s.length : Math.min(s.length, largestSmaller({ rows, columns, s }));
  const like = (n: number) => (data!.dtype === "float64" ? new Float64Array(n) : new Float32Array(n));
  const root = s.map(Math.sqrt);
  const u = like(rows * kept);
  const v = like(kept * columns);
  for (let i = 0; i < rows; i++) for (let k = 0; k < kept; k++) u[i * kept + k] = parts.u[i * s.length + k]! * root[k]!;
  for (let k = 0; k < kept; k++) for (let j = 0; j < columns; j++) v[k * columns + j] = parts.vt[k * columns + j]! * root[k]!;
  return { weight, rows, columns, s, u, v, kept };
}

/** Puts the two factors in the layer's place, if they are smaller (or it is wanted anyway). */
function replace(layer: Layer, rank: number | null, evenIfLarger: boolean, opset: number, context: Context): void {
  const { weight, rows, columns, s, u, v, kept } = layer;
  const { value } = weight;
  const dtype = value.data!.dtype;
  const shape = value.data!.shape.join(", ");
  const full = rows * columns;
  const parameters = (rank ?? 0) * (rows + columns);
  const why =
    rank === null
      ? "whole within the budget"
      : parameters >= full && !evenIfLarger
        ? `rank ${rank} would take ${parameters} parameters, not fewer than ${full}`
        : null;
  if (rank === null || why) {
    context.note(`${value.name} [${shape}]: stays as it is: ${why}`);
    return;
  }
  const left = u.filter((_, i) => i % kept < rank);
  const right = v.subarray(0, rank * columns);
  if (dropDefault(value.graph, value)) context.note(`"${value.name}" is no longer an input that callers may override`);
  splitWeight(weight, tensor(dtype, [rows, rank], left), tensor(dtype, [rank, columns], right), opset);
  const error = Math.sqrt(lost(s)[rank]!);
  context.note(
    `${value.name} [${shape}]: rank ${rank} of ${s.length}, relative error ${error.toPrecision(3)}, ${full} → ${parameters} parameters`,
  );
}
