/** Examples mixed of two: as many others as one likes, for a teacher to answer. */
import { dtypes, sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { random } from "../tensor/random.ts";
import { bytesOf, type Tensor } from "../tensor/tensor.ts";
import type { Dataset } from "./dataset.ts";

/**
 * As many examples, each spliced of two: of the arrays in `names`, example i has the first part from example i of `data`, the rest from a partner
 * drawn at random (as in CutMix, Yun et al. 2019). Each array is cut along the longest axis of its examples (the first of equals), all at one
 * share of it, so that arrays of one length, such as ids and their mask, are cut at one place; axes of 1 are not. Elements stay whole: ids are
 * ids. Arrays of other names stay example i's own, whether or not they are still true of it: targets must be given anew. Partner and cut are a
 * function of seed, `pass` and i alone. Examples of differing shapes stay as they are.
 */
export function mixed(data: Dataset, names: readonly string[], seed: number, pass = 0): Dataset {
  const missing = names.find((n) => !data.names.includes(n));
  if (missing !== undefined) throw new Fault("mix", `the data has no array "${missing}"; it has ${data.names.join(", ")}`);
  if (!data.stackable) return data;
  const draws = random(seed, `mix/${pass}`);
  return {
    ...data,
    take(indices) {
      const drawn = Array.from(indices, (i) => {
        draws.at = 8 * i;
        return { partner: draws.below(data.length), share: draws.uniform() };
      });
      const own = data.take(indices);
      const other = data.take(drawn.map((d) => d.partner));
      const shares = drawn.map((d) => d.share);
      return { ...own, ...Object.fromEntries(names.map((n) => [n, spliced(own[n]!, other[n]!, shares)])) };
    },
  };
}

/** Two tensors [n, …], the first up to a cut in each example, the second from there. */
function spliced(first: Tensor, second: Tensor, shares: readonly number[]): Tensor {
  const [n, ...item] = first.shape as [number, ...number[]];
  const extent = Math.max(1, ...item);
  const axis = item.indexOf(extent);
  if (extent === 1) return first;
  const data = bytesOf(first).slice();
  const from = bytesOf(second);
  const outer = sizeOf(item.slice(0, axis));
  const inner = (sizeOf(item.slice(axis + 1)) * dtypes[first.dtype].bits) / 8;
  for (let i = 0; i < n; i++) {
    const cut = 1 + Math.floor(shares[i]! * (extent - 1));
    for (let o = 0; o < outer; o++) {
      const at = (i * outer + o) * extent * inner;
      data.set(from.subarray(at + cut * inner, at + extent * inner), at + cut * inner);
    }
  }
  return { dtype: first.dtype, shape: first.shape, data };
}
