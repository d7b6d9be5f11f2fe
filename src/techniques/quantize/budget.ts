/** Budgets of mixed precision: bits, bytes of the file, error of the outputs, accuracy. */
import { cloneModel, type Model, type Value } from "../../ir/graph.ts";
import { removeDead } from "../../ir/walk.ts";
import { accuracy, evaluate } from "../../measure/accuracy.ts";
import { byteLength } from "../../onnx/pieces.ts";
import { writePieces } from "../../onnx/write.ts";
import { Fault } from "../../tensor/fault.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { after, assign, moves, type Option, startOf } from "../assign.ts";
import type { Change, Sensitivity, Slot } from "../sensitivity.ts";
import type { Context } from "../technique.ts";
import { codesIn, type Rounding } from "./rounding.ts";
import { type Bits, type Group, type GroupOptions, schemeOf, trials, write } from "./weightgroups.ts";

export type Budget = "maxError" | "maxDrop" | "bits" | "bytes";

export interface BudgetOptions extends GroupOptions {
  readonly maxError: number;
  readonly maxDrop: number;
  readonly bits: number;
  readonly bytes: number;
  readonly divergence: "relative" | "kl";
}

/** The one budget that holds: of several given the first of bytes, bits, maxDrop. */
export function budgetOf(p: BudgetOptions): Budget {
  return p.bytes ? "bytes" : p.bits ? "bits" : p.maxDrop ? "maxDrop" : "maxError";
}

export interface Deciding {
  readonly budget: Budget;
  readonly probe: Sensitivity | null;
  readonly round: Rounding;
  readonly context: Context;
}

/** The option of each group. Errors: a budget that not even the fewest bits keep. */
export async function within(
  model: Model,
  groups: readonly Group[],
  options: readonly Option[][],
  p: BudgetOptions,
  d: Deciding,
): Promise<Option[]> {
  const sum = (chosen: readonly Option[]) => chosen.reduce((n, o) => n + o.bytes, 0);
  const fewest = () => options.map((o) => o.reduce((a, b) => (b.bytes < a.bytes ? b : a)));
  if (d.budget === "bits") {
    const elements = groups.reduce((n, g) => n + g.elements, 0);
    const chosen = assign(options, (p.bits * elements) / 8);
    if (!chosen)
      throw new Fault(
        "mixed",
        `bits=${p.bits} cannot be kept: with all layers at their fewest bits it is ${((sum(fewest()) * 8) / elements).toFixed(2)} a weight, scales included`,
      );
    return chosen;
  }
  if (d.budget === "bytes") return inFile(model, groups, options, p, d.round);
  // Down the path as far as what is measured allows.
  const all = moves(options);
  const good = d.budget === "maxDrop" ? await byAccuracy(model, groups, p, d) : byError(groups, p, d);
  let [low, high] = [0, all.length];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    d.context.progress({ what: "searching", step: all.length - (high - low), of: all.length });
    if (await good(after(options, all, middle))) low = middle;
    else high = middle - 1;
  }
  return low ? after(options, all, low) : startOf(options);
}

/** All groups' weights as the options round them. */
function changed(groups: readonly Group[], chosen: readonly Option[], p: BudgetOptions, round: Rounding): Change {
  const change = new Map<Slot, Tensor>();
  groups.forEach((g, i) => {
    const { bits } = chosen[i]!;
    if (bits === 32) return;
    const codes = codesIn(round(g.layers, schemeOf(bits as Bits, g.columns, p)));
    for (const [slot, weights] of trials(g, codes)) change.set(slot, weights);
  });
  return change;
}

function byError(groups: readonly Group[], p: BudgetOptions, { probe, round }: Deciding) {
  return async (chosen: readonly Option[]) => {
    const off = await probe!.of(changed(groups, chosen, p, round));
    return (p.divergence === "relative" ? Math.sqrt(off) : off) <= p.maxError;
  };
}

async function byAccuracy(model: Model, groups: readonly Group[], p: BudgetOptions, { round, context }: Deciding) {
  const of = async (m: Model) => (await evaluate(m, context.train!, accuracy(), { threads: context.threads })).measurement.value;
  const before = await of(model);
  return async (chosen: readonly Option[]) => {
    const copies = new Map<Value, Value>();
    const clone = cloneModel(model, copies);
    for (const [slot, weights] of changed(groups, chosen, p, round)) {
      const v = clone.graph.initializer(`${slot.name}/trial`, weights);
      for (const { node, input } of slot.readers) copies.get(node.outputs[0]!)!.producer!.setInput(input, v);
    }
    return before - (await of(clone)) <= p.maxDrop;
  };
}

/** Fits the file itself: what it takes beside weights is only known once it is written. */
function inFile(model: Model, groups: readonly Group[], options: readonly Option[][], p: BudgetOptions, round: Rounding): Option[] {
  let room = p.bytes;
  for (let tries = 0; tries < 8; tries++) {
    const chosen = assign(options, room);
    if (!chosen) break;
    const clone = cloneModel(model);
    write(clone, widthByKey(groups, chosen), p, round, () => {});
    removeDead(clone.graph);
    const size = byteLength(writePieces(clone, { embed: true }));
    if (size <= p.bytes) return chosen;
    room = chosen.reduce((n, o) => n + o.bytes, 0) - (size - p.bytes);
  }
  throw new Fault("mixed", `a file of ${p.bytes} bytes cannot be kept with these layers and widths`);
}

export function widthByKey(groups: readonly Group[], chosen: readonly Option[]): Map<string, Bits> {
  return new Map(groups.flatMap((g, i) => (chosen[i]!.bits === 32 ? [] : [[g.key, chosen[i]!.bits as Bits] as const])));
}
