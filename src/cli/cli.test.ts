import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { writeNpz } from "../data/npz.ts";
import { openData } from "../data/open.node.ts";
import { find } from "../ir/walk.ts";
import { accuracy, evaluate } from "../measure/accuracy.ts";
import { mlp } from "../nets/mlp.ts";
import { transformer } from "../nets/transformer.ts";
import { load, save } from "../onnx/file.ts";
import { random } from "../tensor/random.ts";
import { numbersOf, tensor } from "../tensor/tensor.ts";

const root = join(import.meta.dirname, "../..");

/** Runs the real command. */
function pith(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const command = ["--import", "tsx", "--conditions=source", join(root, "src/cli/main.ts"), ...args];
  return new Promise((resolve) => {
    execFile(process.execPath, command, { cwd: root, env: { ...process.env, NO_COLOR: "1" } }, (e, out, err) => {
      resolve({ code: e ? Number(e.code) : 0, out, err });
    });
  });
}

const folder = mkdtempSync(join(tmpdir(), "pith-"));
const at = (name: string) => join(folder, name);
const net = at("net.onnx");
save(mlp({ sizes: [4, 8, 3], seed: 1 }), net);
{
  // Three classes around corners of their own.
  const r = random(1, "cli");
  const labels = Array.from({ length: 120 }, () => r.below(3));
  const x = Float32Array.from({ length: 480 }, (_, i) => r.normal() * 0.3 + (i % 4 === labels[i >> 2] ? 2 : 0));
  writeFileSync(at("data.npz"), writeNpz({ x: tensor("float32", [120, 4], x), labels: tensor("int64", [120], labels) }));
}

test("show prints JSON, and the nodes a selector matches", async () => {
  const json = await pith("show", net, "--json");
  expect(JSON.parse(json.out)).toMatchObject({ file: "net.onnx", nodes: 3, parameters: 67, inputs: [{ name: "x", shape: ["batch", 4] }] });
  const selected = await pith("show", net, "--select", "fc1.*");
  expect(selected.out).toContain('"fc1.*" matches 1 of 3 nodes');
});

test("show lists residual blocks; zeros are stored sparsely where asked", async () => {
  save(transformer({ layers: 1, width: 8, heads: 2, vocabulary: 5, length: 4, classes: 2 }), at("encoder.onnx"));
  const blocks = await pith("show", at("encoder.onnx"), "--blocks", "--json");
  expect(JSON.parse(blocks.out)).toMatchObject([
    { name: "layer1.add1", attention: true, parameters: 4 * 72 + 16 + 1 },
    { name: "layer1.add2", attention: false, skip: "layer1.add1.out" },
  ]);
  save(mlp({ sizes: [64, 64, 3], seed: 1 }), at("wide.onnx"));
  const prune = ["compress", at("wide.onnx"), "--step", "magnitude:sparsity=0.9,epochs=0", "--no-measure", "--quiet"];
  const small = await pith(...prune, "-o", at("sparse.onnx"), "--sparse");
  expect(small.out).toMatch(/note: stored sparsely: \d of 4 initializers, \d+ bytes instead of \d+/);
  const narrow = await pith(...prune, "-o", at("narrow.onnx"), "--sparse", "narrow");
  expect([small.code, narrow.code]).toEqual([0, 0]);
  const bytes = (name: string) => readFileSync(at(name)).length;
  expect(bytes("sparse.onnx")).toBeLessThan(0.5 * bytes("wide.onnx"));
  expect(bytes("narrow.onnx")).toBeLessThan(0.7 * bytes("sparse.onnx"));
}, 60_000);

test("show --groups names what is pruned together, and why the rest is not", async () => {
  const { out } = await pith("show", net, "--groups");
  expect(out).toContain("1 group of channels can be pruned, 2 cannot");
  expect(out).toMatch(/fc1\.weight\[0\] .*fc1\.weight\[0\] fc1\.bias\[0\] fc2\.weight\[1\]/);
  expect(out).toContain('an input of the model ("x"): fc1.weight[1]');
  const json = JSON.parse((await pith("show", net, "--groups", "--json")).out) as { name: string; frozen: string | null }[];
  expect(json.map((g) => g.name)).toEqual(["fc1.weight[0]", "fc1.weight[1]", "fc2.weight[0]"]);
});

test("measured in a process of its own: figures as ever, but for brotli; what keeps it from measuring is said", async () => {
  const json = at("apart.json");
  const common = ["compress", net, "-o", at("apart.onnx"), "--step", "weightOnly:smallest=0", "--apart", "--quiet", "--json", json];
  const run = async (...more: string[]) => {
    const { code, err } = await pith(...common, ...more);
    expect([code, err]).toEqual([0, ""]);
    return JSON.parse(readFileSync(json, "utf8"));
  };
  const apart = await run(`--data=${at("data.npz")}`);
  expect(apart.unmeasured).toBeNull();
  for (const measured of [apart.before, apart.after]) {
    const metrics = measured.map((m: { metric: string }) => m.metric);
    for (const metric of ["file", "accuracy", "latency", "throughput"]) expect(metrics).toContain(metric);
    expect(metrics).not.toContain("brotli");
  }
  expect((await run("--shape", "x=1x7")).unmeasured).toMatch(/"x"|\bx\b/);
}, 120_000);

test("train, compress, measure: files, table, record and page", async () => {
  const data = at("data.npz");
  const trained = await pith(
    "train",
    net,
    "-o",
    at("trained.onnx"),
    "--train",
    data,
    "--epochs",
    "20",
    "--optimizer",
    "adam:learningRate=0.02",
    "--data",
    data,
  );
  expect([trained.code, trained.err]).toEqual([0, expect.stringContaining("training")]);
  expect(trained.out).toMatch(/trained\.onnx +(100\.00|9\d\.\d\d) %/);

  const args = ["compress", at("trained.onnx"), "-o", at("small.onnx"), "--step", "magnitude:sparsity=0.5,epochs=2", "--step", "int8"];
  const small = await pith(
    ...args,
    "--train",
    data,
    "--data",
    data,
    "--max-drop",
    "50",
    "--json",
    at("run.json"),
    "--report",
    at("page.html"),
    "--quiet",
  );
  expect([small.code, small.err]).toEqual([0, ""]);
  expect(small.out).toContain("small.onnx");
  const run = JSON.parse(readFileSync(at("run.json"), "utf8"));
  expect(run).toMatchObject({
    name: "small.onnx",
    model: { name: "trained.onnx" },
    seed: 0,
    data: { name: "data", length: 120 },
    gate: { n: 24 },
  });
  expect(run.after.map((m: { metric: string }) => m.metric)).toEqual(
    expect.arrayContaining(["accuracy", "file", "brotli", "latency", "throughput"]),
  );
  expect(readFileSync(at("page.html"), "utf8")).toContain("small.onnx");

  // The recipe of the record, run again, gives the same bytes.
  writeFileSync(at("recipe.json"), JSON.stringify(run.recipe));
  const again = ["compress", at("trained.onnx"), "-o", at("again.onnx"), "--recipe", at("recipe.json"), "--no-measure", "--quiet"];
  expect((await pith(...again, "--train", data, "--max-drop", "50")).code).toBe(0);
  expect(readFileSync(at("again.onnx")).equals(readFileSync(at("small.onnx")))).toBe(true);

  const measured = await pith("measure", at("trained.onnx"), at("small.onnx"), "--data", data, "--seconds", "0", "--json", "--quiet");
  expect(JSON.parse(measured.out).models).toMatchObject([{ name: "trained.onnx" }, { name: "small.onnx" }]);
}, 120_000);

test("a refused gate is exit code 3 and writes nothing", async () => {
  const refused = await pith(
    "compress",
    at("trained.onnx"),
    "-o",
    at("refused.onnx"),
    "--step",
    "magnitude:sparsity=1,epochs=0",
    "--train",
    at("data.npz"),
    "--max-drop",
    "1",
    "--quiet",
    "--json",
    at("refused.json"),
  );
  expect([refused.code, refused.out]).toEqual([3, ""]);
  expect(refused.err).toMatch(/^pith: gate: accuracy got worse by .+ at most 1 may be lost; nothing was written\n$/);
  expect(readdirSync(folder).filter((f) => f.startsWith("refused"))).toEqual([]);
});

test("wrong input is one line and exit code 1; wrong usage is 2; nothing is half-written", async () => {
  const before = readdirSync(folder);
  writeFileSync(at("text.onnx"), "this is not a model\n");
  writeFileSync(at("wrong.json"), '{"steps": [{"technique": "int9"}]}');
  const faults = [
    [["show", at("text.onnx")], "text.onnx: is not a readable ONNX file"],
    [["compress", net, "-o", net, "--step", "int8"], `${net}: is also an input`],
    [["compress", net, "-o", at("o.onnx"), "--recipe", at("wrong.json")], 'unknown technique "int9"'],
  ] as const;
  for (const [args, message] of faults) {
    const { code, out, err } = await pith(...args);
    expect([code, out]).toEqual([1, ""]);
    expect(err).toMatch(/^pith: .+\n$/);
    expect(err).toContain(message);
  }
  const usage = await pith("compress", net, "--step", "int9");
  expect([usage.code, usage.err]).toEqual([2, expect.stringMatching(/^pith: usage: .*unknown technique "int9"[^\n]*\n$/)]);
  const option = await pith("compress", net, "--stop", "int8");
  expect([option.code, option.err]).toEqual([
    2,
    expect.stringMatching(/^pith: usage: unknown option '--stop' \(Did you mean --step\?\); [^\n]+\n$/),
  ]);
  const none = await pith("compress", net, "--step", "int8:include=conv*", "--dry-run");
  expect([none.code, none.out]).toEqual([
    0,
    "int8:include=conv*: matches none of the 2 weights; they have names like fc1.weight, fc2.weight\n",
  ]);
  expect(readdirSync(folder).sort()).toEqual([...before, "text.onnx", "wrong.json"].sort());
}, 120_000);

test("lint says what a runtime refuses, by node, with exit code 4; --load tries it", async () => {
  const model = load(net);
  // 3-bit weights, which no runtime multiplies.
  const w = model.graph.initializer("w", tensor("uint8", [3, 1, 12], new Array(36).fill(0)));
  const s = model.graph.initializer("s", tensor("float32", [3], [1, 1, 1]));
  const attrs = { K: 32, N: 3, bits: 3, block_size: 32 };
  const wide = model.graph.input("wide", "float32", ["batch", 32]);
  model.graph.addOutput(model.graph.append("MatMulNBits", [wide, w, s], { name: "odd", domain: "com.microsoft", attrs }).outputs[0]!);
  model.opsets.set("com.microsoft", 1);
  save(model, at("odd.onnx"));
  const fine = await pith("lint", net, "--target", "node,wasm,tensorrt", "--load");
  expect([fine.code, fine.err]).toEqual([0, ""]);
  expect(fine.out).toMatch(/net\.onnx on node: 1 note\n +note +it loads\n/);
  const odd = await pith("lint", at("odd.onnx"), "--target", "node,wasm", "--load", "--json");
  expect(odd.code).toBe(4);
  for (const report of JSON.parse(odd.out)) {
    expect(report.findings.slice(0, 2)).toMatchObject([
      { level: "error", what: expect.stringContaining("it does not load: ") },
      { level: "error", what: expect.stringContaining("refuses com.microsoft.MatMulNBits on float32, 3bit"), nodes: ["odd"] },
    ]);
  }
  const unknown = await pith("lint", net, "--target", "abacus");
  expect([unknown.code, unknown.err]).toEqual([2, expect.stringContaining("must be one of node, wasm, webgpu")]);
}, 60_000);

test("lora train writes PEFT's files and leaves the model, lora merge folds them in, unmerge takes them out", async () => {
  const adapter = at("adapter");
  const before = readFileSync(net);
  const trained = await pith(
    ...["lora", "train", net, "-o", adapter, "--train", at("data.npz"), "--targets", "fc*", "--rank", "2"],
    ...["--epochs", "20", "--learning-rate", "0.02", "--data", at("data.npz"), "--quiet"],
  );
  expect([trained.code, trained.err]).toEqual([0, ""]);
  expect(trained.out).toMatch(/with the adapter +(100\.00|9\d\.\d\d) %/);
  expect(readdirSync(adapter).sort()).toEqual(["adapter_config.json", "adapter_model.safetensors"]);
  expect(JSON.parse(readFileSync(join(adapter, "adapter_config.json"), "utf8"))).toMatchObject({ r: 2, target_modules: ["fc1", "fc2"] });
  expect(readFileSync(net).equals(before)).toBe(true);
  const merged = await pith("lora", "merge", net, adapter, "-o", at("merged.onnx"));
  expect([merged.code, merged.err]).toEqual([0, ""]);
  const scored = await evaluate(load(at("merged.onnx")), await openData(at("data.npz")), accuracy());
  expect(scored.measurement.value).toBeGreaterThan(90);
  const unmerged = await pith("lora", "unmerge", at("merged.onnx"), adapter, "-o", at("unmerged.onnx"));
  expect([unmerged.code, unmerged.err]).toEqual([0, ""]);
  const weights = (file: string) => Array.from(numbersOf(find(load(at(file)).graph, "fc1.weight")!.data!));
  const [base, there, back] = [weights("net.onnx"), weights("merged.onnx"), weights("unmerged.onnx")];
  const apart = (a: number[], b: number[]) => Math.max(...a.map((v, i) => Math.abs(v - b[i]!)));
  expect(apart(there, base)).toBeGreaterThan(0.01);
  expect(apart(back, base)).toBeLessThan(1e-6);
  const uneven = await pith("lora", "merge", net, adapter, "-o", at("none.onnx"), "--weights", "1,2");
  expect([uneven.code, uneven.err]).toEqual([2, "pith: usage: --weights needs a number for each of 1 adapters; got 1,2\n"]);
  const wrong = await pith("lora", "merge", net, folder, "-o", at("none.onnx"));
  expect([wrong.code, wrong.err]).toEqual([1, expect.stringMatching(/^pith: .* holds no adapter_config\.json[^\n]*\n$/)]);
});
