/** k-means of numbers on a line: codebooks for weights. */
import { Fault } from "../../tensor/fault.ts";

export interface Codebook {
  /** k values, rising. */
  readonly centroids: Float32Array<ArrayBuffer>;
  /** The nearest centroid of every value. */
  readonly codes: Uint16Array<ArrayBuffer>;
  /** Σ weight·(value − centroid)². */
  readonly error: number;
}

export interface KmeansOptions {
  /** Most rounds; default 100. It ends sooner where nothing moves. */
  readonly iterations?: number;
  /** How much each value counts (Choi et al. 2017: its second derivative); default 1 each. */
  readonly weights?: ArrayLike<number>;
}

/**
 * Lloyd's algorithm from k centroids spread evenly over the range (the "linear" start of Han et al. 2015, section 3.2, which keeps the few
 * large weights). A cluster that runs empty keeps its place. Errors: k outside 2 … 65536, no values, values that are not finite.
 */
export function kmeans(values: Float32Array, k: number, options: KmeansOptions = {}): Codebook {
  const n = values.length;
  if (!(Number.isInteger(k) && k >= 2 && k <= 65536)) throw new Fault("kmeans", `k must be a whole number from 2 to 65536; got ${k}`);
  if (n === 0) throw new Fault("kmeans", "there are no values");
  const { iterations = 100, weights } = options;
  if (weights && weights.length !== n) throw new Fault("kmeans", `${n} values need ${n} weights; got ${weights.length}`);
  // Sorted values with running sums: a cluster is a range of them.
  const order = weights ? Uint32Array.from({ length: n }, (_, i) => i).sort((a, b) => values[a]! - values[b]!) : null;
  const sorted = order ? Float32Array.from(order, (i) => values[i]!) : values.slice().sort();
  const [min, max] = [sorted[0]!, sorted[n - 1]!];
  if (!(Math.abs(min) < Infinity && Math.abs(max) < Infinity)) throw new Fault("kmeans", "values are not all finite numbers");
  const mass = new Float64Array(n + 1);
  const moment = new Float64Array(n + 1);
  for (let i = 0; i < n; i++) {
    const h = order ? weights![order[i]!]! : 1;
    mass[i + 1] = mass[i]! + h;
    moment[i + 1] = moment[i]! + h * sorted[i]!;
  }
  const centroids = Float64Array.from({ length: k }, (_, j) => min + ((max - min) * j) / (k - 1));
  const bounds = new Uint32Array(k + 1);
  bounds[k] = n;
  for (let round = 0; round < iterations; round++) {
    let moved = false;
    for (let j = 1; j < k; j++) bounds[j] = below(sorted, (centroids[j - 1]! + centroids[j]!) / 2);
    for (let j = 0; j < k; j++) {
      const m = mass[bounds[j + 1]!]! - mass[bounds[j]!]!;
      if (!(m > 0)) continue;
      const c = (moment[bounds[j + 1]!]! - moment[bounds[j]!]!) / m;
      if (c !== centroids[j]) moved = true;
      centroids[j] = c;
    }
    if (!moved) break;
  }
  const out = Float32Array.from(centroids);
  const middles = Float64Array.from({ length: k - 1 }, (_, j) => (out[j]! + out[j + 1]!) / 2);
  const codes = new Uint16Array(n);
  let error = 0;
  for (let i = 0; i < n; i++) {
    const c = below(middles, values[i]!);
    codes[i] = c;
    error += (weights ? weights[i]! : 1) * (values[i]! - out[c]!) ** 2;
  }
  return { centroids: out, codes, error };
}

/** How many of the rising `sorted` are below x. */
function below(sorted: ArrayLike<number>, x: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! < x) low = middle + 1;
    else high = middle;
  }
  return low;
}
