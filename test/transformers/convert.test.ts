import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { AutoModelForCausalLM, env, Tensor } from "@huggingface/transformers";
import { beforeAll, describe, expect, test } from "vitest";
import { type Model, newModel } from "../../src/ir/graph.ts";
import { allGraphs, allNodes } from "../../src/ir/walk.ts";
import { lenet5 } from "../../src/nets/lenet5.ts";
import { load, save } from "../../src/onnx/file.ts";
import { random } from "../../src/tensor/random.ts";
import { numbersOf, tensor } from "../../src/tensor/tensor.ts";
import { agreement } from "../../src/transformers/agreement.ts";
import { type ConvertOptions, convert } from "../../src/transformers/convert.node.ts";
import { type DtypeName, dtypes } from "../../src/transformers/dtypes.ts";
import { readFolder } from "../../src/transformers/folder.node.ts";
import { inputsFor } from "../../src/transformers/inputs.ts";
import { inProcess, run } from "../../src/transformers/run.node.ts";
import { config, mergedDecoder, sizes } from "./decoder.ts";

const names = Object.keys(dtypes) as DtypeName[];
const defaults: ConvertOptions = { dtypes: names, threads: 1 };

/** A folder with these session files. */
function folderOf(files: Readonly<Record<string, Model>>, json: object = config): string {
  const folder = mkdtempSync(join(tmpdir(), "pith-"));
  mkdirSync(join(folder, "onnx"));
  writeFileSync(join(folder, "config.json"), JSON.stringify(json));
  for (const [name, model] of Object.entries(files)) save(model, join(folder, "onnx", `${name}.onnx`));
  return folder;
}

describe("a merged decoder with tied embeddings, both branches", () => {
  const folder = folderOf({ decoder_model_merged: mergedDecoder() });
  const table = 4 * sizes.vocabulary * sizes.width;

  test.each(names.filter((n) => !/q[12]f16/.test(n)))("%s loads, agrees and does not double the tied weights", async (dtype) => {
    const before = readFileSync(join(folder, "onnx/decoder_model_merged.onnx"));
    const { results } = await convert(readFolder(folder), { ...defaults, dtypes: [dtype] });
    const [original, made] = results;
    expect(made!.error).toBeNull();
    expect(made!.agreement!.outputs.map((o) => o.name)).toContain("present.1.value");
    const model = load(join(folder, "onnx", made!.file));
    // Nothing of the table's size in float, and only one of its shape in codes.
    const held = [...allGraphs(model.graph)].flatMap((g) => [...g.initializers].map((v) => v.data!));
    const large = held.filter((t) => t.data.byteLength >= table / 16 && t.shape.reduce((a, b) => a * b, 1) * 4 >= table / 16);
    expect(large.filter((t) => t.data.byteLength >= table).length).toBe(0);
    expect(made!.bytes!).toBeLessThan(original!.bytes! * 0.6);
    expect(readFileSync(join(folder, "onnx/decoder_model_merged.onnx")).equals(before)).toBe(true);
  });
});

test("8 bits: weights outside of the branches are stored once, with the layers of both", async () => {
  const folder = folderOf({ decoder_model_merged: mergedDecoder() });
  const { results } = await convert(readFolder(folder), { ...defaults, dtypes: ["q8"] });
  const model = load(join(folder, "onnx", results[1]!.file));
  const ops = [...allNodes(model.graph)].map((n) => n.opType);
  expect(ops.filter((o) => o === "MatMulInteger").length).toBe(2 * (4 * sizes.layers + 1));
  const tied = [...model.graph.initializers].filter((v) => v.name.startsWith("transformer.wte.weight"));
  expect(tied.map((v) => v.name).sort()).toEqual(["_quantized", "_scale", "_zero_point"].map((s) => `transformer.wte.weight${s}`));
});

describe("generation with transformers.js", () => {
  const folder = folderOf({ model: mergedDecoder({ tied: false }) });
  const generate = async (dtype: string) => {
    env.allowRemoteModels = false;
    env.localModelPath = dirname(folder);
    const model = await AutoModelForCausalLM.from_pretrained(basename(folder), { dtype: dtype as "fp32" });
    const ids = (values: readonly number[]) => new Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
    const made = await model.generate({
      inputs: ids([5, 17, 99, 250]),
      attention_mask: ids([1, 1, 1, 1]),
      max_new_tokens: 10,
      do_sample: false,
    } as never);
    await model.dispose();
    return (made as Tensor).tolist()[0].map(Number) as number[];
  };

  let original: readonly number[];
  beforeAll(async () => {
    original = await generate("fp32");
  });

  test("the original goes through both branches, token by token", () => {
    const tokens = original;
    expect(tokens.length).toBe(14);
    expect(new Set(tokens.slice(4)).size).toBeGreaterThan(4);
  });

  test.each(["fp16", "q8", "q4", "bnb4"] as const)("%s generates; in 8 and 16 bits it begins as the original does", async (dtype) => {
    const { results } = await convert(readFolder(folder), { ...defaults, dtypes: [dtype] });
    expect(results[1]!.error).toBeNull();
    const tokens = await generate(dtype);
    expect(tokens.length).toBe(14);
    // Random weights decide narrowly: four bits may choose another token, 8 and 16 may not.
    if (!/4/.test(dtype)) expect(tokens[4]).toBe(original[4]);
  });
});

test("files that are there stay unless they are to be replaced, and nothing else is left behind", async () => {
  const folder = folderOf({ decoder_model_merged: mergedDecoder() });
  const options = { ...defaults, dtypes: ["q8"] as const };
  const file = join(folder, "onnx/decoder_model_merged_quantized.onnx");
  writeFileSync(file, "mine");
  writeFileSync(`${file}_data`, "mine");
  await expect(convert(readFolder(folder), options)).rejects.toThrow(/already holds decoder_model_merged_quantized.onnx; --force/);
  expect(readFileSync(file, "utf8")).toBe("mine");
  await convert(readFolder(folder), { ...options, force: true });
  expect(readdirSync(join(folder, "onnx")).sort()).toEqual(["decoder_model_merged.onnx", "decoder_model_merged_quantized.onnx"]);
});

test("a dtype that does not agree is not written and named; the others are", async () => {
  const folder = folderOf({ decoder_model_merged: mergedDecoder() });
  const { results } = await convert(readFolder(folder), { ...defaults, dtypes: ["q8", "uint8"], leastAgreement: 1.1 });
  expect(results.slice(1).map((r) => r.error)).toEqual(
    [0, 1].map(() => expect.stringMatching(/too far from the original: output ".+" agrees to/)),
  );
  expect(readdirSync(join(folder, "onnx"))).toEqual(["decoder_model_merged.onnx"]);
});

test("fp16: a variance beyond 1e4 is no weight to clamp; with compat, which clamps it, the file is refused", async () => {
  const model = newModel("norm", 17);
  const { graph } = model;
  const x = graph.input("pixel_values", "float32", [1, 4, 32]);
  const vector = (name: string, value: number) => graph.initializer(name, tensor("float32", [4], [value, value, value, value]));
  const w = random(1, "w").fillNormal(new Float32Array(32 * 64), 500);
  const scaled = graph.append("MatMul", [x, graph.initializer("w", tensor("float32", [32, 64], w))], { name: "scaled" }).outputs[0]!;
  const parts = [vector("scale", 1), vector("bias", 0), vector("mean", 0), vector("variance", 9e7)];
  const norm = graph.append("BatchNormalization", [scaled, ...parts], { name: "norm" }).outputs[0]!;
  const y = graph.append("Tanh", [norm], { name: "y" }).outputs[0]!;
  y.type = { dtype: "float32", shape: [1, 4, 64] };
  graph.addOutput(y);
  const folder = folderOf({ model });
  const { results } = await convert(readFolder(folder), { ...defaults, dtypes: ["fp16"] });
  expect(results[1]!.error).toBeNull();
  expect(results[1]!.notes.join("\n")).toMatch(/stay float32: .*variance.*beyond the range/);
  const theirs = await convert(readFolder(folder), { ...defaults, dtypes: ["fp16"], compat: true, force: true });
  expect(theirs.results[1]!.error).toMatch(/too far from the original/);
  // What was there before stays.
  expect(readdirSync(join(folder, "onnx"))).toContain("model_fp16.onnx");
});

test("external data in pieces, declared in config.json under the names that the loader asks for", async () => {
  const folder = folderOf({ decoder_model_merged: mergedDecoder() }, { ...config, "transformers.js_config": { dtype: "q8" } });
  const { results, configured } = await convert(readFolder(folder), {
    ...defaults,
    dtypes: ["q8"],
    external: "always",
    chunkBytes: 20_000,
  });
  expect(results[1]!.error).toBeNull();
  expect(configured).toBe(true);
  const file = "decoder_model_merged_quantized.onnx";
  const pieces = readdirSync(join(folder, "onnx")).filter((f) => f.startsWith(`${file}_data`));
  expect(pieces.length).toBeGreaterThan(3);
  expect(pieces.sort()).toEqual(pieces.map((_, i) => `${file}_data${i ? `_${i}` : ""}`).sort());
  expect([...load(join(folder, "onnx", file)).externalFiles].sort()).toEqual(pieces);
  expect(JSON.parse(readFileSync(join(folder, "config.json"), "utf8"))["transformers.js_config"]).toEqual({
    dtype: "q8",
    use_external_data_format: { [file]: pieces.length },
  });
});

test("a config that says all files have external data is told which have not", async () => {
  const folder = folderOf({ model: mergedDecoder() }, { ...config, "transformers.js_config": { use_external_data_format: true } });
  save(mergedDecoder(), join(folder, "onnx/model.onnx"), {
    external: "always",
    chunks: { name: () => "model.onnx_data", bytes: Infinity },
  });
  const { configured } = await convert(readFolder(folder), { ...defaults, dtypes: ["q8"] });
  expect(configured).toBe(true);
  expect(JSON.parse(readFileSync(join(folder, "config.json"), "utf8"))["transformers.js_config"].use_external_data_format).toEqual({
    "model.onnx": 1,
    "model_quantized.onnx": 0,
  });
});

describe("compat: as the former converter did", () => {
  test("in 4 bits and fewer, tied embeddings and their layer stay float, and Gemm does", async () => {
    const folder = folderOf({ model: mergedDecoder() });
    const { results } = await convert(readFolder(folder), { ...defaults, dtypes: ["q4", "bnb4", "q2"], compat: true });
    expect(results.map((r) => r.error)).toEqual([null, null, null, null]);
    for (const { file } of results.slice(1)) {
      const model = load(join(folder, "onnx", file));
      expect([...model.graph.initializers].map((v) => v.name)).toContain("transformer.wte.weight");
      const ops = [...allNodes(model.graph)].map((n) => n.opType);
      expect(ops.filter((o) => o === "Gemm").length).toBe(2 * sizes.layers);
      expect(ops.filter((o) => /^MatMul(NBits|Bnb4)$/.test(o)).length).toBe(2 * 3 * sizes.layers);
    }
  });

  test("in 8 bits, Convs are ConvInteger with unsigned weights; by default they are not", async () => {
    const folder = folderOf({ model: lenet5({ seed: 1 }) }, { model_type: "vit" });
    const ops = async (compat: boolean, current: boolean) => {
      const { results } = await convert(readFolder(folder), { ...defaults, dtypes: ["q8"], compat, current, force: true });
      expect(results[1]!.error).toBeNull();
      const model = load(join(folder, "onnx/model_quantized.onnx"));
      const stored = [...model.graph.initializers].find((v) => v.name === "conv1.weight_quantized")!.data!.dtype;
      return [[...model.graph.nodes].filter((n) => n.opType === "ConvInteger").length, stored];
    };
    expect(await ops(true, false)).toEqual([2, "uint8"]);
    expect(await ops(false, false)).toEqual([0, "uint8"]);
    expect(await ops(false, true)).toEqual([0, "int8"]);
  });
});

test("8 bits: a scale for each channel and 7 bits, except for the model types that had neither", async () => {
  const stored = async (type: string, given: Partial<ConvertOptions> = {}) => {
    const folder = folderOf({ model: mergedDecoder({ tied: false }) }, { ...config, model_type: type });
    await convert(readFolder(folder), { ...defaults, dtypes: ["int8"], ...given });
    const held = new Map([...load(join(folder, "onnx/model_int8.onnx")).graph.initializers].map((v) => [v.name, v.data!]));
    const codes = numbersOf(held.get("lm_head.weight_quantized")!);
    return [held.get("lm_head.weight_scale")!.shape, Math.max(...codes.map(Math.abs))];
  };
  expect(await stored("bert")).toEqual([[sizes.vocabulary], 64]);
  expect(await stored("gpt2")).toEqual([[], 127]);
  expect(await stored("gpt2", { perChannel: true })).toEqual([[sizes.vocabulary], 127]);
  expect(await stored("bert", { reduceRange: false })).toEqual([[sizes.vocabulary], 127]);
});

test("the same folder gives the same bytes", async () => {
  const folder = readFolder(folderOf({ model: mergedDecoder() }));
  const made = async () => {
    const output = join(mkdtempSync(join(tmpdir(), "pith-")), "out");
    const { results } = await convert(folder, { ...defaults, dtypes: ["fp16", "q8", "q4", "bnb4", "q1"], check: false, output });
    expect(results.every((r) => r.error === null && r.agreement === null)).toBe(true);
    return readdirSync(join(output, "onnx")).map((f) => readFileSync(join(output, "onnx", f)));
  };
  const [first, second] = [await made(), await made()];
  expect(first.length).toBe(5);
  first.forEach((bytes, i) => {
    expect(bytes.equals(second[i]!)).toBe(true);
  });
});

test("into another folder: the results, and copies of what else a loader reads", async () => {
  const folder = folderOf({ encoder_model: mergedDecoder({ tied: false }), decoder_model_merged: mergedDecoder() });
  writeFileSync(join(folder, "tokenizer.json"), "{}");
  const output = join(mkdtempSync(join(tmpdir(), "pith-")), "out");
  const { results } = await convert(readFolder(folder), { ...defaults, dtypes: ["int8"], output });
  expect(results.map((r) => r.error)).toEqual([null, null, null, null]);
  expect(readdirSync(output).sort()).toEqual(["config.json", "onnx", "quantize_config.json", "tokenizer.json"]);
  expect(readdirSync(join(output, "onnx")).sort()).toEqual(["decoder_model_merged_int8.onnx", "encoder_model_int8.onnx"]);
  expect(readdirSync(folder).sort()).toEqual(["config.json", "onnx", "tokenizer.json"]);
});

test("a folder that is none says what one is", () => {
  const empty = mkdtempSync(join(tmpdir(), "pith-"));
  expect(() => readFolder(join(empty, "x"))).toThrow(/is no folder; a model's, with config.json/);
  expect(() => readFolder(empty)).toThrow(/config.json: is missing/);
  writeFileSync(join(empty, "config.json"), "{}");
  // What is quantized already is no original.
  mkdirSync(join(empty, "onnx"));
  writeFileSync(join(empty, "onnx/model_q4.onnx"), "");
  writeFileSync(join(empty, "model.onnx"), "");
  expect(() => readFolder(empty)).toThrow(/holds no session files.*move model.onnx into/);
});

test("a large file runs in a process of its own, with the same outputs; what the runtime says comes back", async () => {
  const folder = folderOf({ model: mergedDecoder() });
  const path = join(folder, "onnx/model.onnx");
  const sets = inputsFor(load(path), "model", config);
  expect(sets.map((s) => Number(s.use_cache_branch!.data instanceof Uint8Array && s.use_cache_branch!.data[0]))).toEqual([0, 1]);
  const [here, there] = [await run(path, sets, 1), await inProcess({ path, sets, threads: 1 })];
  expect(agreement(here, there).relative).toBe(0);
  writeFileSync(path, "no model");
  await expect(inProcess({ path, sets, threads: 1 })).rejects.toThrow(/session: /);
});

describe("agreement", () => {
  const batch = (...values: readonly number[]) => [{ y: tensor("float32", [values.length], values) }];
  test("is a cosine that lengths count in", () => {
    expect(agreement(batch(3, 4), batch(3, 4))).toMatchObject({ score: 1, relative: 0 });
    expect(agreement(batch(1, 0), batch(0, 1)).score).toBeCloseTo(0);
    const scaled = agreement(batch(3, 4), batch(6, 8));
    expect(scaled).toMatchObject({ cosine: 1, relative: 1, score: 0.5 });
  });
  test("takes differences next to nothing as none, and refuses NaN and other shapes by name", () => {
    expect(agreement(batch(1e-12, 0), batch(0, 1e-9)).score).toBe(1);
    expect(() => agreement(batch(1, 2), batch(1, Number.NaN))).toThrow('output "y" holds NaN where the original\'s holds 2');
    expect(() => agreement(batch(1, 2), batch(1))).toThrow('output "y" has the shape [1]; the original\'s has [2]');
    expect(agreement(batch(-Infinity, 2), batch(-Infinity, 2)).score).toBe(1);
  });
});

test("as a command: a table, what was refused by name, and the exit code 1", () => {
  const folder = folderOf({ model: mergedDecoder() });
  const main = join(import.meta.dirname, "../../src/cli/main.ts");
  const args = ["--import", import.meta.resolve("tsx"), "--conditions=source", main, "transformers", folder, "--quiet"];
  const { status, stdout, stderr } = spawnSync(process.execPath, [...args, "--dtypes", "q8,q1", "--least-agreement", "0.99"], {
    encoding: "utf8",
  });
  expect(stdout).toMatch(/^file +dtype +bytes +smaller +cosine +error$/m);
  expect(stdout).toMatch(/^model_quantized.onnx +q8 +[\d.]+ kB +[\d.]+× +0\.99\d+ +[\d.]+ %$/m);
  expect(stdout).toMatch(/^model_q1.onnx +q1 +not written$/m);
  expect(stderr).toMatch(/^pith: not written: model_q1.onnx: agreement: is too far from the original/m);
  expect(status).toBe(1);
});
