/** A dataset in batches. */
import { Fault } from "../tensor/fault.ts";
import { random } from "../tensor/random.ts";
import type { Batch, Dataset } from "./dataset.ts";

/** The order of the examples in one epoch: shuffled by seed and epoch, or as they stand where there is no seed. */
export function order(length: number, seed?: number, epoch = 0): Uint32Array<ArrayBuffer> {
  return seed === undefined ? Uint32Array.from({ length }, (_, i) => i) : random(seed, `order/${epoch}`).permutation(length);
}

export interface BatchOptions {
  /** Examples a batch; a dataset of feeds with shapes of their own takes 1 only. */
  readonly size: number;
  /** Shuffles, differently in every epoch. Default: the dataset's own order. */
  readonly seed?: number;
  readonly epoch?: number;
  /** Leave out a last batch that is smaller than the others. */
  readonly dropLast?: boolean;
}

/** The batches of one epoch. */
export function* batches(data: Dataset, { size, seed, epoch, dropLast = false }: BatchOptions): Generator<Batch> {
  if (!(Number.isInteger(size) && size >= 1)) throw new Fault("data", `a batch size must be a whole number of at least 1; got ${size}`);
  const indices = order(data.length, seed, epoch);
  for (let at = 0; at < indices.length; at += size) {
    const some = indices.subarray(at, at + size);
    if (dropLast && some.length < size) return;
    yield data.take(some);
  }
}
