/** Images moved a little at random: more examples than there are. */
import { dtypes, sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { random } from "../tensor/random.ts";
import { bytesOf } from "../tensor/tensor.ts";
import type { Dataset } from "./dataset.ts";

export interface JitterOptions {
  /** Most pixels an image is moved by, up or down and left or right; what comes in is 0. */
  readonly by: number;
  /** How many times every image stands in the result, each time moved anew. */
  readonly times: number;
  /** Height and width of the planes that the array's elements are, one after the other: [28, 28]. */
  readonly size: readonly [number, number];
  /** The array of images; default "x". */
  readonly of?: string;
  readonly seed?: number;
}

/**
 * `times` times as many examples: example i is example i mod n of `data`, moved by what the seed and i say. Being a function of i alone, training
 * on it repeats and resumes exactly; `evaluateEvery` makes up for the longer epoch. Errors: no such array, elements that are no whole planes.
 */
export function jitter(data: Dataset, { by, times, size: [height, width], of = "x", seed = 0 }: JitterOptions): Dataset {
  if (!data.names.includes(of)) throw new Fault("jitter", `the data has no array "${of}"; it has ${data.names.join(", ")}`);
  const plane = height * width;
  const draws = random(seed, "jitter");
  return {
    length: data.length * times,
    names: data.names,
    stackable: data.stackable,
    take(indices) {
      const batch = data.take(Array.from(indices, (i) => i % data.length));
      const images = batch[of]!;
      const elements = sizeOf(images.shape.slice(1));
      if (elements % plane !== 0)
        throw new Fault("jitter", `"${of}" has examples of [${images.shape.slice(1)}]; planes of ${height}×${width} were told`);
      const bytes = dtypes[images.dtype].bits / 8;
      const from = bytesOf(images);
      const to = new Uint8Array(from.length);
      for (let k = 0; k < indices.length; k++) {
        draws.at = 2 * indices[k]!;
        const [down, right] = [draws.below(2 * by + 1) - by, draws.below(2 * by + 1) - by];
        const columns = width - Math.abs(right);
        for (let p = k * elements; p < (k + 1) * elements; p += plane) {
          for (let y = Math.max(0, down); y < Math.min(height, height + down); y++) {
            const source = (p + (y - down) * width + Math.max(0, -right)) * bytes;
            to.set(from.subarray(source, source + columns * bytes), (p + y * width + Math.max(0, right)) * bytes);
          }
        }
      }
      return { ...batch, [of]: { dtype: images.dtype, shape: images.shape, data: to } };
    },
  };
}
