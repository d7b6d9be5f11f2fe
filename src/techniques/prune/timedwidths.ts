/** Widths by the clock: a net as fast as wanted, and whether one that was asked for by its size is faster at all. */
import { host } from "#host";
import type { Batch } from "../../data/dataset.ts";
import { cloneModel, type Model } from "../../ir/graph.ts";
import { latency } from "../../measure/latency.ts";
import { Fault } from "../../tensor/fault.ts";
import type { Group } from "../../transform/groups.ts";
import { costOf, type Sizes, workTerms } from "./groupcost.ts";
import { nearby, reach, type Speedup } from "./speedup.ts";
import { type Choices, narrowed, type Surroundings, type Survey, surveyed } from "./survey.ts";
import { after, descent } from "./widths.ts";

/** Seconds a look at one net's latency takes, and a thorough one, at least. */
const [glance, thorough] = [0.3, 1];

/**
 * Sizes that run `target` times as fast as `before`, found by timing nets of ever more steps.
 * @param reached how many times as fast it is without any
 * Errors: none found is faster than `before` for certain.
 */
export async function fastEnough(
  before: Model,
  now: Survey,
  { target, reached }: { readonly target: number; readonly reached: number },
  { scope, threads }: { readonly scope: "global" | "layer"; readonly threads: number },
  around: Surroundings,
): Promise<{ readonly sizes: Sizes; readonly speedup: Speedup }> {
  const none: Sizes = new Map();
  const { context, feeds } = around;
  const work = costOf(
    workTerms(
      now.model,
      now.groups,
      now.candidates.map((c) => c.group),
    ),
  );
  const counted = work.total(none) > 0 ? work : now.parameters;
  const steps = descent(now.candidates, counted, { scope });
  const whole = counted.total(none);
  const predicted = steps.map((s) => (reached * whole) / Math.max(s.cost, whole / 1e6));
  const nets = new Map<number, Model>();
  const found = await reach(predicted, target, async (net, careful) => {
    context.progress({ what: "timing", step: net, of: steps.length });
    const candidate = nets.get(net) ?? (await narrowed(now, after(steps.slice(0, net))));
    nets.set(net, candidate);
    return (await timed(before, [candidate], feeds, threads, careful ? thorough : glance))[0]!;
  });
  const wanted = target.toPrecision(3);
  if (!found || (!found.met && found.speedup.interval[0] <= 1)) {
    const best = found ? `; the fastest found runs ${times(found.speedup)} as fast` : "";
    const why = "a larger maxRatio, another roundTo or other groups would be right";
    throw new Fault("structured", `no widths were found that run ${wanted} times as fast${best}; ${why}`);
  }
  if (!found.met)
    context.note(
      `${wanted} times as fast was not reached: the fastest widths found run ${times(found.speedup)} as fast; a larger maxRatio or another roundTo may give more`,
    );
  return { sizes: after(steps.slice(0, found.net)), speedup: found.speedup };
}

/**
 * Speed-ups of nets over the first one, all side by side. A single thread is timed by the processor time it takes, where the machine tells:
 * what else runs there slows the clock by chance, now one net and now the other.
 */
async function timed(before: Model, nets: readonly Model[], feeds: Batch, threads: number, seconds: number): Promise<Speedup[]> {
  const figures = await latency(
    [before, ...nets].map((model) => ({ model, feeds })),
    { threads, seconds, ...(threads === 1 && host.processorTime ? { clock: host.processorTime } : {}) },
  );
  return figures.slice(1).map((list) => {
    const { value, interval } = list.find((m) => m.metric === "speedup")!;
    return { value, interval: interval ?? [value, value] };
  });
}

/** Times the result; where it is no faster for certain, says so, and which widths nearby are. */
export async function checkSpeed(
  before: Model,
  model: Model,
  widths: Sizes,
  p: Choices & { readonly threads: number },
  around: Surroundings,
): Promise<void> {
  const { context, feeds } = around;
  const [now] = await timed(before, [model], feeds, p.threads, glance);
  if (now!.interval[0] > 1) return;
  const slow = now!.interval[1] < 1 ? "slower than" : "no faster than";
  const survey = await surveyed(cloneModel(before), { ...p, roundTo: 1 }, around);
  const sizes = new Map<Group, number>();
  for (const [g, size] of widths) {
    const twin = survey.groups.groups.find((o) => o.name === g.name);
    if (twin && size < g.size) sizes.set(twin, size);
  }
  const options = nearby(survey.candidates, sizes);
  const nets: Model[] = [];
  for (const o of options) nets.push(await narrowed(survey, o.sizes));
  const speeds = nets.length ? await timed(before, nets, feeds, p.threads, glance) : [];
  const cost = survey.macs.total(sizes);
  const faster = options
    .map((o, i) => ({ ...o, speed: speeds[i]!, away: Math.abs(survey.macs.total(o.sizes) - cost) }))
    .filter((o) => o.speed.interval[0] > 1)
    .sort((a, b) => a.away - b.away)[0];
  const better = faster
    ? `roundTo=${faster.multiple} with ${[...faster.sizes].map(([g, n]) => `${g.name} ${n}`).join(", ")} runs ${times(faster.speed)} as fast`
    : "no multiples of 8, 16 or 32 nearby are faster";
  context.note(`runs ${times(now!)} as fast as before (measured, ${threadsOf(p.threads)}): ${slow} before; ${better}`);
}

/** "1.27× (1.25–1.29)". */
export const times = ({ value, interval: [low, high] }: Speedup) => `${value.toFixed(2)}× (${low.toFixed(2)}–${high.toFixed(2)})`;
export const threadsOf = (threads: number) => `${threads} ${threads === 1 ? "thread" : "threads"}`;
