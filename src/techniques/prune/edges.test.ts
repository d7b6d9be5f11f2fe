import { beforeAll, expect, test } from "vitest";
import { type Dataset, fromArrays } from "../../data/dataset.ts";
import { check } from "../../ir/check.ts";
import { cloneModel, type Model } from "../../ir/graph.ts";
import { mlp } from "../../nets/mlp.ts";
import { net } from "../../nets/net.ts";
import { writeModel } from "../../onnx/write.ts";
import { random } from "../../tensor/random.ts";
import { numbersOf, tensor } from "../../tensor/tensor.ts";
import { fit } from "../../train/fit.ts";
import { crossEntropy } from "../../train/loss.ts";
import { adam } from "../../train/optimizer.ts";
import { weightsOf } from "../../transform/weights.ts";
import type { Context } from "../technique.ts";
import { type EdgeParams, edges, type Importance, pruneEdges } from "./edges.ts";
import { magnitude } from "./magnitude.ts";

/** Three noisy blobs in 12 dimensions. */
function blobs(n: number): Dataset {
  const r = random(4);
  const labels = Array.from({ length: n }, () => r.below(3));
  const x = r.fillNormal(new Float32Array(12 * n));
  labels.forEach((c, i) => {
    for (let k = 0; k < 12; k++) x[12 * i + k]! += k % 3 === c ? 1.5 : 0;
  });
  return fromArrays({ x: tensor("float32", [n, 12], x), labels: tensor("int64", [n], labels) });
}

const data = blobs(512);
const start = mlp({ sizes: [12, 24, 16, 3], seed: 3 });
let trained: Model;
beforeAll(async () => {
  trained = cloneModel(start);
  await fit(trained, { data, loss: crossEntropy(), epochs: 5, threads: 1, optimizer: adam({ learningRate: 0.01 }) });
});

const notes: string[] = [];
const context = (train: Dataset | null, seed = 0): Context => ({
  seed,
  train,
  calibration: null,
  original: trained,
  threads: 1,
  load: () => Promise.reject(new Error("no files here")),
  note: (line) => notes.push(line),
  progress: () => {},
});

const valuesOf = (m: Model) => weightsOf(m).map((w) => numbersOf(w.value.data!));
const gone = (m: Model) => valuesOf(m).map((w) => w.filter((x) => x === 0).length / w.length);
const lossOf = async (m: Model) =>
  (await fit(cloneModel(m), { data, loss: crossEntropy(), steps: 1, batchSize: 512, threads: 1 })).losses[0]!;
const defaults = Object.fromEntries(Object.entries(edges).map(([name, p]) => [name, p.default])) as EdgeParams;
const byMagnitude: Importance["scores"] = (_, weights) => weights.map(({ value }) => Float32Array.from(numbersOf(value.data!), Math.abs));

test.each([
  { schedule: "oneshot" },
  { schedule: "iterative", rounds: 2 },
  { schedule: "cubic", every: 3 },
  { schedule: "dynamic", every: 3 },
] as const)("2:4 holds along the inputs with $schedule", async (schedule) => {
  const model = cloneModel(trained);
  await magnitude({ ...schedule, pattern: "2:4", epochs: 2 }).apply(model, context(data));
  check(model);
  for (const { value, uses } of weightsOf(model)) {
    // A Gemm without transB stores [inputs, outputs].
    const [inputs, outputs] = uses[0]!.node.int("transB") ? value.shape!.toReversed() : value.shape!;
    const at = (o: number, i: number) =>
      numbersOf(value.data!)[uses[0]!.node.int("transB") ? Number(o) * Number(inputs) + i : i * Number(outputs) + o]!;
    for (let o = 0; o < Number(outputs); o++)
      for (let i = 0; i < Number(inputs); i += 4)
        expect([0, 1, 2, 3].filter((k) => i + k < Number(inputs) && at(o, i + k) !== 0).length).toBe(2);
  }
  expect(notes.at(-1)).toMatch(/^all 3 layers: .*50\.0 %/);
  expect(notes).toContain("pattern 2:4 fixes how many weights go; sparsity=0.9 was not used");
});

test("blocks of a Conv are output channels × inputs, behind a Transpose too", async () => {
  const n = net("conv", 1);
  const x = n.model.graph.input("x", "float32", ["batch", 4, 6, 6]);
  const conv = n.conv("conv", x, [4, 8], { kernel: 3 });
  const flat = n.op("flat", "Flatten", [n.op("pool", "GlobalAveragePool", [conv])]);
  const w = n.model.graph.initializer("fc", tensor("float32", [4, 8], random(2).fillNormal(new Float32Array(32))));
  const model = n.done(n.op("matmul", "MatMul", [flat, n.op("turn", "Transpose", [w], { perm: [1, 0] })]), ["batch", 4]);
  await magnitude({ pattern: "4x2", sparsity: 0.5, scope: "layer" }).apply(model, context(null));
  const [kernel, matrix] = valuesOf(model) as [Float32Array, Float32Array];
  const whole = (w: Float32Array, columns: number) => {
    let zeros = 0;
    for (let r = 0; r < w.length / columns; r += 4)
      for (let c = 0; c < columns; c += 2) {
        const block = [0, 1, 2, 3].flatMap((i) => [w[(r + i) * columns + c]!, w[(r + i) * columns + c + 1]!]);
        expect(new Set(block.map((v) => v === 0)).size).toBe(1);
        zeros += block.filter((v) => v === 0).length;
      }
    return zeros / w.length;
  };
  expect(whole(kernel, 36)).toBe(0.5);
  expect(whole(matrix, 8)).toBe(0.5);
});

test("a lottery ticket goes back to its first weights, or to those of a step", async () => {
  // No learning rate: what is left at the end is what it went back to.
  const still = cloneModel(start);
  await magnitude({ schedule: "lottery", rounds: 2, sparsity: 0.75, epochs: 1, learningRate: 0 }).apply(still, context(data));
  const ticket = valuesOf(still);
  expect(ticket.reduce((n, w) => n + w.filter((x) => x === 0).length, 0)).toBe(Math.round(0.75 * (288 + 384 + 48)));
  valuesOf(start).forEach((w, l) => {
    ticket[l]!.forEach((x, i) => {
      if (x !== 0) expect(x).toBe(w[i]);
    });
  });
  // One step of training after rewinding to the last step but one is the last step of the first training, masks aside.
  const seen: Float32Array[][] = [];
  const model = cloneModel(start);
  const p = {
    ...defaults,
    schedule: "lottery",
    rounds: 1,
    sparsity: 0.5,
    epochs: 1,
    learningRate: 0.01,
    batchSize: 128,
    rewind: 3,
  } as const;
  await pruneEdges(model, p, context(data), "test", {
    scores: (m, weights) => {
      seen.push(valuesOf(m) as Float32Array[]);
      return byMagnitude(m, weights, context(data), p);
    },
  });
  const straight = cloneModel(start);
  const atStep: Float32Array[] = [];
  await fit(straight, {
    data,
    loss: crossEntropy(),
    epochs: 1,
    batchSize: 128,
    threads: 1,
    optimizer: adam({ learningRate: 0.01 }),
    schedule: (step, of) => 0.5 * (1 + Math.cos((Math.PI * step) / of)),
    onStep: (s) => {
      if (s.step === 3) for (const w of weightsOf(straight)) atStep.push(s.values(w.value.name).slice());
    },
  });
  expect(seen).toEqual([valuesOf(straight)]);
  // Adam moves no weight by more than about the rate of that step, 0.01 · (1 + cos(3π/4)) / 2.
  valuesOf(model).forEach((w, l) => {
    w.forEach((x, i) => {
      if (x !== 0) expect(Math.abs(x - atStep[l]![i]!)).toBeLessThan(0.0025);
    });
  });
  await expect(magnitude({ schedule: "lottery", rewind: 1000, epochs: 1 }).apply(cloneModel(start), context(data))).rejects.toThrow(
    "magnitude: rewind must be one of the 8 steps; got 1000",
  );
});

test("the output layer may be pruned at half the rate, round by round", async () => {
  const model = cloneModel(start);
  const p = { schedule: "lottery", scope: "layer", rounds: 3, sparsity: 1 - 0.8 ** 3, lastRate: 0.5, epochs: 1 } as const;
  await magnitude(p).apply(model, context(data));
  const wanted = [1 - 0.8 ** 3, 1 - 0.8 ** 3, 1 - 0.9 ** 3];
  gone(model).forEach((share, l) => {
    expect(share).toBeCloseTo(Math.round(wanted[l]! * [288, 384, 48][l]!) / [288, 384, 48][l]!, 10);
  });
  await expect(magnitude({ lastRate: 0.5 }).apply(cloneModel(start), context(data))).rejects.toThrow(
    "scope must be layer or row; got global",
  );
});

test("cubic: what is gone stays gone; dynamic: it learns on and may come back", async () => {
  const run = async (schedule: "cubic" | "dynamic") => {
    const model = cloneModel(start);
    const masks: Set<number>[] = [];
    const p = { ...defaults, schedule, sparsity: 0.8, epochs: 8, every: 4, batchSize: 64, learningRate: 0.02 } as const;
    await pruneEdges(model, p, context(data), "test", {
      scores: (m, weights) => {
        const scores = byMagnitude(m, weights, context(data), p) as Float32Array[];
        masks.push(new Set([...scores[0]!.keys()].filter((i) => scores[0]![i] === 0)));
        return scores;
      },
    });
    check(model);
    expect([...model.graph.nodes].map((n) => n.opType)).toEqual([...start.graph.nodes].map((n) => n.opType));
    const zeros = valuesOf(model).flatMap((w) => [...w].filter((x) => x === 0)).length;
    expect(zeros).toBe(Math.round(0.8 * 720));
    expect(await lossOf(model)).toBeLessThan(0.5 * (await lossOf(start)));
    return { model, masks };
  };
  const { masks } = await run("cubic");
  for (let i = 1; i < masks.length; i++) for (const at of masks[i - 1]!) expect(masks[i]).toContain(at);
  expect(masks.at(-1)!.size).toBeGreaterThan(0);
  const dynamic = await run("dynamic");
  // Nothing scores 0: what is masked has values of its own.
  expect(dynamic.masks.every((m) => m.size === 0)).toBe(true);
  const again = await run("dynamic");
  expect(Buffer.from(writeModel(again.model)).equals(Buffer.from(writeModel(dynamic.model)))).toBe(true);
});

test("a weight whose use grows comes back with the dynamic schedule", async () => {
  // The importance changes its mind: the first half of each weight is what matters until the fourth removal, then the second half.
  const fickle = (calls: { n: number }): Importance => ({
    scores: (_, weights) => {
      calls.n++;
      return weights.map(({ value }) => {
        const n = numbersOf(value.data!).length;
        return Float32Array.from({ length: n }, (_, i) => (i < n / 2 === calls.n < 4 ? 2 : 1));
      });
    },
  });
  const kept = async (schedule: "cubic" | "dynamic") => {
    const model = cloneModel(start);
    const p = { ...defaults, schedule, scope: "layer", sparsity: 0.5, ramp: 0.3, epochs: 4, every: 2, batchSize: 64 } as const;
    await pruneEdges(model, p, context(data), "test", fickle({ n: 0 }));
    const w = valuesOf(model)[0]!;
    return w.subarray(w.length / 2).filter((x) => x !== 0).length / (w.length / 2);
  };
  expect(await kept("dynamic")).toBe(1);
  expect(await kept("cubic")).toBeLessThan(1);
});

test("a layer that is nearly emptied stands out, and keeps a weight", async () => {
  notes.length = 0;
  const model = cloneModel(trained);
  const w = weightsOf(model)[2]!.value;
  w.graph.setData(
    w,
    tensor(
      "float32",
      [...w.data!.shape],
      Float32Array.from(numbersOf(w.data!), (x) => x * 1e-6),
    ),
  );
  await magnitude({ sparsity: 0.5 }).apply(model, context(null));
  expect(gone(model)[2]).toBe(47 / 48);
  expect(notes.filter((n) => n.startsWith("WARNING"))).toEqual([
    `WARNING: ${w.name} is nearly empty: 1 of its 48 weights are left for 3 outputs; scope=layer, a lower sparsity or exclude would spare it`,
  ]);
});
