/** Watching any value of a graph while the runtime goes over a dataset: the one mechanism of all calibration. */
import type { Dataset } from "../data/dataset.ts";
import { cloneGraph, type Model, newModel, type Value } from "../ir/graph.ts";
import { removeDead } from "../ir/walk.ts";
import { Build } from "../ops/build.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { type Tensor, tensor } from "../tensor/tensor.ts";
import { feed } from "./feeds.ts";
import { open, type Session, type SessionOptions } from "./session.ts";

/** A running summary of the tensors one value takes. Its state has a fixed size, whatever the number of examples. */
export interface Observer<S> {
  /** The state before anything was seen; `shape` is that of the first tensor. */
  readonly init: (shape: readonly number[]) => S;
  /** The state after one more tensor of the value `of` (given by {@link observe}); may change `s` and return it. With `reduce`, `x` is its result for a tensor of `shape`. */
  readonly update: (s: S, x: Tensor, shape: readonly number[], of?: Value) => S;
  /** Heavy arithmetic, done by the runtime: appends nodes that reduce a tensor `x` of `ndim` dimensions (sizes open) to what `update` gets. */
  readonly reduce?: (b: Build, x: Value, ndim: number) => Value;
}

export interface ObserveOptions {
  readonly threads?: number;
  /** Most examples a run. Fewer are taken where the watched values would exceed 256 MB. Default 32. */
  readonly batchSize?: number;
  /** Graph optimization of the session; default all. Where a graph grew by thousands of small nodes, opening takes seconds with it. */
  readonly optimization?: SessionOptions["optimization"];
  /** Called after each batch with the examples done. */
  readonly progress?: (done: number, of: number) => void;
}

const perRun = 256e6;

/**
 * What `observer` makes of each of `values` (inputs, initializers, anything computed; inside the branches of an If too) over the whole
 * dataset, in its order. Memory is that of one batch; examples may have shapes of their own. A value of which no element was seen (an
 * empty dataset, a branch not taken) has no entry. Errors: a value inside a Loop or Scan, data that does not fit the model; what the
 * observer throws, with the value's name.
 */
export async function observe<S>(
  model: Model,
  values: Iterable<Value>,
  data: Dataset,
  observer: Observer<S>,
  options: ObserveOptions = {},
): Promise<Map<Value, S>> {
  const watched = [...new Set(values)];
  const states = new Map<Value, S>();
  const { model: watching, names } = watch(
    model,
    watched.filter((v) => v.producer),
  );
  const session = names.size
    ? await open(watching, { threads: options.threads, spinning: false, optimization: options.optimization })
    : null;
  const reduce = reducer(observer, options);
  const see = async (v: Value, x: Tensor) => {
    if (sizeOf(x.shape) === 0) return;
    try {
      const s = states.get(v) ?? observer.init(x.shape);
      states.set(v, observer.update(s, await reduce.run(x), x.shape, v));
    } catch (e) {
      if (e instanceof Fault) throw new Fault(`value "${v.name}"`, e.message.slice(e.where.length + 2), { cause: e });
      throw e;
    }
  };
  try {
    for (const v of watched) if (v.data) await see(v, v.data);
    const most = options.batchSize ?? 32;
    // One example tells how many bytes it takes; the batches that follow fit the bound.
    let size = 1;
    let done = 0;
    for (const { feeds, count, padded } of feed(model, data, { batchSize: () => size })) {
      // A batch filled up with repeated examples would count them twice; it is used only where there is no other.
      if (padded && done > 0) break;
      const results = session ? await session.run(feeds, [...names.values()]) : {};
      let bytes = 0;
      for (const v of watched) {
        const x = v.data ? null : v.producer ? results[names.get(v)!] : feeds[v.name];
        if (!x) continue;
        bytes += x.data.byteLength;
        await see(v, x);
      }
      size = Math.max(1, Math.min(most, Math.floor(perRun / Math.max(1, bytes / count))));
      done += count;
      options.progress?.(done, data.length);
    }
  } finally {
    await session?.release();
    await reduce.release();
  }
  return states;
}

/** A clone whose outputs are the given values and nothing else, without the nodes they do not need; and the outputs' names. */
function watch(model: Model, values: readonly Value[]): { model: Model; names: Map<Value, string> } {
  const copies = new Map<Value, Value>();
  const graph = cloneGraph(model.graph, null, copies);
  graph.setOutputs([]);
  const names = new Map<Value, string>();
  for (const v of values) {
    const copy = copies.get(v);
    if (!copy) throw new Fault(`value "${v.name}"`, "is not computed by this model");
    if (copy.type) copy.type = { dtype: copy.type.dtype, shape: null };
    const out = surfaced(copy);
    graph.addOutput(out);
    names.set(v, out.name);
  }
  const clone = { ...model, graph };
  removeDead(graph);
  return { model: clone, names };
}

/** The value as one of the top graph: a branch of an If hands it out, and the other branch hands out nothing (an empty tensor) in its place. */
function surfaced(v: Value): Value {
  const { graph } = v;
  const { parent } = graph;
  if (!parent) return v;
  const holder = [...parent.nodes].find((n) => n.subgraphs.includes(graph))!;
  if (holder.opType !== "If" || holder.domain !== "")
    throw new Fault(
      `value "${v.name}"`,
      `lies inside a ${holder.opType} and cannot be observed; only the branches of an If can be looked into`,
    );
  const dtype = v.type?.dtype ?? "float32";
  for (const branch of holder.subgraphs) {
    const out =
      branch === graph
        ? branch.append("Identity", [v], { name: `${v.name}/seen` })
        : branch.append("Constant", [], { name: `${v.name}/unseen`, attrs: { value: tensor(dtype, [0], []) } });
    branch.addOutput(out.outputs[0]!);
  }
  const out = parent.value(`${v.name}/seen`, { dtype, shape: null });
  parent.addNodeOutput(holder, out);
  return surfaced(out);
}

/** Runs an observer's `reduce`, in one session per element type and number of dimensions. */
function reducer<S>(observer: Observer<S>, options: ObserveOptions) {
  const sessions = new Map<string, Promise<Session>>();
  return {
    async run(x: Tensor): Promise<Tensor> {
      if (!observer.reduce) return x;
      const key = `${x.dtype}/${x.shape.length}`;
      let session = sessions.get(key);
      if (!session) {
        const model = newModel("reduce");
        const input = model.graph.input("x", x.dtype, Array(x.shape.length).fill(null));
        model.graph.addOutput(observer.reduce(Build.of(model), input, x.shape.length));
        session = open(model, { threads: options.threads, spinning: false });
        sessions.set(key, session);
      }
      return Object.values(await (await session).run({ x }))[0]!;
    },
    async release() {
      for (const s of sessions.values()) await (await s).release();
    },
  };
}
