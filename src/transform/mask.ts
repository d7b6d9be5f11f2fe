/** Masks: which entries of a weight are kept. In a graph a mask is a Mul with a frozen initializer; merging it is multiplying it in. */
import type { Model, Value } from "../ir/graph.ts";
import { Build } from "../ops/build.ts";
import { dtypes } from "../tensor/dtype.ts";
import { bytesOf, numbersOf, tensor, wrap } from "../tensor/tensor.ts";
import { weightsOf } from "./weights.ts";

export interface Mask {
  readonly weight: Value;
  /** The mask as an initializer of the weight's shape and dtype: 1 kept, 0 gone. */
  readonly value: Value;
  /** The masked weight that every reader gets. */
  readonly masked: Value;
}

/**
 * Puts `weight · mask` in the place of the weight for every reader. `keep` has one entry per element: 0 gone, else kept. What is gone gets
 * no gradient; `straight`: it gets that of the masked weight and so goes on learning, and may come back (Guo et al. 2016, eq. 4).
 */
export function insertMask(model: Model, weight: Value, keep: Uint8Array, straight = false): Mask {
  const b = new Build(weight.graph, model.opsets.get("") ?? 1, `${weight.name}/mask`);
  const t = weight.data!;
  const value = weight.graph.initializer(
    `${weight.name}/mask`,
    tensor(
      t.dtype,
      t.shape,
      keep.map((k) => (k ? 1 : 0)),
    ),
  );
  const product = b.mul(weight, value);
  product.type = { dtype: t.dtype, shape: t.shape };
  weight.replaceUses(product, { except: product.producer! });
  if (!straight) return { weight, value, masked: product };
  const masked = b.straightThrough(weight, product);
  masked.type = product.type;
  product.replaceUses(masked, { except: masked.producer! });
  return { weight, value, masked };
}

/** Multiplies masks into their weights (removed entries are exactly +0) and takes the nodes away again. */
export function mergeMasks(masks: readonly Mask[]): void {
  for (const { weight, value, masked } of masks) {
    const keep = numbersOf(value.data!);
    weight.graph.setData(weight, zeroed(weight, keep));
    masked.replaceUses(weight);
    for (const { producer } of [masked, masked.producer!.inputs[1]!]) if (producer) weight.graph.remove(producer);
    weight.graph.removeInitializer(value);
  }
}

/** The weight's tensor with entries removed where `keep` is 0; all others keep their very bits. */
export function zeroed(weight: Value, keep: ArrayLike<number>) {
  const t = weight.data!;
  const width = dtypes[t.dtype].bits / 8;
  const bytes = bytesOf(t).slice();
  for (let i = 0; i < keep.length; i++) if (!keep[i]) bytes.fill(0, i * width, (i + 1) * width);
  return wrap(t.dtype, t.shape, bytes);
}

/** Masks that hold the zeros that weights already have through further training (default: a model's weights). A weight without zeros gets none. */
export function holdZeros(model: Model, weights: readonly Value[] = weightsOf(model).map((w) => w.value)): Mask[] {
  return weights.flatMap((value) => {
    const w = numbersOf(value.data!);
    const keep = Uint8Array.from(w, (x) => (x === 0 ? 0 : 1));
    return keep.includes(0) ? [insertMask(model, value, keep)] : [];
  });
}
