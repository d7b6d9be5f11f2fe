/** Batches for training: always of one size, in fixed memory, over a shuffled stream of examples that knows no end of epoch. */
import { order } from "../data/batches.ts";
import type { Batch, Dataset } from "../data/dataset.ts";
import type { Value } from "../ir/graph.ts";
import { converted, refuseNaN } from "../runtime/feeds.ts";
import { Fault } from "../tensor/fault.ts";
import { bytesOf, type Tensor } from "../tensor/tensor.ts";

export interface Feeder {
  /** The memory every batch is read into, by array. */
  readonly batch: Batch;
  /** Reads the batch of `step`, counted from 0: examples step·size … of the stream. Returns their numbers. */
  fill(step: number): Promise<Uint32Array>;
  /** Errors: a NaN in the batch last read, by array and example. */
  refuseNaN(): void;
}

/**
 * The stream is epoch after epoch, each in an order of its own from the seed, so that what is left of one epoch's last batch is carried over to
 * the next, and any step's batch is known from its number alone. `inputs`: the model's, whose element types the arrays are brought to.
 * `fresh`: the examples of each epoch but the first; a batch comes whole from those of the epoch its first example belongs to.
 */
export function feeder(
  data: Dataset,
  size: number,
  seed: number,
  inputs: readonly Value[],
  fresh?: (pass: number) => Promise<Dataset>,
): Feeder {
  if (!data.stackable) throw new Fault("train", "examples of differing shapes cannot be trained on in batches; bring them to one shape");
  const types = new Map(inputs.map((v) => [v.name, v]));
  const indices = new Uint32Array(size);
  let epoch = -1;
  let shuffled = new Uint32Array();
  const seek = (step: number) => {
    for (let i = 0; i < size; i++) {
      const at = step * size + i;
      const e = Math.floor(at / data.length);
      if (e !== epoch) {
        shuffled = order(data.length, seed, e);
        epoch = e;
      }
      indices[i] = shuffled[at % data.length]!;
    }
  };
  const typed = (name: string, t: Tensor) => {
    const v = types.get(name);
    return v ? converted(v, t) : t;
  };
  let now = data;
  let pass = 0;
  const turn = async (to: number) => {
    if (!fresh || to === pass) return;
    // What the last pass had may take much memory.
    now = data;
    if (to > 0) now = await fresh(to);
    if (now.length !== data.length) throw new Fault("train", `a pass over ${data.length} examples was followed by one over ${now.length}`);
    pass = to;
  };
  seek(0);
  const batch = Object.fromEntries(
    Object.entries(data.take(indices)).map(([name, t]) => {
      const c = typed(name, t);
      return [name, { dtype: c.dtype, shape: c.shape, data: bytesOf(c).slice() }];
    }),
  );
  return {
    batch,
    async fill(step) {
      await turn(Math.floor((step * size) / data.length));
      seek(step);
      const taken = now.take(indices, batch);
      for (const name in batch) {
        const into = batch[name]!;
        const t = taken[name]!;
        if (t === into) continue;
        const bytes = bytesOf(typed(name, t));
        if (bytes.length !== into.data.length)
          throw new Fault("data", `array "${name}" had the shape [${into.shape}] in the first batch and has [${t.shape}] in another`);
        into.data.set(bytes);
      }
      return indices;
    },
    refuseNaN() {
      for (const name in batch) refuseNaN(name, batch[name]!, (row) => indices[row]!);
    },
  };
}
