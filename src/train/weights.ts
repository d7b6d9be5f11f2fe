/** From a model's weights to float32 and back. */
import type { Model } from "../ir/graph.ts";
import { constantOf, find } from "../ir/walk.ts";
import { Fault } from "../tensor/fault.ts";
import { tensor } from "../tensor/tensor.ts";
import { dropDefault } from "../transform/weights.ts";

/**
 * Puts new values into the initializer (or the Constant node) of that name, in its own dtype. One that was also a graph input (an overridable
 * default) stops being one. Errors: no such weight.
 */
export function writeBack(model: Model, name: string, values: Float32Array): void {
  const v = find(model.graph, name);
  const old = constantOf(v);
  if (!v || !old) throw new Fault("train", `the model has no weight "${name}" to write back to`);
  const data = tensor(old.dtype, old.shape, values);
  if (v.data) {
    dropDefault(model.graph, v);
    model.graph.setData(v, data);
  } else v.producer!.attrs.set("value", { type: "tensor", value: data });
}
