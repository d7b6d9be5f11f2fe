/**
 * The Gauss-Newton matrix of a loss: H = Σ Jᵀ·(∂²ℓ/∂z²)·J over the examples, where z are the outputs that the loss compares and J = ∂z/∂w. It
 * is the Hessian but for the second derivatives of the net itself, which vanish where the net fits (Hassibi, Stork 1993, section 2).
 */
import type { Batch, Dataset } from "../data/dataset.ts";
import { cloneModel, type Model, type Value } from "../ir/graph.ts";
import { fixedBatch } from "../runtime/feeds.ts";
import { open, type Session } from "../runtime/session.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { type Dense, dense, type Matrix } from "../tensor/linalg/dense.ts";
import { floatsOf, wrap } from "../tensor/tensor.ts";
import { grad } from "../transform/grad.ts";
import { alongRoots, units } from "./directions.ts";
import type { Loss } from "./loss.ts";
import { type LossSite, lossSite } from "./losssite.ts";
import { perExample, present } from "./places.ts";
import { fetchOnly } from "./totals.ts";

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

/** The loss at some w, mean over the examples, and the (first) output it compares: [examples, its elements]. */
export interface At {
  readonly loss: number;
  readonly outputs: Float32Array;
}

export interface GaussNewton {
  /** Number of weights. */
  readonly n: number;
  readonly stretches: readonly Stretch[];
  /** The model's own weights. */
  readonly initial: Float64Array<ArrayBuffer>;
  value(w: ArrayLike<number>): Promise<At>;
  /** With the loss's gradient [n] and H [n, n], row-major. */
  hessian(
    w: ArrayLike<number>,
  ): Promise<At & { readonly gradient: Float64Array<ArrayBuffer>; readonly hessian: Float64Array<ArrayBuffer> }>;
  release(): Promise<void>;
}

/** Rows of H's sum at a time. */
const rowsAtATime = 256;

/**
 * Prepares it for a model, which stays as it is; gradients come from the graph, for all examples of a batch at once where every reader of a weight
 * has a form for it. What the loss weighs nothing (labels it ignores) has no part in H. A model with a fixed batch takes whole batches:
 * examples beyond the last are left out. Errors: no weights; labels out of range; ops without a gradient.
 */
export async function gaussNewton(model: Model, options: GaussNewtonOptions): Promise<GaussNewton> {
  const { data, weights } = options;
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
  /** The loss at w, and batch after batch for more: its engine, feeds, what the engine gave of it, and its share of all. */
  async function over(w: ArrayLike<number>, more?: (e: Engine, feeds: Batch, first: Result, share: number) => Promise<void>): Promise<At> {
    let loss = 0;
    let outputs: Float32Array | null = null;
    for (let from = 0; from < examples; from += size) {
      const indices = Uint32Array.from({ length: Math.min(size, examples - from) }, (_, i) => from + i);
      const count = indices.length;
      if (!engines.has(count)) engines.set(count, engine(model, options, indices));
      const e = await engines.get(count)!;
      const given = stretches.flatMap(({ weight, offset, length }, i) =>
        e.site.weights[i]
          ? [
              [
                weight.name,
                wrap(
                  "float32",
                  weight.data!.shape,
                  Float32Array.from({ length }, (_, k) => w[offset + k]!),
                ),
              ] as const,
            ]
          : [],
      );
      const feeds = { ...e.site.feeds(indices), ...Object.fromEntries(given) };
      const first = await e.first.run(feeds);
      loss += (count / examples) * floatsOf(first[e.loss]!)[0]!;
      const z = floatsOf(first[e.output]!);
      outputs ??= new Float32Array((z.length / count) * examples);
      outputs.set(z, (z.length / count) * from);
      await more?.(e, feeds, first, count / examples);
    }
    return { loss, outputs: outputs! };
  }
  /** H, and rows whose products it is the sum of as columns [n, rows]. */
  let room: { readonly space: Dense; readonly h: Matrix; readonly x: Matrix } | null = null;
  return {
    n,
    stretches,
    initial,
    value: (w) => over(w),
    async hessian(w) {
      if (!room) {
        const space = dense(n * n + n * rowsAtATime);
        room = { space, h: space.matrix(n, n), x: space.matrix(n, rowsAtATime) };
      }
      const { space, h, x } = room;
      h.data.fill(0);
      let rows = 0;
      const add = () => {
        const some = { of: x, columns: rows };
        if (rows) space.multiply({ of: h }, some, some, { transposed: true });
        rows = 0;
      };
      const gradient = new Float64Array(n);
      const known = await over(w, async (e, feeds, first, share) => {
        e.gradients.forEach((name, i) => {
          const { offset } = stretches[i]!;
          const g = name ? floatsOf(first[name]!) : [];
          for (let k = 0; k < g.length; k++) gradient[offset + k]! += share * g[k]!;
        });
        const scale = Math.sqrt(share);
        for (const direction of units(e.directions, !e.together)) {
          const found = await e.rows.run({ ...feeds, ...direction });
          const parts = e.each.map((name) => name && floatsOf(found[name]!));
          for (let example = 0; example < (e.together ? e.site.size : 1); example++) {
            parts.forEach((part, i) => {
              const { offset, length } = stretches[i]!;
              if (part) for (let k = 0; k < length; k++) x.data[(offset + k) * rowsAtATime + rows] = scale * part[example * length + k]!;
            });
            if (++rows === rowsAtATime) add();
          }
        }
      });
      add();
      return { ...known, gradient, hessian: h.data.slice() };
    },
    async release() {
      for (const e of engines.values()) {
        await (await e).first.release();
        await (await e).rows.release();
      }
    },
  };
}

type Result = Awaited<ReturnType<Session["run"]>>;

/** What runs for batches of one size. */
interface Engine {
  readonly site: LossSite;
  /** Gives the loss, an output, and the loss's gradients by weight. */
  readonly first: Session;
  readonly loss: string;
  readonly output: string;
  readonly gradients: readonly (string | null)[];
  /** Along a direction, rows x by weight with H = Σ x·xᵀ: of every example, or, where they are not had together, of all examples' sum. */
  readonly rows: Session;
  readonly together: boolean;
  readonly directions: ReturnType<typeof alongRoots>["directions"];
  readonly each: readonly (string | null)[];
}

async function engine(model: Model, { data, loss, weights, threads }: GaussNewtonOptions, sample: Uint32Array): Promise<Engine> {
  const site = await lossSite(model, weights, data, loss, sample, threads);
  const settings = { training: true, threads };
  /** Opens a session for these values, by name where there is one. */
  const opened = async (of: Model, values: readonly (Value | null)[]) => {
    const names = fetchOnly(
      of,
      values.filter((v) => v !== null),
    );
    return { session: await open(of, settings), names: values.map((v) => (v ? names.shift()! : null)) };
  };
  const copies = new Map<Value, Value>();
  const copy = cloneModel(site.model, copies);
  const there = (v: Value) => copies.get(v)!;
  const found = grad(copy, there(site.loss), present(site).map(there));
  const gradients = site.weights.map((w) => (w && found.get(there(w))) ?? null);
  const first = await opened(copy, [there(site.loss), there(site.here(site.roots[0]!.output)), ...gradients]);
  const { directions, cotangents } = alongRoots(site);
  const own = [...cotangents.keys()].every(site.byExample) ? perExample(site, cotangents, null) : ["alone" as const];
  const together = !own.includes("alone");
  const sums = together ? null : grad(site.model, cotangents, present(site));
  const each = site.weights.map((w, i) => (sums ? w && (sums.get(w) ?? null) : (own[i] as Value | null)));
  const rows = await opened(site.model, each);
  return {
    site,
    first: first.session,
    loss: first.names[0]!,
    output: first.names[1]!,
    gradients: first.names.slice(2),
    rows: rows.session,
    together,
    directions,
    each: rows.names,
  };
}
