import { expect, test } from "vitest";
import { fromArrays } from "../data/dataset.ts";
import { type Model, newModel } from "../ir/graph.ts";
import { Build } from "../ops/build.ts";
import { random } from "../tensor/random.ts";
import { tensor } from "../tensor/tensor.ts";
import { kroneckerFactors, outputSquares } from "./kronecker.ts";
import { weightLayers } from "./weightlayers.ts";

const normal = (length: number, seed: number) => random(seed).fillNormal(new Float32Array(length));

const options = { seed: 1, threads: 1 };

/** H and G of rows (x, g), as many examples, by their definition. */
function byDefinition(rows: readonly { x: number[]; g: number[] }[], examples: number) {
  const [n, m] = [rows[0]!.x.length, rows[0]!.g.length];
  const inputs = new Float64Array(n * n);
  const outputs = new Float64Array(m * m);
  let all = 0;
  for (const { x, g } of rows) {
    const by = g.reduce((s, v) => s + v * v, 0);
    all += by;
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) inputs[i * n + j]! += (by * x[i]! * x[j]!) / examples;
    for (let i = 0; i < m; i++) for (let j = 0; j < m; j++) outputs[i * m + j]! += g[i]! * g[j]!;
  }
  return { inputs, outputs: outputs.map((v) => v / all) };
}

function expectNear(a: Float64Array, b: Float64Array): void {
  const scale = Math.max(...b.map(Math.abs));
  expect(a.length).toBe(b.length);
  a.forEach((v, i) => {
    expect(Math.abs(v - b[i]!)).toBeLessThan(1e-5 * scale);
  });
}

// With one output the direction is a sign, which squares away: the factors are exact.
test("a MatMul at several positions of each example, before a Relu and one output", async () => {
  const [N, T, n, m] = [6, 3, 4, 5];
  const [x, a, v] = [normal(N * T * n, 1), normal(n * m, 2), normal(T * m, 3)];
  const model = newModel("net");
  const b = Build.of(model);
  const g = model.graph;
  const h = b.op("Relu", [b.matmul(g.input("x", "float32", ["N", T, n]), g.initializer("a", tensor("float32", [n, m], a)))]);
  g.addOutput(b.matmul(b.op("Flatten", [h]), g.initializer("v", tensor("float32", [T * m, 1], v))));
  const layers = weightLayers(model).layers.filter((l) => l.weight.name === "a");
  const [found] = await kroneckerFactors(model, layers, fromArrays({ x: tensor("float32", [N, T, n], x) }), outputSquares, options);
  const rows = Array.from({ length: N * T }, (_, r) => {
    const row = Array.from(x.subarray(r * n, (r + 1) * n));
    const out = Array.from({ length: m }, (_, j) => row.reduce((s, xi, i) => s + xi * a[i * m + j]!, 0));
    return { x: row, g: out.map((y, j) => (y > 0 ? v[(r % T) * m + j]! : 0)) };
  });
  const want = byDefinition(rows, N);
  expect(found!.n).toBe(N * T);
  expectNear(found!.inputs, want.inputs);
  expectNear(found!.outputs, want.outputs);
});

test("a Conv: rows are its places, columns channels × window", async () => {
  const [N, ci, co] = [5, 2, 3];
  const [x, w, v] = [normal(N * ci * 9, 4), normal(co * ci * 4, 5), normal(co * 4, 6)];
  const model: Model = newModel("net");
  const b = Build.of(model);
  const g = model.graph;
  const h = b.op("Conv", [g.input("x", "float32", ["N", ci, 3, 3]), g.initializer("w", tensor("float32", [co, ci, 2, 2], w))]);
  g.addOutput(b.matmul(b.op("Flatten", [h]), g.initializer("v", tensor("float32", [co * 4, 1], v))));
  const layers = weightLayers(model).layers.filter((l) => l.weight.name === "w");
  const [found] = await kroneckerFactors(model, layers, fromArrays({ x: tensor("float32", [N, ci, 3, 3], x) }), outputSquares, options);
  const rows = [];
  for (let e = 0; e < N; e++)
    for (let r = 0; r < 2; r++)
      for (let c = 0; c < 2; c++) {
        const patch = [];
        for (let k = 0; k < ci; k++)
          for (let i = 0; i < 2; i++) for (let j = 0; j < 2; j++) patch.push(x[((e * ci + k) * 3 + r + i) * 3 + c + j]!);
        rows.push({ x: patch, g: Array.from({ length: co }, (_, k) => v[k * 4 + r * 2 + c]!) });
      }
  const want = byDefinition(rows, N);
  expectNear(found!.inputs, want.inputs);
  expectNear(found!.outputs, want.outputs);
});
