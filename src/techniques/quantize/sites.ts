/** Where a graph may change from 32-bit to 16-bit floats: decided so that few casts are needed. */
import type { Graph, Model, Node, Use, Value } from "../../ir/graph.ts";
import { allNodes } from "../../ir/walk.ts";
import { type DType, sizeOf } from "../../tensor/dtype.ts";
import { inputKind, noHalf, outputKind } from "./halfops.ts";

/** One decision: a node's floats, or one slot of an If, Loop or Scan (what goes in, round and out is of one type). */
export interface Site {
  half: boolean;
  /** Why it has to stay float32; null: it may be either. */
  why: string | null;
  /** The figure behind that. */
  figure?: string;
  /** It reads large weights, or multiplies matrices: worth its casts. */
  heavy: boolean;
}

/** Keeps a site in float32; the first reason counts. */
export function hold(site: Site | null, why: string, figure?: string): void {
  if (!site || site.why !== null) return;
  site.half = false;
  site.why = why;
  if (figure) site.figure = figure;
}

/** All decisions of a model, and the values between them. */
export interface Sites {
  /** The float32 values. */
  readonly floats: ReadonlySet<Value>;
  /** Where a value is made; null: an initializer, which may be stored in either type. */
  readonly home: (v: Value) => Site | null;
  /** Where it is read; null: a reader that takes any type. */
  readonly reader: (use: Use) => Site | null;
  readonly of: (node: Node) => Site;
  /** All sites a node takes part in: its own, or its slots. */
  readonly around: (node: Node) => readonly Site[];
}

/** Initializers of fewer elements are stored twice rather than cast. */
export const small = 64;

export interface SiteOptions {
  /** Graph inputs and outputs stay float32. */
  readonly keepIO: boolean;
  readonly opset: number;
  /** Why a node has to stay float32, beside what its op cannot do; null: nothing. */
  readonly blocked: (node: Node) => string | null;
}

const multiplies = /MatMul|Gemm|Conv|Attention|Einsum|^(LSTM|GRU|RNN)$/;

/** A site for each node and slot; all that can be half are. */
export function sitesOf(model: Model, types: ReadonlyMap<Value, DType | null>, o: SiteOptions): Sites {
  const floats = new Set([...types].flatMap(([v, t]) => (t === "float32" ? [v] : [])));
  const fixed = (why: string): Site => ({ half: false, why, heavy: false });
  // Given, not decided: nothing holds it.
  const outside: Site = { half: !o.keepIO, why: "", heavy: true };
  const always = fixed("");
  const own = new Map<Node, Site>();
  const slots = slotsOf(model.graph);
  for (const node of allNodes(model.graph)) {
    const why = o.blocked(node) ?? (node.subgraphs.length ? null : noHalf(node, o.opset)) ?? unknownInput(node, types);
    const heavy = multiplies.test(node.opType) || node.inputs.some((v) => v?.data && floats.has(v) && sizeOf(v.data.shape) > small);
    own.set(node, { half: why === null, why, heavy });
  }
  const slotSites = new Map<Slot, Site>();
  const siteOf = (slot: Slot): Site => {
    let site = slotSites.get(slot);
    if (!site) {
      const unknown = slot.values.find((v) => v && !types.get(v));
      const why = own.get(slot.node)!.why ?? (unknown ? `the type of "${unknown.name}" is not known` : null);
      slotSites.set(slot, (site = { half: why === null, why, heavy: false }));
    }
    return site;
  };
  const home = (v: Value): Site | null => {
    if (v.data) return null;
    const slot = slots.made.get(v);
    if (slot) return siteOf(slot);
    const { producer } = v;
    if (!producer) return v.graph.parent ? always : outside;
    if (producer.subgraphs.length || outputKind(producer, producer.outputs.indexOf(v)) === "float") return always;
    return own.get(producer)!;
  };
  const reader = (use: Use): Site | null => {
    if ("graph" in use) {
      if (!use.graph.parent) return outside;
      const slot = slots.given.get(use.graph)?.[use.index];
      return slot ? siteOf(slot) : always;
    }
    const slot = slots.read.get(use.node)?.[use.index];
    if (slot) return siteOf(slot);
    if (use.node.subgraphs.length) return always;
    const site = own.get(use.node)!;
    const kind = inputKind(use.node, use.index);
    if (kind === "any") return null;
    return kind === "float" ? always : site;
  };
  const of = (node: Node) => own.get(node)!;
  const around = (node: Node): readonly Site[] => {
    if (!node.subgraphs.length) return [of(node)];
    return slots.all.filter((s) => s.node === node).map(siteOf);
  };
  return { floats, home, reader, of, around };
}

/** An op that mixes a value of unknown type with others cannot be changed. */
function unknownInput(node: Node, types: ReadonlyMap<Value, DType | null>): string | null {
  if (node.subgraphs.length) return null;
  const v = node.inputs.find((v) => v && !types.get(v));
  return v ? `the type of "${v.name}" is not known` : null;
}

/** What goes in, round and out of an If, Loop or Scan at one place. */
interface Slot {
  readonly node: Node;
  /** What stands there, inside and outside. */
  readonly values: (Value | null)[];
}

interface Slots {
  readonly all: readonly Slot[];
  /** Outputs of the node and inputs of its body. */
  readonly made: ReadonlyMap<Value, Slot>;
  /** By output of a body. */
  readonly given: ReadonlyMap<Graph, readonly (Slot | undefined)[]>;
  /** By input of the node. */
  readonly read: ReadonlyMap<Node, readonly (Slot | undefined)[]>;
}

function slotsOf(graph: Graph): Slots {
  const all: Slot[] = [];
  const made = new Map<Value, Slot>();
  const given = new Map<Graph, (Slot | undefined)[]>();
  const read = new Map<Node, (Slot | undefined)[]>();
  for (const node of allNodes(graph)) {
    const bodies = node.subgraphs;
    if (node.domain !== "" || !/^(If|Loop|Scan)$/.test(node.opType)) continue;
    const slot = (): Slot => {
      const s: Slot = { node, values: [] };
      all.push(s);
      return s;
    };
    const [inputs, outputs]: (Slot | undefined)[][] = [[], []];
    if (node.opType === "If") for (let k = 0; k < node.outputs.length; k++) outputs![k] = slot();
    // Before its carried values a Loop takes the count and the condition, and its body gives the condition.
    const before = node.opType === "Loop" ? 2 : 0;
    const first = node.opType === "Loop" ? 1 : 0;
    // Scan 8 takes the lengths first.
    const lengths = node.opType === "Scan" && bodies[0]!.inputs.length < node.inputs.length ? 1 : 0;
    const scanned = node.opType === "Scan" ? (node.int("num_scan_inputs") ?? 0) : 0;
    if (node.opType !== "If") {
      const [body] = bodies;
      const carried = body!.inputs.length - before - scanned;
      for (let k = 0; k < carried + scanned; k++) {
        const s = slot();
        inputs![before + lengths + k] = s;
        s.values.push(node.inputs[before + lengths + k] ?? null, body!.inputs[before + k]!);
        made.set(body!.inputs[before + k]!, s);
        if (k < carried) outputs![k] = s;
      }
      for (let k = carried; k < node.outputs.length || k + first < body!.outputs.length; k++) outputs![k] = slot();
    }
    node.outputs.forEach((o, k) => {
      if (o) made.set(o, outputs![k]!);
    });
    outputs!.forEach((s, k) => {
      s?.values.push(node.outputs[k] ?? null, ...bodies.map((g) => g.outputs[k + first] ?? null));
    });
    for (const g of bodies) given.set(g, [...new Array<undefined>(first).fill(undefined), ...outputs!]);
    read.set(node, inputs!);
  }
  return { all, made, given, read };
}

/** How many casts the decisions come to around one value. */
function castsAt(v: Value, s: Sites): number {
  const needs = new Set<boolean>();
  for (const use of v.uses) {
    const r = s.reader(use);
    if (r) needs.add(r.half);
  }
  const home = s.home(v);
  if (!home) return needs.size > 1 && sizeOf(v.data!.shape) > small ? 1 : 0;
  needs.delete(home.half);
  return needs.size;
}

/** Takes light nodes between float32 ones back to float32 where that saves casts: alone, or with the light nodes around them. */
export function saveCasts(s: Sites): void {
  const touching = new Map<Site, Set<Value>>();
  const touch = (site: Site | null, v: Value) => {
    if (!site?.half || site.heavy) return;
    const have = touching.get(site);
    if (have) have.add(v);
    else touching.set(site, new Set([v]));
  };
  for (const v of s.floats) {
    touch(s.home(v), v);
    for (const use of v.uses) touch(s.reader(use), v);
  }
  const gain = (group: ReadonlySet<Site>): number => {
    const values = new Set([...group].flatMap((site) => [...touching.get(site)!]));
    const count = () => [...values].reduce((n, v) => n + castsAt(v, s), 0);
    const before = count();
    for (const site of group) site.half = false;
    const after = count();
    if (after >= before) for (const site of group) site.half = true;
    return before - after;
  };
  for (let changed = true; changed; ) {
    changed = false;
    for (const site of touching.keys()) if (site.half && gain(new Set([site])) > 0) changed = true;
    for (const group of lightGroups(touching, s)) if (gain(group) > 0) changed = true;
  }
}

/** Light half sites that pass values to each other. */
function lightGroups(touching: ReadonlyMap<Site, ReadonlySet<Value>>, s: Sites): Set<Site>[] {
  const groups: Set<Site>[] = [];
  const seen = new Set<Site>();
  for (const start of touching.keys()) {
    if (!start.half || seen.has(start)) continue;
    const group = new Set<Site>();
    const queue = [start];
    for (let site = queue.pop(); site; site = queue.pop()) {
      if (seen.has(site)) continue;
      seen.add(site);
      group.add(site);
      for (const v of touching.get(site)!) {
        for (const next of [s.home(v), ...[...v.uses].map(s.reader)])
          if (next?.half && touching.has(next) && !seen.has(next)) queue.push(next);
      }
    }
    groups.push(group);
  }
  return groups;
}
