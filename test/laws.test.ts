import { describe, expect, test } from "vitest";
import { type Dataset, fromArrays } from "../src/data/dataset.ts";
import { check } from "../src/ir/check.ts";
import { cloneModel, type Model } from "../src/ir/graph.ts";
import { mlp } from "../src/nets/mlp.ts";
import { net } from "../src/nets/net.ts";
import { transformer } from "../src/nets/transformer.ts";
import { readModel } from "../src/onnx/read.ts";
import { writeModel } from "../src/onnx/write.ts";
import { type CompressOptions, compress } from "../src/recipe/compress.ts";
import { parseRecipe, parseStep, recipeJson, stepText } from "../src/recipe/recipe.ts";
import { open } from "../src/runtime/session.ts";
import * as all from "../src/techniques/index.ts";
import type { Step, Technique } from "../src/techniques/technique.ts";
import { random } from "../src/tensor/random.ts";
import { numbersOf, tensor } from "../src/tensor/tensor.ts";

const techniques = Object.entries(all as unknown as Record<string, Technique>);

/** A small net with a BatchNormalization behind a Conv, pooling and a Gemm. */
function cnn(): Model {
  const n = net("cnn", 1);
  let x = n.model.graph.input("x", "float32", ["batch", 2, 8, 8]);
  x = n.relu("relu1", n.batchNorm("bn1", n.conv("conv1", x, [2, 8], { kernel: 3, pad: 1, bias: false }), 8));
  x = n.op("pool", "MaxPool", [x], { kernel_shape: [2, 2], strides: [2, 2] });
  x = n.relu("relu2", n.conv("conv2", x, [8, 16], { kernel: 3, stride: 2 }));
  x = n.op("flat", "Flatten", [x]);
  return n.done(n.dense("fc", x, [16, 4], "glorot"), ["batch", 4]);
}

const examples = (shape: readonly number[], classes: number): Dataset => {
  const n = 96;
  const size = shape.reduce((a, d) => a * d, 1);
  const r = random(7, "laws");
  const labels = Array.from({ length: n }, () => r.below(classes));
  const x = r.fillNormal(new Float32Array(n * size));
  // Each class has a mean of its own, so that training has something to learn.
  labels.forEach((c, i) => {
    for (let k = 0; k < size; k++) x[i * size + k]! += (k + c) % classes === 0 ? 2 : 0;
  });
  return fromArrays({ x: tensor("float32", [n, ...shape], x), labels: tensor("int64", [n], labels) });
};

/** Sequences of ids whose first one gives the class. */
const sequences = (length: number, vocabulary: number, classes: number): Dataset => {
  const n = 96;
  const r = random(8, "laws");
  const ids = Array.from({ length: n * length }, () => r.below(vocabulary));
  const labels = Array.from({ length: n }, (_, i) => ids[i * length]! % classes);
  return fromArrays({ ids: tensor("int64", [n, length], ids), labels: tensor("int64", [n], labels) });
};

/** As it comes from a file: with the messages and the bytes it was read from. */
const fromFile = (model: Model) => readModel(Buffer.from(writeModel(model)));

const cases = [
  { name: "mlp", model: fromFile(mlp({ sizes: [24, 32, 16, 4], seed: 3 })), data: examples([24], 4) },
  { name: "cnn", model: fromFile(cnn()), data: examples([2, 8, 8], 4) },
  {
    name: "transformer",
    model: fromFile(transformer({ layers: 1, width: 16, heads: 2, vocabulary: 11, length: 6, classes: 3, seed: 2 })),
    data: sequences(6, 11, 3),
  },
];

type Case = (typeof cases)[number];

/** Runs steps as a user would; a teacher or student that a parameter names is a small net of the same ports. */
function run(c: Case, steps: readonly Step[], more: CompressOptions = {}) {
  const load = async () => cloneModel(c.model);
  return compress(c.model, steps, { train: c.data, calibration: c.data, threads: 1, seed: 5, measure: null, load, ...more });
}

async function outputs(model: Model, data: Dataset): Promise<Map<string, Float32Array | Float64Array>> {
  const session = await open(model, { threads: 1 });
  try {
    const batch = data.take(Array.from({ length: 16 }, (_, i) => i));
    const result = await session.run(batch);
    return new Map(Object.entries(result).map(([name, t]) => [name, numbersOf(t)]));
  } finally {
    await session.release();
  }
}

const ports = (m: Model) => [...m.graph.inputs.filter((v) => !v.data), ...m.graph.outputs].map((v) => [v.name, v.type]);

describe.each(techniques)("%s", (name, technique) => {
  test("its name is its registration, and it is documented", () => {
    expect(technique.technique).toBe(name);
    for (const text of [technique.doc, technique.paper, ...Object.values(technique.params).flatMap((p) => [p.doc, p.expects])])
      expect(text.length).toBeGreaterThan(3);
    if ("none" in technique.neutral) expect(String(technique.neutral.none).length).toBeGreaterThan(10);
  });

  test("Step → JSON → Step, and Step → text → Step", () => {
    const settings = [{}, ...(technique.stronger ?? []), ...("none" in technique.neutral ? [] : [technique.neutral])];
    for (const params of settings) {
      const step = technique(params as never);
      const again = parseRecipe(JSON.parse(JSON.stringify(recipeJson([step], 1)))).steps[0]!;
      expect([again.technique, again.params]).toEqual([step.technique, step.params]);
      expect(parseStep(stepText(step)).params).toEqual(step.params);
    }
  });

  test("missing data is said before anything is done", async () => {
    const step = technique();
    const [need] = technique.needs?.(step.params as never) ?? [];
    const c = cases[0]!;
    const alone = run(c, [step], { train: null, calibration: null });
    if (!need) await alone;
    else await expect(alone).rejects.toThrow(`${name}: needs ${need === "train" ? "training" : "calibration"} data; give --${need}`);
  });

  describe.each(cases)("on $name", (c) => {
    test("a sound model of the same inputs and outputs, the same bytes for the same seed, the given model untouched", async () => {
      const before = Buffer.from(writeModel(c.model));
      const first = await run(c, [technique()]);
      check(first.model);
      expect(ports(first.model)).toEqual(ports(c.model));
      const had = await outputs(c.model, c.data);
      const has = await outputs(first.model, c.data);
      expect([...has.keys()]).toEqual([...had.keys()]);
      for (const [name, y] of has) {
        expect(y.length).toBe(had.get(name)!.length);
        expect(y.every((v) => Number.isFinite(v))).toBe(true);
      }
      const second = await run(c, [technique()]);
      expect(Buffer.from(writeModel(first.model)).equals(Buffer.from(writeModel(second.model)))).toBe(true);
      expect(Buffer.from(writeModel(c.model)).equals(before)).toBe(true);
    });

    if (!("none" in technique.neutral))
      test("its neutral setting changes no output", async () => {
        const { model } = await run(c, [technique(technique.neutral as never)]);
        const had = await outputs(c.model, c.data);
        for (const [name, y] of await outputs(model, c.data)) {
          const want = had.get(name)!;
          // A factorization at full rank, or a merged zero adapter, is exact but for the order of sums.
          const scale = Math.max(1, ...Array.from(want, Math.abs));
          y.forEach((v, i) => {
            expect(Math.abs(v - want[i]!)).toBeLessThanOrEqual(2e-5 * scale);
          });
        }
      });

    if (technique.stronger)
      test("a stronger setting is not larger", async () => {
        const [weak, strong] = technique.stronger!;
        const bytes = async (params: object) => writeModel((await run(c, [technique(params as never)])).model).length;
        expect(await bytes(strong)).toBeLessThanOrEqual(await bytes(weak));
      });
  });
});

test("every technique stands in the index under its own name, and the index holds nothing else", () => {
  for (const [, technique] of techniques) expect(typeof technique.from).toBe("function");
});
