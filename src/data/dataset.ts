/** Examples for training, calibration and measuring. */
import { dtypes, sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { bytesOf, type Tensor } from "../tensor/tensor.ts";

/** Tensors by name: what a model is fed with, `labels` or other targets among them. */
export type Batch = Readonly<Record<string, Tensor>>;

export interface Dataset {
  /** Number of examples. */
  readonly length: number;
  /** The arrays' names. */
  readonly names: readonly string[];
  /** False: every example is a whole feed with a shape of its own, to be taken one at a time. */
  readonly stackable: boolean;
  /**
   * The examples at `indices`, stacked along axis 0. Arrays of the same shape and element type in `into` may be overwritten and given back
   * (training reads every batch into the same memory); a dataset need not.
   */
  take(indices: ArrayLike<number>, into?: Batch): Batch;
}

/** A dataset over arrays that share their first axis. Errors: no arrays, or first axes that differ. */
export function fromArrays(arrays: Batch): Dataset {
  const names = Object.keys(arrays);
  const length = arrays[names[0] ?? ""]?.shape[0];
  if (length === undefined) throw new Fault("data", "needs at least one array with an axis of examples");
  for (const n of names) {
    const t = arrays[n]!;
    if (t.shape[0] !== length) throw new Fault("data", `array "${n}" has ${t.shape[0] ?? "no"} examples; "${names[0]}" has ${length}`);
    if (t.strings || dtypes[t.dtype].bits < 8) throw new Fault("data", `array "${n}" is ${t.dtype}; examples need elements of whole bytes`);
  }
  const loaded = new Map<string, Uint8Array>();
  return {
    length,
    names,
    stackable: true,
    take(indices, into) {
      const out: Record<string, Tensor> = {};
      for (const n of names) {
        const t = arrays[n]!;
        const from = loaded.get(n) ?? bytesOf(t);
        loaded.set(n, from);
        const item = t.shape.slice(1);
        const width = (sizeOf(item) * dtypes[t.dtype].bits) / 8;
        const reuse = into?.[n];
        const fits = reuse?.data instanceof Uint8Array && reuse.dtype === t.dtype && reuse.data.length === indices.length * width;
        const data = fits ? (reuse.data as Uint8Array) : new Uint8Array(indices.length * width);
        for (let i = 0; i < indices.length; i++) {
          const at = indices[i]!;
          if (!(at >= 0 && at < length)) throw new Fault("data", `example ${at} of ${length} was asked for`);
          data.set(from.subarray(at * width, (at + 1) * width), i * width);
        }
        out[n] = fits ? reuse : { dtype: t.dtype, shape: [indices.length, ...item], data };
      }
      return out;
    },
  };
}

/** A dataset whose examples are whole feeds, possibly of different shapes (calibration with inputs of varying length). */
export function fromFeeds(feeds: readonly Batch[]): Dataset {
  const first = feeds[0];
  if (!first) throw new Fault("data", "needs at least one feed");
  return {
    length: feeds.length,
    names: Object.keys(first),
    stackable: false,
    take(indices) {
      if (indices.length !== 1) throw new Fault("data", `feeds of their own shapes are taken one at a time; got ${indices.length}`);
      return feeds[indices[0]!]!;
    },
  };
}

/** The examples at `indices` as a dataset of its own. */
export function subset(data: Dataset, indices: ArrayLike<number>): Dataset {
  return {
    length: indices.length,
    names: data.names,
    stackable: data.stackable,
    take: (at, into) =>
      data.take(
        Array.from(at, (i) => indices[i]!),
        into,
      ),
  };
}
