/** The one memory of a training run: parameters, gradients and moments side by side, and behind them what else changes every step. */
import type { Batch } from "../data/dataset.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { memoryOf, pageBytes } from "../tensor/kernel.ts";
import { type DropoutKernel, dropoutKernel } from "../tensor/kernels/dropout.ts";
import { type OptimizerKernel, optimizerKernel } from "../tensor/kernels/optimizer.ts";
import { floatsOf, type Tensor, wrap } from "../tensor/tensor.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { TrainingGraph } from "./graph.ts";
import type { Places } from "./optimizer.ts";

interface Shaped {
  readonly shape: readonly number[];
}

interface Arena {
  readonly kernel: OptimizerKernel;
  readonly dropout: DropoutKernel;
  readonly places: Places;
  /** Views of each weight's part: its values, its gradient, its moments. */
  readonly weights: readonly Float32Array<ArrayBuffer>[];
  readonly gradients: readonly Float32Array<ArrayBuffer>[];
  readonly moments: readonly (readonly Float32Array<ArrayBuffer>[])[];
  /** Views for `others`, in their order. */
  readonly others: readonly Float32Array<ArrayBuffer>[];
}

/** Every array starts at a cache line, so the kernel runs over whole vectors; the gaps stay 0. */
const line = 16;
const aligned = (n: number) => Math.ceil(n / line) * line;

/** Lays out `weights` with `moments` arrays of moments, and `others` behind them. Errors: more than WebAssembly's 4 GiB. */
function arena(weights: readonly Shaped[], moments: number, others: readonly Shaped[]): Arena {
  const starts: number[] = [];
  let length = 0;
  for (const w of weights) {
    starts.push(length);
    length += aligned(sizeOf(w.shape));
  }
  const rest = others.reduce((n, o) => n + aligned(sizeOf(o.shape)), 0);
  const floats = length * (2 + moments) + rest;
  if (floats * 4 > 65536 * pageBytes)
    throw new Fault(
      "train",
      `${length} trained weights need ${floats * 4} bytes with gradients and moments; one memory holds 4 GiB: train fewer (frozen, LoRA) or with sgd`,
    );
  const memory = memoryOf(floats * 4);
  const view = (at: number, { shape }: Shaped) => new Float32Array(memory.buffer, at * 4, sizeOf(shape));
  const region = (k: number) => weights.map((w, i) => view(k * length + starts[i]!, w));
  let at = length * (2 + moments);
  return {
    kernel: optimizerKernel(memory),
    dropout: dropoutKernel(memory),
    places: { p: 0, g: length * 4, moments: Array.from({ length: moments }, (_, k) => (2 + k) * length * 4), length },
    weights: region(0),
    gradients: region(1),
    moments: Array.from({ length: moments }, (_, k) => region(2 + k)),
    others: others.map((o) => {
      const v = view(at, o);
      at += aligned(v.length);
      return v;
    }),
  };
}

export interface Memory {
  readonly arena: Arena;
  /** What the graph reads beside the examples, and where it writes. */
  readonly feeds: Batch;
  readonly fetches: Batch;
  readonly loss: Float32Array;
  /** Everything that goes back into the model: trained and live weights, running statistics, by initializer. */
  readonly weights: ReadonlyMap<string, Tensor>;
  /** A view of one of them. Errors: none of that name. */
  values(name: string): Float32Array;
  /** A view of the gradient of one of them in the last run; null: it has none. */
  gradient(name: string): Float32Array | null;
  /** Draws the dropout masks and the noise of a step. */
  draw(seed: number, step: number): void;
  /** Lets the running statistics follow the batch's. */
  follow(): void;
  /** Copies the weights of the moment; {@link takeBest} brings them back. */
  keep(): void;
  takeBest(): void;
  checkpoint(state: Readonly<Record<string, unknown>>): Checkpoint;
  /** Takes over a checkpoint; returns its state. Errors: one of another run. */
  restore(from: Checkpoint, identity: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>>;
}

/** The memory of a training graph, its weights at their initial values. */
export function remember(graph: TrainingGraph, moments: number): Memory {
  const { weights, live, statistics, draws } = graph;
  const channels = statistics.map((s) => ({ shape: [s.initial.length] }));
  const sensed = live.filter((s) => s.gradient);
  const laid = arena(weights, moments, [...live, ...channels, ...channels, ...draws, ...sensed]);
  const rest = laid.others.values();
  const views = (shaped: readonly Shaped[]) => shaped.map((s) => wrap("float32", s.shape, rest.next().value!));
  const trained = weights.map((w, i) => wrap("float32", w.shape, laid.weights[i]!));
  const [changing, running, ofBatch, drawn, slopes] = [views(live), views(channels), views(channels), views(draws), views(sensed)];
  const loss = new Float32Array(1);

  const named = (slots: readonly { readonly name: string }[], tensors: readonly Tensor[]) =>
    slots.map((s, i) => [s.name, tensors[i]!] as const);
  const all = new Map([...named(weights, trained), ...named(live, changing), ...named(statistics, running)]);
  const gradients = new Map([
    ...weights.map((w, i) => [w.name, wrap("float32", w.shape, laid.gradients[i]!)] as const),
    ...named(sensed, slopes),
  ]);
  for (const s of [...weights, ...live, ...statistics]) floatsOf(all.get(s.name)!).set(s.initial);
  const state = new Map<string, Tensor>([...all].map(([name, t]) => [`p/${name}`, t]));
  laid.moments.forEach((m, k) => {
    weights.forEach((w, i) => {
      state.set(`m${k}/${w.name}`, wrap("float32", w.shape, m[i]!));
    });
  });
  let best: Map<string, Tensor> | null = null;
  const copy = (t: Tensor) => wrap("float32", t.shape, floatsOf(t).slice());

  return {
    arena: laid,
    feeds: Object.fromEntries([
      ...named(weights, trained),
      ...named(live, changing),
      ...draws.map((d, i) => [d.input, drawn[i]!] as const),
    ]),
    fetches: Object.fromEntries([
      [graph.loss, wrap("float32", [], loss)],
      ...[...weights, ...sensed].map((s) => [s.gradient!, gradients.get(s.name)!] as const),
      ...statistics.map((s, i) => [s.output, ofBatch[i]!] as const),
    ]),
    loss,
    weights: all,
    values(name) {
      const t = all.get(name);
      if (!t) throw new Fault("train", `"${name}" is neither trained nor live; there are ${[...all.keys()].join(", ")}`);
      return floatsOf(t);
    },
    gradient(name) {
      const g = gradients.get(name);
      return g ? floatsOf(g) : null;
    },
    draw(seed, step) {
      draws.forEach(({ input, ratio }, i) => {
        const { byteOffset, length } = floatsOf(drawn[i]!);
        const stream = `dropout/${input}/${step}`;
        if (ratio === null) laid.dropout.uniform(byteOffset, aligned(length), seed, stream);
        else laid.dropout.mask(byteOffset, aligned(length), ratio, seed, stream);
      });
    },
    follow() {
      statistics.forEach(({ momentum }, i) => {
        const [r, b] = [floatsOf(running[i]!), floatsOf(ofBatch[i]!)];
        for (let k = 0; k < r.length; k++) r[k] = momentum * r[k]! + (1 - momentum) * b[k]!;
      });
    },
    keep() {
      best = new Map([...all].map(([name, t]) => [name, copy(t)]));
    },
    takeBest() {
      for (const [name, t] of best ?? []) floatsOf(all.get(name)!).set(floatsOf(t));
    },
    checkpoint: (data) => ({
      tensors: new Map(
        [...state, ...[...(best ?? [])].map(([name, t]) => [`best/${name}`, t] as const)].map(([name, t]) => [name, copy(t)]),
      ),
      state: structuredClone(data),
    }),
    restore(from, identity) {
      for (const [what, value] of Object.entries(identity))
        if (from.state[what] !== value)
          throw new Fault("checkpoint", `is of a run with ${what} ${from.state[what]}; this one has ${value}`);
      for (const [name, t] of state) {
        const saved = from.tensors.get(name);
        if (!saved || `${saved.shape}` !== `${t.shape}`)
          throw new Fault("checkpoint", `has no "${name}" of shape [${t.shape}]; it is of another model or selection`);
        floatsOf(t).set(floatsOf(saved));
      }
      const kept = [...from.tensors].filter(([name]) => name.startsWith("best/"));
      best = kept.length ? new Map(kept.map(([name, t]) => [name.slice(5), copy(t)])) : null;
      return structuredClone(from.state);
    },
  };
}
