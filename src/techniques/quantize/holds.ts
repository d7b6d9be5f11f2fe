/** What keeps parts of a graph in float32: integers, constants beyond the range, and what the data show. */
import { cloneModel, type Model, type Node, type Value } from "../../ir/graph.ts";
import { allNodes, constantOf } from "../../ir/walk.ts";
import type { DType } from "../../tensor/dtype.ts";
import { Fault } from "../../tensor/fault.ts";
import { type Clamp, type Half, range } from "../../tensor/half.ts";
import { sampled } from "../sample.ts";
import type { Context } from "../technique.ts";
import { type Constant, clamped, isLost, saturation } from "./extremes.ts";
import { type Scan, scan } from "./overflow.ts";
import { countingNodes } from "./positions.ts";
import { hold, type Sites } from "./sites.ts";

/** Keeps in float32 what stands between integers, or counts in floats. */
export function holdIntegers(model: Model, types: ReadonlyMap<Value, DType | null>, s: Sites): void {
  for (const n of allNodes(model.graph)) {
    if (!isInteger(n)) continue;
    const readers = [...n.outputs[0]!.uses].map(s.reader);
    for (const site of [s.of(n), ...readers]) hold(site, "part of a layer in integers");
  }
  for (const n of countingNodes(model.graph, types))
    for (const site of s.around(n)) hold(site, "counts positions or sizes, exact in 16 bits only up to 2048");
}

/**
 * Whether floats begin here behind integers: sums that MatMulInteger or ConvInteger gives, which easily pass 65504 before they are scaled; a
 * DequantizeLinear of activations (its data is computed) or beside such a one. One of weights alone may be half.
 */
function isInteger(n: Node): boolean {
  if (n.domain !== "") return false;
  if (n.opType === "Cast") return /^(MatMul|Conv)Integer$/.test(n.inputs[0]?.producer?.opType ?? "");
  const computed = (v: Value | null) => v?.producer?.opType === "DequantizeLinear" && !constantOf(v.producer.inputs[0]);
  return (
    n.opType === "DequantizeLinear" &&
    (!constantOf(n.inputs[0]) || [...n.outputs[0]!.uses].some((u) => "node" in u && u.node.inputs.some(computed)))
  );
}

export interface ExtremeOptions {
  readonly dtype: Half;
  readonly compat: "none" | "transformers";
  readonly outOfRange: "keep" | "clamp";
  readonly computes: boolean;
}

/** The converter of transformers.js bounds weights so. */
const transformersClamp: Clamp = { largest: 1e4, smallest: 1e-7 };

/** Deals with the constants that 16 bits cannot hold: the bounds put on some, by value; what reads the others stays float32. */
export function holdExtremes(stored: readonly Constant[], s: Sites, o: ExtremeOptions, note: Context["note"]): Map<Value, Clamp> {
  const bounds = new Map<Value, Clamp>();
  if (o.compat === "transformers") {
    for (const { value } of stored) bounds.set(value, transformersClamp);
    return bounds;
  }
  const limit = range[o.dtype];
  const saturated = new Map<number, string[]>();
  for (const c of stored) {
    if (!isLost(c)) continue;
    const { value } = c;
    const readers = value.data ? [...value.uses].map(s.reader) : [s.home(value)];
    if (o.computes && !readers.some((r) => r?.half)) continue;
    const bound = c.found.beyond ? saturation(value, o.dtype) : null;
    if (bound !== null) {
      bounds.set(value, { largest: bound, smallest: 0 });
      saturated.set(bound, [...(saturated.get(bound) ?? []), value.name]);
    } else if (o.outOfRange === "clamp") {
      bounds.set(value, limit);
      note(
        `"${value.name}": ${c.found.beyond ? `${c.found.beyond} elements clamped to ±${limit.largest}` : `clamped to ${limit.smallest}`}`,
      );
    } else {
      const why = c.found.beyond ? "reads a constant beyond the range" : "reads a constant that would become 0";
      for (const r of readers) hold(r, why, `"${value.name}"${c.found.beyond ? `, ${figure(c.found.largest)}` : ""}`);
    }
  }
  for (const [bound, names] of saturated) note(`mean a mask or no bound, and became ±${bound}: ${listed(names)}`);
  return bounds;
}

/** Keeps in float32 what passes the range on the data. */
export async function holdOverflow(
  model: Model,
  stored: readonly Constant[],
  bounded: ReadonlyMap<Value, Clamp>,
  s: Sites,
  examples: number,
  context: Context,
): Promise<void> {
  const data = context.calibration ?? context.train;
  if (!data || examples === 0) {
    context.note(
      "no data was looked at for values beyond 65504: give calibration data to find them (running the result on a CPU does not, ONNX Runtime computes in float32 between casts there)",
    );
    return;
  }
  const seenOn = sampled(data, examples);
  const copies = new Map<Value, Value>();
  const probe = cloneModel(model, copies);
  for (const { value, tensor: t, found } of stored) {
    const bound = bounded.get(value);
    if (!bound || found.largest <= bound.largest) continue;
    const copy = copies.get(value)!;
    const less = clamped(t, bound.largest);
    if (copy.data) probe.graph.setData(copy, less);
    else copy.producer!.attrs.set("value", { type: "tensor", value: less });
  }
  let seen: Scan;
  try {
    seen = await scan(probe, seenOn, "largest", {
      threads: context.threads,
      sums: true,
      progress: (step, of) => context.progress({ what: "looking for overflow", step, of }),
    });
  } catch (e) {
    if (!(e instanceof Fault) || e.where !== "upgrade") throw e;
    context.note(`no data was looked at for values beyond 65504: ${e.message}`);
    return;
  }
  const most = range.float16.largest;
  let highest = 0;
  for (const v of s.floats) {
    const largest = seen.values.get(v.name) ?? 0;
    highest = Math.max(highest, largest);
    if (largest <= most) continue;
    for (const site of [s.home(v), ...[...v.uses].map(s.reader)]) hold(site, "passes 65504 on the data", figure(largest));
  }
  for (const n of allNodes(model.graph)) {
    const sum = seen.sums.get(n.outputs.find((o) => o)?.name ?? "") ?? 0;
    if (sum > most) for (const site of s.around(n)) hold(site, "sums magnitudes beyond 65504 on the data", figure(sum));
  }
  context.note(
    `largest magnitude on ${seenOn.length} examples: ${figure(highest)}${seen.partial ? "; values inside a Loop or Scan could not be watched" : ""}`,
  );
}

export const figure = (x: number) => `${Number(x.toPrecision(3))}`;

export function listed(names: readonly string[]): string {
  return names.length <= 8 ? names.join(", ") : `${names.slice(0, 7).join(", ")} and ${names.length - 7} more`;
}
