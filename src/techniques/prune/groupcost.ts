/** What a net costs as a function of its groups' sizes, without building it: parameters, multiply-accumulates, time, channels. */
import { cloneModel, type Model, type Node, type Value } from "../../ir/graph.ts";
import { allNodes, stored } from "../../ir/walk.ts";
import { parametersOf } from "../../measure/parameters.ts";
import { opOf } from "../../ops/index.ts";
import { isFloat, sizeOf } from "../../tensor/dtype.ts";
import type { Group, Groups } from "../../transform/groups.ts";

/** Sizes of groups; those that are not in it have their own. */
export type Sizes = ReadonlyMap<Group, number>;

/** One summand of a cost, and the groups it depends on. */
export interface Term {
  readonly of: (sizes: Sizes) => number;
  readonly groups: ReadonlySet<Group>;
}

export interface Cost {
  readonly total: (sizes: Sizes) => number;
  /** How much less it is with one group at another size. */
  readonly gain: (sizes: Sizes, group: Group, to: number) => number;
  /** Whether one's gain depends on the other's size. */
  readonly share: (a: Group, b: Group) => boolean;
}

export function costOf(terms: readonly Term[]): Cost {
  const by = new Map<Group, Term[]>();
  for (const t of terms)
    for (const g of t.groups) {
      const list = by.get(g);
      if (list) list.push(t);
      else by.set(g, [t]);
    }
  const shared = new Map([...by].map(([g, list]) => [g, new Set(list.flatMap((t) => [...t.groups]))]));
  return {
    total: (sizes) => terms.reduce((n, t) => n + t.of(sizes), 0),
    gain(sizes, group, to) {
      const then = new Map(sizes).set(group, to);
      return (by.get(group) ?? []).reduce((n, t) => n + t.of(sizes) - t.of(then), 0);
    },
    share: (a, b) => a === b || (shared.get(a)?.has(b) ?? false),
  };
}

/** The indices of the given groups. */
export function channelTerms(groups: readonly Group[]): Term[] {
  return groups.map((g) => ({ of: (sizes) => sizes.get(g) ?? g.size, groups: new Set([g]) }));
}

/** Parameters of all that the model stores. */
export function parameterTerms(model: Model, { shapeWith }: Pick<Groups, "shapeWith">, among: readonly Group[]): Term[] {
  const by = new Map<Value, Set<Group>>();
  for (const g of among)
    for (const { value } of g.members) {
      const set = by.get(value);
      if (set) set.add(g);
      else by.set(value, new Set([g]));
    }
  const changing = new Map([...by.keys()].map((v) => [v.data, v]));
  const none = new Set<Group>();
  return [...stored(model.graph)].flatMap((entry): Term[] => {
    const n = parametersOf(entry);
    if (n === 0) return [];
    const value = changing.get(entry.tensor);
    if (!value) return [{ groups: none, of: () => n }];
    return [{ groups: by.get(value)!, of: (sizes) => sizeOf(shapeWith(value, sizes) ?? entry.tensor.shape) }];
  });
}

/** Multiply-accumulates of every node whose op has a rule for them, by the shapes its values would have. */
export function macTerms(model: Model, groups: Pick<Groups, "shapeWith">, among: readonly Group[]): Term[] {
  return nodeTerms(model, groups, among, (node) => opOf(node)?.macs?.(node) ?? null);
}

/**
 * Multiply-accumulates that take as long as an element read or written, and as starting a node: least squares on the processor time of 98
 * nets narrowed at random (two small decoders, the three nets of PP-OCRv4, a ResNet and a transformer on MNIST; ONNX Runtime 1.30, one
 * thread, AVX-512), where one took 0.01 ns. Speed-ups up to 2.5 were foretold within 2 to 7 % (root mean square; that transformer's, whose
 * fused chains count as several nodes, within 21 %), by multiply-accumulates alone within 10 to 24 %.
 */
const [perElement, perNode] = [6, 50_000];

/**
 * What time goes by, in multiply-accumulates: those themselves, elements that nodes read and write (weights lie in the cache), and the nodes.
 * What does not run, or runs within the Conv before it, counts nothing.
 */
export function workTerms(model: Model, groups: Pick<Groups, "shapeWith">, among: readonly Group[]): Term[] {
  return nodeTerms(model, groups, among, (node) => {
    const elements = moved(node);
    return elements === 0 ? null : (opOf(node)?.macs?.(node) ?? 0) + perElement * elements + perNode;
  });
}

const views: ReadonlySet<string> = new Set(["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Constant"]);
/** Fused into a Conv that nothing else reads. */
const fused: ReadonlySet<string> = new Set(["Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "BatchNormalization"]);

/** Floating-point elements a node reads and writes, but for what the model stores. */
function moved(node: Node): number {
  const [from] = node.inputs;
  if (views.has(node.opType) || node.inputs.every((v) => !v || v.data)) return 0;
  if (fused.has(node.opType) && from?.producer?.opType === "Conv" && from.uses.size === 1) return 0;
  const size = (v: Value | null) => (v?.type?.shape && isFloat(v.type.dtype) && !v.data ? sizeOf(v.type.shape as number[]) : 0);
  const written = node.outputs.reduce((n, v) => n + size(v), 0);
  return written && node.inputs.reduce((n, v) => n + size(v), written);
}

/** What is counted of every node (null: nothing), by the shapes its values would have. */
function nodeTerms(
  model: Model,
  { shapeWith }: Pick<Groups, "shapeWith">,
  among: readonly Group[],
  count: (node: Node) => number | null,
): Term[] {
  const copies = new Map<Value, Value>();
  cloneModel(model, copies);
  const none: Sizes = new Map();
  const touched = new Map<Value, ReadonlySet<Group>>();
  const groupsOf = (v: Value): ReadonlySet<Group> => {
    const known = touched.get(v);
    if (known) return known;
    const now = `${shapeWith(v, none)}`;
    const found = new Set(among.filter((g) => g.size > 1 && `${shapeWith(v, new Map([[g, g.size - 1]]))}` !== now));
    touched.set(v, found);
    return found;
  };
  const out: Term[] = [];
  for (const node of allNodes(model.graph)) {
    const values = [...node.inputs, ...node.outputs].filter((v): v is Value => v !== null);
    const twin = copies.get(node.outputs.find((o) => o)!)?.producer;
    if (!twin) continue;
    const of = (sizes: Sizes): number => {
      for (const v of values) {
        const copy = copies.get(v)!;
        copy.type = { dtype: v.type?.dtype ?? "float32", shape: shapeWith(v, sizes) };
      }
      return count(twin) ?? 0;
    };
    if (of(none) > 0) out.push({ of, groups: new Set(values.flatMap((v) => [...groupsOf(v)])) });
  }
  return out;
}
