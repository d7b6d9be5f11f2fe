/** Depth pruning: whole residual blocks or layers go, those first that change least (Men et al. 2024, ShortGPT; Kim et al. 2024, Shortened LLaMA). */

import type { Dataset } from "../../data/dataset.ts";
import { choice, flag, int, number, optional, text, type ValuesOf } from "../../data/params.ts";
import { cloneModel, type Model, type Node, type Value } from "../../ir/graph.ts";
import { matcher, namesOf } from "../../ir/select.ts";
import { sorted, stored } from "../../ir/walk.ts";
import { macsOf } from "../../measure/macs.ts";
import { parametersOf } from "../../measure/parameters.ts";
import { opOf } from "../../ops/index.ts";
import { feed } from "../../runtime/feeds.ts";
import { observeShapes } from "../../runtime/shapes.ts";
import { Fault } from "../../tensor/fault.ts";
import { liftConstants } from "../../transform/fold.ts";
import { holdZeros, mergeMasks } from "../../transform/mask.ts";
import { type Block, plainLayers, removeBlocks, residualBlocks } from "../../transform/residual.ts";
import { fineTune, mix, passesOver, training } from "../finetune.ts";
import { sampled } from "../sample.ts";
import { retaught, taught } from "../teacher.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { influences, lossesWithout, slopes } from "./gates.ts";
import { reconstruct } from "./reconstruct.ts";

const params = {
  blocks: int(1, { min: 0, doc: "how many units are removed" }),
  ratio: optional(number(0, { min: 0, max: 1, doc: "or units until so large a share of the parameters or MACs is gone" })),
  cost: choice(["parameters", "macs"], { doc: "what ratio counts" }),
  unit: choice(["block", "layer"], {
    doc: "block: each residual branch by itself; layer: attention and the branches behind it together",
  }),
  plain: flag(false, { doc: "also layers without a skip whose output has the shape of their input" }),
  importance: choice(["loss", "output", "influence", "taylor"], {
    doc: "by the loss without the unit; by how far the outputs then are from the original's; by 1 − cosine of the stream before and behind it; by the gradient of a gate on it",
  }),
  examples: int(512, { min: 1, doc: "examples that importance is measured on" }),
  rounds: int(1, { min: 1, doc: "remove in so many rounds, each followed by its share of the training" }),
  reconstruct: flag(true, {
    doc: "weights that stay are fitted layer by layer, by least squares, to what the net computed before, ahead of any training",
  }),
  epochs: optional(
    int(3, {
      min: 0,
      doc: "passes over the training data afterwards; null: where there is some 3, or more (at most 60) until 48,000 examples were shown",
    }),
  ),
  loss: optional(
    text("", {
      doc: "the loss, such as crossEntropy:labels=y or teacher (the original model's outputs, no labels needed); null: crossEntropy where the data has labels and 16,000 examples or more, else teacher",
    }),
  ),
  include: optional(text("*", { doc: "only blocks this selector matches (nodes and weights in them, or their Add)" })),
  exclude: optional(text("", { doc: "not blocks this selector matches" })),
  mix,
  ...training,
} as const;

type Values = ValuesOf<typeof params>;

export const depth = defineTechnique({
  technique: "depth",
  family: "prune",
  doc: "Removes whole residual blocks or layers, those that matter least first, and trains the rest on.",
  paper: "Men et al. 2024, ShortGPT (block influence); Kim et al. 2024, Shortened LLaMA (loss, Taylor)",
  params,
  neutral: { blocks: 0, epochs: 0 },
  stronger: [
    { blocks: 1, epochs: 0 },
    { blocks: 2, epochs: 0 },
  ],
  needs: (p) => ((p.epochs ?? 0) > 0 ? ["train"] : ["calibration"]),
  apply,
});

/** Blocks that go or stay together, by their places. */
interface Unit {
  readonly name: string;
  readonly blocks: readonly number[];
  readonly parameters: number;
  readonly macs: number;
}

interface Found {
  readonly blocks: readonly Block[];
  readonly units: readonly Unit[];
  readonly shape: (v: Value) => readonly number[] | null;
  readonly total: { readonly parameters: number; readonly macs: number };
}

async function apply(model: Model, p: Values, context: Context): Promise<void> {
  liftConstants(model);
  const data = (context.calibration ?? context.train)!;
  const epochs = p.epochs ?? (context.train ? passesOver(context.train.length) : 0);
  const before = await find(model, p, data, context.threads);
  if (before.blocks.length === 0) {
    const fused = [...model.graph.nodes].filter((n) => /^Skip(Simplified)?LayerNormalization$/.test(n.opType)).length;
    const why = fused ? `; ${fused} fused SkipLayerNormalization nodes are not looked into: take the model before it was optimized` : "";
    context.note(
      `nothing is removed: no residual block (x + f(x), with weights in f) is found or selected${p.plain ? "" : "; plain=true takes layers without a skip too"}${why}`,
    );
    return;
  }
  if (p.ratio === null && p.blocks > before.units.length)
    throw new Fault("depth", `blocks must be at most ${before.units.length}, as many units as there are; got ${p.blocks}`);
  let gone = 0;
  for (let round = 1; round <= p.rounds; round++) {
    const found = round === 1 ? before : await find(model, p, data, context.threads);
    const goal = (p.ratio ?? p.blocks) * (round / p.rounds);
    const left = p.ratio === null ? Math.round(goal) - gone : goal - (1 - found.total[p.cost] / before.total[p.cost]);
    gone += await remove(model, found, left, p, context, before.total[p.cost]);
    if (epochs > 0) await heal(model, p, context, epochs / p.rounds, round);
  }
  const parameters = parametersIn(model);
  const percent = ((100 * parameters) / before.total.parameters).toFixed(1);
  context.note(
    `${gone} of ${before.units.length} ${p.unit}s removed; ${parameters} of ${before.total.parameters} parameters are left (${percent} %)`,
  );
}

/** The blocks that are selected, in units, with what they cost. */
async function find(model: Model, p: Values, data: Dataset, threads: number): Promise<Found> {
  const [first] = feed(model, data, { batchSize: 1 });
  const map = new Map<string, Value>();
  const shaped = await observeShapes(model, first!.feeds, { threads });
  for (const v of [...shaped.graph.inputs, ...shaped.graph.initializers, ...[...shaped.graph.nodes].flatMap((n) => n.outputs)])
    if (v) map.set(v.name, v);
  const shape = (v: Value) => map.get(v.name)?.shape ?? null;
  const residual = residualBlocks(model, shape);
  const order = new Map(sorted(model.graph).map((n, i) => [n, i]));
  const all = p.plain ? [...residual, ...plainLayers(model, shape, residual)] : residual;
  const chosen = all.filter((b) => isSelected(b, p)).sort((a, b) => order.get(a.nodes.at(-1)!)! - order.get(b.nodes.at(-1)!)!);
  const macs = new Map<string, number>();
  for (const n of shaped.graph.nodes) macs.set(n.outputs[0]?.name ?? "", opOf(n)?.macs?.(n) ?? 0);
  const cost = (places: readonly number[]) => {
    const nodes = new Set<Node>(places.flatMap((i) => chosen[i]!.nodes));
    const without = cloneWithout(model, chosen, places);
    return {
      parameters: parametersIn(model) - parametersIn(without),
      macs: [...nodes].reduce((n, node) => n + (macs.get(node.outputs[0]?.name ?? "") ?? 0), 0),
    };
  };
  const units = grouped(chosen, p.unit).map((blocks) => ({ name: nameOf(blocks.map((i) => chosen[i]!)), blocks, ...cost(blocks) }));
  return { blocks: chosen, units, shape, total: { parameters: parametersIn(model), macs: macsOf(shaped) ?? 0 } };
}

const parametersIn = (model: Model) => [...stored(model.graph)].reduce((n, entry) => n + parametersOf(entry), 0);

function cloneWithout(model: Model, blocks: readonly Block[], places: readonly number[]): Model {
  const map = new Map<Value, Value>();
  const clone = cloneModel(model, map);
  removeBlocks(
    clone,
    places.map((i) => ({ ...blocks[i]!, skip: map.get(blocks[i]!.skip)!, output: map.get(blocks[i]!.output)! })),
  );
  return clone;
}

function isSelected(block: Block, { include, exclude }: Values): boolean {
  const names = [block.name, ...block.nodes.flatMap(namesOf), ...block.weights.map((v) => v.name)];
  const types = block.nodes.map((n) => n.opType);
  const matches = (selector: string) => {
    const match = matcher(selector);
    return match(names, "Add") || types.some((t) => match(names, t));
  };
  return (!include || matches(include)) && !(exclude && matches(exclude));
}

/** Places of blocks in units. A layer begins with attention, and holds the blocks behind it up to the next; without attention each block is one. */
function grouped(blocks: readonly Block[], unit: Values["unit"]): number[][] {
  const out: number[][] = [];
  let inLayer = false;
  blocks.forEach((b, i) => {
    if (unit === "layer" && inLayer && !b.attention) out.at(-1)!.push(i);
    else out.push([i]);
    inLayer ||= b.attention;
  });
  return out;
}

/** What to call blocks in notes: what the names of their weights begin with alike, and else their Adds. */
function nameOf(blocks: readonly Block[]): string {
  const weights = blocks.flatMap((b) => b.weights.map((v) => v.name));
  const kind = blocks.map((b) => (b.attention ? "attention" : "")).filter(Boolean);
  const label = blocks.map((b) => b.name).join(" + ");
  const some = weights.filter((w) => /[./]/.test(w))[0];
  return `${label}${kind.length ? " (attention)" : ""}${some ? `, ${some} …` : ""}`;
}

/** Removes the least important units one by one, looking anew after each; returns how many. `left`: units, or a share of `whole`. */
async function remove(model: Model, found: Found, left: number, p: Values, context: Context, whole: number): Promise<number> {
  const { blocks, units } = found;
  const scorer = await scorerOf(model, found, p, context);
  const off = new Set<number>();
  const out = new Set<Unit>();
  let share = 0;
  try {
    while (out.size < units.length && (p.ratio === null ? out.size < left : share < left - 1e-9)) {
      context.progress({ what: "depth: looking at what each unit does", step: out.size, of: units.length });
      const rest = units.filter((u) => !out.has(u));
      const scores = await scorer.scores(rest, off);
      const weigh = (i: number) => {
        const cost = rest[i]![p.cost] / whole;
        return p.ratio === null ? scores[i]! : scores[i]! > 0 ? scores[i]! / Math.max(cost, 1e-12) : scores[i]! * cost;
      };
      const best = rest.map((_, i) => i).reduce((a, i) => (weigh(i) < weigh(a) ? i : a));
      const unit = rest[best]!;
      out.add(unit);
      for (const i of unit.blocks) off.add(i);
      share += unit[p.cost] / whole;
      context.note(`removed ${unit.name}: ${unit.parameters} parameters; ${scorer.says(scores[best]!)}`);
    }
  } finally {
    await scorer.release();
  }
  const gone = [...off].sort((a, b) => a - b).map((i) => blocks[i]!);
  const stands = p.reconstruct ? standsFor(gone) : null;
  const former = stands && { model: cloneModel(model), kept: () => null, stands };
  removeBlocks(model, gone);
  if (former && gone.length) await reconstruct(model, former, (context.calibration ?? context.train)!, context);
  return out.size;
}

/** What is read in the place of a block's output once the block is gone, where nothing else reads it: its name → the output's. */
function standsFor(gone: readonly Block[]): Map<string, string> {
  const out = new Map<string, string>();
  const by = new Map<Value, Value>();
  for (const { skip, output, nodes } of gone) {
    const left = by.get(skip) ?? skip;
    by.set(output, left);
    const inside = new Set([...nodes, output.producer]);
    if ([...skip.uses].every((u) => "node" in u && inside.has(u.node))) out.set(left.name, output.name);
    else by.set(output, output);
  }
  return out;
}

interface Scorer {
  /** What each unit matters, higher more, where the blocks in `off` are gone already. */
  scores(units: readonly Unit[], off: ReadonlySet<number>): Promise<number[]>;
  says(score: number): string;
  release(): Promise<void>;
}

async function scorerOf(model: Model, { blocks, shape }: Found, p: Values, context: Context): Promise<Scorer> {
  const options = { threads: context.threads, batchSize: p.batchSize };
  const placesOf = (units: readonly Unit[]) => units.map((u) => u.blocks);
  if (p.importance === "influence") {
    const data = sampled((context.calibration ?? context.train)!, p.examples);
    return {
      scores: (units, off) => influences(model, blocks, placesOf(units), off, data, (v) => shape(v)?.length ?? 0, options),
      says: (score) => `1 − cosine of the stream before and behind it ${figure(score)}`,
      release: async () => {},
    };
  }
  const { data, loss } = await taught(
    sampled(scored(context), p.examples),
    p.importance === "output" ? "mse:target=teacher" : p.loss,
    context,
  );
  if (p.importance === "taylor")
    return {
      scores: (units, off) => slopes(model, blocks, placesOf(units), off, data, loss, options),
      says: (score) => `the gradient of its gate ${figure(score)}`,
      release: async () => {},
    };
  const losses = await lossesWithout(model, blocks, data, loss, options);
  let now = 0;
  return {
    async scores(units, off) {
      now = await losses.without(off);
      const out: number[] = [];
      for (const u of units) out.push((await losses.without([...off, ...u.blocks])) - now);
      return out;
    },
    says: (score) =>
      p.importance === "output"
        ? `squared difference from the original's outputs ${figure(now)} → ${figure(now + score)}`
        : `loss ${figure(now)} → ${figure(now + score)} on ${data.length} examples`,
    release: () => losses.release(),
  };
}

const figure = (x: number) => String(+x.toPrecision(3));

/** The data that importance is measured on: with labels, where there are some. */
function scored({ train, calibration }: Context): Dataset {
  const [a, b] = calibration ? [calibration, train] : [train, null];
  return b?.names.includes("labels") && !a!.names.includes("labels") ? b : a!;
}

/** Training of what is left. */
async function heal(model: Model, p: Values, context: Context, epochs: number, round: number): Promise<void> {
  const lesson = await retaught(context.train!, p.loss, context, p.mix);
  // What an earlier step pruned stays pruned.
  const masks = holdZeros(model);
  await fineTune(model, p, context, { what: "depth", epochs, ...lesson, round, frozen: masks.map((m) => m.value.name) });
  mergeMasks(masks);
}
