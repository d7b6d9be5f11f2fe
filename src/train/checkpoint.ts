/** The whole state of a training run: enough to go on as if it had never stopped. */
import { readSafetensors, writeSafetensors } from "../data/safetensors.ts";
import { Fault } from "../tensor/fault.ts";
import type { Tensor } from "../tensor/tensor.ts";

export interface Checkpoint {
  /** Weights, moments, statistics and the best weights so far, by kind and name: "p/fc1", "m0/fc1" … */
  readonly tensors: ReadonlyMap<string, Tensor>;
  /** What else there is, as JSON: step, seed, history. */
  readonly state: Readonly<Record<string, unknown>>;
}

const format = "pith training 1";

/** A checkpoint as the bytes of a safetensors file. */
export function writeCheckpoint({ tensors, state }: Checkpoint): Uint8Array<ArrayBuffer> {
  return writeSafetensors(tensors, { format, state: JSON.stringify(state) });
}

/** Errors: bytes that are no checkpoint of pith's. */
export function readCheckpoint(bytes: Uint8Array, where = "checkpoint"): Checkpoint {
  const { tensors, metadata } = readSafetensors(bytes, where);
  if (metadata.get("format") !== format)
    throw new Fault(where, `is not a checkpoint of a training run ("${format}"); got "${metadata.get("format") ?? "none"}"`);
  return { tensors, state: JSON.parse(metadata.get("state") ?? "{}") };
}
