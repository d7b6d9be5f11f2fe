/**
 * The Gauss-Newton matrix of a loss: H = Σ Jᵀ·(∂²ℓ/∂z²)·J over the examples, where z are the outputs that the loss compares and J = ∂z/∂w. It
 * is the Hessian but for the second derivatives of the net itself, which vanish where the net fits (Hassibi, Stork 1993, section 2).
 */
import type { Batch, Dataset } from "../data/dataset.ts";
import { cloneModel, type Model, type Value } from "../ir/graph.ts";
import { find } from "../ir/walk.ts";
import { converted, fixedBatch, inputsOf } from "../runtime/feeds.ts";
import { open, type Session } from "../runtime/session.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { type Dense, dense, type Matrix } from "../tensor/linalg/dense.ts";
import { floatsOf, type Tensor, wrap } from "../tensor/tensor.ts";
import { liftConstants } from "../transform/fold.ts";
import { upgrade } from "../transform/upgrade.ts";
import { attach, feedInstead } from "./graph.ts";
import { checkLabels, type Loss } from "./loss.ts";
import { direction, lossOf, root } from "./losscurvature.ts";
import { cotangent, pullBack } from "./pullback.ts";

export interface GaussNewtonOptions {
  readonly data: Dataset;
  readonly loss: Loss;
  /** Initializers of the top graph: w is their elements, one after the other. */
  readonly weights: readonly Value[];
  /** Examples a run, where their gradients can be had together. Default 128. */
  readonly batchSize?: number;
  readonly threads?: number;
}

/** Where an initializer's elements lie in w. */
export interface Stretch {
  readonly weight: Value;
  readonly offset: number;
  readonly length: number;
}

export interface GaussNewton {
  /** Number of weights. */
  readonly n: number;
  readonly stretches: readonly Stretch[];
  /** The model's own weights. */
  readonly initial: Float64Array<ArrayBuffer>;
  /** The loss at `w`, mean over the examples, and what it compares: [examples, elements of an output]. */
  value(w: ArrayLike<number>): Promise<{ readonly loss: number; readonly outputs: Float32Array }>;
  /**
   * The loss and its gradient at `w`; `row` gets, in one buffer that is used again, rows x [n] with H = Σ x·xᵀ: for each example as many as
   * it has outputs (none for directions in which the loss is flat). Their mean over the examples is in them already: P is 1.
   */
  at(
    w: ArrayLike<number>,
    row: (x: Float64Array) => void,
  ): Promise<{ readonly loss: number; readonly gradient: Float64Array<ArrayBuffer>; readonly outputs: Float32Array }>;
  /** The loss, its gradient and H [n, n] itself, row-major. */
  hessian(w: ArrayLike<number>): Promise<{
    readonly loss: number;
    readonly gradient: Float64Array<ArrayBuffer>;
    readonly outputs: Float32Array;
    readonly hessian: Float64Array<ArrayBuffer>;
  }>;
  release(): Promise<void>;
}

/** Rows of H's sum at a time. */
const rowsAtATime = 256;

/**
 * Prepares it for a model, which stays as it is; gradients come from the graph, for all examples of a batch at once where every reader of a weight
 * has a form with a weight for each example. What the loss weighs nothing (labels it ignores) has rows of zeros. A model with a fixed batch
 * takes whole batches: examples beyond the last are left out.
 * Errors: no weights; a loss that compares several outputs; labels out of range; ops without a gradient.
 */
export async function gaussNewton(model: Model, options: GaussNewtonOptions): Promise<GaussNewton> {
  const { data, weights, threads } = options;
  if (weights.length === 0) throw new Fault("gauss-newton", "no weights are given");
  let n = 0;
  const stretches = weights.map((weight): Stretch => {
    if (weight.graph !== model.graph || !weight.data)
      throw new Fault("gauss-newton", `"${weight.name}" is no initializer of the top graph, whose gradients can be had`);
    const length = sizeOf(weight.data.shape);
    n += length;
    return { weight, offset: n - length, length };
  });
  const initial = new Float64Array(n);
  for (const { weight, offset } of stretches) initial.set(floatsOf(weight.data!), offset);

  if (!data.stackable) throw new Fault("gauss-newton", "examples of differing shapes cannot be taken in batches; bring them to one shape");
  const fixed = fixedBatch(model);
  const size = fixed ?? Math.min(options.batchSize ?? 128, data.length);
  const examples = fixed ? Math.floor(data.length / fixed) * fixed : data.length;
  if (examples === 0) throw new Fault("gauss-newton", `needs at least ${fixed ?? 1} examples; got ${data.length}`);
  const engines = new Map<number, Promise<Engine>>();
  const engineOf = (count: number, batch: Batch) => {
    let e = engines.get(count);
    if (!e) {
      e = engine(model, options, batch, count, fixed === null, threads);
      engines.set(count, e);
    }
    return e;
  };
  const types = new Map(inputsOf(model).map((v) => [v.name, v]));
  /** Batch after batch: its engine, feeds, first example and share of all. */
  async function* runs(w: ArrayLike<number>) {
    const weightFeeds = Object.fromEntries(
      stretches.map((s) => [s.weight.name, wrap("float32", s.weight.data!.shape, slice(w, s.offset, s.length))]),
    );
    for (let from = 0; from < examples; from += size) {
      const count = Math.min(size, examples - from);
      const indices = Array.from({ length: count }, (_, i) => from + i);
      const taken = Object.entries(data.take(indices));
      const batch = Object.fromEntries(taken.map(([name, t]) => [name, types.has(name) ? converted(types.get(name)!, t) : t]));
      const e = await engineOf(count, batch);
      e.check(batch, indices);
      const feeds = { ...batch, ...weightFeeds };
      const z = (await e.forward.run({ ...feeds, [cotangent]: e.zeros }, [e.z]))[e.z]!;
      yield { e, feeds, z, from, count, share: count / examples };
    }
  }
  const outputsOf = () => {
    let all: Float32Array | null = null;
    return {
      add(z: Tensor, from: number, count: number) {
        const item = sizeOf(z.shape) / count;
        all ??= new Float32Array(examples * item);
        all.set(floatsOf(z), from * item);
      },
      get: () => all!,
    };
  };
  /** H, and rows as columns [n, rows] that are to be added to it. */
  let room: { readonly space: Dense; readonly h: Matrix; readonly x: Matrix } | null = null;
  const self: GaussNewton = {
    n,
    stretches,
    initial,
    async value(w) {
      const outputs = outputsOf();
      let loss = 0;
      for await (const { e, feeds, z, from, count, share } of runs(w)) {
        outputs.add(z, from, count);
        loss += share * floatsOf((await e.tail.run({ ...feeds, [e.cut]: z, [direction]: e.zeros }, [e.loss]))[e.loss]!)[0]!;
      }
      return { loss, outputs: outputs.get() };
    },
    async at(w, row) {
      const outputs = outputsOf();
      const gradient = new Float64Array(n);
      const x = new Float64Array(n);
      let loss = 0;
      for await (const { e, feeds, z, from, count, share } of runs(w)) {
        outputs.add(z, from, count);
        const item = sizeOf(z.shape) / count;
        const tail = await e.curvature(feeds, z, count, item);
        loss += share * tail.loss;
        await e.pullBack(feeds, tail.gradient, stretches, count, (_, part, { offset }) => {
          for (let i = 0; i < part.length; i++) gradient[offset + i]! += share * part[i]!;
        });
        const scale = Math.sqrt(share);
        for (let c = 0; c < item; c++) {
          const s = tail.factor[c]!;
          if (s.every((f) => f === 0)) continue;
          // Each example's row, whole, before the next one's.
          const parts = new Map<number, Float32Array[]>();
          await e.pullBack(
            feeds,
            s,
            stretches,
            count,
            (example, part) => {
              const have = parts.get(example);
              if (have) have.push(part);
              else parts.set(example, [part]);
            },
            true,
          );
          for (const each of parts.values()) {
            each.forEach((part, i) => {
              const { offset } = stretches[i]!;
              for (let k = 0; k < part.length; k++) x[offset + k] = scale * part[k]!;
            });
            row(x);
          }
        }
      }
      return { loss, gradient, outputs: outputs.get() };
    },
    async hessian(w) {
      if (!room) {
        const space = dense(n * n + n * rowsAtATime);
        room = { space, h: space.matrix(n, n), x: space.matrix(n, rowsAtATime) };
      }
      const { space, h, x } = room;
      h.data.fill(0);
      let count = 0;
      const add = () => {
        const some = { of: x, columns: count };
        if (count) space.multiply({ of: h }, some, some, { transposed: true });
        count = 0;
      };
      const known = await self.at(w, (row) => {
        for (let i = 0; i < n; i++) x.data[i * rowsAtATime + count] = row[i]!;
        if (++count === rowsAtATime) add();
      });
      add();
      return { ...known, hessian: h.data.slice() };
    },
    async release() {
      for (const e of engines.values()) await (await e).release();
    },
  };
  return self;
}

function slice(w: ArrayLike<number>, from: number, length: number): Float32Array {
  const out = new Float32Array(length);
  for (let i = 0; i < length; i++) out[i] = w[from + i]!;
  return out;
}

type Take = (example: number, part: Float32Array, stretch: Stretch) => void;

/** What runs for batches of one size: outputs and their pull-back to the weights, and the loss with its derivatives by the outputs. */
interface Engine {
  /** Name of the outputs z; takes a cotangent of their shape. */
  readonly z: string;
  readonly zeros: Tensor;
  readonly forward: Session;
  /** The loss as a function of z, which is its input `cut`. */
  readonly tail: Session;
  readonly cut: string;
  readonly loss: string;
  check(batch: Batch, indices: ArrayLike<number>): void;
  /** The batch's loss ℓ, ∂ℓ/∂z, and S with S·Sᵀ = ∂²ℓ/∂z² of each example, column by column: each [examples · item]. */
  curvature(
    feeds: Batch,
    z: Tensor,
    count: number,
    item: number,
  ): Promise<{ readonly loss: number; readonly gradient: Float32Array; readonly factor: readonly Float32Array[] }>;
  /** sᵀ·J; `each` asks for every example's by itself, else any parts of the sum may come. */
  pullBack(feeds: Batch, s: Float32Array, stretches: readonly Stretch[], count: number, take: Take, each?: boolean): Promise<void>;
  release(): Promise<void>;
}

async function engine(
  model: Model,
  { loss, weights }: GaussNewtonOptions,
  batch: Batch,
  count: number,
  free: boolean,
  threads?: number,
): Promise<Engine> {
  const base = cloneModel(model);
  liftConstants(base);
  upgrade(base, Math.max(17, base.opsets.get("") ?? 17));
  const attached = attach(base, loss, batch);
  const compared = new Set(attached.pairs.map((p) => p.output));
  if (compared.size !== 1) throw new Fault("gauss-newton", `a loss of one output would be right; ${loss.name} compares ${compared.size}`);
  const [z] = compared as unknown as [Value];
  const names = weights.map((v) => v.name);
  const given = new Map(names.map((name) => [name, feedInstead(base, find(base.graph, name)!)]));
  const feeds: Batch = { ...batch, ...Object.fromEntries(given) };
  const [forward, tail] = [await pullBack(attached, z, feeds, names, count, free, threads), await lossOf(attached, z, feeds, threads)];
  const shape = forward.shape;
  const zeros = wrap("float32", shape, new Float32Array(sizeOf(shape)));
  const settings = { training: true, threads };
  const sessions = { forward: await open(forward.model, settings), tail: await open(tail.model, settings) };
  const masked = count > 1 && !forward.each;
  return {
    z: forward.z,
    zeros,
    ...sessions,
    cut: tail.cut,
    loss: tail.loss,
    check(batch, indices) {
      for (const pair of attached.pairs) if (pair.classes) checkLabels(pair, shape.at(pair.classes.axis)!, batch, indices);
    },
    async curvature(feeds, zs, count, item) {
      const at = async (v: Tensor, fetch: readonly string[]) => sessions.tail.run({ ...feeds, [tail.cut]: zs, [direction]: v }, fetch);
      const first = await at(zeros, [tail.loss, tail.gradient]);
      // ∂²ℓ/∂z² of each example (the others' are not mixed in it), column by column.
      const h = new Float64Array(count * item * item);
      for (let c = 0; c < item; c++) {
        const v = new Float32Array(count * item);
        for (let e = 0; e < count; e++) v[e * item + c] = 1;
        const column = floatsOf((await at(wrap("float32", shape, v), [tail.product]))[tail.product]!);
        for (let e = 0; e < count; e++) for (let i = 0; i < item; i++) h[(e * item + i) * item + c] = column[e * item + i]!;
      }
      const factor = Array.from({ length: item }, () => new Float32Array(count * item));
      for (let e = 0; e < count; e++) {
        const s = root(h.subarray(e * item * item, (e + 1) * item * item), item);
        for (let c = 0; c < item; c++) for (let i = c; i < item; i++) factor[c]![e * item + i] = s[i * item + c]!;
      }
      return { loss: floatsOf(first[tail.loss]!)[0]!, gradient: floatsOf(first[tail.gradient]!), factor };
    },
    async pullBack(feeds, s, stretches, count, take, each = false) {
      const run = async (v: Float32Array) =>
        sessions.forward.run(
          { ...feeds, [cotangent]: wrap("float32", shape, v) },
          forward.gradients.filter((g) => g !== null),
        );
      const parts = (r: Readonly<Record<string, Tensor>>, use: (part: Float32Array, i: number) => void) =>
        stretches.forEach((stretch, i) => {
          const g = forward.gradients[i];
          use(g ? floatsOf(r[g]!) : new Float32Array(stretch.length * (forward.each ? count : 1)), i);
        });
      if (each && masked) {
        const item = s.length / count;
        for (let e = 0; e < count; e++) {
          const one = new Float32Array(s.length);
          one.set(s.subarray(e * item, (e + 1) * item), e * item);
          parts(await run(one), (part, i) => take(e, part, stretches[i]!));
        }
        return;
      }
      const r = await run(s);
      parts(r, (part, i) => {
        const { length } = stretches[i]!;
        for (let e = 0; e * length < part.length; e++) take(e, part.subarray(e * length, (e + 1) * length), stretches[i]!);
      });
    },
    async release() {
      await sessions.forward.release();
      await sessions.tail.release();
    },
  };
}
