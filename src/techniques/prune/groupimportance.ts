/** What a net loses with an index of a group of coupled channels: sums over every weight that the index runs through. */
import type { Dataset } from "../../data/dataset.ts";
import type { Model, Node, Value } from "../../ir/graph.ts";
import { onlyReader } from "../../ir/walk.ts";
import { opOf } from "../../ops/index.ts";
import { axisOf } from "../../ops/rule.ts";
import { observe } from "../../runtime/observe.ts";
import { columnNorm } from "../../runtime/observers.ts";
import { isFloat, sizeOf } from "../../tensor/dtype.ts";
import { random } from "../../tensor/random.ts";
import { floatsOf, numbersOf } from "../../tensor/tensor.ts";
import type { Group, Member } from "../../transform/groups.ts";

/** Sums of f(element) over all positions of each index: of a tensor of `shape` (row-major `values`), along the member's axis; `gain` scales by position of the axis. */
export function along(
  { axis, coordinate }: Pick<Member, "axis" | "coordinate">,
  size: number,
  shape: readonly number[],
  values: ArrayLike<number>,
  f: (x: number) => number,
  gain?: ArrayLike<number> | null,
): Float64Array {
  const out = new Float64Array(size);
  const inner = sizeOf(shape.slice(axis + 1));
  const length = shape[axis] ?? 1;
  for (let at = 0, row = 0; at < values.length; row++) {
    const p = row % length;
    const end = at + inner;
    const i = coordinate[p]!;
    if (i < 0) {
      at = end;
      continue;
    }
    const g = gain ? gain[p]! : 1;
    let sum = 0;
    for (; at < end; at++) sum += f(g * values[at]!);
    out[i]! += sum;
  }
  return out;
}

/**
 * Magnitude: the share that an index has of each coupled weight, Σ over weights of Σ f(w of the index) / Σ f(w of all), where f is w² (l2)
 * or |w| (l1): a layer counts the same however large its numbers are. A weight whose outputs go straight into a BatchNormalization counts
 * as the two together do, w·γ/σ. Biases and the like count as one more input of the group's largest weight does; scales and variances
 * only scale. Zero: every weight and bias of the index is zero.
 */
export function magnitudeOf(group: Group, f: (x: number) => number): Float64Array {
  const out = new Float64Array(group.size);
  const vectors: Float64Array[] = [];
  let largest = 0;
  for (const m of group.members) {
    const t = m.value.data;
    const values = t && !scales(m) ? meaningOf(m.value) : null;
    if (!t || !values) continue;
    const matrix = m.role !== "along" && t.shape.length > 1;
    const sums = along(m, group.size, t.shape, values, f, matrix ? (m.role === "out" ? normalized(m) : null) : mean(m));
    if (!matrix) vectors.push(sums);
    else largest = Math.max(largest, addShare(out, sums, 0));
  }
  for (const v of vectors) addShare(out, v, largest);
  return out;
}

/** Adds sums / (their total + `more`); returns the total. */
function addShare(out: Float64Array, sums: Float64Array, more: number): number {
  const total = sums.reduce((a, x) => a + x, 0);
  if (total + more !== 0) for (let i = 0; i < out.length; i++) out[i]! += sums[i]! / (total + more);
  return total;
}

const uses = (v: Value) => [...v.uses].flatMap((u) => ("node" in u ? [u] : []));
const reads = (v: Value, op: string, ...at: readonly number[]) =>
  uses(v).some(({ node, index }) => node.domain === "" && node.opType === op && at.includes(index));

/** What an initializer stands for: its floats, or those that a DequantizeLinear makes of its integers; null: it stands for none. */
function meaningOf(value: Value): ArrayLike<number> | null {
  const t = value.data!;
  if (isFloat(t.dtype)) return floatsOf(t);
  const node = uses(value).find((u) => u.index === 0 && u.node.domain === "" && u.node.opType === "DequantizeLinear")?.node;
  const scale = node?.inputs[1]?.data;
  const zeros = node?.inputs[2];
  if (!node || !scale || (zeros && !zeros.data)) return null;
  const [q, s, z] = [numbersOf(t), floatsOf(scale), zeros ? numbersOf(zeros.data!) : null];
  const axis = axisOf(node.int("axis") ?? 1, t.shape.length);
  const [length, inner] = [t.shape[axis] ?? 1, sizeOf(t.shape.slice(axis + 1))];
  const block = node.int("block_size") ?? 0;
  const count = block > 0 ? scale.shape[axis]! : length;
  const at = (i: number) => {
    const along = Math.floor(i / inner) % length;
    if (s.length === 1) return 0;
    return block > 0 ? (Math.floor(i / inner / length) * count + Math.floor(along / block)) * inner + (i % inner) : along;
  };
  return Float64Array.from(q, (x, i) => (Number(x) - (z ? Number(z[at(i)]) : 0)) * s[at(i)]!);
}

/** Whether a vector only scales what is there: γ and σ², the scale of a LayerNormalization or of integers, their zero, a factor. */
function scales({ value, role }: Member): boolean {
  if (["QuantizeLinear", "DequantizeLinear"].some((op) => reads(value, op, 1, 2))) return true;
  return role === "along" && (reads(value, "BatchNormalization", 1, 4) || reads(value, "LayerNormalization", 1) || multiplies(value));
}

function multiplies(v: Value): boolean {
  const all = uses(v);
  return all.length > 0 && all.every(({ node }) => node.domain === "" && (node.opType === "Mul" || node.opType === "Div"));
}

/** γ/σ by channel of a BatchNormalization. */
function slope(node: Node): Float64Array | null {
  const [gamma, variance] = [node.inputs[1]?.data, node.inputs[4]?.data];
  if (!gamma || !variance) return null;
  const [g, v] = [floatsOf(gamma), floatsOf(variance)];
  const epsilon = node.float("epsilon") ?? 1e-5;
  return Float64Array.from(g, (x, i) => x / Math.sqrt(v[i]! + epsilon));
}

/** The slope of the BatchNormalization that a weight's outputs, or a bias added to them, go into. */
function normalized({ value }: Member): Float64Array | null {
  const all = uses(value);
  if (all.length !== 1 || all[0]!.node.domain !== "") return null;
  const { node } = all[0]!;
  if (!opOf(node)?.weight) return null;
  const next = onlyReader(node.outputs[0]!);
  return next?.opType === "BatchNormalization" && next.domain === "" ? slope(next) : null;
}

/** What a vector is multiplied by before it adds to the channel: −γ/σ for a mean, the next BatchNormalization's γ/σ for a bias. */
function mean(m: Member): Float64Array | null {
  if (!reads(m.value, "BatchNormalization", 3)) return normalized(m);
  const all = uses(m.value);
  return all.length === 1 ? slope(all[0]!.node) : null;
}

/** |γ| of the BatchNormalizations the group runs through, as shares (Liu et al. 2017, Network Slimming); null where it runs through none. */
export function scaleOf(group: Group): Float64Array | null {
  const out = new Float64Array(group.size);
  let found = false;
  for (const m of group.members) {
    const t = m.value.data;
    if (!t || !reads(m.value, "BatchNormalization", 1)) continue;
    found = true;
    addShare(out, along(m, group.size, t.shape, floatsOf(t), Math.abs), 0);
  }
  return found ? out : null;
}

/** Independent of the weights: a control. */
export function randomOf(group: Group, seed: number): Float64Array {
  const r = random(seed, `structured/${group.name}`);
  return Float64Array.from({ length: group.size }, () => 1 / group.size + r.uniform());
}

/** Sums of element scores (≥ 0, such as ½ h w²) over every weight of the group. */
export function summedOf(group: Group, scores: (v: Value) => ArrayLike<number> | null): Float64Array {
  const out = new Float64Array(group.size);
  for (const m of group.members) {
    const s = m.value.data && scores(m.value);
    if (!s) continue;
    along(m, group.size, m.value.data!.shape, s, (x) => x).forEach((x, i) => {
      out[i]! += x;
    });
  }
  return out;
}

/** A layer that reads the group, and the axis of its input that the weight's positions run along. */
interface Reading {
  readonly member: Member;
  readonly x: Value;
  readonly axis: number;
}

/**
 * The energy an index hands on: Σ over layers that read it of E[x²]·Σ w², as shares of each layer's whole (Wanda's |w|·‖x‖, Sun et al. 2023,
 * squared and summed over the index). Zero: on the data, its readers get nothing from it. null where no layer with weights reads the group.
 */
export async function activationsOf(
  model: Model,
  groups: readonly Group[],
  data: Dataset,
  threads: number,
): Promise<Map<Group, Float64Array | null>> {
  const readings = new Map(groups.map((g) => [g, g.members.flatMap(readingsOf)]));
  const all = [...readings.values()].flat();
  const norms = new Map<Value, Float64Array>();
  for (const axis of new Set(all.map((r) => r.axis))) {
    const values = new Set(all.filter((r) => r.axis === axis).map((r) => r.x));
    for (const [v, s] of await observe(model, values, data, columnNorm({ axis }), { threads }))
      norms.set(
        v,
        s.sumSquares.map((x) => x / Math.max(1, s.n)),
      );
  }
  return new Map(
    [...readings].map(([group, list]) => {
      const out = new Float64Array(group.size);
      let seen = false;
      for (const { member, x } of list) {
        const energy = norms.get(x);
        if (!energy || energy.length !== member.coordinate.length) continue;
        seen = true;
        const t = member.value.data!;
        addShare(
          out,
          along(
            member,
            group.size,
            t.shape,
            floatsOf(t),
            (w) => w * w,
            energy.map((e) => Math.sqrt(e)),
          ),
          0,
        );
      }
      return [group, seen ? out : null];
    }),
  );
}

function readingsOf(member: Member): Reading[] {
  if (member.role !== "in" || !member.value.data) return [];
  return uses(member.value).flatMap(({ node, index }) => {
    const x = node.inputs[0];
    if (!x || x.data || opOf(node)?.weight?.input !== index) return [];
    if (node.opType === "Conv" || node.opType === "ConvTranspose") return (node.int("group") ?? 1) === 1 ? [{ member, x, axis: 1 }] : [];
    return node.int("transA") ? [] : [{ member, x, axis: -1 }];
  });
}
