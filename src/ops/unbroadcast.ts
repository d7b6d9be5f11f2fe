/** Summing a cotangent down to the shape its value had before broadcasting, in the steps that ONNX Runtime does fastest. */
import type { Value } from "../ir/graph.ts";
import type { Build } from "./build.ts";

/** Adjacent axes that are all summed or all kept, as one. */
interface Run {
  readonly summed: boolean;
  readonly dims: number[];
}

const product = (xs: readonly number[]) => xs.reduce((a, d) => a * d, 1);

/**
 * `v` of shape `from`, summed to `to`. One run of axes after the other, the last first. A leading run before others goes in two stages: one
 * stage down the columns takes ONNX Runtime 2 to 30 times as long with two threads, for it cuts the work by columns.
 */
export function unbroadcast(b: Build, v: Value, from: readonly number[], to: readonly number[]): Value {
  const lead = from.length - to.length;
  const runs: Run[] = [];
  from.forEach((d, i) => {
    const summed = i < lead || d !== to[i - lead];
    const last = runs.at(-1);
    if (last && (last.summed === summed || d === 1)) last.dims.push(d);
    else runs.push({ summed, dims: [d] });
  });
  if (!runs.some((r) => r.summed)) return lead === 0 ? v : b.reshape(v, to);
  let out = v;
  let shape = [...from];
  const shaped = (want: number[]) => {
    if (`${want}` !== `${shape}`) out = b.reshape(out, want);
    shape = want;
  };
  const sum = (axis: number) => {
    out = b.sum(out, [axis]);
    shape = shape.toSpliced(axis, 1);
  };
  const sizes = runs.map((r) => product(r.dims));
  for (let i = runs.length - 1; i >= 0; i--) {
    if (!runs[i]!.summed) continue;
    if (i === 0 && sizes.length > 1) {
      const rest = product(sizes.slice(1));
      const groups = groupsOf(runs[0]!.dims);
      if (groups > 1) {
        shaped([groups, sizes[0]! / groups, rest]);
        sum(1);
      } else shaped([sizes[0]!, rest]);
      sum(0);
      sizes.shift();
    } else {
      shaped([...sizes]);
      sum(i);
      sizes.splice(i, 1);
    }
  }
  shaped([...to]);
  return out;
}

/** How many groups a run is summed in first: its first axis, where that is some and the shape then stays as it is; 1: one stage will do. */
function groupsOf(dims: readonly number[]): number {
  const n = product(dims);
  if (dims.length === 2 && dims[0]! >= 2 && dims[0]! <= 64 && n >= 64) return dims[0]!;
  return n < 64 ? 1 : ([8, 16, 4, 2, 10, 5, 7, 3].find((k) => n % k === 0) ?? 1);
}
