import { expect, test } from "vitest";
import { fromArrays } from "../../data/dataset.ts";
import { type Model, newModel } from "../../ir/graph.ts";
import { mlp } from "../../nets/mlp.ts";
import { Build } from "../../ops/build.ts";
import { type CompressOptions, compress } from "../../recipe/compress.ts";
import { random } from "../../tensor/random.ts";
import { numbersOf, tensor } from "../../tensor/tensor.ts";
import { weightsOf } from "../../transform/weights.ts";
import type { Step } from "../technique.ts";
import { magnitude } from "./magnitude.ts";
import { wanda } from "./wanda.ts";

const x = tensor("float32", [96, 12], random(1).fillNormal(new Float32Array(96 * 12)));
const labels = tensor(
  "int64",
  [96],
  Array.from({ length: 96 }, (_, i) => i % 3),
);
const net = mlp({ sizes: [12, 16, 3], seed: 2 });

async function run(model: Model, step: Step, options: CompressOptions) {
  const { model: small, run } = await compress(model, [step], { measure: null, threads: 1, ...options });
  const zeros = weightsOf(small).map(({ value }) => numbersOf(value.data!).filter((w) => w === 0).length);
  return { zeros, notes: run.steps[0]!.notes.join("\n"), weights: weightsOf(small).map(({ value }) => [...numbersOf(value.data!)]) };
}

test("by the loss where there are targets, else by the outputs; spread bounds what layers give each other", async () => {
  const labelled = fromArrays({ x, labels });
  const by = (spread: number, options: CompressOptions) =>
    run(net, magnitude({ sparsity: 0.5, scope: "layer", epochs: 0, refine: "loss", spread }), options);
  const none = await by(0, { train: labelled });
  expect(none.notes).toMatch(/refined by the curvature of the loss crossEntropy: error of what goes −/);
  expect(none.zeros).toEqual([96, 24]);
  const some = await by(0.25, { train: labelled });
  expect(some.zeros.reduce((a, b) => a + b)).toBe(120);
  expect(some.zeros).not.toEqual([96, 24]);
  expect(Math.abs(some.zeros[1]! - 24)).toBeLessThanOrEqual(12);
  const blind = await by(0.25, { calibration: fromArrays({ x }) });
  expect(blind.notes).toMatch(/refined by the curvature of the outputs' squares/);
  const untold = await by(0.25, { train: fromArrays({ x }) });
  expect(untold.notes).toMatch(/not refined by the loss crossEntropy: .*labels/);
  expect(untold.weights).toEqual(blind.weights);
});

test("rounds of pruning and training refine each time and bring nothing back; gradual removal is not refined, and says so", async () => {
  const train = fromArrays({ x, labels });
  const rounds = await run(net, wanda({ schedule: "iterative", rounds: 2, epochs: 2, sparsity: 0.5 }), { train });
  expect(rounds.zeros.reduce((a, b) => a + b)).toBe(120);
  expect(rounds.notes.match(/refined by the curvature of the loss/g)).toHaveLength(2);
  const gradual = await run(net, wanda({ schedule: "cubic", epochs: 2, sparsity: 0.5 }), { train });
  expect(gradual.notes).toContain("refine=loss was not used: schedule=cubic removes while it trains");
  const blocks = await run(net, wanda({ pattern: "2x2", epochs: 0 }), { train });
  expect(blocks.notes).toContain("refine=loss was not used: blocks stay as they were chosen");
});

test("where the loss has no gradient, exchanges by each layer's outputs; what has no rows of inputs is named", async () => {
  const model = newModel("odd");
  const b = Build.of(model);
  const g = model.graph;
  const weight = (name: string, shape: number[], seed: number) =>
    g.initializer(name, tensor("float32", shape, random(seed).fillNormal(new Float32Array(shape.reduce((a, d) => a * d)))));
  const first = b.matmul(g.input("x", "float32", ["N", 12]), weight("a", [12, 16], 3));
  const many = b.op("Reshape", [first, b.i64([0, 2, 8])]);
  const batch = b.matmul(b.transpose(many, [1, 0, 2]), weight("each", [2, 8, 4], 4));
  const y = b.op("GlobalLpPool", [b.transpose(batch, [1, 0, 2])], { p: 2 });
  g.addOutput(y);
  const { notes, zeros } = await run(model, wanda({ epochs: 0 }), { calibration: fromArrays({ x }) });
  expect(notes).toMatch(/not refined by the outputs' squares: .*no gradient rule for GlobalLpPool/);
  expect(notes).toMatch(/refined by the outputs of each layer: error of what goes −/);
  expect(notes).toMatch(/^not refined: each$/m);
  expect(zeros).toEqual([96, 32]);
});
