import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { fromArrays } from "../data/dataset.ts";
import { number } from "../data/params.ts";
import { cloneModel, type Model, newModel } from "../ir/graph.ts";
import { mlp } from "../nets/mlp.ts";
import { writeModel } from "../onnx/write.ts";
import { Build } from "../ops/build.ts";
import { defineTechnique } from "../techniques/technique.ts";
import { random } from "../tensor/random.ts";
import { numbersOf, tensor } from "../tensor/tensor.ts";
import { weightsOf } from "../transform/weights.ts";
import { compress, Refused } from "./compress.ts";
import { version } from "./version.ts";

/** Multiplies the last weights: by 1 nothing changes, by −1 the worst class becomes the best. */
const scaleBy = defineTechnique({
  technique: "scaleBy",
  family: "prune",
  doc: "For this test.",
  paper: "none",
  params: { by: number(1, { doc: "factor" }), noise: number(0, { doc: "random part" }) },
  neutral: { by: 1 },
  needs: (p) => (p.noise > 0 ? ["train"] : []),
  async apply(model, { by, noise }, { seed, note, progress, train }) {
    const { value } = weightsOf(model).at(-1)!;
    const r = random(seed, "scaleBy");
    value.data = tensor(
      "float32",
      value.data!.shape,
      numbersOf(value.data!).map((v) => by * v + noise * r.normal()),
    );
    note(`scaled "${value.name}" with ${train?.length ?? 0} examples at hand`);
    progress({ what: "scaling", step: 1, of: 1 });
  },
});

const model = mlp({ sizes: [6, 8, 3], seed: 1 });
const bytes = (m: Model) => Buffer.from(writeModel(m));

/** Examples that the net itself has labelled: it has no error on them. */
async function examples(n: number) {
  const x = random(2, "x").fillNormal(new Float32Array(n * 6));
  const { open } = await import("../runtime/session.ts");
  const session = await open(model, { threads: 1 });
  const { logits } = await session.run({ x: tensor("float32", [n, 6], x) });
  await session.release();
  const y = numbersOf(logits!);
  const labels = Array.from({ length: n }, (_, i) => {
    const row = [...y.subarray(3 * i, 3 * i + 3)];
    return row.indexOf(Math.max(...row));
  });
  return fromArrays({ x: tensor("float32", [n, 6], x), labels: tensor("int64", [n], labels) });
}

test("steps run on clones, in order, and are recorded with their notes", async () => {
  const before = bytes(model);
  const progress: string[] = [];
  const { model: out, run } = await compress(model, [scaleBy({ by: 2 }), scaleBy({ by: 0.5 })], {
    measure: null,
    seed: 3,
    names: { model: "net.onnx", result: "out.onnx" },
    progress: (p) => progress.push(p.what),
  });
  expect(bytes(model).equals(before)).toBe(true);
  expect(bytes(out).equals(before)).toBe(true);
  expect(progress).toEqual(["1/2 scaling", "2/2 scaling"]);
  expect(run).toMatchObject({
    pith: version,
    name: "out.onnx",
    model: { name: "net.onnx", sha256: createHash("sha256").update(before).digest("hex") },
    recipe: {
      seed: 3,
      steps: [
        { technique: "scaleBy", by: 2, noise: 0 },
        { technique: "scaleBy", by: 0.5 },
      ],
    },
    seed: 3,
    data: null,
    gate: null,
    before: [],
    after: [],
  });
  expect(run.steps.map((s) => s.notes)).toEqual([
    ['scaled "fc2.weight" with 0 examples at hand'],
    ['scaled "fc2.weight" with 0 examples at hand'],
  ]);
  expect(run.machine.cores).toBeGreaterThan(0);
});

test("the same seed gives the same bytes, another one others", async () => {
  const train = await examples(20);
  const of = async (seed: number) => bytes((await compress(model, [scaleBy({ noise: 1 })], { measure: null, train, seed })).model);
  expect((await of(1)).equals(await of(1))).toBe(true);
  expect((await of(1)).equals(await of(2))).toBe(false);
});

test("the gate decides on held-out training examples, never on the test data", async () => {
  const data = await examples(40);
  const train = await examples(100);
  const harmless = await compress(model, [scaleBy({ by: 2 })], { measure: null, train, data, maxDrop: 0.5 });
  expect(harmless.run.gate).toEqual({ maxDrop: 0.5, metric: "accuracy", before: 100, after: 100, n: 20 });
  // What is held out is not trained on.
  expect(harmless.run.steps[0]!.notes[0]).toContain("with 80 examples");
  const refused = await compress(model, [scaleBy({ by: -1 })], { measure: null, train, data, maxDrop: 0.5 }).catch((e: unknown) => e);
  expect(refused).toBeInstanceOf(Refused);
  expect((refused as Refused).message).toMatch(
    /^gate: accuracy got worse by \d+\.\d\d points \(100\.00 % to \d+\.\d\d % on 20 validation examples\); at most 0\.5 may be lost$/,
  );
  await expect(compress(model, [scaleBy()], { measure: null, data, maxDrop: 0.5 })).rejects.toThrow(
    'gate: a greatest drop of accuracy needs training, calibration or validation examples with "labels"',
  );
});

test("a model that does not run on made-up inputs is compressed all the same; a result that does not run is an error", async () => {
  const picky = newModel("picky");
  const b = Build.of(picky);
  const x = picky.graph.input("x", "float32", ["n", "m"]);
  const w = picky.graph.initializer("w", tensor("float32", [4, 3], new Float32Array(12).fill(1)));
  picky.graph.addOutput(b.matmul(x, w));
  const { run } = await compress(picky, [scaleBy({ by: 2 })], { measure: { seconds: 0 } });
  expect([run.before, run.after]).toEqual([[], []]);
  expect(run.unmeasured).toContain("give a shape it takes, e.g. --shape x=1x32");
  const broken = defineTechnique({
    technique: "broken",
    family: "prune",
    doc: "For this test.",
    paper: "none",
    params: {},
    neutral: { none: "it breaks every model" },
    async apply(m) {
      const { value } = weightsOf(m)[0]!;
      value.graph.setData(value, tensor("float32", [5, 3], new Float32Array(15)));
    },
  });
  await expect(compress(picky, [broken()], { measure: { seconds: 0, shape: { x: [1, 4] } } })).rejects.toThrow("broken");
});

test("before and after are measured on the test data", async () => {
  const data = await examples(50);
  const { run } = await compress(model, [scaleBy({ by: 2 })], { data, measure: { seconds: 0 }, names: { data: "fifty" } });
  const figure = (list: typeof run.before, metric: string) => list.find((m) => m.metric === metric)?.value;
  expect(run.data).toEqual({ name: "fifty", length: 50 });
  expect([figure(run.before, "accuracy"), figure(run.after, "accuracy")]).toEqual([100, 100]);
  expect(figure(run.after, "file")).toBe(bytes(cloneModel(model)).length);
  expect(JSON.parse(JSON.stringify(run))).toEqual(run);
});
