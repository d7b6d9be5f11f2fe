import { describe, expect, test } from "vitest";
import { type Dataset, fromArrays } from "../../data/dataset.ts";
import { check } from "../../ir/check.ts";
import { cloneModel, float, type Graph, type Model, type Node, newModel, type Value } from "../../ir/graph.ts";
import { allNodes } from "../../ir/walk.ts";
import { transformer } from "../../nets/transformer.ts";
import { readModel } from "../../onnx/read.ts";
import { writeModel } from "../../onnx/write.ts";
import { contextOf } from "../../recipe/compress.ts";
import { open } from "../../runtime/session.ts";
import { type DType, decodeSmallFloat } from "../../tensor/dtype.ts";
import { random } from "../../tensor/random.ts";
import { integersOf, numbersOf, type Tensor, tensor, valuesOf } from "../../tensor/tensor.ts";
import { half } from "./half.ts";

type Params = Parameters<typeof half>[0];

/** The model converted, through its bytes, and what was said about it. */
async function convert(model: Model, params: Params = {}, data: Dataset | null = null): Promise<{ model: Model; notes: string[] }> {
  const notes: string[] = [];
  const out = cloneModel(readModel(writeModel(model)));
  await half(params).apply(out, contextOf(model, { calibration: data, threads: 1, note: (line) => notes.push(line) }));
  check(out);
  return { model: readModel(writeModel(out)), notes };
}

async function run(model: Model, feeds: Record<string, Tensor>): Promise<Record<string, number[]>> {
  const session = await open(model, { threads: 1 });
  try {
    return Object.fromEntries(Object.entries(await session.run(feeds)).map(([k, t]) => [k, integersOf(t)]));
  } finally {
    await session.release();
  }
}

/** Runs both; every output close to the original's: relative to its largest, `within`. */
async function close(a: Model, b: Model, feeds: Record<string, Tensor>, within = 2e-3): Promise<void> {
  const [want, got] = [await run(a, feeds), await run(b, feeds)];
  expect(Object.keys(got)).toEqual(Object.keys(want));
  for (const [name, x] of Object.entries(want)) {
    const y = got[name]!;
    expect(y.length).toBe(x.length);
    const most = Math.max(...x.filter(Number.isFinite).map(Math.abs), 1e-30);
    x.forEach((v, i) => {
      if (v === y[i]) return;
      expect(Math.abs(v - y[i]!), `${name}[${i}]: ${y[i]} instead of ${v}`).toBeLessThanOrEqual(within * most);
    });
  }
}

const ops = (model: Model, op: string): Node[] => [...allNodes(model.graph)].filter((n) => n.opType === op);
const casts = (model: Model) => ops(model, "Cast").length;
const f32 = (shape: readonly number[], values: readonly number[]) => tensor("float32", shape, values);
const noise = (shape: readonly number[], scale = 1, seed = 0) =>
  tensor("float32", shape, random(seed, "half").fillNormal(new Float32Array(shape.reduce((a, d) => a * d, 1)), scale));

/** A model of one graph: `body` gets it and a float32 input "x", and gives the outputs. */
function graph(shape: readonly number[], body: (g: Graph, x: Value) => Value[], opset = 17): Model {
  const model = newModel("m", opset, 8);
  const x = model.graph.input("x", "float32", shape);
  for (const y of body(model.graph, x)) {
    y.type ??= { dtype: "float32", shape: null };
    model.graph.addOutput(y);
  }
  return model;
}

const one = (g: Graph, op: string, inputs: (Value | null)[], attrs: Parameters<Graph["append"]>[2] = {}) =>
  g.append(op, inputs, attrs).outputs[0]!;

describe("casts", () => {
  test("one in, one out, none between", async () => {
    const m = graph([2, 96], (g, x) => {
      const h = one(g, "Relu", [one(g, "MatMul", [x, g.initializer("w", noise([96, 96], 0.1))])]);
      return [one(g, "Softmax", [one(g, "MatMul", [h, g.initializer("v", noise([96, 8], 0.1, 1))])])];
    });
    const { model } = await convert(m);
    expect(casts(model)).toBe(2);
    expect(model.graph.inputs.map((v) => [v.name, v.type!.dtype])).toEqual([["x", "float32"]]);
    expect(model.graph.outputs.map((v) => [v.name, v.type!.dtype])).toEqual([[m.graph.outputs[0]!.name, "float32"]]);
    for (const v of model.graph.initializers) expect(v.data!.dtype).toBe("float16");
    expect(writeModel(model).length).toBeLessThan(0.53 * writeModel(m).length);
    await close(m, model, { x: noise([2, 96]) });
  });
});
