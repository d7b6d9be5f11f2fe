/** Mixed precision: every layer its own width, by what rounding it does to the outputs. */
import { type Dataset, subset } from "../../data/dataset.ts";
import { choice, flag, int, number, text, type ValuesOf } from "../../data/params.ts";
import type { Model } from "../../ir/graph.ts";
import { named } from "../../lint/finding.ts";
import { Fault } from "../../tensor/fault.ts";
import { liftConstants } from "../../transform/fold.ts";
import type { Option } from "../assign.ts";
import { type Divergence, type Sensitivity, sensitivity } from "../sensitivity.ts";
import { type Context, defineTechnique } from "../technique.ts";
import { budgetOf, widthByKey, within } from "./budget.ts";
import { learnedCodes } from "./learned.ts";
import { type Coded, codesIn, nearest, type Rounding } from "./rounding.ts";
import { dropFloats, readInitializers } from "./store.ts";
import { type Bits, bytesOf, type Group, grouped, schemeOf, trials, write } from "./weightgroups.ts";

const params = {
  widths: text("8,4,2", { doc: "bits of a code that a layer may get, of 8, 4, 3, 2; float32 always stays possible" }),
  groupSize: int(32, { min: 16, max: 256, doc: "inputs that share a scale: 16, 32, 64, 128 or 256" }),
  symmetric: flag(false, { doc: "no zero points: fewer bytes, more error" }),
  algorithm: choice(["rtn", "gptq", "awq", "hqq", "adaround"], {
    doc: "how codes are found: the nearest (rtn), or such that the layer's output (gptq, awq, adaround: on calibration data) or weights (hqq) come nearer",
  }),
  maxError: number(0.02, {
    min: 0,
    doc: "budget, where no other is given: relative error of the outputs on the data (for divergence=kl in nats)",
  }),
  maxDrop: number(0, { min: 0, doc: "budget instead: points of accuracy that may be lost on the training examples" }),
  bits: number(0, { min: 0, doc: "budget instead: bits a weight takes on average, scales included" }),
  bytes: int(0, { min: 0, doc: "budget instead: bytes of the file" }),
  sensitivity: choice(["outputs", "weights"], {
    doc: "outputs: each layer alone is rounded and the model run on the data; weights: by how much each weight is off, no data needed",
  }),
  divergence: choice(["relative", "kl"], { doc: "how outputs are compared: relative error, or KL divergence of their softmax" }),
  examples: int(64, { min: 1, doc: "examples of the data it is measured on" }),
  smallest: int(256, { min: 0, doc: "a layer with fewer weights stays float32" }),
  include: text("*", { doc: "only these nodes (globs on node and weight names, op:Type)" }),
  exclude: text("", { doc: "not these nodes" }),
} as const;

type MixedParams = ValuesOf<typeof params>;

export const mixed = defineTechnique({
  technique: "mixed",
  family: "quantize",
  doc: "Gives every layer's weights a width of its own, 8, 4 or 2 bits in blocks or float32, by what rounding them does to the outputs, under a budget.",
  paper:
    "Dong et al. 2020, HAWQ-V2 (sensitivities, here measured); Shoham and Gersho 1988, Efficient Bit Allocation for an Arbitrary Set of Quantizers",
  params,
  neutral: { exclude: "*" },
  stronger: [{ maxError: 0.001 }, { maxError: 0.3 }],
  needs: (p) => [
    ...(p.maxDrop ? (["train"] as const) : []),
    ...(p.sensitivity === "outputs" || budgetOf(p) === "maxError" || !["rtn", "hqq"].includes(p.algorithm)
      ? (["calibration"] as const)
      : []),
  ],
  apply,
});

async function apply(model: Model, p: MixedParams, context: Context): Promise<void> {
  const widths = widthsOf(p.widths);
  if (p.groupSize & (p.groupSize - 1)) throw new Fault("mixed", `groupSize must be 16, 32, 64, 128 or 256; got ${p.groupSize}`);
  liftConstants(model);
  const before = readInitializers(model);
  const { groups, left } = grouped(model, p, widths);
  for (const [why, names] of left) context.note(`stay as they are: ${named(names)}: ${why}`);
  if (groups.length === 0) return context.note("no layers with weights to round among the nodes selected; nothing was changed");
  const round = await roundingOf(model, groups, widths, p, context);
  const data = sampled(context.calibration ?? context.train, p.examples);
  const budget = budgetOf(p);
  const measuring = p.sensitivity === "outputs" || budget === "maxError";
  const probe = measuring
    ? await sensitivity(
        model,
        groups.flatMap((g) => g.slots),
        data!,
        { divergence: p.divergence as Divergence, threads: context.threads },
      )
    : null;
  try {
    const options = await optionsOf(groups, widths, p, round, probe, context);
    const chosen = await within(model, groups, options, p, { budget, probe, round, context });
    report(groups, options, chosen, p, context.note);
    dropFloats(write(model, widthByKey(groups, chosen), p, round, context.note), before, context.note);
  } finally {
    await probe?.release();
  }
}

function widthsOf(list: string): Bits[] {
  const widths = list.split(",").map((w) => Number(w.trim()));
  const wrong = widths.find((w) => ![8, 4, 3, 2].includes(w));
  if (wrong !== undefined || new Set(widths).size < widths.length)
    throw new Fault("mixed", `widths must be some of 8, 4, 3 and 2, each once; got ${JSON.stringify(list)}`);
  return widths as Bits[];
}

/** By the algorithm chosen; all but the nearest codes are worked out for all widths beforehand. */
async function roundingOf(
  model: Model,
  groups: readonly Group[],
  widths: readonly Bits[],
  p: MixedParams,
  context: Context,
): Promise<Rounding> {
  const near = nearest();
  const { algorithm } = p;
  if (algorithm === "rtn") return near;
  const found = new Map<number, ReadonlyMap<string, Coded>>();
  for (const bits of widths)
    found.set(
      bits,
      await learnedCodes(model, {
        algorithm,
        groups: new Map(groups.map((g) => [g.key, g.layers])),
        schemeOf: (l) => schemeOf(bits, l.matrix.columns, p),
        nearest: near,
        data: context.calibration ?? context.train,
        threads: context.threads,
        progress: (step, of) => context.progress({ what: `${algorithm}, ${bits} bits`, step, of }),
        note: (line) => context.note(`${bits} bits: ${line}`),
      }),
    );
  return ([l], scheme) => found.get(scheme.bits)!.get(l!.key)!;
}

/** What each group costs and does at each width, float32 first. */
async function optionsOf(
  groups: readonly Group[],
  widths: readonly Bits[],
  p: MixedParams,
  round: Rounding,
  probe: Sensitivity | null,
  context: Context,
): Promise<Option[][]> {
  const out: Option[][] = [];
  let done = 0;
  for (const g of groups) {
    const options: Option[] = [{ bits: 32, bytes: g.bytes, error: 0 }];
    for (const bits of widths) {
      const coded = round(g.layers, schemeOf(bits, g.columns, p));
      const error = p.sensitivity === "weights" ? coded.error ** 2 : await probe!.of(new Map(trials(g, codesIn(coded))));
      options.push({ bits, bytes: bytesOf(g, schemeOf(bits, g.columns, p)), error });
      context.progress({ what: "sensitivity", step: ++done, of: groups.length * widths.length });
    }
    out.push(options);
  }
  return out;
}

function sampled(data: Dataset | null, most: number): Dataset | null {
  if (!data || data.length <= most) return data;
  return subset(
    data,
    Array.from({ length: most }, (_, i) => Math.floor((i * data.length) / most)),
  );
}

/** Widths by number of layers, what was kept and why, and the most fragile. */
function report(
  groups: readonly Group[],
  options: readonly Option[][],
  chosen: readonly Option[],
  p: MixedParams,
  note: (line: string) => void,
): void {
  const counts = new Map<number, number>();
  for (const o of chosen) counts.set(o.bits, (counts.get(o.bits) ?? 0) + 1);
  const bytes = chosen.reduce((n, o) => n + o.bytes, 0);
  const elements = groups.reduce((n, g) => n + g.elements, 0);
  const width = (bits: number) => (bits === 32 ? "as it was" : `in ${bits} bits`);
  const list = [...counts].sort((a, b) => a[0] - b[0]).map(([bits, n]) => `${n} ${width(bits)}`);
  note(`${groups.length} weights: ${list.join(", ")}; ${((bytes * 8) / elements).toFixed(2)} bits a weight, scales included`);
  const said = (o: Option) =>
    p.sensitivity === "weights"
      ? `off by ${percent(Math.sqrt(o.error))} itself`
      : p.divergence === "kl"
        ? `KL ${o.error.toPrecision(2)}`
        : `outputs off by ${percent(Math.sqrt(o.error))}`;
  const least = Math.min(...chosen.map((o) => o.bits));
  const kept = groups.flatMap((g, i) => {
    const [is, next] = [chosen[i]!, [...options[i]!].sort((a, b) => b.bits - a.bits).find((o) => o.bits < chosen[i]!.bits)];
    return is.bits > least && next ? [{ name: g.name, is, next }] : [];
  });
  for (const { name, is, next } of kept.sort((a, b) => b.next.error - a.next.error).slice(0, 20))
    note(`${name} ${is.bits === 32 ? "stays as it was" : `gets ${is.bits} bits`}: alone in ${next.bits} bits, ${said(next)}`);
}

const percent = (x: number) => `${+(100 * x).toPrecision(2)} %`;
