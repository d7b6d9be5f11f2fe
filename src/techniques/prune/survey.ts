/** What of a model structured pruning may remove, what the net would lose with it, and what it costs. */
import type { Batch, Dataset } from "../../data/dataset.ts";
import { cloneModel, type Model, type Value } from "../../ir/graph.ts";
import { matcher, namesOf } from "../../ir/select.ts";
import { isFloat } from "../../tensor/dtype.ts";
import { Fault } from "../../tensor/fault.ts";
import { floatsOf } from "../../tensor/tensor.ts";
import { gaussNewtonDiagonal, gradients } from "../../train/derivatives.ts";
import type { Loss } from "../../train/loss.ts";
import { carriedOver, findGroups, type Group, type Groups } from "../../transform/groups.ts";
import { removeChannels } from "../../transform/remove.ts";
import { outputSquares } from "../kronecker.ts";
import { sampled } from "../sample.ts";
import type { Context } from "../technique.ts";
import { type Cost, channelTerms, costOf, macTerms, parameterTerms, type Sizes } from "./groupcost.ts";
import { activationsOf, magnitudeOf, randomOf, scaleOf, summedOf } from "./groupimportance.ts";
import { surgeonOf } from "./groupsurgeon.ts";
import { type Candidate, keepMost, leastOf, multipleOf } from "./widths.ts";

/** The choices that a survey depends on. */
export interface Choices {
  readonly by: "channels" | "parameters" | "macs" | "latency";
  readonly importance: "l2" | "l1" | "bn" | "taylor" | "obd" | "obs" | "activation" | "random";
  readonly roundTo: number | null;
  readonly maxRatio: number;
  readonly include: string;
  readonly exclude: string;
}

/** What a survey, and whoever times what comes of it, needs. */
export interface Surroundings {
  readonly context: Context;
  /** What the model is run on. */
  readonly feeds: Batch;
  readonly data: Dataset | null;
  /** What it learns from; null: it does not. */
  readonly lesson: { readonly loss: Loss; readonly data: Dataset } | null;
}

/** Examples that activations, and derivatives, are taken on. */
const [enough, few] = [256, 128];

/** The groups of a model, what may be removed of them, and what it costs. */
export interface Survey {
  readonly model: Model;
  readonly groups: Groups;
  readonly candidates: readonly Candidate[];
  /** Reason → names. */
  readonly skipped: ReadonlyMap<string, string[]>;
  /** Of what the ratio counts. */
  readonly cost: Cost;
  readonly parameters: Cost;
  readonly macs: Cost;
}

/** `widths`: the groups' sizes before the first round, by name; null: it is the first. Errors: `include` names nothing; an importance that is not finite. */
export async function surveyed(
  model: Model,
  p: Choices,
  around: Surroundings,
  widths: ReadonlyMap<string, number> | null = null,
): Promise<Survey> {
  const groups = await findGroups(model, around.feeds, { threads: around.context.threads });
  const skipped = new Map<string, string[]>();
  const skip = (why: string, { name }: { readonly name: string }) => {
    const list = skipped.get(why);
    if (list) list.push(name);
    else skipped.set(why, [name]);
  };
  const included = matcher(p.include);
  const excluded = p.exclude ? matcher(p.exclude) : () => false;
  let named = 0;
  const among: { group: Group; multiple: number; least: number }[] = [];
  for (const g of groups.groups) {
    const is = (hit: typeof included, roles: readonly string[]) =>
      hit([g.name]) ||
      g.members.some(
        (m) =>
          roles.includes(m.role) && [...m.value.uses].some((u) => "node" in u && hit([m.value.name, ...namesOf(u.node)], u.node.opType)),
      );
    const within = is(included, ["out"]);
    if (within) named++;
    if (g.frozen !== null) skip(g.frozen, g);
    else if (!within) skip("not included", g);
    else if (is(excluded, ["out", "in"])) skip("excluded", g);
    else {
      const multiple = multipleOf(g, p.roundTo);
      const least = leastOf(g.size, widths?.get(g.name) ?? g.size, multiple, p.maxRatio);
      if (least >= g.size && widths === null)
        skip(g.size === 1 ? "a single index" : `no smaller multiple of ${multiple} within maxRatio`, g);
      else among.push({ group: g, multiple, least });
    }
  }
  if (named === 0 && p.include !== "*")
    throw new Fault("structured", `no group is selected; include must match a weight, its node or a group; got "${p.include}"`);
  const chosen = among.map((a) => a.group);
  const importance = await importances(model, chosen, p.importance, around);
  for (const [g, list] of importance)
    if (!list.every(Number.isFinite))
      throw new Fault(
        `group "${g.name}"`,
        "the importance of its channels is not finite, as its weights or the data are not; exclude would leave it alone",
      );
  const candidates = among.map((a): Candidate => ({ ...a, importance: importance.get(a.group)! }));
  const [parameters, macs] = [costOf(parameterTerms(model, groups, chosen)), costOf(macTerms(model, groups, chosen))];
  const cost = p.by === "channels" ? costOf(channelTerms(chosen)) : p.by === "parameters" ? parameters : macs;
  return { model, groups, candidates, skipped, cost, parameters, macs };
}

async function importances(
  model: Model,
  groups: readonly Group[],
  kind: Choices["importance"],
  { context, data, feeds, lesson }: Surroundings,
): Promise<ReadonlyMap<Group, Float64Array>> {
  const l2 = (g: Group) => magnitudeOf(g, (x) => x * x);
  const each = (f: (g: Group) => Float64Array) => new Map(groups.map((g) => [g, f(g)]));
  switch (kind) {
    case "l2":
      return each(l2);
    case "l1":
      return each((g) => magnitudeOf(g, Math.abs));
    case "random":
      return each((g) => randomOf(g, context.seed));
    case "bn":
      return each((g) => scaleOf(g) ?? l2(g));
    case "taylor":
    case "obd": {
      const weights = [...new Set(groups.flatMap((g) => g.members.map((m) => m.value)))].filter((v) => isFloat(v.data!.dtype));
      const options = { examples: few, seed: context.seed, threads: context.threads };
      const { loss, data: examples } = lesson!;
      // Where the net still is its teacher, their divergence has no gradient; the squares to be expected are its second derivatives.
      const second =
        kind === "obd" || loss.name === "kl"
          ? await gaussNewtonDiagonal(model, weights, examples, loss, options)
          : await gradients(model, weights, examples, loss, { ...options, of: "squared" });
      const saliency = new Map(weights.map((v, i) => [v, quadratic(floatsOf(v.data!), second[i]!)]));
      return each((g) => summedOf(g, (v) => saliency.get(v) ?? null));
    }
    case "obs":
      try {
        const { loss, data: examples } = lesson ?? { loss: outputSquares, data: data! };
        return await surgeonOf(model, groups, examples, loss, context);
      } catch (e) {
        if (!(e instanceof Fault)) throw e;
        context.note(`importance=activation instead of obs: ${e.message}`);
        return importances(model, groups, "activation", { context, data, feeds, lesson });
      }
    case "activation": {
      const seen = await activationsOf(model, groups, sampled(data!, enough), context.threads);
      return each((g) => seen.get(g) ?? l2(g));
    }
  }
}

/** ½·h·w² (LeCun et al. 1990, eq. 4). */
function quadratic(w: ArrayLike<number>, h: ArrayLike<number>): Float64Array {
  return Float64Array.from(w, (x, i) => 0.5 * h[i]! * x * x);
}

/** A copy of the model with the groups at other sizes. */
export async function narrowed({ model, groups, candidates }: Survey, sizes: Sizes): Promise<Model> {
  const copies = new Map<Value, Value>();
  const copy = cloneModel(model, copies);
  const twins = carriedOver(groups, copy, copies);
  const keep = new Map<Group, Uint8Array>();
  for (const [g, mask] of keepMost(candidates, sizes)) keep.set(twins.groups[groups.groups.indexOf(g)]!, mask);
  await removeChannels(copy, twins, keep);
  return copy;
}
