/** Removing channels: every initializer of their groups is sliced, every size that is written down somewhere follows, and the result is run. */
import type { Model, Node, Value } from "../ir/graph.ts";
import { produce } from "../ir/graph.ts";
import { allGraphs, allNodes, labelOf } from "../ir/walk.ts";
import type { Slot } from "../ops/axes.ts";
import { coordinates, type Dim, sizeWith } from "../ops/dims.ts";
import type { SessionOptions } from "../runtime/session.ts";
import { observeShapes } from "../runtime/shapes.ts";
import { isFloat } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { take } from "../tensor/take.ts";
import { integersOf, numbersOf, type Tensor, tensor } from "../tensor/tensor.ts";
import { derive, derivedNodes } from "./derived.ts";
import type { Group, Groups } from "./groups.ts";
import { dropDefault } from "./weights.ts";

/**
 * Removes channels from the model that `groups` were found in, which they no longer describe afterwards. What stays is an ordinary, smaller model:
 * initializers lose slices (an overridable default stops being one), attributes (group, hidden_size …), constants of Reshape, Split,
 * Slice, Pad, Expand … are written anew, and where those are computed from sizes and come out wrong they are corrected. Numbers computed from sizes
 * (1/√d) and means keep their former divisor, so that removing zeros changes nothing in groups that are not `inexact`.
 * @param keep per group one byte per index: 1 stays, 0 goes
 * Errors: a group that is frozen or would lose everything; a result that does not run, or not with the shapes foreseen
 */
export async function removeChannels(
  model: Model,
  groups: Groups,
  keep: ReadonlyMap<Group, Uint8Array>,
  options: Pick<SessionOptions, "threads"> = {},
): Promise<void> {
  const { dimensions, atomOf, samples, derived } = groups.inferred;
  if (model !== groups.inferred.model) throw new Fault("groups", "were found in another model; find those of this one");
  const masks = new Map<Dim, Uint8Array>();
  for (const [group, mask] of keep) {
    const left = mask.reduce((n, k) => n + (k ? 1 : 0), 0);
    if (mask.length !== group.size) throw new Fault(`group "${group.name}"`, `has ${group.size} channels; got a mask of ${mask.length}`);
    if (left === group.size) continue;
    if (group.frozen) throw new Fault(`group "${group.name}"`, `cannot be pruned: ${group.frozen}`);
    if (left === 0) throw new Fault(`group "${group.name}"`, "must keep at least one channel");
    masks.set(atomOf.get(group)!, mask);
  }
  if (masks.size === 0) return;
  const counts = new Map([...masks].map(([atom, mask]) => [atom, mask.reduce((n, k) => n + (k ? 1 : 0), 0)]));
  const after = (d: Dim) => sizeWith(d, (a) => counts.get(a) ?? a.size);
  const shapeAfter = (v: Value) => dimensions.of(v)?.map(after) ?? samples[0]!.typeOf(v)?.shape ?? null;

  const graphs = [...allGraphs(model.graph)];
  const changed = graphs
    .flatMap((g) => [...g.initializers, ...[...g.nodes].flatMap((n) => n.outputs)])
    .filter((v): v is Value => !!v && !!dimensions.of(v)?.some((d) => after(d) !== d.size));
  const positions = keptPositions(groups, masks);
  for (const v of changed) {
    if (v.data) {
      dropDefault(v.graph, v);
      v.graph.setData(v, positions(v));
    } else if (v.type?.shape) {
      const dims = dimensions.of(v)!;
      v.type = {
        dtype: v.type.dtype,
        shape: v.type.shape.map((d, i) => (after(dims[i]!) === dims[i]!.size ? d : typeof d === "number" ? after(dims[i]!) : null)),
      };
    }
  }
  for (const s of dimensions.said) {
    if (s.averages.length) keepAverage(s.node, s.averages, after);
    writeAttributes(model, s.node, s.sizes, after);
    for (const { attr, value, dim } of s.keeps)
      if (after(dim) !== dim.size && !s.node.float(attr)) s.node.attrs.set(attr, { type: "float", value });
  }
  const operands = dimensions.said.flatMap((s) => operandsOf(s.node, s.sizes));
  for (const o of operands) if (o.value.data) writeConstant(o, after);
  const typeAfter = (v: Value) => {
    const shape = shapeAfter(v);
    return shape && { dtype: samples[0]!.typeOf(v)?.dtype ?? "float32", shape };
  };
  const computed = await derive(model, typeAfter, options);
  for (const o of operands) {
    const [was, t] = [derived.get(o.value), computed.get(o.value)];
    if (was && t) correct(model, o, was, t, after);
  }
  restoreScales(model, derived, computed);
  await verify(model, groups, shapeAfter, options);
}

/**
 * Which positions of an axis stay where these channels go, for any value of the model the groups were found in, before or after the removal; null: all
 * do, as far as is known.
 * @param keep as of {@link removeChannels}
 */
export function keptAlong(groups: Groups, keep: ReadonlyMap<Group, Uint8Array>): (value: Value, axis: number) => readonly number[] | null {
  const { dimensions, atomOf } = groups.inferred;
  const masks = [...keep].map(([g, mask]) => [atomOf.get(g)!, mask] as const);
  return (value, axis) => {
    const dim = dimensions.of(value)?.[axis];
    if (!dim) return null;
    const own = masks.map(([atom, mask]) => ({ at: coordinates(dim, atom), mask })).filter(({ at }) => at.some((i) => i >= 0));
    const stays = Array.from({ length: dim.size }, (_, i) => i).filter((i) => own.every(({ at, mask }) => at[i]! < 0 || mask[at[i]!]));
    return stays.length === dim.size ? null : stays;
  };
}

/** An initializer without what goes. */
function keptPositions(groups: Groups, masks: ReadonlyMap<Dim, Uint8Array>): (v: Value) => Tensor {
  const cuts = new Map<Value, { axis: number; coordinate: Int32Array; mask: Uint8Array }[]>();
  for (const [group, atom] of groups.inferred.atomOf) {
    const mask = masks.get(atom);
    if (!mask) continue;
    for (const { value, axis, coordinate } of group.members) {
      const list = cuts.get(value) ?? [];
      list.push({ axis, coordinate, mask });
      cuts.set(value, list);
    }
  }
  return (v) => {
    let t = v.data!;
    for (const [axis, size] of v.data!.shape.entries()) {
      const here = (cuts.get(v) ?? []).filter((c) => c.axis === axis);
      if (here.length === 0) continue;
      const stays = Array.from({ length: size }, (_, i) => i).filter((i) =>
        here.every(({ coordinate, mask }) => coordinate[i]! < 0 || mask[coordinate[i]!]),
      );
      t = take(t, axis, stays);
    }
    return t;
  };
}

/** Multiplies what a node gives so that it divides by what it divided by before. */
function keepAverage(node: Node, averages: Groups["inferred"]["dimensions"]["said"][number]["averages"], after: (d: Dim) => number): void {
  const ratio = averages.reduce((r, { dim }) => (r * after(dim)) / dim.size, 1);
  if (ratio === 1) return;
  const { graph } = node;
  const { keep } = averages[0]!;
  const factor = (like: Value, x: number) =>
    graph.initializer(`${labelOf(node)}/kept`, tensor(like.data?.dtype ?? like.type?.dtype ?? "float32", [], [x]));
  if (keep === "behind") {
    const out = node.outputs[0]!;
    const inner = graph.value(`${out.name}/mean`, out.type);
    node.outputs[0] = inner;
    inner.producer = node;
    out.producer = null;
    produce(graph.append("Mul", [inner, factor(out, ratio)], { name: `${labelOf(node)}/kept`, outputs: [""] }), out);
    return;
  }
  const scale = node.inputs[keep.scale]!;
  const by = 1 / Math.sqrt(ratio);
  if (scale.data && scale.uses.size === 1) {
    const values = Array.from(numbersOf(scale.data), (x) => x * by);
    scale.graph.setData(scale, tensor(scale.data.dtype, scale.data.shape, values));
  } else {
    const scaled = graph.append("Mul", [scale, factor(scale, by)], { name: `${labelOf(node)}/kept` });
    node.setInput(keep.scale, scaled.outputs[0]!);
  }
  const epsilon = node.float(keep.epsilon) ?? (node.domain === "" ? 1e-5 : 1e-12);
  node.attrs.set(keep.epsilon, { type: "float", value: epsilon / ratio });
}

type Sizes = readonly { readonly slot: Slot; readonly dim: Dim }[];

function writeAttributes(model: Model, node: Node, sizes: Sizes, after: (d: Dim) => number): void {
  const moved = (slot: Slot, dim: Dim) => after(dim) !== dim.size || (slot.from && after(slot.from) !== slot.from.size);
  for (const { slot, dim } of sizes) {
    const list = "attr" in slot ? slot.attr : node.inputs[slot.input] ? null : slot.otherwise;
    if (!list || !moved(slot, dim)) continue;
    const a = node.attrs.get(list);
    if (a?.type === "int" && "attr" in slot && slot.at === undefined) node.attrs.set(list, { type: "int", value: after(dim) });
    else if (a?.type === "ints" && slot.at !== undefined) {
      const value = wanted(a.value[slot.at]!, { slot, dim }, after);
      node.attrs.set(list, { type: "ints", value: a.value.with(slot.at, value) });
    }
  }
  // Sizes that were all equal, and unsaid.
  const lacking = sizes.filter(
    ({ slot }) =>
      slot.lacks && ("attr" in slot ? !node.attrs.has(slot.attr) : !node.inputs[slot.input] && !node.attrs.has(slot.otherwise!)),
  );
  const now = lacking.map(({ dim }) => after(dim));
  if (now.every((n) => n === now[0])) return;
  const { slot } = lacking[0]!;
  const attr = "attr" in slot ? slot.attr : slot.otherwise!;
  if ("input" in slot) node.attrs.delete("num_outputs");
  if ("attr" in slot || (model.opsets.get("") ?? 1) < 13) node.attrs.set(attr, { type: "ints", value: now });
  else node.setInput(slot.input, node.graph.initializer(`${labelOf(node)}/${attr}`, tensor("int64", [now.length], now)));
}

/**
 * What an entry must become: itself where it is a convention (−1: the rest, 0: as it was; beyond the end) or still right.
 * Negative numbers count from the end where the slot says of what.
 */
function wanted(entry: number, { slot, dim }: Sizes[number], after: (d: Dim) => number): number {
  const from = slot.from;
  if (!from) return entry > 0 && entry === dim.size ? after(dim) : entry === 0 && dim.size === 0 ? after(dim) : entry;
  const at = (size: number) => Math.max(0, Math.min(entry < 0 ? entry + size : entry, size));
  return at(after(from)) === after(dim) ? entry : after(dim);
}

interface Operand {
  readonly node: Node;
  readonly input: number;
  readonly value: Value;
  readonly sizes: Sizes;
}

/** The integer inputs in which a node has sizes written down. */
function operandsOf(node: Node, sizes: Sizes): Operand[] {
  const by = new Map<number, Sizes[number][]>();
  for (const s of sizes) {
    if (!("input" in s.slot) || !node.inputs[s.slot.input]) continue;
    const list = by.get(s.slot.input) ?? [];
    list.push(s);
    by.set(s.slot.input, list);
  }
  return [...by].map(([input, list]) => ({ node, input, value: node.inputs[input]!, sizes: list }));
}

function writeConstant({ node, input, value, sizes }: Operand, after: (d: Dim) => number): void {
  const data = value.data!;
  const entries = integersOf(data);
  const next = [...entries];
  for (const s of sizes) if (s.slot.at !== undefined) next[s.slot.at] = wanted(entries[s.slot.at]!, s, after);
  if (next.every((n, i) => n === entries[i])) return;
  const t = tensor(data.dtype, data.shape, next);
  if (value.uses.size === 1 && !value.graph.inputs.includes(value)) value.graph.setData(value, t);
  else node.setInput(input, value.graph.initializer(`${value.name}/kept`, t));
}

/** An operand that is computed: entries that come out wrong are scaled, so that they still follow what varies; where they come out as 0, added to. */
function correct(model: Model, { node, input, value, sizes }: Operand, was: Tensor, now: Tensor, after: (d: Dim) => number): void {
  const [before, entries] = [integersOf(was), integersOf(now)];
  const times = entries.map(() => 1);
  const over = entries.map(() => 1);
  const plus = entries.map(() => 0);
  for (const s of sizes) {
    const at = s.slot.at ?? 0;
    const got = entries[at]!;
    const next = s.slot.from || before[at] !== s.dim.size ? wanted(got, s, after) : after(s.dim);
    if (next === got) continue;
    if (got === 0) plus[at] = next;
    else [times[at], over[at]] = [next, got];
  }
  const name = `${labelOf(node)}/kept`;
  const edit = (op: string, what: string, xs: readonly number[], neutral: (n: number, i: number) => boolean) => {
    if (xs.every(neutral)) return;
    const list = model.graph.initializer(`${value.name}/${what}`, tensor(now.dtype, now.shape, xs));
    node.setInput(input, model.graph.append(op, [node.inputs[input]!, list], { name }).outputs[0]!);
  };
  edit("Mul", "times", times, (n) => n === 1);
  edit("Div", "over", over, (n) => n === 1);
  edit("Add", "plus", plus, (n) => n === 0);
}

/** Numbers computed from sizes keep the values they had. */
function restoreScales(model: Model, before: ReadonlyMap<Value, Tensor>, now: ReadonlyMap<Value, Tensor>): void {
  const inside = new Set(derivedNodes(model).nodes);
  for (const [v, t] of before) {
    const u = now.get(v);
    if (!u || !isFloat(t.dtype) || `${t.shape}` !== `${u.shape}`) continue;
    const [a, b] = [numbersOf(t), numbersOf(u)];
    if (a.every((x, i) => x === b[i]) || b.some((x) => x === 0 || !Number.isFinite(x))) continue;
    const ratio = model.graph.initializer(
      `${v.name}/ratio`,
      tensor(
        t.dtype,
        t.shape,
        Array.from(a, (x, i) => x / b[i]!),
      ),
    );
    const kept = model.graph.append("Mul", [v, ratio], { name: `${v.name}/kept` });
    for (const use of [...v.uses])
      if ("node" in use && use.node !== kept && !inside.has(use.node)) use.node.setInput(use.index, kept.outputs[0]!);
  }
}

/** Runs the result on every sample and compares its shapes with those foreseen. Errors: it does not run; a shape that differs. */
async function verify(
  model: Model,
  groups: Groups,
  shapeAfter: (v: Value) => readonly number[] | null,
  options: Pick<SessionOptions, "threads">,
): Promise<void> {
  const { samples, dimensions } = groups.inferred;
  for (const [i, { feeds, typeOf }] of samples.entries()) {
    const copies = new Map<Value, Value>();
    await observeShapes(model, feeds, { ...options, inside: true }, copies);
    for (const n of allNodes(model.graph))
      for (const v of n.outputs) {
        const [got, before, foreseen] = [v && copies.get(v)?.shape, v && typeOf(v)?.shape, v && shapeAfter(v)];
        const dims = v && dimensions.of(v);
        if (!v || !got || !before || !foreseen || !dims) continue;
        // In the other sample only axes that nothing was removed from are known beforehand.
        const right = got.every((d, k) => (i === 0 ? d === foreseen[k] : foreseen[k] !== dims[k]!.size || d === before[k]));
        if (right && got.length === foreseen.length) continue;
        throw new Fault(
          `node "${labelOf(n)}"`,
          `gives [${got}] after channels were removed; ${i === 0 ? `[${foreseen}] was foreseen` : `with other input sizes it gave [${before}]`}`,
        );
      }
  }
}
