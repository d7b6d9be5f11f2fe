/** Weights that cannot be pruned, or not compared: named, never a crash and never silence. */
import { expect, test } from "vitest";
import { Graph, type Model } from "../../ir/graph.ts";
import { mlp } from "../../nets/mlp.ts";
import { numbersOf, tensor } from "../../tensor/tensor.ts";
import type { Context, Step } from "../technique.ts";
import { magnitude } from "./magnitude.ts";
import { structured } from "./structured.ts";

async function notesOf(model: Model, step: Step): Promise<string[]> {
  const notes: string[] = [];
  const context: Context = {
    seed: 0,
    train: null,
    calibration: null,
    original: model,
    threads: 1,
    load: () => Promise.reject(new Error("no files here")),
    note: (line) => notes.push(line),
    progress: () => {},
  };
  await step.apply(model, context);
  return notes;
}

const net = () => mlp({ sizes: [6, 8, 3] });
const first = (m: Model) => [...m.graph.initializers].find((v) => v.shape?.length === 2)!;

test("a weight that is no number is named", async () => {
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
    const broken = () => {
      const m = net();
      const w = first(m);
      m.graph.setData(w, tensor("float32", w.shape!, numbersOf(w.data!).with(0, bad)));
      return m;
    };
    const name = first(broken()).name;
    await expect(notesOf(broken(), structured({ check: false }))).rejects.toThrow(`group "${name}`);
    if (Number.isNaN(bad)) await expect(notesOf(broken(), magnitude())).rejects.toThrow(`weight "${name}"`);
  }
});

test("an empty weight is left alone", async () => {
  const m = net();
  const { graph } = m;
  const none = graph.initializer("none", tensor("float32", [3, 0], []));
  graph.addOutput(graph.append("MatMul", [graph.outputs[0]!, none], { name: "empty" }).outputs[0]!);
  const notes = await notesOf(m, magnitude({ sparsity: 0.5 }));
  expect(notes.at(-1)).toMatch(/^all 2 layers: 36 of 72 kept/);
  await expect(notesOf(m, magnitude({ include: "empty" }))).rejects.toThrow("no weight of a Conv, Gemm or MatMul is selected");
});

test("structured: a selector that matches nothing is an error, a net with nothing to remove is told", async () => {
  await expect(notesOf(net(), structured({ include: "nosuch" }))).rejects.toThrow(
    'no group is selected; include must match a weight, its node or a group; got "nosuch"',
  );
  expect(await notesOf(mlp({ sizes: [6, 3] }), structured())).toContain("nothing is removed: there is no group of channels that can go");
});

test("structured: weights inside a branch that is not taken are named", async () => {
  const m = net();
  const { graph } = m;
  const x = graph.outputs[0]!;
  const branch = (name: string) => {
    const g = new Graph(name, graph);
    const w = g.initializer(`${name}.w`, tensor("float32", [3, 2], [1, 2, 3, 4, 5, 6]));
    g.addOutput(g.append("MatMul", [x, w], { name: `${name}.mul` }).outputs[0]!);
    return g;
  };
  const yes = graph.initializer("yes", tensor("bool", [], [1]));
  graph.setOutput(
    0,
    graph.append("If", [yes], { name: "if", attrs: { then_branch: branch("then"), else_branch: branch("else") } }).outputs[0]!,
  );
  const notes = await notesOf(m, structured({ check: false }));
  expect(notes.some((n) => /else\.w\[1\]: If "if" reads or gives it where the sample does not go/.test(n))).toBe(true);
});
