/** Why a result is not faster than the original: from the graph that the runtime makes of each, and from where its time goes. */
import { host } from "#host";
import type { Batch } from "../data/dataset.ts";
import type { Graph, Model, Node, Value } from "../ir/graph.ts";
import { allNodes, labelOf } from "../ir/walk.ts";
import { costFindings } from "../lint/costs.ts";
import { type Finding, named } from "../lint/finding.ts";
import { measured } from "../lint/runtime.ts";
import { typesOf } from "../lint/types.ts";
import type { Measurement } from "./measurement.ts";

/** What ran, as `host.inspect` gives it. */
export interface Ran {
  readonly graph: Model | null;
  readonly times: readonly { readonly name: string; readonly op: string; readonly ms: number }[];
}

/** A share of the time that is worth a word. */
const worth = 0.1;
/** Ops that are named. */
const most = 6;
/** Seconds each model runs under the profiler. */
const profiled = 0.3;

const conversions = new Set(["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "ReorderInput", "ReorderOutput"]);
const products =
  /^(MatMul|Gemm|FusedMatMul|FusedGemm|QGemm|QLinearMatMul|MatMulInteger|MatMulIntegerToFloat|DynamicQuantizeMatMul|MatMulNBits|MatMulBnb4)$/;
const convolutions = /^(Conv|FusedConv|QLinearConv|ConvInteger|NhwcFusedConv)$/;

/**
 * What is to be said of `result`'s latency, measured beside `original`'s: nothing where it is faster for certain (the whole interval of
 * its speed-up above 1), else one finding with the causes that the graphs and profiles show. Node only: elsewhere nothing.
 * `feeds`: what both were timed on.
 */
export async function slowness(
  original: { readonly model: Model; readonly feeds: Batch },
  result: { readonly model: Model; readonly feeds: Batch },
  measurements: readonly Measurement[],
  options: { readonly threads?: number } = {},
): Promise<Finding[]> {
  const speedup = measurements.find((m) => m.metric === "speedup");
  if (!host.inspect || !speedup?.interval || speedup.interval[0] > 1) return [];
  const inspecting = { threads: options.threads ?? 1, seconds: profiled };
  const was = await host.inspect(original.model, original.feeds, inspecting);
  const is = await host.inspect(result.model, result.feeds, inspecting);
  const { text, nodes } = causes(result.model, was, is);
  const slower = speedup.interval[1] < 1;
  return [
    {
      level: slower ? "warning" : "note",
      what: `${slower ? "slower" : "no faster"} (${+speedup.value.toPrecision(3)}×): ${text}`,
      nodes,
      basis: `measured: the graph that ${measured.node.runtime.split(" ")[0]} ran, and its profile`,
    },
  ];
}

/** The causes that show, the most telling first. */
export function causes(model: Model, was: Ran, is: Ran): { text: string; nodes: string[] } {
  const found: { text: string; nodes: readonly string[] }[] = [];
  if (is.graph) {
    found.push(...unfused(model, is.graph), ...casts(is.graph));
    for (const f of costFindings(is.graph, typesOf(is.graph), measured.node))
      if (f.level === "warning" && f.basis.startsWith("measured"))
        found.push({ text: `${f.nodes.length} × ${f.what.split(";")[0]}`, nodes: f.nodes });
  }
  found.push(...byTime(was, is));
  if (found.length === 0) {
    const same = kinds(was.times, null).size === kinds(is.times, null).size && was.times.length === is.times.length;
    const what = same
      ? `the same ${is.times.length} kernels run as in the original, and a zero takes as long to multiply as any number`
      : `${is.times.length} kernels run, the original's were ${was.times.length}, and none stands out`;
    found.push({ text: what, nodes: [] });
  }
  return { text: found.map((f) => f.text).join("; "), nodes: [...new Set(found.flatMap((f) => f.nodes))] };
}

/** "Conv (8), Add". */
function tally(ops: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const op of ops) counts.set(op, (counts.get(op) ?? 0) + 1);
  const sorted = [...counts].sort((a, b) => b[1] - a[1]).map(([op, n]) => (n > 1 ? `${op} (${n})` : op));
  const more = sorted.length - most;
  return sorted.slice(0, most).join(", ") + (more > 0 ? ` and ${more} more ${more > 1 ? "ops" : "op"}` : "");
}

function producers(graph: Graph): Map<string, Node> {
  return new Map([...allNodes(graph)].flatMap((n) => n.outputs.flatMap((v) => (v ? [[v.name, n] as const] : []))));
}

const dequantized = (v: Value | null) => v?.producer?.opType === "DequantizeLinear";

/** Nodes on dequantized inputs that still are what they were: no integer kernel took them in. */
function unfused(model: Model, ran: Model): { text: string; nodes: string[] }[] {
  const there = [...allNodes(model.graph)].filter((n) => n.opType !== "QuantizeLinear" && n.inputs.some(dequantized));
  if (there.length === 0) return [];
  const now = producers(ran.graph);
  const left = there.filter((n) => {
    const twin = now.get(n.outputs[0]?.name ?? "");
    return twin?.opType === n.opType && twin.domain === n.domain;
  });
  const others = [...allNodes(ran.graph)].filter(
    (n) => n.opType !== "QuantizeLinear" && n.inputs.some(dequantized) && !left.some((l) => labelOf(l) === labelOf(n)),
  );
  const names = [...left, ...others].map(labelOf);
  if (names.length === 0) return [];
  const ops = tally([...left, ...others].map((n) => n.opType));
  return [
    { text: `${names.length} of ${there.length} nodes on dequantized inputs not fused: ${ops} (first: ${named(names, 1)})`, nodes: names },
  ];
}

/** What the runtime calls what it put Casts around. */
const inserted = "InsertedPrecisionFreeCast_";

/** Float16 nodes without a kernel, which ran in float32, and the Casts that the runtime put in for them. */
function casts(ran: Model): { text: string; nodes: string[] }[] {
  const all = [...allNodes(ran.graph)];
  const marked = (v: Value | null) => v?.name.startsWith(inserted) === true;
  const put = all.filter((n) => n.opType === "Cast" && n.name.startsWith(inserted)).length;
  const widened = all.filter((n) => !conversions.has(n.opType) && (n.outputs.some(marked) || n.name.startsWith(inserted)));
  if (widened.length === 0) return [];
  const around = put ? `, with ${put} ${put > 1 ? "Casts" : "Cast"} inserted by the runtime` : "";
  return [
    {
      text: `no float16 kernel for ${tally(widened.map((n) => n.opType))}: computed in float32${around}`,
      nodes: widened.map((n) => labelOf(n).replace(inserted, "")),
    },
  ];
}

/** Milliseconds by kind of work: products, convolutions, depthwise ones, conversions, and each other op by its name. */
function kinds(times: Ran["times"], graph: Model | null): Map<string, { ms: number; ops: Set<string> }> {
  const byName = new Map(graph ? [...allNodes(graph.graph)].map((n) => [n.name, n] as const) : []);
  const out = new Map<string, { ms: number; ops: Set<string> }>();
  for (const { name, op, ms } of times) {
    const deep = (byName.get(name)?.int("group") ?? 1) > 1;
    const kind = conversions.has(op)
      ? "conversions"
      : products.test(op)
        ? "products"
        : convolutions.test(op)
          ? deep
            ? "grouped convolutions"
            : "convolutions"
          : op;
    const entry = out.get(kind) ?? { ms: 0, ops: new Set<string>() };
    out.set(kind, { ms: entry.ms + ms, ops: entry.ops.add(op) });
  }
  return out;
}

/** Kinds of work that take more time than before, by the profiles. */
function byTime(was: Ran, is: Ran): { text: string; nodes: string[] }[] {
  const [before, after] = [kinds(was.times, was.graph), kinds(is.times, is.graph)];
  const total = [...before.values()].reduce((n, k) => n + k.ms, 0);
  const more = [...after].flatMap(([kind, { ms, ops }]) => {
    const had = before.get(kind);
    return ms - (had?.ms ?? 0) > worth * total ? [{ kind, ms, ops, had }] : [];
  });
  const text = more
    .sort((a, b) => b.ms - (b.had?.ms ?? 0) - (a.ms - (a.had?.ms ?? 0)))
    .map(({ kind, ms, ops, had }) => {
      const grouped = kind.startsWith("grouped") ? "grouped " : "";
      return `${grouped}${[...ops].join(" and ")} ${milliseconds(ms)}${had ? ` where ${grouped}${[...had.ops].join(" and ")} took ${milliseconds(had.ms)}` : ", which the original has not"}`;
    });
  return text.length ? [{ text: `by the profile ${text.join(", ")}`, nodes: [] }] : [];
}

function milliseconds(ms: number): string {
  return `${+ms.toPrecision(2)} ms`;
}
