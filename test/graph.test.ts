import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { check } from "../src/ir/check.ts";
import { cloneModel, float, Graph, type Model, type Node, newModel, type Value } from "../src/ir/graph.ts";
import { printModel } from "../src/ir/print.ts";
import { allGraphs, allNodes, constantOf, removeDead, sorted } from "../src/ir/walk.ts";
import { readModel } from "../src/onnx/read.ts";
import { writeModel } from "../src/onnx/write.ts";
import { type Random, random } from "../src/tensor/random.ts";
import { numbersOf, tensor } from "../src/tensor/tensor.ts";

const pick = <T>(r: Random, items: readonly T[]): T => items[r.below(items.length)]!;

/** Values a node of `graph` may read: all of it and of the graphs around it. */
function visible(graph: Graph): Value[] {
  const own = [...graph.inputs, ...graph.initializers, ...[...graph.nodes].flatMap((n) => n.outputs.filter((o) => o !== null))];
  return graph.parent ? [...own, ...visible(graph.parent)] : own;
}

function grow(graph: Graph, r: Random, size: number, depth: number): void {
  for (let i = 0; i < size; i++) {
    const inputs = Array.from({ length: 1 + r.below(3) }, () => (r.below(8) ? pick(r, visible(graph)) : null));
    if (depth > 0 && r.below(6) === 0) {
      const branches = ["a", "b"].map((name) => {
        const g = new Graph(name, graph);
        if (r.below(2)) g.initializer("w", tensor("float32", [1], [1]));
        grow(g, r, 1 + r.below(4), depth - 1);
        g.addOutput(pick(r, visible(g)));
        return g;
      });
      graph.append("If", inputs, { attrs: { then_branch: branches[0], else_branch: branches[1] } });
    } else graph.append("Op", inputs, { outputs: 1 + r.below(2), attrs: { k: float(0.5) } });
  }
}

/** A random graph of some ten nodes, with branches in branches that read outer values. */
function randomModel(r: Random): Model {
  const model = newModel("random");
  const g = model.graph;
  g.input("x", "float32", [1]);
  g.input("y", "float32", null);
  g.initializer("w", tensor("float32", [1], [2]));
  grow(g, r, 3 + r.below(12), 2);
  for (let i = 1 + r.below(3); i > 0; i--) g.addOutput(pick(r, visible(g)));
  return model;
}

/** The nodes around a graph that hold it. */
function holders(graph: Graph): Node[] {
  if (!graph.parent) return [];
  return [[...graph.parent.nodes].find((n) => n.subgraphs.includes(graph))!, ...holders(graph.parent)];
}

/** Nodes that transitively need one of `values`; a use inside a branch needs it for the node that holds the branch too. */
function readersOf(values: readonly (Value | null)[], out = new Set<Node>()): Set<Node> {
  for (const v of values) {
    for (const u of v?.uses ?? []) {
      const nodes = "node" in u ? [u.node, ...holders(u.node.graph)] : holders(u.graph);
      for (const n of nodes) {
        if (out.has(n)) continue;
        out.add(n);
        readersOf(n.outputs, out);
      }
    }
  }
  return out;
}

/** What `graph` can see without a cycle: nothing that needs the nodes that hold it. */
function readable(graph: Graph): Value[] {
  const around = holders(graph);
  const banned = readersOf(
    around.flatMap((n) => n.outputs),
    new Set(around),
  );
  return visible(graph).filter((v) => !v.producer || !banned.has(v.producer));
}

/** One random change by the operations a graph has. */
function change(model: Model, r: Random): void {
  const nodes = [...allNodes(model.graph)];
  const g = pick(r, [...allGraphs(model.graph)]);
  switch (r.below(7)) {
    case 0: {
      const v = pick(r, visible(g));
      const banned = readersOf([v]);
      // Only what does not depend on v, and is seen wherever v is, may take its place.
      const others = readable(v.graph).filter((o) => !o.producer || !banned.has(o.producer));
      if (others.length) v.replaceUses(pick(r, others), { keepOutputs: r.below(2) === 0 });
      break;
    }
    case 1: {
      const free = nodes.filter((n) => n.outputs.every((o) => !o || o.uses.size === 0));
      if (free.length) {
        const n = pick(r, free);
        n.graph.remove(n);
      }
      break;
    }
    case 2:
      removeDead(model.graph);
      break;
    case 3:
      if (nodes.length) {
        const n = pick(r, nodes);
        n.truncateInputs(r.below(n.inputs.length + 1));
      }
      break;
    case 4:
      if (model.graph.outputs.length > 1) model.graph.removeOutput(r.below(model.graph.outputs.length));
      break;
    case 5:
      model.graph.setOutput(r.below(model.graph.outputs.length + 1), pick(r, visible(model.graph)));
      break;
    case 6:
      g.append("New", [pick(r, readable(g))]);
  }
}

test("whatever is done to a graph, its links hold, a clone is its equal and writing and reading change nothing", () => {
  let changes = 0;
  fc.assert(
    fc.property(fc.nat(), (seed) => {
      const r = random(seed);
      const model = randomModel(r);
      check(model);
      for (let i = 0; i < 12; i++) {
        const before = cloneModel(model);
        const text = printModel(model);
        check(before);
        expect(printModel(before)).toBe(text);
        change(model, r);
        changes++;
        check(model);
        // The clone shares nothing that changes.
        check(before);
        expect(printModel(before)).toBe(text);
      }
      const again = readModel(writeModel(model));
      check(again);
      expect(printModel(again)).toBe(printModel(model));
    }),
    { numRuns: 150, seed: 1 },
  );
  expect(changes).toBe(1800);
});

test("removing what is dead leaves what outputs need, and nothing else", () => {
  fc.assert(
    fc.property(fc.nat(), (seed) => {
      const model = randomModel(random(seed));
      const needed = new Set<Node>();
      const need = (v: Value) => {
        const p = v.producer;
        if (!p || needed.has(p)) return;
        needed.add(p);
        for (const i of p.inputs) if (i) need(i);
        const inside = (g: Graph) => {
          for (const o of g.outputs) need(o);
        };
        for (const sub of p.subgraphs) inside(sub);
      };
      for (const o of model.graph.outputs) need(o);
      const all = [...allNodes(model.graph)].length;
      const removed = removeDead(model.graph);
      const left = [...allNodes(model.graph)];
      expect(new Set(left)).toEqual(needed);
      // Nodes inside a branch that went with its node are not counted one by one.
      expect(removed).toBeLessThanOrEqual(all - left.length);
      expect(removeDead(model.graph)).toBe(0);
      for (const g of allGraphs(model.graph)) for (const v of g.initializers) expect(v.uses.size).toBeGreaterThan(0);
    }),
    { numRuns: 200, seed: 2 },
  );
});

describe("check names what is broken", () => {
  const broken: [string, (m: Model, n: Node, x: Value) => void, string][] = [
    [
      "a use of a node that went with its attribute",
      (m) => [...m.graph.nodes].find((n) => n.opType === "If")!.attrs.clear(),
      "which does not (any more)",
    ],
    ["a use that is not known", (_, n) => n.inputs[0]!.uses.clear(), "times but knows of 0"],
    [
      "a value of another model",
      (_, n) => n.setInput(0, newModel("other").graph.input("z", "float32", [])),
      "belongs to a graph it cannot see",
    ],
    [
      "a value of an inner graph",
      (m, n) => n.setInput(0, [...m.graph.nodes].find((i) => i.opType === "If")!.subgraphs[0]!.outputs[0]!),
      "belongs to a graph it cannot see",
    ],
    ["a value that nothing computes", (m, n) => n.setInput(0, m.graph.value("ghost")), 'reads "ghost", which nothing computes'],
    ["an initializer that was dropped", (m) => m.graph.initializers.clear(), 'reads "w", which nothing computes'],
    ["an input that was dropped", (m) => m.graph.inputs.splice(0), 'reads "x", which nothing computes'],
    [
      "data of the wrong size",
      (m) => ([...m.graph.initializers][0]!.data = { dtype: "float32", shape: [3], data: new Uint8Array(4) }),
      'initializer "w" has 4 bytes; float32[3] takes 12',
    ],
    [
      "two values of one name",
      (m, n) =>
        m.graph.addNodeOutput(
          n,
          Object.assign(Object.create(Object.getPrototypeOf(n.outputs[0]!)), { graph: m.graph, name: "x", uses: new Set() }),
        ),
      'two values are named "x"',
    ],
    ["a cycle", (_, n, x) => n.setInput(0, x), "is part of a cycle"],
    ["a node that reads itself", (_, n) => n.setInput(0, n.outputs[0]!), "is part of a cycle"],
    ["an unknown domain", (_, n) => (n.domain = "elsewhere"), 'its domain "elsewhere" is not among the model\'s opset imports'],
    [
      "two owners of a graph",
      (m, n) => n.attrs.set("body", [...m.graph.nodes].find((i) => i.opType === "If")!.attrs.get("then_branch")!),
      "is held by two attributes",
    ],
  ];
  test.each(broken)("%s", (_, breakIt, message) => {
    const model = newModel("sound");
    const g = model.graph;
    const x = g.input("x", "float32", [1]);
    const w = g.initializer("w", tensor("float32", [1], [2]));
    const n = g.append("Add", [x, w]);
    const branch = () => {
      const b = new Graph("b", g);
      b.addOutput(b.append("Neg", [n.outputs[0]!]).outputs[0]!);
      return b;
    };
    const last = g.append("If", [n.outputs[0]!], { attrs: { then_branch: branch(), else_branch: branch() } }).outputs[0]!;
    g.addOutput(last);
    check(model);
    breakIt(model, n, last);
    expect(() => check(model)).toThrow(message);
  });
});

test("a graph of 50,000 nodes in a row, written backwards, is sorted, cloned and checked without recursion", () => {
  const model = newModel("deep");
  const g = model.graph;
  const x = g.input("x", "float32", [1]);
  const w = g.initializer("w", tensor("float32", [1], [1]));
  const nodes = Array.from({ length: 50_000 }, () => g.append("Add", [x, w]));
  nodes.forEach((n, i) => {
    if (i + 1 < nodes.length) n.setInput(0, nodes[i + 1]!.outputs[0]!);
  });
  g.addOutput(nodes[0]!.outputs[0]!);
  expect(sorted(g)).toEqual(nodes.reverse());
  const copy = cloneModel(model);
  check(copy);
  expect([...copy.graph.initializers][0]!.uses.size).toBe(50_000);
  copy.graph.setOutput(0, copy.graph.inputs[0]!);
  expect(removeDead(copy.graph)).toBe(50_000);
  expect(new Set(nodes.map((n) => n.name)).size).toBe(50_000);
});

test("names are unique over the model, its branches and its clones", () => {
  const model = newModel("names");
  const g = model.graph;
  g.input("a", "float32", []);
  const inner = new Graph("b", g);
  expect([g.fresh("a"), inner.fresh("a"), g.fresh("a"), g.fresh("a_1"), inner.fresh("b")]).toEqual(["a_1", "a_2", "a_3", "a_1_1", "b"]);
  expect(cloneModel(model).graph.fresh("a")).toBe("a_4");
});

test("the tensor of a Constant node in all its spellings", () => {
  const model = newModel("constants");
  const of = (attrs: Parameters<Graph["append"]>[2] & object) => constantOf(model.graph.append("Constant", [], attrs).outputs[0])!;
  expect(numbersOf(of({ attrs: { value: tensor("float32", [2], [1, 2]) } }))).toEqual(Float32Array.of(1, 2));
  expect(of({ attrs: { value_int: 3 } })).toMatchObject({ dtype: "int64", shape: [] });
  expect(numbersOf(of({ attrs: { value_ints: [3, 4] } }))).toEqual(Float64Array.of(3, 4));
  expect(numbersOf(of({ attrs: { value_float: float(0.5) } }))).toEqual(Float32Array.of(0.5));
  expect(of({ attrs: { value_floats: { type: "floats", value: [1, 2, 3] } } }).shape).toEqual([3]);
  expect(of({ attrs: { value_strings: { type: "strings", value: ["ü", ""] } } }).strings).toEqual([
    new TextEncoder().encode("ü"),
    new Uint8Array(0),
  ]);
});
