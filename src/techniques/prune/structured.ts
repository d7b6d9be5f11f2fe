/** Structured pruning: whole channels, heads and units go, with everything coupled to them; what is left is an ordinary, smaller net. */
import { choice, flag, int, number, optional, text, type ValuesOf } from "../../data/params.ts";
import { cloneModel, type Model } from "../../ir/graph.ts";
import { feedsFor } from "../../measure/measure.ts";
import { slides } from "../../ops/axes.ts";
import { sum } from "../../train/loss.ts";
import { liftConstants } from "../../transform/fold.ts";
import type { Group } from "../../transform/groups.ts";
import { keptAlong, removeChannels } from "../../transform/remove.ts";
import { dropDefault } from "../../transform/weights.ts";
import { fineTune, mix, passesOver, training } from "../finetune.ts";
import { retaught } from "../teacher.ts";
import { type Context, defineTechnique } from "../technique.ts";
import type { Sizes } from "./groupcost.ts";
import { groupLasso } from "./grouplasso.ts";
import { reconstruct } from "./reconstruct.ts";
import type { Speedup } from "./speedup.ts";
import { type Survey, surveyed } from "./survey.ts";
import { checkSpeed, fastEnough, threadsOf, times } from "./timedwidths.ts";
import { after, descent, keepMost } from "./widths.ts";

const params = {
  ratio: number(0.5, { min: 0, max: 1, doc: "fraction of what `by` counts that is removed" }),
  by: choice(["channels", "parameters", "macs", "latency"], {
    doc: "what the ratio counts: channels, parameters or multiply-accumulates; latency: widths are chosen until `speedup` is measured",
  }),
  speedup: number(1.25, { min: 1, doc: "with by=latency, how many times as fast as before the net must run, by measurement" }),
  importance: optional(
    choice(["l2", "l1", "bn", "taylor", "obd", "obs", "activation", "random"], {
      doc: "of a channel: shares of its coupled weights' squares (l2) or magnitudes (l1), BatchNormalization's scale (bn), what the loss changes by the squared gradients (taylor; of a teacher's divergence alone, which has none where the net is the teacher, as obd) or second derivatives (obd) of all its weights, what its readers lose by that with their other weights making up for it (obs: ZipLM, Kurtic et al. 2023), the energy it hands on to its readers (activation), chance (random); null: obs where there is data, else l2",
    }),
  ),
  scope: choice(["global", "layer"], {
    doc: "global: the least important for the cost gained go first, wherever they are; layer: all groups lose the same share",
  }),
  roundTo: optional(
    int(1, {
      min: 1,
      doc: "widths stay multiples of this, unless they were smaller; null: 16 for groups that Convs on images run through, 1 for others",
    }),
  ),
  maxRatio: number(0.9, { min: 0, max: 1, doc: "no group loses a larger share" }),
  rounds: int(1, { min: 1, doc: "rounds of removing and training" }),
  epochs: optional(
    int(3, {
      min: 0,
      doc: "passes over the training data afterwards, over all rounds; null: where there is some 3, or more (at most 60) until 48,000 examples were shown",
    }),
  ),
  lasso: number(0, { min: 0, doc: "strength of a group lasso that draws channels to zero before any goes (1e-4, say); 0: none" }),
  lassoEpochs: int(3, { min: 1, doc: "passes over the training data with the lasso" }),
  loss: optional(
    text("", {
      doc: "the loss, such as crossEntropy:labels=y or teacher (divergence from the original model's outputs, no labels needed), or a sum: 0.1*crossEntropy + 0.9*teacher:temperature=4; null: crossEntropy where the data has labels and 16,000 examples or more, else teacher",
    }),
  ),
  teacher: optional(text("", { doc: "file of the teacher; null: the model before the first step" })),
  mix,
  include: text("*", { doc: "only groups that hold output channels of a weight this selector matches (or that it names)" }),
  exclude: text("", { doc: "weights this selector matches keep their shapes" }),
  reconstruct: flag(true, {
    doc: "where there is data, weights that stay are fitted layer by layer, by least squares, to what the net computed before, ahead of any training",
  }),
  check: flag(true, { doc: "time the result beside what it came from, and say so where it is no faster, with widths nearby that are" }),
  threads: int(1, { min: 1, doc: "intra-op threads of what is timed" }),
  ...training,
} as const;

type Values = ValuesOf<typeof params>;

export const structured = defineTechnique({
  technique: "structured",
  family: "prune",
  doc: "Removes whole channels, heads and units with all that is coupled to them: a smaller dense net, by parameters, MACs or measured latency.",
  paper: "Fang et al. 2023, DepGraph: Towards Any Structural Pruning; Li et al. 2017, Pruning Filters for Efficient ConvNets",
  params,
  neutral: { ratio: 0, epochs: 0 },
  stronger: [
    { ratio: 0.3, roundTo: 1, epochs: 0 },
    { ratio: 0.7, roundTo: 1, epochs: 0 },
  ],
  needs: (p) =>
    learns(p) || (p.epochs ?? 0) > 0 ? ["train"] : p.importance === "activation" || p.importance === "obs" ? ["calibration"] : [],
  apply,
});

/** Whether the loss is needed beside the training at the end. */
const learns = (p: Pick<Values, "lasso" | "importance">) => p.lasso > 0 || p.importance === "taylor" || p.importance === "obd";

async function apply(model: Model, params: Values, context: Context): Promise<void> {
  liftConstants(model);
  const data = context.calibration ?? context.train;
  const epochs = params.epochs ?? (context.train ? passesOver(context.train.length) : 0);
  const p = { ...params, importance: params.importance ?? (data ? "obs" : "l2") };
  const teacher = p.teacher === null ? context.original : await context.load(p.teacher);
  const taught = epochs > 0 || learns(p) || (p.importance === "obs" && context.train);
  const lesson = taught ? await retaught(context.train!, p.loss, { ...context, original: teacher }, p.mix) : null;
  const around = { context, data, lesson, feeds: feedsFor(model, { data, shape: context.shape, seed: context.seed }, null) };
  const before = cloneModel(model);
  const first = await surveyed(model, p, around);
  tellSkipped(first, context.note);
  if (first.candidates.length === 0) context.note("nothing is removed: there is no group of channels that can go");
  if (p.lasso > 0) {
    const penalty = groupLasso(first.candidates.map((c) => c.group));
    const loss = sum([
      [1, lesson!.loss],
      [p.lasso, penalty],
    ]);
    await fineTune(model, p, context, { what: "lasso", epochs: p.lassoEpochs, loss, data: lesson!.data });
  }
  const widths = new Map(first.candidates.map(({ group }) => [group.name, group.size]));
  const sizes = new Map(widths);
  let speedup: Speedup | null = null;
  for (let round = 1; round <= p.rounds; round++) {
    const now = round === 1 && p.lasso === 0 ? first : await surveyed(model, p, around, widths);
    const done = round / p.rounds;
    let wanted: Sizes;
    if (p.by === "latency") {
      const goal = { target: p.speedup ** done, reached: speedup?.value ?? 1 };
      ({ sizes: wanted, speedup } = await fastEnough(before, now, goal, p, around));
    } else wanted = byCost(now, first, p, 1 - (1 - p.ratio) ** done, round === p.rounds ? context.note : null);
    for (const [g, size] of wanted) sizes.set(g.name, size);
    const whole = p.reconstruct && data ? cloneModel(model) : null;
    const keep = await remove(model, now, wanted, context);
    if (whole && keep.size > 0) await reconstruct(model, { model: whole, kept: keptAlong(now.groups, keep) }, data!, context);
    const tuning = { what: "structured", epochs: epochs / p.rounds, round };
    if (epochs > 0) await fineTune(model, p, context, { ...tuning, ...lesson! });
  }
  const end = new Map(first.candidates.map(({ group }) => [group, sizes.get(group.name)!]));
  tell(first, end, context.note);
  if (speedup) context.note(`runs ${times(speedup)} as fast as before (measured, ${threadsOf(p.threads)})`);
  else if (p.check && [...end].some(([g, size]) => size < g.size)) await checkSpeed(before, model, end, p, around);
}

async function remove(model: Model, { groups, candidates }: Survey, sizes: Sizes, context: Context): Promise<Map<Group, Uint8Array>> {
  const keep = keepMost(candidates, sizes);
  if (keep.size === 0) return keep;
  for (const g of keep.keys())
    for (const { value } of g.members)
      if (dropDefault(value.graph, value)) context.note(`"${value.name}" is no longer an input that callers may override`);
  await removeChannels(model, groups, keep);
  return keep;
}

/** Sizes at which the cost is down to 1 − ratio of what it was at first. */
function byCost(now: Survey, first: Survey, p: Pick<Values, "scope" | "by">, ratio: number, note: ((line: string) => void) | null): Sizes {
  const whole = first.cost.total(new Map());
  // Rounding must not ask for one channel more.
  const until = whole * (1 - ratio) * (1 + 1e-9);
  const steps = descent(now.candidates, now.cost, { scope: p.scope, until });
  const got = steps.at(-1)?.cost ?? now.cost.total(new Map());
  if (got > until)
    note?.(
      `only ${percent(1 - got / whole)} of the ${p.by} can go, ${percent(ratio)} were wanted: a smaller roundTo or a larger maxRatio would give more`,
    );
  return after(steps);
}

const percent = (x: number) => `${(100 * x).toFixed(1)} %`;

function tellSkipped({ skipped }: Survey, note: (line: string) => void): void {
  for (const [why, names] of skipped) if (why !== slides) note(`stay as they are: ${few(names)}: ${why}`);
}

const few = (names: readonly string[]) =>
  names.length <= 5 ? names.join(", ") : `${names.slice(0, 4).join(", ")} and ${names.length - 4} more`;

function tell({ parameters, macs }: Survey, sizes: Sizes, note: (line: string) => void): void {
  const kept: string[] = [];
  for (const [{ name, size }, now] of sizes) {
    if (now < size) note(`${name}: ${size} → ${now}`);
    else kept.push(`${name} ${size}`);
  }
  if (kept.length) note(`keep their widths: ${few(kept)}`);
  const none: Sizes = new Map();
  for (const [what, cost] of [["parameters", parameters] as const, ["multiply-accumulates", macs] as const]) {
    const [was, is] = [cost.total(none), cost.total(sizes)];
    if (was > 0) note(`${what}: ${Math.round(was)} → ${Math.round(is)} (−${percent(1 - is / was)})`);
  }
}
