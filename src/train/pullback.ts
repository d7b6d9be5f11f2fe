/** The outputs of a net, and a cotangent of them pulled back to its weights: sᵀ·J. */
import type { Batch } from "../data/dataset.ts";
import { cloneModel, type Model, type Value } from "../ir/graph.ts";
import { find, removeDead } from "../ir/walk.ts";
import { Build, shapeOf } from "../ops/build.ts";
import { observeShapes } from "../runtime/shapes.ts";
import { Fault } from "../tensor/fault.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { grad } from "../transform/grad.ts";
import { perExample } from "../transform/perexample.ts";
import type { WithLoss } from "./graph.ts";

/** The input that takes the cotangent. */
export const cotangent = "pith/cotangent";

/** z, and the gradient of Σ s·z for a cotangent s that is an input: of each example by itself (`each`) where the graph has a form for it. */
export async function pullBack(
  attached: WithLoss,
  z: Value,
  feeds: Batch,
  names: readonly string[],
  count: number,
  free: boolean,
  threads: number | undefined,
) {
  const copies = new Map<Value, Value>();
  const net = cloneModel(attached.model, copies);
  const out = copies.get(z)!;
  while (net.graph.outputs.length) net.graph.removeOutput(0);
  net.graph.addOutput(out);
  removeDead(net.graph);
  let model = await observeShapes(net, feeds, { threads });
  let wrt = names.map((name) => find(model.graph, name)!);
  let each = count === 1;
  if (count > 1 && free) {
    const leads = await leading(net, model, feeds, names, count, threads);
    const own = leads?.(find(model.graph, out.name)!) ? perExample(model, wrt, count, leads) : null;
    if (own) {
      const wanted = wrt.map((v) => own.get(v)!.name);
      model = await observeShapes(model, feeds, { threads });
      wrt = wanted.map((name) => find(model.graph, name)!);
      each = true;
    }
  }
  const { graph } = model;
  const b = Build.of(model, "pull");
  // Which may be another value now.
  const y = graph.outputs[0]!;
  const shape = shapeOf(y);
  const s = graph.input(cotangent, "float32", shape);
  const sum = b.op("ReduceSum", [b.mul(y, s)], { keepdims: 0 });
  sum.type = { dtype: "float32", shape: [] };
  sum.producer!.inputs[0]!.type = { dtype: "float32", shape };
  const gradients = gradientOutputs(model, grad(model, sum, wrt), wrt);
  removeDead(graph);
  return { model, z: y.name, shape, gradients, each };
}

/** Outputs of their own for gradients; null where there is none. */
export function gradientOutputs(model: Model, gradients: ReadonlyMap<Value, Value>, wrt: readonly Value[]): (string | null)[] {
  const b = Build.of(model, "pull");
  return wrt.map((v) => {
    const g = gradients.get(v);
    if (!g) return null;
    const own = b.op("Identity", [g]);
    model.graph.addOutput(own);
    return own.name;
  });
}

/** Whose first axis is the batch: the values whose shape differs there, and only there, for a single example. Null: the net takes no such batch. */
async function leading(
  net: Model,
  shaped: Model,
  feeds: Batch,
  names: readonly string[],
  count: number,
  threads: number | undefined,
): Promise<((v: Value) => boolean) | null> {
  const own = new Set(names);
  const one = Object.fromEntries(Object.entries(feeds).map(([name, t]) => [name, own.has(name) || t.shape[0] !== count ? t : firstOf(t)]));
  let single: Model;
  try {
    single = await observeShapes(net, one, { threads });
  } catch (e) {
    if (e instanceof Fault) return null;
    throw e;
  }
  const shapes = new Map<string, readonly number[]>();
  for (const v of valuesOf(single)) if (v.shape) shapes.set(v.name, v.shape);
  const leads = new Set<string>();
  for (const { name, shape } of valuesOf(shaped)) {
    const s = shapes.get(name);
    if (shape && s && shape[0] === count && s[0] === 1 && shape.length === s.length && shape.every((d, i) => i === 0 || d === s[i]))
      leads.add(name);
  }
  return (v) => leads.has(v.name);
}

const valuesOf = (m: Model) => [...m.graph.inputs, ...[...m.graph.nodes].flatMap((n) => n.outputs.filter((v) => v !== null))];

function firstOf(t: Tensor): Tensor {
  const shape = [1, ...t.shape.slice(1)];
  return { ...t, shape, data: (t.data as Uint8Array).subarray(0, t.data.byteLength / t.shape[0]!) };
}
