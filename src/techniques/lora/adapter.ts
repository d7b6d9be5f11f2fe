/** Low-rank adapters: what they hold, how they start, how they sit in a graph and how they are folded into it. */
import { float, type Model, type Node, type Value } from "../../ir/graph.ts";
import { find, labelOf } from "../../ir/walk.ts";
import { Build } from "../../ops/build.ts";
import { Fault } from "../../tensor/fault.ts";
import { random } from "../../tensor/random.ts";
import { numbersOf, type Tensor, tensor } from "../../tensor/tensor.ts";
import { transpose } from "../../tensor/transpose.ts";
import { liftConstants } from "../../transform/fold.ts";
import { dropDefault, otherReader, transposed, weightSeenBy } from "../../transform/weights.ts";
import { type Target, targetsOf } from "./target.ts";

/** One layer's share: y = W·x + scaling · B·A·x. */
export interface Pair {
  readonly module: string;
  /** [rank, inputs]. */
  readonly a: Tensor;
  /** [outputs, rank]. */
  readonly b: Tensor;
  readonly alpha: number;
}

/** A low-rank adapter (Hu et al. 2021). */
export interface Adapter {
  readonly pairs: readonly Pair[];
  /** The rank and alpha that pairs have where they say nothing else. */
  readonly rank: number;
  readonly alpha: number;
  /** The share of the adapter's inputs that training left out. */
  readonly dropout: number;
  /** Scaling by alpha / √rank (rsLoRA, Kalajdzievski 2023) in the place of alpha / rank. */
  readonly rslora: boolean;
}

export function scalingOf(adapter: Pick<Adapter, "rslora">, { a, alpha }: Pair): number {
  const rank = a.shape[0]!;
  return alpha / (adapter.rslora ? Math.sqrt(rank) : rank);
}

export interface AdapterOptions {
  readonly rank: number;
  readonly alpha: number;
  readonly dropout: number;
  readonly rslora: boolean;
}

/** An adapter that changes nothing yet, as PEFT starts it: A Kaiming-uniform with a = √5, that is U(±1/√inputs), and B zero. */
export function newAdapter(targets: readonly Target[], options: AdapterOptions, seed: number): Adapter {
  const { rank, alpha } = options;
  const pairs = targets.map(({ module, inputs, outputs }): Pair => {
    const bound = 1 / Math.sqrt(inputs);
    const a = random(seed, `lora/${module}`).fillUniform(new Float32Array(rank * inputs), -bound, bound);
    return {
      module,
      a: tensor("float32", [rank, inputs], a),
      b: tensor("float32", [outputs, rank], new Float32Array(outputs * rank)),
      alpha,
    };
  });
  return { ...options, pairs };
}

/** The layer each pair sits on. A name may lack a leading part on either side (an encoder exported alone). Errors: none or several, wrong sizes. */
function placed(model: Model, adapter: Adapter): { pair: Pair; target: Target }[] {
  // An adapter was trained on a model whose Constant nodes were lifted.
  liftConstants(model);
  const targets = targetsOf(model);
  const taken = new Map<Target, string>();
  return adapter.pairs.map((pair) => {
    const { module, a, b } = pair;
    const ends = (x: string, y: string) => x.endsWith(`.${y}`) || y.endsWith(`.${x}`);
    const exact = targets.filter((t) => t.module === module);
    const [target, ...others] = exact.length ? exact : targets.filter((t) => ends(t.module, module));
    if (!target)
      throw new Fault(
        "lora",
        `the model has no layer "${module}"; it has ${targets.map((t) => t.module).join(", ") || "no MatMul or Gemm with weights"}`,
      );
    if (others.length)
      throw new Fault("lora", `"${module}" may be ${[target, ...others].map((t) => t.module).join(" or ")}; the whole name would be right`);
    if (taken.has(target)) throw new Fault("lora", `"${module}" and "${taken.get(target)}" both fit the layer "${target.module}"`);
    taken.set(target, module);
    const [rank] = a.shape;
    if (a.shape[1] !== target.inputs || b.shape[0] !== target.outputs || b.shape[1] !== rank)
      throw new Fault(
        "lora",
        `"${module}" takes A [rank, ${target.inputs}] and B [${target.outputs}, rank]; got [${a.shape}] and [${b.shape}]`,
      );
    return { pair, target };
  });
}

/** Names of the initializers that {@link insert} gave an adapter's pair. */
export interface Inserted {
  readonly module: string;
  /** Aᵀ [inputs, rank] and Bᵀ [rank, outputs]. */
  readonly a: string;
  readonly b: string;
}

/**
 * Lays an adapter beside its layers: MatMul, Mul by the scaling, MatMul, Add; the layers themselves stay as they are. Outputs keep their
 * names. With a dropout above 0 a Dropout node goes before it (nothing in inference). Errors: layers that are missing or of another size.
 */
export function insert(model: Model, adapter: Adapter, dropout = 0): Inserted[] {
  const opset = model.opsets.get("") ?? 1;
  return placed(model, adapter).map(({ pair, target }) => {
    const { value, uses } = target.weight;
    const dtype = weightSeenBy(uses[0]!, value)!.dtype;
    const initializer = (name: string, t: Tensor) =>
      value.graph.initializer(`${pair.module}.${name}`, tensor(dtype, t.shape, numbersOf(t)));
    const a = initializer("lora_A", transpose(pair.a));
    const b = initializer("lora_B", transpose(pair.b));
    const scaling = initializer("lora_scaling", tensor("float32", [], [scalingOf(adapter, pair)]));
    for (const { node } of uses) beside(node, a, b, scaling, dropout, opset);
    return { module: pair.module, a: a.name, b: b.name };
  });
}

function beside(node: Node, a: Value, b: Value, scaling: Value, dropout: number, opset: number): void {
  const build = new Build(node.graph, opset, `${labelOf(node)}/lora`);
  let x = node.inputs[0]!;
  if (node.opType === "Gemm" && node.int("transA")) x = build.op("Transpose", [x], { perm: [1, 0] });
  if (dropout > 0) x = opset >= 12 ? build.op("Dropout", [x, build.f32(dropout)]) : build.op("Dropout", [x], { ratio: float(dropout) });
  const low = build.mul(build.matmul(x, a), scaling);
  const delta = build.matmul(low, b);
  // The layer's own output gets a new name, the sum its old one: graph outputs and readers see no difference.
  const y = node.outputs[0]!;
  const base = node.graph.value(`${y.name}_base`, y.type);
  base.producer = node;
  node.outputs[0] = base;
  const add = node.graph.append("Add", [base, delta], { name: `${labelOf(node)}/lora/Add`, outputs: [] });
  node.graph.addNodeOutput(add, y);
}

/** The adapter with the values its initializers have in `model` now. */
export function extract(model: Model, adapter: Adapter, inserted: readonly Inserted[]): Adapter {
  const floats = (name: string) => {
    const t = find(model.graph, name)?.data;
    if (!t) throw new Fault("lora", `the model has no initializer "${name}"`);
    return transpose(tensor("float32", t.shape, numbersOf(t)));
  };
  const pairs = adapter.pairs.map((p, i) => ({ ...p, a: floats(inserted[i]!.a), b: floats(inserted[i]!.b) }));
  return { ...adapter, pairs };
}

/** The adapter with its effect times `factor`: what several merged together are weighted by (PEFT's combination "cat"). */
export function scaled(adapter: Adapter, factor: number): Adapter {
  const times = (alpha: number) => alpha * factor;
  return { ...adapter, alpha: times(adapter.alpha), pairs: adapter.pairs.map((p) => ({ ...p, alpha: times(p.alpha) })) };
}

/**
 * Folds an adapter into its layers: W + scaling · B·A, in float64, rounded once to the weight's own type. The graph keeps its form. A weight
 * that others read too (a tied embedding) is split first. Returns a line for each that was. Errors: layers missing or of another size.
 */
export function merge(model: Model, adapter: Adapter): string[] {
  return fold(model, adapter, 1);
}

/**
 * Takes a merged adapter out of its layers again: W − scaling · B·A. Exact up to the two roundings, of merging and of this, to the weight's
 * own type: a unit in the last place of the larger of merged and unmerged weight. A weight that merging split stays split. Errors as in
 * {@link merge}; whether the adapter was ever merged cannot be told.
 */
export function unmerge(model: Model, adapter: Adapter): string[] {
  return fold(model, adapter, -1);
}

function fold(model: Model, adapter: Adapter, sign: 1 | -1): string[] {
  const done = sign > 0 ? "merged" : "unmerged";
  const notes: string[] = [];
  for (const { pair, target } of placed(model, adapter)) {
    const { weight, inputs, outputs, rowsAreOutputs } = target;
    const { value, uses } = weight;
    const alphas = new Set(uses.map(({ node }) => (node.opType === "Gemm" ? (node.float("alpha") ?? 1) : 1)));
    const [alpha] = alphas;
    if (alphas.size !== 1 || !alpha)
      throw new Fault("lora", `"${pair.module}" cannot be ${done}: its Gemm nodes scale by ${[...alphas].join(" and ")}`);
    const rank = pair.a.shape[0]!;
    const a = numbersOf(pair.a);
    const b = numbersOf(pair.b);
    const w = Float64Array.from(numbersOf(value.data!));
    const scaling = (sign * scalingOf(adapter, pair)) / alpha;
    for (let o = 0; o < outputs; o++) {
      for (let i = 0; i < inputs; i++) {
        let sum = 0;
        for (let k = 0; k < rank; k++) sum += b[o * rank + k]! * a[k * inputs + i]!;
        // A zero adapter leaves every bit.
        if (sum !== 0) w[rowsAreOutputs ? o * inputs + i : i * outputs + o]! += scaling * sum;
      }
    }
    const data = tensor(value.data!.dtype, value.data!.shape, w);
    const other = otherReader(weight);
    if (!other) {
      if (dropDefault(value.graph, value)) notes.push(`"${value.name}" is no longer an input that callers may override`);
      value.graph.setData(value, data);
    } else {
      const own = value.graph.initializer(`${value.name}_${done}`, data);
      for (const use of uses) {
        const turned = () => use.node.graph.append("Transpose", [own], { attrs: { perm: [1, 0] } }).outputs[0]!;
        use.node.setInput(use.input, transposed(use) ? turned() : own);
      }
      notes.push(`${value.name} is split in two: ${other} reads it too`);
    }
  }
  return notes;
}
