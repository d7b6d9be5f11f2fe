import { mkdtempSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { host } from "#host";
import { fromArrays, fromFeeds } from "../data/dataset.ts";
import { type Model, newModel } from "../ir/graph.ts";
import { load, save } from "../onnx/file.ts";
import { writeModel } from "../onnx/write.ts";
import { Build } from "../ops/build.ts";
import { random } from "../tensor/random.ts";
import { tensor } from "../tensor/tensor.ts";
import { latency } from "./latency.ts";
import { measureModels, peakMemory, sizes, throughput, throughputs } from "./measure.ts";
import type { Measurement } from "./measurement.ts";

function mlp(hidden: number, batch: number | string = "n", fill = (a: Float32Array) => random(1).fillNormal(a)): Model {
  const model = newModel("mlp");
  const b = Build.of(model);
  const w = (name: string, shape: [number, number]) =>
    model.graph.initializer(name, tensor("float32", shape, fill(new Float32Array(shape[0] * shape[1]))));
  const x = model.graph.input("x", "float32", [batch, 20]);
  model.graph.addOutput(b.matmul(b.op("Relu", [b.matmul(x, w("w1", [20, hidden]))]), w("w2", [hidden, 4])));
  return model;
}

const data = fromArrays({
  x: tensor("float32", [30, 20], random(2).fillNormal(new Float32Array(600))),
  labels: tensor(
    "int64",
    [30],
    Array.from({ length: 30 }, (_, i) => i % 4),
  ),
});
const of = (ms: readonly Measurement[], metric: string, at: Record<string, unknown> = {}) =>
  ms.find((m) => m.metric === metric && Object.entries(at).every(([k, v]) => m.at?.[k] === v));

/** An interval holds its value, and nothing is NaN or infinite (JSON has neither). */
function sane(ms: readonly Measurement[]) {
  for (const m of ms) {
    expect(Number.isFinite(m.value), m.metric).toBe(true);
    if (m.interval) {
      expect(m.interval[0], m.metric).toBeLessThanOrEqual(m.value + 1e-9);
      expect(m.interval[1], m.metric).toBeGreaterThanOrEqual(m.value - 1e-9);
    }
    expect(JSON.parse(JSON.stringify(m))).toEqual(m);
  }
}

describe("all figures of two models", () => {
  test("with data and labels", async () => {
    const what: string[] = [];
    const [a, b] = await measureModels(
      [
        { name: "large", model: mlp(64) },
        { name: "small", model: mlp(8) },
      ],
      { data, seconds: 0.05, batch: [1, 40], fidelity: true, progress: (w) => what.push(w) },
    );
    sane(a!);
    sane(b!);
    expect(of(a!, "parameters")!.value).toBe(20 * 64 + 64 * 4);
    expect(of(b!, "nonZero")!.value).toBe(20 * 8 + 8 * 4);
    expect(of(a!, "file")!.value).toBe(writeModel(mlp(64)).byteLength);
    expect(of(a!, "brotli")!.value).toBeGreaterThan(1000);
    expect(of(a!, "macs")!.value).toBe(20 * 64 + 64 * 4);
    expect(of(a!, "accuracy")!.n).toBe(30);
    expect(of(a!, "accuracyChange")).toBeUndefined();
    expect(of(b!, "accuracyChange")!.value).toBeCloseTo(of(b!, "accuracy")!.value - of(a!, "accuracy")!.value, 9);
    expect(of(b!, "agreement")!.n).toBe(30);
    for (const batch of [1, 40]) {
      expect(of(a!, "latency", { percentile: 50, batch, threads: 1 })!.n).toBeGreaterThanOrEqual(60);
      expect(of(a!, "latency", { percentile: 99, batch })!.value).toBeGreaterThanOrEqual(
        of(a!, "latency", { percentile: 50, batch })!.value,
      );
      expect(of(b!, "speedup", { batch })!.n).toBeGreaterThanOrEqual(6);
    }
    expect([...new Set(what)]).toEqual(["size", "macs", "accuracy", "fidelity", "latency"]);
  });

  test("without data: random inputs, no accuracy; without time: only what is counted", async () => {
    const models = [
      { name: "a", model: mlp(8) },
      { name: "b", model: mlp(8) },
    ];
    const [a, b] = await measureModels(models, { seconds: 0 });
    expect(a!.map((m) => m.metric)).toEqual(["file", "sparse", "brotli", "sparseBrotli", "parameters", "nonZero", "macs"]);
    expect(of(b!, "maxError")).toMatchObject({ value: 0, at: { data: "random" } });
    expect(await measureModels([], {})).toEqual([]);
  });

  test("the file on disk counts with its external data, and real files are what brotli reads", async () => {
    const path = join(mkdtempSync(join(tmpdir(), "pith-")), "m.onnx");
    save(mlp(64), path, { external: "always" });
    const s = await sizes(load(path), { path });
    expect(of(s, "file")!.value).toBe(statSync(path).size + statSync(`${path}.data`).size);
    expect(of(s, "brotli")!.value).toBeGreaterThan(1000);
    expect(of(await sizes(load(path), { path, brotli: false }), "brotli")).toBeUndefined();
  });
});

test("throughput under simultaneous requests", async () => {
  const feeds = { x: tensor("float32", [3, 20], new Float32Array(60)) };
  const m = await throughput(mlp(8), feeds, { concurrency: 2, threads: 1, seconds: 0.2 });
  sane([m]);
  expect(m).toMatchObject({ metric: "throughput", unit: "1/s", at: { concurrency: 2, threads: 1, batch: 3 } });
  // Two workers were busy for at least 0.2 s; a run that was under way at the end of a slice counts with its time.
  expect(m.n).toBeGreaterThanOrEqual(20);
  expect(m.value).toBeGreaterThan(0);
  expect(m.value).toBeLessThanOrEqual((m.n / 0.2) * 3 * (1 + 1e-9));
  const [one, two] = await throughputs(
    [
      { model: mlp(8), feeds },
      { model: mlp(256), feeds },
    ],
    { concurrency: 1, threads: 1, seconds: 0.2 },
  );
  sane([one!, two!]);
  expect(one!.n).toBeGreaterThanOrEqual(10);
  expect(two!.n).toBeGreaterThanOrEqual(10);
  await expect(throughput(mlp(8, 5), feeds, { concurrency: 1, seconds: 0.1 })).rejects.toThrow(/^throughput: .*takes the shape/);
});

test("peak memory in a process of its own", async () => {
  const feeds = { x: tensor("float32", [1, 20], new Float32Array(20)) };
  // 77 MB of weights must show.
  const heavy = mlp(800_000, "n", (a) => a.fill(0.5));
  const [peak, empty] = await peakMemory(heavy, feeds);
  expect(empty!.value).toBeGreaterThan(20e6);
  expect(peak!.value - empty!.value).toBeGreaterThan(60e6);
  expect(peak!.value - empty!.value).toBeLessThan(400e6);
  await expect(peakMemory(mlp(8, 5), feeds)).rejects.toThrow(/^memory: .*takes the shape/);
}, 120_000);

test("odd models: no inputs, no elements, strings", async () => {
  const constant = newModel("constant");
  const b = Build.of(constant);
  constant.graph.addOutput(b.add(b.f32(1), b.f32(2)));
  const [c] = await measureModels([{ name: "constant", model: constant }], { seconds: 0.01 });
  sane(c!);
  expect(of(c!, "latency", { batch: 1 })).toBeDefined();

  const none = newModel("none");
  none.graph.addOutput(Build.of(none).neg(none.graph.input("x", "float32", ["n", 0])));
  const [z] = await measureModels([{ name: "none", model: none }], { seconds: 0.01 });
  sane(z!);

  const strings = newModel("strings");
  strings.graph.addOutput(Build.of(strings).op("Identity", [strings.graph.input("s", "string", ["n"])]));
  const text = { dtype: "string" as const, shape: [1], data: new Uint8Array(0), strings: [new TextEncoder().encode("ä")] };
  const [s] = await measureModels([{ name: "strings", model: strings }], { seconds: 0.01, data: fromFeeds([{ s: text }]) });
  sane(s!);
});

test("what cannot be measured is said in one line, with the model's name", async () => {
  const run = (model: Model, options: object) => measureModels([{ name: "m.onnx", model }], { seconds: 0.01, ...options });
  await expect(run(mlp(8, 5), { batch: [32] })).rejects.toThrow("m.onnx: batch 32: the model is fixed to a batch of 5");
  await expect(run(mlp(8), { data: fromArrays({ y: tensor("float32", [1, 1], [1]) }) })).rejects.toThrow('m.onnx: data: has no array "x"');
  await expect(run(mlp(8), { data: fromArrays({ x: tensor("float32", [0, 20], []) }) })).rejects.toThrow("m.onnx: data: holds no example");
  await expect(latency([{ model: mlp(8), feeds: {} }])).rejects.toThrow('input "x" was not given');
});

test("latency by a clock of the caller's; processor time stands still while nothing is computed", async () => {
  const model = mlp(8);
  let now = 0;
  // Each run reads the clock at its start and its end.
  const figures = await latency(
    [
      { model, feeds: { x: data.take([0]).x! } },
      { model, feeds: { x: data.take([0]).x! } },
    ],
    {
      seconds: 0.01,
      clock: () => (now += 30),
    },
  );
  expect(of(figures[0]!, "latency", { percentile: 50 })!.value).toBe(30);
  expect(of(figures[1]!, "speedup", {})!.value).toBe(1);
  const clock = host.processorTime!;
  const asleep = clock();
  await new Promise((done) => setTimeout(done, 300));
  expect(clock() - asleep).toBeLessThan(150);
  const awake = clock();
  while (clock() - awake < 20);
  expect(clock()).toBeGreaterThan(awake);
});
