import { beforeAll, describe, expect, test } from "vitest";
import { type Dataset, fromArrays } from "../../data/dataset.ts";
import { check } from "../../ir/check.ts";
import { cloneModel, type Model } from "../../ir/graph.ts";
import { find } from "../../ir/walk.ts";
import { macsOf } from "../../measure/macs.ts";
import { countParameters } from "../../measure/parameters.ts";
import { mlp } from "../../nets/mlp.ts";
import { net } from "../../nets/net.ts";
import { transformer } from "../../nets/transformer.ts";
import { writeModel } from "../../onnx/write.ts";
import { open } from "../../runtime/session.ts";
import { observeShapes } from "../../runtime/shapes.ts";
import { Fault } from "../../tensor/fault.ts";
import { random } from "../../tensor/random.ts";
import { numbersOf, tensor } from "../../tensor/tensor.ts";
import { fit } from "../../train/fit.ts";
import { crossEntropy } from "../../train/loss.ts";
import { adam } from "../../train/optimizer.ts";
import type { Context } from "../technique.ts";
import { structured } from "./structured.ts";

/** A residual net of convolutions with BatchNormalization: 32 channels on the residual stream, 48 within the block. */
function residual(seed = 1): Model {
  const n = net("residual", seed);
  const normalized = (name: string, x: Parameters<typeof n.relu>[1], c: readonly [number, number]) =>
    n.batchNorm(`${name}.bn`, n.conv(name, x, c, { kernel: 3, pad: 1, bias: false }), c[1]);
  const x = n.model.graph.input("x", "float32", ["batch", 2, 8, 8]);
  const stem = n.relu("stem.relu", normalized("stem", x, [2, 32]));
  const inner = n.relu("block.relu1", normalized("block.1", stem, [32, 48]));
  const y = n.relu("block.relu2", n.op("block.add", "Add", [normalized("block.2", inner, [48, 32]), stem]));
  return n.done(n.dense("fc", n.op("flat", "Flatten", [n.op("pool", "GlobalAveragePool", [y])]), [32, 4], "glorot"), ["batch", 4]);
}

function images(n: number, seed = 1): Dataset {
  const r = random(seed, "images");
  const x = r.fillNormal(new Float32Array(n * 128));
  const labels = Array.from({ length: n }, () => r.below(4));
  labels.forEach((c, i) => {
    for (let k = 0; k < 128; k++) if (k % 4 === c) x[128 * i + k]! += 1;
  });
  return fromArrays({ x: tensor("float32", [n, 2, 8, 8], x), labels: tensor("int64", [n], labels) });
}

const notes: string[] = [];
const context = (original: Model, train: Dataset | null = null, calibration: Dataset | null = null): Context => ({
  seed: 0,
  train,
  calibration,
  original,
  threads: 1,
  load: () => Promise.reject(new Error("no files here")),
  note: (line) => notes.push(line),
  progress: () => {},
});

async function run(model: Model, data: Dataset): Promise<Float32Array> {
  const session = await open(model, { threads: 1 });
  try {
    const feeds = data.take(Array.from({ length: Math.min(64, data.length) }, (_, i) => i));
    return numbersOf((await session.run(feeds)).logits!) as Float32Array;
  } finally {
    await session.release();
  }
}

/** The model after the step, which must be sound. */
async function after(model: Model, step: ReturnType<typeof structured>, around = context(model)): Promise<Model> {
  const out = cloneModel(model);
  notes.length = 0;
  await step.apply(out, around);
  check(out);
  return out;
}

const alone = { epochs: 0, check: false } as const;
const shapeOf = (m: Model, name: string) => find(m.graph, name)!.shape!;
const macs = async (m: Model, data: Dataset) => macsOf(await observeShapes(m, { x: data.take([0]).x! }))!;

/** Zeroes whatever of an initializer the predicate says, by position along an axis. */
function zero(model: Model, name: string, axis: number, gone: (at: number) => boolean): void {
  const v = find(model.graph, name)!;
  const { shape } = v.data!;
  const inner = shape.slice(axis + 1).reduce((a, d) => a * d, 1);
  const values = numbersOf(v.data!).map((x, i) => (gone(Math.floor(i / inner) % shape[axis]!) ? 0 : x));
  v.graph.setData(v, tensor("float32", shape, values));
}

describe("without importance, nothing is lost", () => {
  test.each(["l2", "l1", "activation"] as const)("units of a dense net (%s)", async (importance) => {
    const model = mlp({ sizes: [8, 24, 16, 4], seed: 2 });
    zero(model, "fc1.weight", 0, (i) => i % 3 === 0);
    zero(model, "fc2.weight", 1, (i) => i % 3 === 0);
    const r = random(4);
    const data = fromArrays({ x: tensor("float32", [64, 8], r.fillNormal(new Float32Array(512))) });
    const small = await after(model, structured({ ratio: 0.2, importance, ...alone }), context(model, null, data));
    expect(shapeOf(small, "fc1.weight")).toEqual([16, 8]);
    expect(shapeOf(small, "fc2.weight")).toEqual([16, 16]);
    const [want, got] = [await run(model, data), await run(small, data)];
    got.forEach((y, i) => {
      expect(y).toBeCloseTo(want[i]!, 5);
    });
  });

  test("channels of a residual stream, with BatchNormalizations, and heads", async () => {
    const model = residual();
    const gone = (i: number) => i % 2 === 1;
    for (const name of ["stem", "block.2"]) {
      zero(model, `${name}.weight`, 0, gone);
      for (const part of ["weight", "bias", "running_mean"]) zero(model, `${name}.bn.${part}`, 0, gone);
    }
    zero(model, "block.1.weight", 1, gone);
    zero(model, "fc.weight", 1, gone);
    const data = images(64);
    const small = await after(model, structured({ ratio: 0.2, ...alone }));
    expect(shapeOf(small, "stem.weight")).toEqual([16, 2, 3, 3]);
    expect(shapeOf(small, "block.1.weight")).toEqual([48, 16, 3, 3]);
    const [want, got] = [await run(model, data), await run(small, data)];
    got.forEach((y, i) => {
      expect(y).toBeCloseTo(want[i]!, 5);
    });
  });
});

describe("widths", () => {
  const model = residual();
  const data = images(8);

  test.each(["channels", "parameters", "macs"] as const)("the ratio by %s is met within one channel, and told", async (by) => {
    for (const ratio of [0.3, 0.7]) {
      const small = await after(model, structured({ ratio, by, roundTo: 1, ...alone }));
      const count = async (m: Model) => {
        if (by === "macs") return macs(m, data);
        if (by === "parameters") return countParameters(m).parameters;
        return shapeOf(m, "stem.weight")[0]! + shapeOf(m, "block.1.weight")[0]!;
      };
      const [was, is] = [await count(model), await count(small)];
      const channel = was / (by === "channels" ? 80 : 24);
      expect(is).toBeLessThanOrEqual(was * (1 - ratio));
      expect(is).toBeGreaterThan(was * (1 - ratio) - channel);
      expect(notes.join("\n")).toContain(`parameters: ${countParameters(model).parameters} → ${countParameters(small).parameters}`);
      expect(notes.join("\n")).toContain(`multiply-accumulates: ${await macs(model, data)} → ${await macs(small, data)}`);
    }
  });

  test("of Convs are multiples of 16 unless told otherwise; what cannot be reached is said", async () => {
    for (const ratio of [0.2, 0.5]) {
      const small = await after(model, structured({ ratio, ...alone }));
      for (const name of ["stem.weight", "block.1.weight"]) expect(shapeOf(small, name)[0]! % 16).toBe(0);
    }
    await after(model, structured({ ratio: 0.8, ...alone }));
    expect(notes.join("\n")).toMatch(/only 60\.0 % of the channels can go, 80\.0 % were wanted/);
    const eight = await after(model, structured({ ratio: 0.8, roundTo: 8, ...alone }));
    expect(shapeOf(eight, "stem.weight")[0]! % 8).toBe(0);
  });

  test("without data, multiply-accumulates are counted at the shape that is given", async () => {
    const model = residual();
    model.graph.inputs[0]!.type = { dtype: "float32", shape: ["batch", 2, "height", "width"] };
    const shape = { x: [1, 2, 12, 20] };
    const whole = macsOf(await observeShapes(model, { x: tensor("float32", shape.x, new Float32Array(480)) }))!;
    notes.length = 0;
    await structured({ ratio: 0.3, ...alone, by: "macs" }).apply(cloneModel(model), { ...context(model), shape });
    expect(notes.find((n) => n.startsWith("multiply-accumulates"))).toContain(`${whole} → `);
  });

  test("excluded weights keep their shapes, others than the included ones too, and the notes name them", async () => {
    const kept = await after(model, structured({ ratio: 0.3, roundTo: 1, exclude: "fc.weight", ...alone }));
    expect(shapeOf(kept, "fc.weight")).toEqual([4, 32]);
    expect(shapeOf(kept, "block.1.weight")[0]).toBeLessThan(48);
    expect(notes.join("\n")).toContain(": excluded");
    const only = await after(model, structured({ ratio: 0.3, roundTo: 1, include: "stem.weight", ...alone }));
    expect(shapeOf(only, "block.1.weight")[0]).toBe(48);
    expect(shapeOf(only, "stem.weight")[0]).toBeLessThan(32);
    expect(notes.join("\n")).toContain(": not included");
  });

  test("scope layer takes the same share of every group", async () => {
    const small = await after(model, structured({ ratio: 0.5, scope: "layer", roundTo: 1, ...alone }));
    expect([shapeOf(small, "stem.weight")[0], shapeOf(small, "block.1.weight")[0]]).toEqual([16, 24]);
  });

  test("attention loses heads or the width of all heads alike, and still runs", async () => {
    const net = transformer({ layers: 2, width: 32, heads: 4, vocabulary: 11, length: 6, classes: 3, seed: 2 });
    const ids = random(1);
    const data = fromArrays({
      ids: tensor(
        "int64",
        [8, 6],
        Array.from({ length: 48 }, () => ids.below(11)),
      ),
    });
    const small = await after(net, structured({ ratio: 0.4, by: "parameters", ...alone }), context(net, null, data));
    expect(countParameters(small).parameters).toBeLessThanOrEqual(0.6 * countParameters(net).parameters);
    expect((await run(small, data)).every(Number.isFinite)).toBe(true);
  });
});

describe("with training", () => {
  const data = images(256);
  let trained: Model;
  beforeAll(async () => {
    trained = residual();
    await fit(trained, {
      data,
      loss: crossEntropy(),
      epochs: 5,
      batchSize: 64,
      threads: 1,
      optimizer: adam({ learningRate: 0.01 }),
      batchStatistics: true,
    });
  });
  const lossOf = async (m: Model) =>
    (await fit(cloneModel(m), { data, loss: crossEntropy(), steps: 1, batchSize: 256, threads: 1 })).losses[0]!;
  const setting = { ratio: 0.6, by: "macs", roundTo: 8, check: false, learningRate: 0.003 } as const;

  test("labels, or the original's answers alone, win the loss back; so do rounds", async () => {
    const raw = await lossOf(await after(trained, structured({ ...setting, epochs: 0 })));
    const unlabelled = fromArrays({ x: data.take(Array.from({ length: 256 }, (_, i) => i)).x! });
    for (const [given, more] of [
      [data, { epochs: 4 }],
      [data, { epochs: 4, rounds: 2 }],
      [unlabelled, { epochs: 4 }],
    ] as const)
      expect(await lossOf(await after(trained, structured({ ...setting, ...more }), context(trained, given)))).toBeLessThan(0.5 * raw);
  });

  test("a group lasso draws channels to zero before they go, so that less is lost", async () => {
    const r = random(3);
    const labels = Array.from({ length: 512 }, () => r.below(4));
    const x = r.fillNormal(new Float32Array(512 * 8));
    labels.forEach((c, i) => {
      x[8 * i + c]! += 3;
    });
    const rows = fromArrays({ x: tensor("float32", [512, 8], x), labels: tensor("int64", [512], labels) });
    const net = mlp({ sizes: [8, 64, 32, 4], seed: 4 });
    const same = { data: rows, loss: crossEntropy(), threads: 1 } as const;
    await fit(net, { ...same, epochs: 3, batchSize: 64, optimizer: adam({ learningRate: 0.01 }) });
    const loss = async (m: Model) => (await fit(cloneModel(m), { ...same, steps: 1, batchSize: 512 })).losses[0]!;
    const prune = { ratio: 0.7, epochs: 0, check: false, learningRate: 0.01 } as const;
    const raw = await after(net, structured(prune));
    const drawn = await after(net, structured({ ...prune, lasso: 0.01, lassoEpochs: 40 }), context(net, rows));
    expect(await loss(drawn)).toBeLessThan(await loss(raw));
  });

  test.each(["taylor", "obd", "obs"] as const)("%s loses less than chance", async (importance) => {
    const lost = async (importance: "taylor" | "obd" | "obs" | "random") =>
      lossOf(await after(trained, structured({ ...setting, ratio: 0.4, epochs: 0, importance }), context(trained, data)));
    expect(await lost(importance)).toBeLessThan(await lost("random"));
  });

  test("obs where the loss has no gradient goes by activation, and says so", async () => {
    const n = net("det", 1);
    const x = n.model.graph.input("x", "float32", ["batch", 6]);
    const y = n.dense("w2", n.relu("relu", n.dense("w1", x, [6, 16], "glorot")), [16, 4], "glorot");
    const square = n.op("square", "Reshape", [y, n.model.graph.initializer("to", tensor("int64", [3], [-1, 2, 2]))]);
    const model = n.done(n.op("det", "Det", [square]), ["batch"]);
    const rows = fromArrays({ x: tensor("float32", [32, 6], random(1).fillNormal(new Float32Array(192))) });
    const by = (importance: "obs" | "activation") =>
      after(model, structured({ ratio: 0.3, by: "channels", importance, check: false }), context(model, null, rows));
    const small = await by("obs");
    expect(notes.join("\n")).toMatch(/importance=activation instead of obs: .*Det/);
    expect(Buffer.from(writeModel(small)).equals(Buffer.from(writeModel(await by("activation"))))).toBe(true);
  });

  test("taylor by a teacher's answers, whose divergence has no gradient at the teacher itself", async () => {
    const by = (importance: "taylor" | "obd" | "random") =>
      after(trained, structured({ ...setting, ratio: 0.4, epochs: 0, importance, loss: "teacher" }), context(trained, data));
    const small = await by("taylor");
    expect(await lossOf(small)).toBeLessThan(await lossOf(await by("random")));
    expect(Buffer.from(writeModel(small)).equals(Buffer.from(writeModel(await by("obd"))))).toBe(true);
  });

  test("the same seed gives the same bytes; with mixes, what comes after the first pass is other data than without", async () => {
    const bytes = async (more: Parameters<typeof structured>[0]) =>
      Buffer.from(writeModel(await after(trained, structured({ ...setting, ...more }), context(trained, data))));
    const [one, two] = [await bytes({ epochs: 1 }), await bytes({ epochs: 2 })];
    expect(one.equals(await bytes({ epochs: 1 }))).toBe(true);
    expect(two.equals(await bytes({ epochs: 2 }))).toBe(true);
    // 256 examples in batches of 64: a pass ends with a batch.
    expect(two.equals(await bytes({ epochs: 2, mix: false }))).toBe(false);
    const labelled = { epochs: 2, loss: "crossEntropy" } as const;
    expect((await bytes(labelled)).equals(await bytes({ ...labelled, mix: false }))).toBe(true);
  });
});

test("by latency the result is faster by measurement, or none is given", async () => {
  const model = mlp({ sizes: [64, 256, 256, 4], seed: 2 });
  try {
    const small = await after(model, structured({ by: "latency", speedup: 1.2, roundTo: 128, epochs: 0 }));
    expect(countParameters(small).parameters).toBeLessThan(countParameters(model).parameters);
    expect(notes.join("\n")).toMatch(/runs \d+\.\d+× \(\d/);
  } catch (e) {
    if (!(e instanceof Fault)) throw e;
    expect(e.message).toContain("structured: no widths were found that run 1.20 times as fast");
  }
});
