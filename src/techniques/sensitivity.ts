/** What changing weights does to a model's outputs, measured on data, one change after the other in one session. */
import type { Dataset } from "../data/dataset.ts";
import { cloneModel, type Model, type Node, type Value } from "../ir/graph.ts";
import { removeDead } from "../ir/walk.ts";
import { feed } from "../runtime/feeds.ts";
import { open } from "../runtime/session.ts";
import { isFloat } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { floatsOf, type Tensor } from "../tensor/tensor.ts";

/**
 * relative: Σ‖y − ŷ‖² / Σ‖y‖² over all float outputs; kl: KL(softmax(y) ‖ softmax(ŷ)) along the last axis of the first one, mean over its rows;
 * rise: by how much the mean of the first one rises, for a model whose output is a loss.
 */
export type Divergence = "relative" | "kl" | "rise";

/** Weights as the nodes that read them see them, and where. */
export interface Slot {
  readonly name: string;
  readonly readers: readonly { readonly node: Node; readonly input: number }[];
  readonly weights: () => Tensor;
}

/** Slots with other weights, of the same shape and type. */
export type Change = ReadonlyMap<Slot, Tensor>;

export interface Sensitivity {
  /** How far the outputs are off with these weights changed and all others as they are. */
  of(change: Change): Promise<number>;
  release(): Promise<void>;
}

/**
 * Ready to measure changes of weights, which become inputs of a clone (nodes of subgraphs read them too): nothing is opened twice. All
 * examples of `data` count. Errors: data that does not fit; no float output; for kl, an output whose last axis has one element.
 */
export async function sensitivity(
  model: Model,
  slots: readonly Slot[],
  data: Dataset,
  options: { readonly divergence: Divergence; readonly threads: number },
): Promise<Sensitivity> {
  const copies = new Map<Value, Value>();
  const probe = cloneModel(model, copies);
  const names = new Map<Slot, string>();
  const own: Record<string, Tensor> = {};
  for (const slot of slots) {
    const weights = slot.weights();
    const v = probe.graph.input(`${slot.name}/trial`, weights.dtype, weights.shape);
    for (const { node, input } of slot.readers) copies.get(node.outputs[0]!)!.producer!.setInput(input, v);
    names.set(slot, v.name);
    own[v.name] = weights;
  }
  removeDead(probe.graph);
  const session = await open(probe, { threads: options.threads, spinning: false });
  try {
    const outputs = session.outputs.filter((o) => o.dtype && isFloat(o.dtype)).map((o) => o.name);
    const used = options.divergence === "relative" ? outputs : outputs.slice(0, 1);
    if (used.length === 0) throw new Fault("sensitivity", "the model has no float output to compare");
    const batches = [...feed(model, data, { batchSize: 32 })].filter((b, i) => i === 0 || !b.padded);
    const run = async ({ feeds }: (typeof batches)[number], change: Change) => {
      const changed = Object.fromEntries([...change].map(([slot, t]) => [names.get(slot)!, t]));
      const y = await session.run({ ...feeds, ...own, ...changed }, used);
      return used.map((name) => y[name]!);
    };
    const none: Change = new Map();
    const wanted: Tensor[][] = [];
    for (const b of batches) wanted.push(await run(b, none));
    return {
      async of(change) {
        let [off, all] = [0, 0];
        for (const [i, b] of batches.entries()) {
          const got = await run(b, change);
          wanted[i]!.forEach((y, k) => {
            const [o, a] = divergences[options.divergence](y, got[k]!, b.count);
            off += o;
            all += a;
          });
        }
        return all > 0 ? off / all : 0;
      },
      release: () => session.release(),
    };
  } catch (e) {
    await session.release();
    throw e;
  }
}

/** What is off and of how much, to be summed, for an output as it was and as it is for so many examples. */
const divergences: Readonly<Record<Divergence, (y: Tensor, got: Tensor, count: number) => readonly [number, number]>> = {
  relative: (y, got) => squares(floatsOf(y), floatsOf(got)),
  kl: divergence,
  rise: (y, got, count) => [count * (floatsOf(got)[0]! - floatsOf(y)[0]!), count],
};

/** Σ(y − ŷ)² and Σy², elements that are not finite in y left out; one that is not in ŷ alone makes the first infinite. */
function squares(y: Float32Array, got: Float32Array): [number, number] {
  let [off, all] = [0, 0];
  for (let i = 0; i < y.length; i++) {
    const want = y[i]!;
    if (!Number.isFinite(want)) continue;
    const d = want - got[i]!;
    off += Number.isFinite(d) ? d * d : Infinity;
    all += want * want;
  }
  return [off, all];
}

/** Σ over rows of Σ p·(log p − log q), and the number of rows. */
function divergence(y: Tensor, got: Tensor): [number, number] {
  const k = y.shape.at(-1) ?? 1;
  if (k < 2) throw new Fault("sensitivity", `kl needs an output with several elements in its last axis; got [${y.shape}]`);
  const [a, b] = [floatsOf(y), floatsOf(got)];
  let sum = 0;
  const rows = a.length / k;
  for (let r = 0; r < rows; r++) {
    const [la, lb] = [logSum(a, r * k, k), logSum(b, r * k, k)];
    for (let i = r * k; i < (r + 1) * k; i++) {
      const p = Math.exp(a[i]! - la);
      if (p > 0) sum += p * (a[i]! - la - (b[i]! - lb));
    }
  }
  return [sum, rows];
}

/** log Σ exp of k elements. */
function logSum(x: Float32Array, from: number, k: number): number {
  let most = -Infinity;
  for (let i = from; i < from + k; i++) most = Math.max(most, x[i]!);
  let sum = 0;
  for (let i = from; i < from + k; i++) sum += Math.exp(x[i]! - most);
  return most + Math.log(sum);
}
