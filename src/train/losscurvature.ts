/** A loss as a function of the outputs it compares, with its first and second derivatives. */
import type { Batch } from "../data/dataset.ts";
import { cloneModel, type Value } from "../ir/graph.ts";
import { find, removeDead } from "../ir/walk.ts";
import { Build, shapeOf } from "../ops/build.ts";
import { observeShapes } from "../runtime/shapes.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { wrap } from "../tensor/tensor.ts";
import { fold } from "../transform/fold.ts";
import { grad } from "../transform/grad.ts";
import type { WithLoss } from "./graph.ts";
import { gradientOutputs } from "./pullback.ts";

/** The input that takes a direction in the space of the outputs. */
export const direction = "pith/direction";

/** The loss by itself, z its input; its gradient by z, and the product of its second derivatives by z with a direction. */
export async function lossOf(attached: WithLoss, z: Value, feeds: Batch, threads: number | undefined) {
  const copies = new Map<Value, Value>();
  const open = cloneModel(attached.model, copies);
  const out = copies.get(z)!;
  const shape = shapeOf(find((await observeShapes(open, feeds, { threads })).graph, out.name)!);
  const cut = open.graph.input("pith/z", "float32", shape);
  out.replaceUses(cut);
  const loss = copies.get(attached.loss)!.name;
  removeDead(open.graph);
  const fed: Batch = { ...feeds, [cut.name]: wrap("float32", shape, new Float32Array(sizeOf(shape))) };
  let model = await observeShapes(open, fed, { threads });
  await fold(model, { shapes: true, threads });
  const at = (name: string) => find(model.graph, name)!;
  const g = grad(model, at(loss), [at(cut.name)]).get(at(cut.name));
  if (!g) throw new Fault("gauss-newton", "the loss does not depend on the model's output");
  const [gradient] = gradientOutputs(model, new Map([[at(cut.name), g]]), [at(cut.name)]);
  model = await observeShapes(model, fed, { threads });
  await fold(model, { shapes: true, threads });
  const v = model.graph.input(direction, "float32", shape);
  const b = Build.of(model, "bend");
  const product = b.mul(at(gradient!), v);
  product.type = { dtype: "float32", shape };
  const sum = b.op("ReduceSum", [product], { keepdims: 0 });
  sum.type = { dtype: "float32", shape: [] };
  const [second] = gradientOutputs(model, grad(model, sum, [at(cut.name)]), [at(cut.name)]);
  if (!second) throw new Fault("gauss-newton", "the loss is linear in the model's output: it has no second derivative");
  return { model, cut: cut.name, loss, gradient: gradient!, product: second };
}

/** S lower triangular with S·Sᵀ = A [n, n], for a symmetric A ≥ 0: Cholesky, in which directions of no curvature give columns of zeros. */
export function root(a: Float64Array, n: number): Float64Array<ArrayBuffer> {
  const s = new Float64Array(n * n);
  let most = 0;
  for (let i = 0; i < n; i++) most = Math.max(most, a[i * n + i]!);
  for (let c = 0; c < n; c++) {
    let d = a[c * n + c]!;
    for (let k = 0; k < c; k++) d -= s[c * n + k]! ** 2;
    // Rounding of float32, which A comes in.
    if (!(d > 1e-6 * most)) continue;
    s[c * n + c] = Math.sqrt(d);
    for (let i = c + 1; i < n; i++) {
      let x = a[i * n + c]!;
      for (let k = 0; k < c; k++) x -= s[i * n + k]! * s[c * n + k]!;
      s[i * n + c] = x / s[c * n + c]!;
    }
  }
  return s;
}
