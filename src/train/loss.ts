/** Losses: each appends nodes to the graph, and inputs named as the dataset's arrays. All are means over the batch. */

import type { Batch } from "../data/dataset.ts";
import { called, declare, int, number, optional, text } from "../data/params.ts";
import type { Value } from "../ir/graph.ts";
import { type Build, shapeOf } from "../ops/build.ts";
import { dtypes, isFloat, sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { numbersOf, type Tensor, tensor } from "../tensor/tensor.ts";
import type { Scores } from "../transform/scores.ts";

/** What a loss is attached to. */
export interface Site {
  readonly b: Build;
  /** A float32 output of the model by name; null: its first one. */
  output(name: string | null): Value;
  /** What goes into its Softmax or Sigmoid, where it ends in one, else the output itself; float32. */
  scores(name: string | null): Scores;
  /** The dataset's array of that name as an input of the graph. */
  array(name: string): Value;
  /** That array's tensor for some batch: its dtype and number of axes. */
  sample(name: string): Tensor;
}

/** A target and the output it is compared with: their shapes must be equal. */
export interface Pair {
  readonly array: string;
  readonly target: Value;
  readonly output: Value;
  /** The array holds class numbers for this axis of the output; `ignore` stands for "no class". */
  readonly classes?: { readonly axis: number; readonly ignore: number | null };
}

/** A square root of a loss's second derivative in one of the values it works on: S with S·Sᵀ = ∂²loss/∂output². */
export interface Root {
  readonly output: Value;
  /** Appends S·v for `v` of the output's shape. `here`: the values of today, of known shapes, for those the loss was attached to. */
  times(b: Build, v: Value, here: (v: Value) => Value): Value;
}

export interface Attached {
  /** The loss, a scalar. */
  readonly value: Value;
  readonly pairs: readonly Pair[];
  /** The second derivative is the sum of theirs. */
  readonly roots: readonly Root[];
}

export interface Loss {
  readonly name: string;
  attach(site: Site): Attached;
}

const output = optional(text("", { doc: "the model's output it works on; null: the first" }));
const axis = optional(int(-1, { doc: "the axis of the classes; null: that of the Softmax the output comes from, else the last" }));
const temperature = number(1, { min: 1e-3, doc: "divides the logits: higher gives softer targets" });

/**
 * −Σ target·log softmax(logits), mean over examples (and positions). Labels are class numbers, or probabilities of the logits' shape.
 * With label smoothing ε the target is (1 − ε)·onehot + ε/classes (Szegedy et al. 2016). A model that ends in a Softmax is trained on what goes into it.
 */
export const crossEntropy = declare(
  "crossEntropy",
  "cross-entropy of logits with class numbers or probabilities",
  {
    labels: text("labels", { doc: "the array of class numbers, or of probabilities" }),
    labelSmoothing: number(0, { min: 0, max: 1, doc: "share of the target spread evenly over all classes" }),
    ignore: optional(int(-100, { doc: "a class number that stands for none: such positions do not count" })),
    axis,
    output,
  },
  ({ labels, labelSmoothing, ignore, axis: along, output }): Loss => ({
    name: "crossEntropy",
    attach({ b, ...site }) {
      const scores = site.scores(output);
      const logits = scores.squash === "Sigmoid" ? site.output(output) : scores.value;
      const axis = along ?? scores.axis ?? -1;
      const logs = b.op("LogSoftmax", [logits], { axis });
      const given = site.array(labels);
      const { dtype, shape } = site.sample(labels);
      const probabilities = isFloat(dtype) && shape.length > 1;
      const ids = dtype === "int64" || probabilities ? given : b.op("Cast", [given], { to: dtypes.int64.code });
      const target = probabilities
        ? given
        : b.op(
            "OneHot",
            [
              ids,
              b.op("Gather", [b.op("Shape", [logits]), b.constant(tensor("int64", [], [axis]))]),
              b.constant(tensor("float32", [2], [0, 1])),
            ],
            { axis },
          );
      let each = b.sum(b.mul(target, logs), [axis]);
      if (labelSmoothing > 0) {
        const even = b.reduce("ReduceMean", logs, [axis], false);
        each = b.add(b.mul(each, b.f32(1 - labelSmoothing)), b.mul(even, b.f32(labelSmoothing)));
      }
      const classes = { axis, ignore: probabilities ? null : ignore };
      const pairs = [{ array: labels, target, output: logits, ...(probabilities ? {} : { classes }) }];
      if (classes.ignore === null) return { value: b.neg(mean(b, each)), pairs, roots: [softmaxRoot(logits, axis)] };
      const counts = b.op("Not", [b.op("Equal", [ids, b.constant(tensor("int64", [], [classes.ignore]))])]);
      const weight = b.op("Cast", [counts], { to: dtypes.float32.code });
      const total = b.op("Max", [b.op("ReduceSum", [weight], { keepdims: 0 }), b.f32(1)]);
      const value = b.neg(b.div(b.op("ReduceSum", [b.mul(each, weight)], { keepdims: 0 }), total));
      return { value, pairs, roots: [softmaxRoot(logits, axis, { weight, total })] };
    },
  }),
);

/** (output − target)², mean over all elements. */
export const mse = declare(
  "mse",
  "mean squared error",
  { target: text("target", { doc: "the array of targets, of the output's shape" }), output },
  ({ target, output }): Loss => ({
    name: "mse",
    attach({ b, ...site }) {
      const y = site.output(output);
      const t = floats(b, site, target);
      const d = b.sub(y, t);
      const root: Root = { output: y, times: (b, v, here) => b.mul(v, b.f32(Math.sqrt(2 / sizeOf(shapeOf(here(y)))))) };
      return { value: mean(b, b.mul(d, d)), pairs: [{ array: target, target: t, output: y }], roots: [root] };
    },
  }),
);

/**
 * T²·KL(softmax(teacher/T) ‖ softmax(student/T)), mean over examples (and positions): Hinton et al. 2015; T² keeps the gradients' size. For
 * a model that ends in a Sigmoid, whose outputs are yes or no each, that of sigmoid(teacher/T) and sigmoid(student/T), mean over all outputs.
 * Errors: an axis of a single class, of which a softmax says nothing.
 */
export const kl = declare(
  "kl",
  "divergence of softened logits from a teacher's (Hinton et al. 2015)",
  { temperature, teacher: text("teacher", { doc: "the array of the teacher's logits" }), axis, output },
  ({ temperature, teacher, axis: along, output }): Loss => ({
    name: "kl",
    attach({ b, ...site }) {
      const { value: student, squash, axis: own } = site.scores(output);
      const axis = along ?? own ?? -1;
      const t = floats(b, site, teacher);
      const pairs = [{ array: teacher, target: t, output: student }];
      const soft = (v: Value) => (temperature === 1 ? v : b.mul(v, b.f32(1 / temperature)));
      const scaled = (each: Value) => b.mul(mean(b, each), b.f32(temperature ** 2));
      if (squash === "Sigmoid") {
        // p·log(p/q) + (1 − p)·log((1 − p)/(1 − q)) = ζ(s) − ζ(t) − p·(s − t), with ζ(x) = log(1 + eˣ).
        const [s, w] = [soft(student), soft(t)];
        const rise = b.sub(b.op("Softplus", [s]), b.op("Softplus", [w]));
        const each = b.sub(rise, b.mul(b.op("Sigmoid", [w]), b.sub(s, w)));
        return { value: scaled(each), pairs, roots: [sigmoidRoot(student, temperature)] };
      }
      const { shape } = site.sample(teacher);
      if (shape.at(axis) === 1)
        throw new Fault(
          "kl",
          `compares classes along an axis of several; mse:target=${teacher} would be right for outputs that are none; got "${teacher}" of [${shape}], axis ${axis}`,
        );
      const soften = (v: Value) => b.op("LogSoftmax", [soft(v)], { axis });
      const wanted = soften(t);
      const each = b.sum(b.mul(b.op("Exp", [wanted]), b.sub(wanted, soften(student))), [axis]);
      return { value: scaled(each), pairs, roots: [softmaxRoot(student, axis, { temperature })] };
    },
  }),
);

/** The weighted sum of several losses. */
export function sum(terms: readonly (readonly [weight: number, loss: Loss])[]): Loss {
  return {
    name: terms.map(([w, l]) => `${w}*${l.name}`).join(" + "),
    attach(site) {
      const parts = terms.map(([, loss]) => loss.attach(site));
      const value = parts.map((p, i) => site.b.mul(p.value, site.b.f32(terms[i]![0]))).reduce((a, c) => site.b.add(a, c));
      const roots = parts.flatMap((p, i) => p.roots.map((r): Root => scaled(r, Math.sqrt(terms[i]![0]))));
      return { value, pairs: parts.flatMap((p) => p.pairs), roots };
    },
  };
}

export const losses = { crossEntropy, mse, kl };

/** A loss from text: "crossEntropy:labels=y", or a weighted sum: "0.1*crossEntropy + 0.9*kl:temperature=4". */
export function parseLoss(call: string): Loss {
  const terms = call.split(/\s\+\s/).map((term): readonly [number, Loss] => {
    const [, weight, rest] = /^\s*(?:([\d.eE+-]+)\s*\*)?\s*(.*)$/s.exec(term)!;
    const w = weight === undefined ? 1 : Number(weight);
    if (!(w >= 0)) throw new Fault("loss", `the weight in "${term}" must be a number of at least 0; got ${weight}`);
    return [w, called<Loss>("loss", losses, rest!)];
  });
  return terms.length === 1 && terms[0]![0] === 1 ? terms[0]![1] : sum(terms);
}

/** Errors: class numbers outside 0 … classes − 1 (other than `ignore`), or fractions. */
export function checkLabels(pair: Pick<Pair, "array" | "classes">, classes: number, batch: Batch, indices: ArrayLike<number>): void {
  const t = batch[pair.array]!;
  const values = numbersOf(t);
  for (let i = 0; i < values.length; i++) {
    const id = values[i]!;
    if ((id >= 0 && id < classes && Number.isInteger(id)) || id === pair.classes!.ignore) continue;
    const example = indices[Math.floor(i / (values.length / indices.length))];
    const padding = id < 0 && Number.isInteger(id) ? ` (crossEntropy:ignore=${id} leaves such positions out)` : "";
    throw new Fault("data", `"${pair.array}" holds class ${id} at example ${example}; the model has classes 0 to ${classes - 1}${padding}`);
  }
}

/**
 * With p = softmax(z/T), T²·(−Σ t·log p) has the second derivative diag p − p·pᵀ = Σ_c p_c·(e_c − p)(e_c − p)ᵀ in z where Σ t = 1, so that
 * S·v = √p·v − p·Σ √p·v; over the number of positions (those that count).
 */
function softmaxRoot(
  output: Value,
  axis: number,
  { temperature = 1, weight, total }: { temperature?: number; weight?: Value; total?: Value } = {},
): Root {
  return {
    output,
    times(b, v, here) {
      const z = here(output);
      const shape = shapeOf(z);
      const p = b.op("Softmax", [temperature === 1 ? z : b.mul(z, b.f32(1 / temperature))], { axis });
      const part = b.mul(b.op("Sqrt", [p]), v);
      const times = b.sub(part, b.mul(p, b.sum(part, [axis], true)));
      if (!weight || !total) return b.mul(times, b.f32(Math.sqrt(shape.at(axis)! / sizeOf(shape))));
      return b.mul(times, b.op("Unsqueeze", [b.op("Sqrt", [b.div(here(weight), here(total))]), b.i64([axis])]));
    },
  };
}

/** With q = sigmoid(z/T), T²·(−p·log q − (1 − p)·log(1 − q)) has the second derivative q·(1 − q) in z; over the number of outputs. */
function sigmoidRoot(output: Value, temperature: number): Root {
  return {
    output,
    times(b, v, here) {
      const z = here(output);
      const q = b.op("Sigmoid", [temperature === 1 ? z : b.mul(z, b.f32(1 / temperature))]);
      const each = b.op("Sqrt", [b.mul(q, b.sub(b.f32(1), q))]);
      return b.mul(b.mul(each, v), b.f32(Math.sqrt(1 / sizeOf(shapeOf(z)))));
    },
  };
}

/** The root of `by`² times what `root` is that of. */
const scaled = (root: Root, by: number): Root => ({
  output: root.output,
  times: (b, v, here) => b.mul(root.times(b, v, here), b.f32(by)),
});

function mean(b: Build, v: Value): Value {
  return b.op("ReduceMean", [v], { keepdims: 0 });
}

/** A dataset's array as float32. */
function floats(b: Build, site: Omit<Site, "b">, name: string): Value {
  const v = site.array(name);
  return site.sample(name).dtype === "float32" ? v : b.op("Cast", [v], { to: dtypes.float32.code });
}
