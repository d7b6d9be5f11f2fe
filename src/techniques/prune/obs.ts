/** Optimal Brain Surgeon: weights go one by one, and all others move so that the loss rises least (Hassibi, Stork 1993). */
import { choice, flag, int, number, optional, type ValuesOf } from "../../data/params.ts";
import type { Model, Value } from "../../ir/graph.ts";
import { onlyReader } from "../../ir/walk.ts";
import { isFloat, sizeOf } from "../../tensor/dtype.ts";
import { Fault } from "../../tensor/fault.ts";
import { numbersOf, tensor } from "../../tensor/tensor.ts";
import { gaussNewton } from "../../train/gaussnewton.ts";
import { parseLoss } from "../../train/loss.ts";
import { liftConstants } from "../../transform/fold.ts";
import { dropDefault, type Weight } from "../../transform/weights.ts";
import { labelled, training } from "../finetune.ts";
import { sampled } from "../sample.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { holdAndTrain, report, selected, selection } from "./edges.ts";
import { pruneLayers, solvable } from "./layers.ts";
import { deletions } from "./operation.ts";
import { surgeonRows } from "./rowwise.ts";

/** Weights up to which the whole net is taken at once unless told otherwise, and at all: its inverse Hessian is a matrix of so many rows. */
const [small, most] = [1000, 8000];
/** Most rows·columns³ of a layer: about half a minute. */
const deepest = 6e10;

const params = {
  sparsity: number(0.5, { min: 0, max: 1, doc: "fraction of the weights removed (scope=layer: of each layer's)" }),
  left: optional(int(10, { min: 0, doc: "number of weights left, in the place of sparsity" })),
  scope: optional(
    choice(["network", "layer"], {
      doc: "network: the loss's Hessian over all weights, needs training data; layer: that of each layer's outputs, needs calibration data; null: network up to 1000 weights with training data, else layer",
    }),
  ),
  biases: flag(true, { doc: "biases are weights too (scope=network)" }),
  every: int(0, { min: 0, doc: "deletions after which the Hessian is computed anew (scope=network); 0: never" }),
  damp: number(0.01, { min: 1e-8, doc: "added to the Hessian's diagonal, as a share of its mean" }),
  maxLoss: optional(number(0.1, { min: 0, doc: "stop before the training loss rises above this, whatever sparsity says (scope=network)" })),
  examples: int(1024, { min: 1, doc: "training examples that the Hessian is made of, at most (scope=network)" }),
  epochs: int(0, { min: 0, doc: "passes over the training data afterwards, what is removed staying so" }),
  include: selection.include,
  exclude: selection.exclude,
  loss: labelled,
  ...training,
};
type Values = ValuesOf<typeof params>;

export const obs = defineTechnique({
  technique: "obs",
  family: "prune",
  doc: "Removes weights one by one by Optimal Brain Surgeon: all that stay move so that the loss, or a layer's outputs, change least.",
  paper: "Hassibi & Stork 1993, Second order derivatives for network pruning; by layer: Dong et al. 2017, Frantar et al. 2022 (ExactOBS)",
  params,
  neutral: { sparsity: 0 },
  stronger: [
    { sparsity: 0.3, scope: "layer" },
    { sparsity: 0.7, scope: "layer" },
  ],
  needs: (p) => (p.scope === "network" || p.epochs > 0 || p.maxLoss !== null ? ["train"] : ["calibration"]),
  async apply(model, p, context) {
    liftConstants(model);
    const weights = selected(model, p, "obs");
    const inside = weights.filter((w) => w.value.graph !== model.graph);
    const values = weights.filter((w) => w.value.graph === model.graph).map((w) => w.value);
    if (p.biases) values.push(...biasesOf(weights).filter((v) => !values.includes(v)));
    const n = values.reduce((s, v) => s + sizeOf(v.data!.shape), 0);
    const whole = p.scope === "network" || p.maxLoss !== null || (p.scope === null && context.train !== null && n <= small);
    if (p.scope === "layer" && p.maxLoss !== null) throw new Fault("obs", "maxLoss looks at the whole net; scope=network would be right");
    if (whole && n > most)
      throw new Fault("obs", `takes the Hessian of up to ${most} weights; got ${n}: scope=layer, or sparsegpt, would be right`);
    if (whole && inside.length)
      context.note(`stay as they are: ${inside.map((w) => w.value.name).join(", ")}: in a branch, whose gradients cannot be had`);
    const changed = whole ? await network(model, values, n, p, context) : await layers(model, weights, p, context);
    if (p.epochs === 0 || changed.length === 0) return;
    const keep = changed.map((v) => Uint8Array.from(numbersOf(v.data!), (x) => (x === 0 ? 0 : 1)));
    const held = changed.map((value) => ({ value }));
    await holdAndTrain(model, held, keep, p, context, { what: "obs", epochs: p.epochs });
  },
});

/** What layers add to their outputs: the third input of Conv and Gemm, or what an Add behind a MatMul adds; read by nothing else. */
function biasesOf(weights: readonly Weight[]): Value[] {
  const found = new Set<Value>();
  for (const { node } of weights.flatMap((w) => w.uses)) {
    const y = node.outputs[0]!;
    const after = node.opType === "MatMul" ? onlyReader(y) : null;
    const bias =
      after?.opType === "Add" && after.domain === "" ? after.inputs.find((v) => v !== y) : node.opType === "MatMul" ? null : node.inputs[2];
    const d = bias?.data;
    if (bias && d && isFloat(d.dtype) && bias.graph === node.graph && bias.uses.size === 1 && d.shape.filter((s) => s > 1).length <= 1)
      found.add(bias);
  }
  return [...found];
}

/** Sets elements that stand for a stored tensor's, in its own dtype. */
function set(v: Value, elements: ArrayLike<number>, context: Context): void {
  v.graph.setData(v, tensor(v.data!.dtype, v.data!.shape, elements));
  if (dropDefault(v.graph, v)) context.note(`"${v.name}" is no longer an input that callers may override`);
}

const share = (left: number, of: number) => `${left} of ${of} weights left (${((100 * left) / of).toFixed(1)} %)`;

/** All weights by one Hessian of the training loss. */
async function network(model: Model, values: readonly Value[], n: number, p: Values, context: Context): Promise<readonly Value[]> {
  const target = p.left === null ? n - Math.round(p.sparsity * n) : Math.min(n, p.left);
  if (target === n) return [];
  const data = sampled(context.train!, p.examples);
  const net = await gaussNewton(model, { data, loss: parseLoss(p.loss), weights: values, threads: context.threads });
  try {
    const w = net.initial.slice();
    const keep = new Uint8Array(n).fill(1);
    let best = { w: w.slice(), left: n };
    let rise = 0;
    const before = (await net.value(w)).loss;
    for await (const { left, saliency } of deletions(net, w, keep, { damp: p.damp, every: p.every || Number.POSITIVE_INFINITY })) {
      if (p.maxLoss !== null && (await net.value(w)).loss > p.maxLoss) break;
      rise += saliency;
      best = { w: w.slice(), left };
      context.progress({ what: "obs", step: n - left, of: n - target });
      if (left <= target) break;
    }
    if (best.left === n) {
      context.note(`nothing is removed: without one weight the training loss, ${before.toPrecision(3)} now, is above ${p.maxLoss}`);
      return [];
    }
    const { loss } = await net.value(best.w);
    context.note(
      `${share(best.left, n)}; training loss ${before.toPrecision(3)} → ${loss.toPrecision(3)} (expected rise ${rise.toPrecision(3)})`,
    );
    if (best.left > target) context.note(`stopped before ${target} weights: the training loss would rise above ${p.maxLoss}`);
    for (const { weight, offset, length } of net.stretches) {
      const part = best.w.subarray(offset, offset + length);
      const left = part.reduce((s, x) => s + (x === 0 ? 0 : 1), 0);
      if (left === 0) context.note(`nothing is left of "${weight.name}"`);
      set(weight, part, context);
    }
    return values;
  } finally {
    await net.release();
  }
}

/** Each layer by the Hessian of its own outputs. */
async function layers(model: Model, weights: readonly Weight[], p: Values, context: Context): Promise<readonly Value[]> {
  const seen = solvable(model, weights, "obs", context, ({ matrix: { rows, columns } }) =>
    rows * columns ** 3 > deepest
      ? "it has too many inputs for exact removal, whose time grows with their cube; sparsegpt does such layers"
      : null,
  );
  const all = [...seen.keys()].reduce((s, w) => s + sizeOf(w.value.data!.shape), 0);
  const sparsity = p.left === null ? p.sparsity : 1 - Math.min(all, p.left) / all;
  if (sparsity === 0) return [];
  const { pruned, keep } = await pruneLayers(model, seen, context, {
    what: "obs",
    solve: (w, { rows, columns }, { hessian }) => surgeonRows(w, rows, columns, hessian, Math.round(sparsity * rows * columns), p.damp),
  });
  report(pruned, keep, { pattern: "free", sparsity }, context);
  return pruned.map((w) => w.value);
}
