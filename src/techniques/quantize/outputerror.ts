/** What quantizing does to the model's outputs as a whole, which the layers' own errors do not foretell; and which layers to spare. */
import type { Dataset } from "../../data/dataset.ts";
import type { Model } from "../../ir/graph.ts";
import { fidelity } from "../../measure/fidelity.ts";
import { Fault } from "../../tensor/fault.ts";

/** ‖y − ŷ‖ / ‖y‖ over all outputs and examples; ∞ where an output has another shape or is no number any more. */
export async function outputError(before: Model, after: Model, data: Dataset, threads: number): Promise<number> {
  try {
    const found = await fidelity(before, after, data, { threads });
    return found.find((m) => m.metric === "relativeError")!.value / 100;
  } catch (e) {
    if (e instanceof Fault && e.where === "fidelity") return Infinity;
    throw e;
  }
}

/**
 * The fewest layers, most harmful first, without which the error of the outputs is at most `limit`. `errorOf` tries a set of layers. A
 * layer's harm is the error with it alone quantized; how many must go is found by halving (the error falls with each, nearly). All of them
 * if nothing less will do.
 */
export async function harmfulLayers(
  names: readonly string[],
  limit: number,
  errorOf: (quantized: ReadonlySet<string>) => Promise<number>,
  progress: (done: number, of: number) => void = () => {},
): Promise<{ readonly name: string; readonly harm: number }[]> {
  if ((await errorOf(new Set(names))) <= limit) return [];
  const harms: { name: string; harm: number }[] = [];
  for (const name of names) {
    harms.push({ name, harm: await errorOf(new Set([name])) });
    progress(harms.length, names.length);
  }
  // Equal ones in the model's order.
  harms.sort((a, b) => b.harm - a.harm);
  // What nobody could keep: a layer that breaks the limit alone.
  let low = harms.filter((h) => h.harm > limit).length;
  let high = names.length;
  low = Math.max(low, 1);
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((await errorOf(new Set(harms.slice(middle).map((h) => h.name)))) <= limit) high = middle;
    else low = middle + 1;
  }
  return harms.slice(0, high);
}
