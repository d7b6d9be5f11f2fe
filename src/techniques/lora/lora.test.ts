import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { type Dataset, fromArrays } from "../../data/dataset.ts";
import { readNpz } from "../../data/npz.ts";
import { writeSafetensors } from "../../data/safetensors.ts";
import { check } from "../../ir/check.ts";
import { cloneModel, float, type Model, newModel } from "../../ir/graph.ts";
import { find } from "../../ir/walk.ts";
import { accuracy, evaluate } from "../../measure/accuracy.ts";
import { mlp } from "../../nets/mlp.ts";
import { load } from "../../onnx/file.ts";
import { readModel } from "../../onnx/read.ts";
import { writeModel } from "../../onnx/write.ts";
import { Build } from "../../ops/build.ts";
import { open } from "../../runtime/session.ts";
import type { DType } from "../../tensor/dtype.ts";
import { random } from "../../tensor/random.ts";
import { bytesOf, numbersOf, type Tensor, tensor } from "../../tensor/tensor.ts";
import { fit } from "../../train/fit.ts";
import { crossEntropy } from "../../train/loss.ts";
import { adam } from "../../train/optimizer.ts";
import { liftConstants } from "../../transform/fold.ts";
import type { Context } from "../technique.ts";
import { type Adapter, insert, merge, newAdapter, scaled, scalingOf, unmerge } from "./adapter.ts";
import { lora, trainAdapter } from "./lora.ts";
import { readPeft, writePeft } from "./peft.ts";
import { selectTargets, targetsOf } from "./target.ts";

const root = join(import.meta.dirname, "../../..");
const noise = (seed: number, shape: readonly number[], dtype: DType = "float32"): Tensor =>
  tensor(dtype, shape, random(seed).fillNormal(new Float32Array(shape.reduce((n, d) => n * d, 1))));

async function run(model: Model, feeds: Record<string, Tensor>): Promise<number[]> {
  check(model);
  const s = await open(readModel(writeModel(model)), { threads: 1 });
  const out = Object.values(await s.run(feeds)).flatMap((t) => Array.from(numbersOf(t)));
  await s.release();
  return out;
}
/** The largest difference, relative to the largest value. */
const distance = (a: readonly number[], b: readonly number[]) => {
  expect(a.length).toBe(b.length);
  return Math.max(...a.map((x, i) => Math.abs(x - b[i]!))) / Math.max(...b.map(Math.abs));
};

const peft = join(root, "test/reference/fixtures/peft");
const config = readFileSync(join(peft, "adapter_config.json"), "utf8");
const weights = readFileSync(join(peft, "adapter_model.safetensors"));
const expected = readNpz(readFileSync(join(peft, "expected.npz")));
const values = (name: string) => Array.from(numbersOf(expected[name]!));

/** The net of the fixture as PyTorch exports it: a Gemm with its weight's own name, a MatMul whose weight lost it. */
function exported(): Model {
  const model = newModel("exported");
  const { graph } = model;
  const x = graph.input("x", "float32", ["n", 6]);
  const q = graph.append(
    "Gemm",
    [x, graph.initializer("encoder.q.weight", expected.q!), graph.initializer("encoder.q.bias", expected.bias!)],
    {
      name: "/encoder/q/Gemm",
      attrs: { transB: 1 },
    },
  );
  const h = graph.append("Tanh", [q.outputs[0]!], { name: "/encoder/Tanh" });
  const turned = tensor(
    "float32",
    [5, 4],
    Array.from({ length: 20 }, (_, at) => values("v")[(at % 4) * 5 + Math.floor(at / 4)]!),
  );
  const v = graph.append("MatMul", [h.outputs[0]!, graph.initializer("onnx::MatMul_12", turned)], {
    name: "/encoder/v/MatMul",
    outputs: ["y"],
  });
  v.outputs[0]!.type = { dtype: "float32", shape: ["n", 4] };
  graph.addOutput(v.outputs[0]!);
  return model;
}

describe("PEFT's files", () => {
  test("are read, and written byte for byte as PEFT does", () => {
    const adapter = readPeft(config, weights);
    expect(adapter.pairs.map((p) => [p.module, p.a.shape, p.b.shape, p.alpha])).toEqual([
      ["encoder.q", [2, 6], [5, 2], 6],
      ["encoder.v", [3, 5], [4, 3], 4],
    ]);
    const again = writePeft(adapter, "base.onnx");
    expect(again.config).toBe(config);
    expect(Buffer.compare(again.weights, weights)).toBe(0);
  });

  test("beside the layers, and merged into them, they give PyTorch's numbers", async () => {
    const adapter = readPeft(config, weights);
    const feeds = { x: expected.x! };
    expect(distance(await run(exported(), feeds), values("before"))).toBeLessThan(1e-6);
    const beside = exported();
    insert(beside, adapter);
    expect(distance(await run(beside, feeds), values("after"))).toBeLessThan(2e-6);
    expect(beside.graph.outputs.map((o) => o.name)).toEqual(["y"]);
    const merged = exported();
    expect(merge(merged, adapter)).toEqual([]);
    expect(distance(await run(merged, feeds), values("after"))).toBeLessThan(2e-6);
    expect(distance(Array.from(numbersOf(find(merged.graph, "encoder.q.weight")!.data!)), values("merged_q"))).toBeLessThan(1e-6);
    expect([...merged.graph.nodes].map((n) => n.opType)).toEqual(["Gemm", "Tanh", "MatMul"]);
  });

  test("rsLoRA divides by the root of the rank", () => {
    const adapter = readPeft(config.replace('"use_rslora": false', '"use_rslora": true'), weights);
    expect(adapter.pairs.map((p) => scalingOf(adapter, p))).toEqual([6 / Math.sqrt(2), 4 / Math.sqrt(3)]);
    expect(readPeft(writePeft(adapter).config, writePeft(adapter).weights)).toEqual(adapter);
  });

  const factor = (shape: number[]) => tensor("float32", shape, new Float32Array(shape[0]! * (shape[1] ?? 1)));
  const files = (tensors: Record<string, Tensor>) => writeSafetensors(tensors);
  const changed = (key: string, value: unknown) => JSON.stringify({ ...JSON.parse(config), [key]: value });
  test.each([
    ["another method", changed("peft_type", "IA3"), weights, 'describes a "IA3" adapter; LORA would be right'],
    ["DoRA", changed("use_dora", true), weights, "uses use_dora, which is not supported"],
    ["trained biases", changed("bias", "all"), weights, 'has trained biases (bias "all")'],
    ["saved modules", changed("modules_to_save", ["head"]), weights, 'uses modules_to_save, which is not supported; got ["head"]'],
    ["a pattern that could hang", changed("alpha_pattern", { "(a+)+$": 1 }), weights, "is a regular expression"],
    ["no JSON", "{", weights, "adapter/adapter_config.json: is not JSON"],
    ["half a pair", config, files({ "base_model.model.q.lora_A.weight": factor([2, 6]) }), '"q" has only one of its two factors'],
    ["ranks that differ", config, files({ "q.lora_A.weight": factor([2, 6]), "q.lora_B.weight": factor([5, 3]) }), "whose ranks differ"],
    [
      "an embedding's",
      config,
      files({ "base_model.model.wte.lora_embedding_A": factor([2, 6]) }),
      'holds "base_model.model.wte.lora_embedding_A"',
    ],
    ["a vector", config, files({ "q.lora_A.weight": factor([2]) }), "factors of a linear layer have two axes"],
    ["nothing", config, files({}), "holds no factors"],
  ])("refuses %s", (_, c, w, message) => {
    expect(() => readPeft(c, w)).toThrow(message);
  });

  test("layers that are missing, ambiguous or of another size are named", () => {
    const adapter = readPeft(config, weights);
    const renamed = (module: string) => ({ ...adapter, pairs: [{ ...adapter.pairs[0]!, module }] });
    expect(() => merge(exported(), renamed("decoder.q"))).toThrow('no layer "decoder.q"; it has encoder.q, encoder.v');
    expect(() => merge(exported(), renamed("encoder.v"))).toThrow('"encoder.v" takes A [rank, 5] and B [4, rank]; got [2,6] and [5,2]');
    // A part exported alone lacks the leading names.
    expect(() => merge(exported(), renamed("model.encoder.q"))).not.toThrow();
    expect(() => merge(exported(), renamed("q"))).not.toThrow();
    expect(() => merge(exported(), { ...adapter, pairs: [adapter.pairs[0]!, { ...adapter.pairs[0]!, module: "q" }] })).toThrow(
      '"q" and "encoder.q" both fit the layer "encoder.q"',
    );
  });
});

describe("every spelling of a layer: merged equals beside", () => {
  const forms = {
    MatMul: { op: "MatMul", x: [2, 3, 6], w: [6, 5] },
    "MatMul of Transpose(W)": { op: "MatMul", x: [3, 6], w: [5, 6], swap: true },
    "Gemm with all attributes": {
      op: "Gemm",
      x: [6, 3],
      w: [5, 6],
      attrs: { transA: 1, transB: 1, alpha: float(0.5), beta: float(2) },
      bias: [5],
    },
    "Gemm of Transpose(W)": { op: "Gemm", x: [3, 6], w: [6, 5], attrs: { transB: 1 }, swap: true },
    "MatMul in float16": { op: "MatMul", x: [3, 6], w: [6, 5], dtype: "float16" as DType },
  };
  test.each(Object.entries(forms))("%s", async (_, form) => {
    const {
      dtype = "float32",
      swap = false,
      attrs = {},
      bias,
    } = form as { dtype?: DType; swap?: boolean; attrs?: object; bias?: number[] };
    const model = newModel("one");
    const b = Build.of(model);
    const x = model.graph.input("x", dtype, form.x);
    const w = model.graph.initializer("layer.weight", noise(1, form.w, dtype));
    const c = bias ? [model.graph.initializer("bias", noise(2, bias, dtype))] : [];
    const y = b.op(form.op, [x, swap ? b.transpose(w, [1, 0]) : w, ...c], { ...attrs });
    y.type = { dtype, shape: null };
    model.graph.addOutput(y);
    const [target] = targetsOf(model);
    expect([target!.module, target!.inputs, target!.outputs]).toEqual(["layer", 6, 5]);
    const zero = newAdapter([target!], { rank: 3, alpha: 2, dropout: 0, rslora: true }, 1);
    const adapter: Adapter = { ...zero, pairs: [{ ...zero.pairs[0]!, b: noise(4, [5, 3]) }] };
    const feeds = { x: noise(3, form.x, dtype) };
    const before = await run(model, feeds);
    const [merged, beside, untouched] = [cloneModel(model), cloneModel(model), cloneModel(model)];
    merge(merged, adapter);
    insert(beside, adapter);
    const got = await run(merged, feeds);
    // One rounding of sums of ten terms in the layer's own type.
    expect(distance(got, await run(beside, feeds))).toBeLessThan(dtype === "float16" ? 4e-3 : 2e-6);
    expect(distance(got, before)).toBeGreaterThan(0.05);
    // Taken out again: two roundings of weights of at most about 3, half a unit in the last place each.
    unmerge(merged, adapter);
    const back = numbersOf(find(merged.graph, "layer.weight")!.data!);
    const unit = dtype === "float16" ? 2 ** -9 : 2 ** -21;
    expect(Math.max(...Array.from(back, (v, i) => Math.abs(v - numbersOf(w.data!)[i]!)))).toBeLessThanOrEqual(unit);
    // A zero adapter leaves every bit.
    merge(untouched, zero);
    expect(bytesOf(find(untouched.graph, "layer.weight")!.data!)).toEqual(bytesOf(w.data!));
  });

  test("a tied weight is split, so that its other reader sees no change", () => {
    const model = newModel("tied");
    const b = Build.of(model);
    const w = model.graph.initializer("wte.weight", noise(1, [6, 5]));
    const x = model.graph.input("x", "float32", ["n", 6]);
    model.graph.addOutput(b.matmul(x, w));
    model.graph.addOutput(b.op("Gather", [w, b.constant(tensor("int64", [1], [0]))]));
    const zero = newAdapter(targetsOf(model), { rank: 2, alpha: 2, dropout: 0, rslora: false }, 1);
    const adapter = { ...zero, pairs: [{ ...zero.pairs[0]!, b: noise(2, [5, 2]) }] };
    expect(merge(model, adapter)).toEqual(['wte.weight is split in two: node "pith/Gather" reads it too']);
    check(model);
    expect(w.data).toEqual(noise(1, [6, 5]));
    const split = find(model.graph, "wte.weight_merged")!;
    expect(split.uses.size).toBe(1);
    // The split weight is the module's still: unmerging finds it, and no other.
    expect(unmerge(model, adapter)).toEqual([]);
    expect(distance(Array.from(numbersOf(split.data!)), Array.from(numbersOf(w.data!)))).toBeLessThan(1e-6);
    expect(w.data).toEqual(noise(1, [6, 5]));
  });

  test("several adapters: each with its weight, in any order; their sum beside the weights", () => {
    const adapter = readPeft(config, weights);
    const one = { ...adapter, pairs: adapter.pairs.filter((p) => p.module === "encoder.q") };
    const [ab, ba, whole] = [exported(), exported(), exported()];
    merge(ab, scaled(one, 0.25));
    merge(ab, scaled(adapter, 0.75));
    merge(ba, scaled(adapter, 0.75));
    merge(ba, scaled(one, 0.25));
    merge(whole, adapter);
    const q = (model: Model) => Array.from(numbersOf(find(model.graph, "encoder.q.weight")!.data!));
    expect(distance(q(ab), q(whole))).toBeLessThan(1e-6);
    expect(distance(q(ba), q(ab))).toBeLessThan(1e-6);
  });

  test("weights in Constant nodes", async () => {
    const constant = (): Model => {
      const model = newModel("constant");
      const x = model.graph.input("x", "float32", ["n", 6]);
      const w = model.graph.append("Constant", [], { outputs: ["layer.weight"], attrs: { value: noise(1, [6, 5]) } }).outputs[0]!;
      const y = model.graph.append("MatMul", [x, w], { outputs: ["y"] }).outputs[0]!;
      y.type = { dtype: "float32", shape: ["n", 5] };
      model.graph.addOutput(y);
      return model;
    };
    const lifted = constant();
    liftConstants(lifted);
    const zero = newAdapter(targetsOf(lifted), { rank: 2, alpha: 2, dropout: 0, rslora: false }, 1);
    const adapter = { ...zero, pairs: [{ ...zero.pairs[0]!, b: noise(2, [5, 2]) }] };
    const [merged, beside] = [constant(), constant()];
    merge(merged, adapter);
    insert(beside, adapter);
    const feeds = { x: noise(3, [4, 6]) };
    expect(distance(await run(merged, feeds), await run(beside, feeds))).toBeLessThan(2e-6);
    expect(distance(await run(merged, feeds), await run(constant(), feeds))).toBeGreaterThan(0.05);
  });

  test("a new adapter starts as PEFT's does", () => {
    const adapter = newAdapter(targetsOf(exported()), { rank: 8, alpha: 16, dropout: 0, rslora: false }, 1);
    const a = numbersOf(adapter.pairs[0]!.a);
    const bound = 1 / Math.sqrt(6);
    expect(Math.max(...a)).toBeLessThanOrEqual(bound);
    expect(Math.max(...a)).toBeGreaterThan(0.9 * bound);
    expect(Math.min(...a)).toBeLessThan(-0.9 * bound);
    expect(numbersOf(adapter.pairs[0]!.b).every((v) => v === 0)).toBe(true);
    expect(() => selectTargets(exported(), "*k*", null)).toThrow(
      'no MatMul or Gemm with weights matches "*k*"; there are encoder.q, encoder.v',
    );
    expect(selectTargets(exported(), "*", "onnx::*").map((t) => t.module)).toEqual(["encoder.q"]);
  });
});

const models = process.env.MODELS_DIR ?? join(root, "../shared/data/models");
test.skipIf(!existsSync(join(models, "gpt-nano-sort.onnx")))(
  "modules of a transformer exported by PyTorch (set MODELS_DIR where it is elsewhere)",
  () => {
    const model = load(join(models, "gpt-nano-sort.onnx"));
    liftConstants(model);
    const modules = targetsOf(model).map((t) => t.module);
    expect(modules.slice(0, 5)).toEqual(["h.0.c_attn", "h.0.c_proj", "h.0.fc", "h.0.pr", "h.1.c_attn"]);
    expect(modules).toHaveLength(13);
    expect(new Set(modules).size).toBe(13);
  },
);

describe("training", () => {
  /** Four clusters of points in 16 dimensions; shifted, the features are in another order. */
  const clusters = (n: number, seed: number, shifted: boolean): Dataset => {
    const centers = random(99).fillNormal(new Float32Array(4 * 16), 1.2);
    const r = random(seed);
    const labels = Array.from({ length: n }, () => r.below(4));
    const x = r.fillNormal(new Float32Array(n * 16));
    labels.forEach((c, i) => {
      for (let k = 0; k < 16; k++) x[i * 16 + k]! += centers[c * 16 + (shifted ? (k + 5) % 16 : k)]!;
    });
    return fromArrays({ x: tensor("float32", [n, 16], x), labels: tensor("int64", [n], labels) });
  };
  const shiftedTrain = clusters(600, 1, true);
  const shiftedTest = clusters(600, 2, true);
  const optimizer = { learningRate: 0.01, batchSize: 32, epochs: 8 };
  let base: Model;
  const notes: string[] = [];
  const context = (): Context => ({
    seed: 3,
    train: shiftedTrain,
    calibration: null,
    original: base,
    threads: 1,
    load: () => Promise.reject(new Error("no files here")),
    note: (line) => notes.push(line),
    progress: () => {},
  });
  const score = async (model: Model, data: Dataset) => (await evaluate(model, data, accuracy(), { threads: 1 })).measurement.value;

  beforeAll(async () => {
    base = mlp({ sizes: [16, 48, 48, 4], seed: 1 });
    await fit(base, {
      data: clusters(600, 4, false),
      loss: crossEntropy(),
      epochs: 8,
      threads: 1,
      optimizer: adam({ learningRate: 0.01 }),
    });
  });

  test("a rank-8 adapter learns a shifted task, merged into weights that keep their form; the base stays", async () => {
    const bytes = writeModel(base);
    const model = cloneModel(base);
    await lora(optimizer).apply(model, context());
    const before = await score(base, shiftedTest);
    const after = await score(model, shiftedTest);
    expect(before).toBeLessThan(60);
    expect(after).toBeGreaterThan(95);
    expect(Buffer.compare(writeModel(base), bytes)).toBe(0);
    expect([...model.graph.initializers].map((v) => [v.name, v.data!.shape])).toEqual(
      [...base.graph.initializers].map((v) => [v.name, v.data!.shape]),
    );
    expect(notes[0]).toBe("rank 8 beside 3 layers, 1696 parameters: fc1, fc2, fc3");
    // Biases are no adapter's business; every weight moved by a matrix of rank 8 at most.
    for (const v of base.graph.initializers)
      if (v.name.endsWith(".bias")) expect(bytesOf(find(model.graph, v.name)!.data!)).toEqual(bytesOf(v.data!));
  });

  test("kept beside, through PEFT's files, and merged: one and the same net", async () => {
    const options = { ...optimizer, epochs: 2, targets: "fc2,*3*", rank: 4, dropout: 0.1, rslora: true, merge: false };
    const beside = cloneModel(base);
    await lora(options).apply(beside, context());
    const { adapter } = await trainAdapter(cloneModel(base), { ...lora(options).params } as never, context());
    expect(adapter.pairs.map((p) => p.module)).toEqual(["fc2", "fc3"]);
    expect(beside.graph.initializers.has(find(beside.graph, "fc2.lora_A")!)).toBe(true);
    const files = writePeft(adapter);
    const merged = cloneModel(base);
    merge(merged, readPeft(files.config, files.weights));
    const feeds = { x: shiftedTest.take([0, 1, 2, 3]).x! };
    const got = await run(merged, feeds);
    expect(distance(got, await run(beside, feeds))).toBeLessThan(1e-5);
    expect(distance(got, await run(base, feeds))).toBeGreaterThan(0.05);
  });
});
