/** What a net is without some of its residual blocks, and what each block does: by gates in the graph, so that one session serves all choices. */
import type { Dataset } from "../../data/dataset.ts";
import { cloneModel, type Model, type Value } from "../../ir/graph.ts";
import { find, removeDead } from "../../ir/walk.ts";
import { Build } from "../../ops/build.ts";
import { feed } from "../../runtime/feeds.ts";
import { open } from "../../runtime/session.ts";
import { sizeOf } from "../../tensor/dtype.ts";
import { floatsOf, type Tensor, tensor, wrap } from "../../tensor/tensor.ts";
import { attach, feedInstead, trainingGraph } from "../../train/graph.ts";
import type { Loss } from "../../train/loss.ts";
import type { Block } from "../../transform/residual.ts";

export interface GateOptions {
  readonly threads: number;
  readonly batchSize: number;
}

interface Gated {
  readonly model: Model;
  /** Each block's gate, a scalar 1, by its place. */
  readonly gates: readonly Value[];
  /** Each block's skip and its output, before the gate. */
  readonly ends: readonly (readonly [Value, Value])[];
}

/** A copy in which each block's output is skip + gate·(output − skip). */
function gatedCopy(model: Model, blocks: readonly Block[]): Gated {
  const map = new Map<Value, Value>();
  const copy = cloneModel(model, map);
  const b = Build.of(copy, "depth");
  const now = new Map<Value, Value>();
  const gates: Value[] = [];
  const ends: [Value, Value][] = [];
  for (const block of blocks) {
    const output = map.get(block.output)!;
    const before = map.get(block.skip)!;
    const skip = now.get(before) ?? before;
    const dtype = output.type?.dtype ?? "float32";
    const gate = copy.graph.initializer("depth.gate", tensor(dtype, [], [1]));
    const users = [...output.uses];
    const y = b.add(skip, b.mul(gate, b.sub(output, skip)));
    for (const use of users) {
      if ("node" in use) use.node.setInput(use.index, y);
      else use.graph.setOutput(use.index, y);
    }
    now.set(output, y);
    gates.push(gate);
    ends.push([skip, output]);
  }
  return { model: copy, gates, ends };
}

/** The first examples, as a batch that gives shapes. */
const firstOf = (data: Dataset, n: number) => data.take(Array.from({ length: Math.min(n, data.length) }, (_, i) => i));

export interface Losses {
  /** The mean loss over the data with all blocks but those. */
  without(removed: Iterable<number>): Promise<number>;
  release(): Promise<void>;
}

/** The loss of the net without any choice of `blocks`, given by their places. */
export async function lossesWithout(
  model: Model,
  blocks: readonly Block[],
  data: Dataset,
  loss: Loss,
  options: GateOptions,
): Promise<Losses> {
  const { model: copy, gates } = gatedCopy(model, blocks);
  const size = data.stackable ? options.batchSize : 1;
  const attached = attach(copy, loss, firstOf(data, size));
  removeDead(copy.graph);
  const running = cloneModel(copy);
  for (const g of gates) feedInstead(running, find(running.graph, g.name)!);
  const session = await open(running, { threads: options.threads });
  return {
    async without(removed) {
      const off = new Set(removed);
      const fed = Object.fromEntries(gates.map((g, i) => [g.name, gateOf(off.has(i) ? 0 : 1)]));
      let sum = 0;
      for (const { feeds, count } of feed(copy, data, { batchSize: size })) {
        const out = await session.run({ ...feeds, ...fed }, [attached.loss.name]);
        sum += floatsOf(out[attached.loss.name]!)[0]! * count;
      }
      return sum / data.length;
    },
    release: () => session.release(),
  };
}

const gateOf = (x: number): Tensor => wrap("float32", [], Float32Array.of(x));

/**
 * Block influence of each unit (Men et al. 2024, ShortGPT, eq. 1): 1 − E[cos(x, y)] of the stream's vectors before and behind it, along the
 * channels of 4-D values and the last axis of others; without the blocks in `removed`.
 */
export async function influences(
  model: Model,
  blocks: readonly Block[],
  units: readonly (readonly number[])[],
  removed: Iterable<number>,
  data: Dataset,
  ndim: (v: Value) => number,
  options: GateOptions,
): Promise<number[]> {
  const off = new Set(removed);
  const { model: copy, gates, ends } = gatedCopy(model, blocks);
  gates.forEach((g, i) => {
    if (off.has(i)) copy.graph.setData(g, tensor(g.data!.dtype, [], [0]));
  });
  const b = Build.of(copy, "depth");
  copy.graph.setOutputs([]);
  const found = units.map((unit) => {
    const axis = ndim(blocks[unit[0]!]!.output) === 4 ? 1 : -1;
    const f32 = (v: Value) => (v.type && v.type.dtype !== "float32" ? b.cast(v, "float32") : v);
    const [x, y] = [f32(ends[unit[0]!]![0]), f32(ends[unit.at(-1)!]![1])];
    const dot = (u: Value, v: Value) => b.sum(b.mul(u, v), [axis]);
    const length = b.op("Sqrt", [b.mul(dot(x, x), dot(y, y))]);
    const cosine = b.div(dot(x, y), b.add(length, b.f32(1e-20)));
    const out = b.sub(b.f32(1), b.op("ReduceMean", [cosine], { keepdims: 0 }));
    copy.graph.addOutput(out);
    return out.name;
  });
  removeDead(copy.graph);
  const session = await open(copy, { threads: options.threads });
  try {
    const sums = units.map(() => 0);
    for (const { feeds, count } of feed(copy, data, { batchSize: options.batchSize })) {
      const out = await session.run(feeds, [...new Set(found)]);
      found.forEach((name, i) => {
        sums[i]! += floatsOf(out[name]!)[0]! * count;
      });
    }
    return sums.map((s) => s / data.length);
  } finally {
    await session.release();
  }
}

/**
 * First-order change of the loss where a unit's gate is closed, |Σ ∂L/∂gate| of its blocks, mean over batches (Molchanov et al. 2017; of gates,
 * Michel et al. 2019); the blocks in `removed` are taken as closed. Errors: an op between loss and gates without a gradient rule.
 */
export async function slopes(
  model: Model,
  blocks: readonly Block[],
  units: readonly (readonly number[])[],
  removed: Iterable<number>,
  data: Dataset,
  loss: Loss,
  options: GateOptions,
): Promise<number[]> {
  const off = new Set(removed);
  const { model: copy, gates } = gatedCopy(model, blocks);
  const size = data.stackable ? Math.min(options.batchSize, data.length) : 1;
  const sample = firstOf(data, size);
  const attached = attach(copy, loss, sample);
  const base = cloneModel(copy);
  const graph = await trainingGraph(attached, sample, { trainable: gates.map((g) => g.name), threads: options.threads });
  const session = await open(graph.model, { threads: options.threads, training: true });
  try {
    const at = new Map(gates.map((g, i) => [g.name, i]));
    const fixed: Record<string, Tensor> = {};
    for (const w of graph.weights) fixed[w.name] = gateOf(off.has(at.get(w.name)!) ? 0 : 1);
    // Dropout leaves all, and noise is none.
    for (const { input, shape, ratio } of graph.draws)
      fixed[input] = wrap("float32", shape, new Float32Array(sizeOf(shape)).fill(ratio === null ? 0 : 1));
    const sums = units.map(() => 0);
    let batches = 0;
    for (const { feeds, count } of feed(base, data, { batchSize: size })) {
      // The graph is made for batches of one size; the examples that are left over do not count.
      if (count !== size) continue;
      const out = await session.run({ ...feeds, ...fixed });
      const slope = new Float64Array(gates.length);
      for (const w of graph.weights) slope[at.get(w.name)!] = floatsOf(out[w.gradient!]!)[0]!;
      units.forEach((unit, i) => {
        sums[i]! += Math.abs(unit.reduce((n, j) => n + slope[j]!, 0));
      });
      batches++;
    }
    return sums.map((s) => s / batches);
  } finally {
    await session.release();
  }
}
