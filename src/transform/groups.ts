/**
 * Groups of coupled channels: what structured pruning removes together. Dimensions are inferred by unification (see ops/dims.ts); a group is
 * an atom that occurs on an axis of an initializer.
 */
import type { Batch } from "../data/dataset.ts";
import type { Graph, Model, Node, Value } from "../ir/graph.ts";
import { allNodes, sorted } from "../ir/walk.ts";
import { atoms, coordinates, type Dim, freeze, resolve, sizeWith, unit } from "../ops/dims.ts";
import { opOf } from "../ops/index.ts";
import { axisOf } from "../ops/rule.ts";
import type { SessionOptions } from "../runtime/session.ts";
import { observeShapes } from "../runtime/shapes.ts";
import { Fault } from "../tensor/fault.ts";
import { take } from "../tensor/take.ts";
import { type Tensor, valuesOf } from "../tensor/tensor.ts";
import { derive, type Seen } from "./derived.ts";
import { type Dimensions, dimensions } from "./dimensions.ts";
import { liftConstants } from "./fold.ts";
import { storedBehind } from "./weights.ts";
import { inexactAtoms } from "./zeros.ts";

/** An axis of an initializer that (a part of) a group lies on. */
export interface Member {
  readonly value: Value;
  readonly axis: number;
  /** For each position of the axis: its index in the group; −1: not of this group. */
  readonly coordinate: Int32Array;
  /** Output channels of a weight, its input channels, or neither: a vector or constant that lies along the channels (bias, BatchNormalization …). */
  readonly role: "out" | "in" | "along";
}

/** Positions that can only be removed together: index i of the group goes from all its members at once. */
export interface Group {
  /** The first weight it lies on and the axis: "conv1.weight[0]"; where several groups share that axis, ".0", ".1" … behind. */
  readonly name: string;
  readonly size: number;
  /** Why nothing can be removed; null: it can. */
  readonly frozen: string | null;
  /** Why the outputs change though all that is removed is zero; null: they do not. */
  readonly inexact: string | null;
  readonly members: readonly Member[];
}

export interface Groups {
  /** In the order of execution. */
  readonly groups: readonly Group[];
  /** The shape a value would have with groups of these sizes (the others as they are), in the caller's run; null: not known. */
  shapeWith(value: Value, sizes: ReadonlyMap<Group, number>): readonly number[] | null;
  /** What removal goes by. */
  readonly inferred: Inferred;
}

export interface Inferred {
  readonly model: Model;
  readonly dimensions: Dimensions;
  readonly atomOf: ReadonlyMap<Group, Dim>;
  /** Values computed from sizes, as they were in the sample run. */
  readonly derived: ReadonlyMap<Value, Tensor>;
  /**
   * The sample runs: the caller's and (if the model leaves sizes open and takes it) one with those sizes changed. Dimensions are those of the
   * first: of the other one where the caller leaves an open size at 1, which would not be seen in a product of it and channels.
   */
  readonly samples: readonly Sample[];
  readonly caller: Sample;
}

export interface Sample {
  readonly feeds: Batch;
  typeOf(v: Value): Seen | null;
}

/**
 * The groups of the top graph and of the branches of Ifs that the sample takes (what lies in other subgraphs is kept whole). Weights in Constant nodes are lifted into initializers first, and zero points
 * that layers share are parted; the model is not changed otherwise.
 * @param feeds one sample; where the model leaves sizes open it runs a second time with others, to tell what varies with them
 */
export async function findGroups(model: Model, feeds: Batch, options: Pick<SessionOptions, "threads"> = {}): Promise<Groups> {
  liftConstants(model);
  partZeroPoints(model);
  const first = await sampled(model, feeds, options);
  const second = await varied(model, feeds, options);
  const samples = !second ? [first] : hidden(model, feeds) ? [second, first] : [first, second];
  const base = samples[0]!;
  const derived = await derive(model, base.typeOf, options);
  const stable = new Map<Value, Tensor | null>(derived);
  if (samples[1]) {
    const other = await derive(model, samples[1].typeOf, options);
    for (const [v, t] of derived) {
      const u = other.get(v);
      if (!u || valuesOf(u).join() !== valuesOf(t).join()) stable.set(v, null);
    }
  }
  const found = dimensions(model, (v) => base.typeOf(v)?.shape ?? null, stable);
  if (samples[1]) freezeVarying(model, found, base, samples[1]);
  const atomOf = new Map<Group, Dim>();
  const inexact = inexactAtoms(found);
  for (const [atom, members] of membersOf(model, found)) {
    if (members.every(({ value }) => lists.has(value.data!.dtype))) continue;
    const { value, axis } = members.find((m) => m.role === "out") ?? members[0]!;
    const own = [...atoms(found.of(value)![axis]!)];
    const name = `${value.name}[${axis}]${own.length > 1 ? `.${own.indexOf(atom)}` : ""}`;
    const group = { name, size: atom.size, frozen: atom.frozen, inexact: inexact.get(atom) ?? null, members };
    atomOf.set(group, atom);
  }
  return grouped({ model, dimensions: found, atomOf, derived, samples, caller: first });
}

/** Whether an open size is 1. */
function hidden(model: Model, feeds: Batch): boolean {
  return model.graph.inputs.some(
    (v) => !v.data && !!feeds[v.name]?.shape.some((n, i) => n === 1 && typeof v.type?.shape?.[i] !== "number"),
  );
}

function grouped(inferred: Inferred): Groups {
  const { dimensions, atomOf, caller } = inferred;
  return {
    groups: [...atomOf.keys()],
    inferred,
    shapeWith(value, sizes) {
      const count = new Map([...sizes].map(([g, n]) => [atomOf.get(g), n]));
      const seen = caller.typeOf(value)?.shape;
      const now = (d: Dim) => sizeWith(d, (a) => count.get(a) ?? a.size);
      return dimensions.of(value)?.map((d, i) => (seen ? Math.round((seen[i]! * now(d)) / Math.max(1, d.size)) : now(d))) ?? null;
    },
  };
}

/** The groups of a clone, in the same order, without looking for them again; `copies`: as {@link cloneModel} filled it. */
export function carriedOver({ inferred }: Groups, clone: Model, copies: ReadonlyMap<Value, Value>): Groups {
  const { dimensions, atomOf, derived, samples, caller } = inferred;
  const originals = new Map([...copies].map(([v, c]) => [c, v]));
  const through = <T>(f: (v: Value) => T | null) => {
    return (c: Value): T | null => {
      const v = originals.get(c);
      return v ? f(v) : null;
    };
  };
  const copyOf = (v: Value) => copies.get(v)!;
  const nodeOf = (n: Node) => copyOf(n.outputs.find((v) => v)!).producer!;
  const seen = samples.map(({ feeds, typeOf }): Sample => ({ feeds, typeOf: through(typeOf) }));
  return grouped({
    model: clone,
    dimensions: {
      of: through(dimensions.of),
      said: dimensions.said.map((s) => ({
        ...s,
        node: nodeOf(s.node),
        gives: s.gives.map((v) => v && copyOf(v)),
        zero: { kind: s.zero.kind, from: s.zero.from.map(copyOf) },
      })),
    },
    atomOf: new Map([...atomOf].map(([g, a]) => [{ ...g, members: g.members.map((m) => ({ ...m, value: copyOf(m.value) })) }, a])),
    derived: new Map([...derived].map(([v, t]) => [copyOf(v), t])),
    samples: seen,
    caller: seen[samples.indexOf(caller)]!,
  });
}

/** Gives each QuantizeLinear and DequantizeLinear by channels zero points of its own: that many are all 0 couples no channels. */
function partZeroPoints(model: Model): void {
  for (const node of allNodes(model.graph)) {
    const zero = node.inputs[2];
    if (!/^(Q|Deq)uantizeLinear$/.test(node.opType) || !zero?.data || zero.data.shape.length === 0 || zero.uses.size < 2) continue;
    node.setInput(2, zero.graph.initializer(zero.name, zero.data));
  }
}

/** Element types of lists of sizes, axes and ids: not of channels. */
const lists: ReadonlySet<string> = new Set(["int64", "int32", "bool", "string"]);

async function sampled(model: Model, feeds: Batch, options: Pick<SessionOptions, "threads">): Promise<Sample> {
  const copies = new Map<Value, Value>();
  await observeShapes(model, feeds, { ...options, inside: true }, copies);
  return {
    feeds,
    typeOf(v) {
      const copy = copies.get(v);
      const type = copy?.data ?? copy?.type;
      const shape = copy?.data?.shape ?? copy?.shape;
      return type && shape ? { dtype: type.dtype, shape } : null;
    },
  };
}

/** A run with other sizes where the model leaves them open: all of them one larger, twice as large, or the batch alone; null: it takes none of these. */
async function varied(model: Model, feeds: Batch, options: Pick<SessionOptions, "threads">): Promise<Sample | null> {
  const every = () => true;
  const tries: [(n: number) => number, (axis: number) => boolean][] = [
    [(n) => n + 1, every],
    [(n) => 2 * n, every],
    [(n) => n + 1, (axis) => axis === 0],
  ];
  for (const [grow, which] of tries) {
    const other = resized(model, feeds, grow, which);
    if (!other) return null;
    try {
      return await sampled(model, other, options);
    } catch (e) {
      if (!(e instanceof Fault)) throw e;
    }
  }
  return null;
}

/** The feeds with open axes of another size, filled by repeating what is there; null: there are none. */
function resized(model: Model, feeds: Batch, grow: (n: number) => number, which: (axis: number) => boolean): Batch | null {
  let any = false;
  const out: Record<string, Tensor> = { ...feeds };
  // A symbol is one size wherever it stands, also as another input's second axis.
  const batch = new Set(model.graph.inputs.flatMap((v) => (typeof v.type?.shape?.[0] === "string" ? [v.type.shape[0]] : [])));
  for (const v of model.graph.inputs) {
    const t = out[v.name];
    if (!t || v.data) continue;
    let next = t;
    t.shape.forEach((size, axis) => {
      const declared = v.type?.shape ? v.type.shape[axis] : null;
      if (typeof declared === "number" || size === 0) return;
      if (!which(axis) && !(typeof declared === "string" && batch.has(declared))) return;
      next = take(
        next,
        axis,
        Array.from({ length: grow(size) }, (_, i) => i % size),
      );
      any = true;
    });
    out[v.name] = next;
  }
  return any ? out : null;
}

/** Freezes what has another size in the other run; of a product or sum only the parts that vary, where they account for it. */
function freezeVarying(model: Model, { of }: Dimensions, first: Sample, second: Sample): void {
  const varying: [Dim, number][] = [];
  for (const v of [...model.graph.inputs, ...[...allNodes(model.graph)].flatMap((n) => n.outputs)]) {
    const [a, b] = [v && first.typeOf(v)?.shape, v && second.typeOf(v)?.shape];
    if (v && a && !b && v.graph !== model.graph) for (const d of of(v) ?? []) freeze(d, "with other input sizes its branch is not taken");
    if (a && b) of(v!)?.forEach((d, i) => void (a[i] !== b[i] && varying.push([resolve(d), b[i]!])));
  }
  const sizes = new Map(varying.filter(([d]) => !d.form));
  const why = "its size varies with the inputs'";
  for (const d of sizes.keys()) freeze(d, why);
  for (const [d, size] of varying) if (sizeWith(d, (a) => sizes.get(a) ?? a.size) !== size) freeze(d, why);
}

/** Nodes in the order of execution, those of branches where they stand. */
const ordered = (graph: Graph): Node[] => sorted(graph).flatMap((n) => [n, ...n.subgraphs.flatMap(ordered)]);

/** Atoms of initializers, in the order in which nodes read them. */
function membersOf(model: Model, { of }: Dimensions): Map<Dim, Member[]> {
  const roles = rolesOf(model, of);
  const out = new Map<Dim, Member[]>();
  const seen = new Set<Value>();
  for (const n of ordered(model.graph))
    for (const value of n.inputs) {
      if (!value?.data || seen.has(value)) continue;
      seen.add(value);
      of(value)?.forEach((d, axis) => {
        for (const atom of atoms(d)) {
          const member = { value, axis, coordinate: coordinates(d, atom), role: roles.get(value)?.[axis] ?? "along" };
          const have = out.get(atom);
          if (have) have.push(member);
          else out.set(atom, [member]);
        }
      });
    }
  return out;
}

/** What the axes of weights are to the first node whose weight they are: output channels or input channels. */
function rolesOf(model: Model, of: Dimensions["of"]): Map<Value, Member["role"][]> {
  const roles = new Map<Value, Member["role"][]>();
  const set = (value: Value, isOut: (axis: number) => boolean) => {
    if (!roles.has(value))
      roles.set(
        value,
        value.data!.shape.map((_, axis) => (isOut(axis) ? "out" : "in")),
      );
  };
  for (const node of allNodes(model.graph)) {
    const weight = opOf(node)?.weight;
    const { value, through } = weight ? storedBehind(node, weight.input) : { value: null, through: [] };
    if (!weight || !value) continue;
    const outAxis = weight.outputAxis(node);
    const seen = of(node.inputs[weight.input]!)?.[outAxis];
    const wanted = seen ? atoms(seen) : new Set<Dim>();
    const meets = (axis: number) => [...atoms(of(value)?.[axis] ?? unit)].some((a) => wanted.has(a));
    set(value, through.length === 0 ? (axis) => axis === outAxis : meets);
  }
  for (const node of allNodes(model.graph)) {
    const [x, w, r] = node.inputs;
    if (node.opType === "Gather" && x?.data) {
      const axis = axisOf(node.int("axis") ?? 0, x.data.shape.length);
      set(x, (i) => i !== axis);
    }
    if (node.opType === "Attention" && node.domain === "com.microsoft" && w?.data) set(w, (axis) => axis === 1);
    if (/^(LSTM|GRU|RNN)$/.test(node.opType)) for (const v of [w, r]) if (v?.data) set(v, (axis) => axis === 1);
  }
  return roles;
}
