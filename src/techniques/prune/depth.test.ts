import { beforeAll, expect, test } from "vitest";
import { type Dataset, fromArrays } from "../../data/dataset.ts";
import { check } from "../../ir/check.ts";
import { cloneModel, float, type Model, newModel, type Value } from "../../ir/graph.ts";
import { find, removeDead } from "../../ir/walk.ts";
import { mlp } from "../../nets/mlp.ts";
import { resnet20 } from "../../nets/resnet20.ts";
import { transformer } from "../../nets/transformer.ts";
import { Build } from "../../ops/build.ts";
import { open } from "../../runtime/session.ts";
import { observeShapes } from "../../runtime/shapes.ts";
import { random } from "../../tensor/random.ts";
import { numbersOf, tensor, wrap } from "../../tensor/tensor.ts";
import { fit } from "../../train/fit.ts";
import { crossEntropy } from "../../train/loss.ts";
import { type Block, plainLayers, removeBlocks, residualBlocks } from "../../transform/residual.ts";
import type { Context } from "../technique.ts";
import { depth } from "./depth.ts";
import { lossesWithout, slopes } from "./gates.ts";

const r = random(4, "depth");
const images = fromArrays({
  x: tensor("float32", [16, 3, 8, 8], r.fillNormal(new Float32Array(16 * 192))),
  labels: tensor(
    "int64",
    [16],
    Array.from({ length: 16 }, (_, i) => i % 10),
  ),
});
const length = 6;
const ids = Array.from({ length: 240 * length }, () => r.below(11));
const sequences = fromArrays({
  ids: tensor("int64", [240, length], ids),
  labels: tensor(
    "int64",
    [240],
    Array.from({ length: 240 }, (_, i) => ids[i * length]! % 3),
  ),
});
const encoder = () => transformer({ layers: 3, width: 16, heads: 2, vocabulary: 11, length, classes: 3, seed: 2 });

async function shapesOf(model: Model, data: Dataset): Promise<(v: Value) => readonly number[] | null> {
  const batch = data.take([0, 1]);
  const shaped = await observeShapes(model, Object.fromEntries(model.graph.inputs.map((v) => [v.name, batch[v.name]!])));
  return (v) => find(shaped.graph, v.name)?.shape ?? null;
}

async function blocksOf(model: Model, data: Dataset): Promise<Block[]> {
  return residualBlocks(model, await shapesOf(model, data));
}

async function outputs(model: Model, data: Dataset): Promise<number[]> {
  const session = await open(model, { threads: 1 });
  try {
    return Object.values(await session.run(data.take([0, 1, 2, 3]))).flatMap((t) => [...numbersOf(t)]);
  } finally {
    await session.release();
  }
}

/** Sets initializers to zero. */
function zero(model: Model, ...names: string[]): Model {
  for (const name of names) {
    const v = find(model.graph, name)!;
    model.graph.setData(v, wrap("float32", v.data!.shape, new Float32Array(numbersOf(v.data!).length)));
  }
  return model;
}

const context = (original: Model, data: Dataset, train = false): Context & { notes: string[] } => {
  const notes: string[] = [];
  return {
    notes,
    seed: 0,
    train: train ? data : null,
    calibration: data,
    original,
    threads: 1,
    load: () => Promise.reject(new Error("no files here")),
    note: (line) => notes.push(line),
    progress: () => {},
  };
};

test("blocks of a transformer and of a ResNet, projections among them", async () => {
  const blocks = await blocksOf(encoder(), sequences);
  expect(blocks.map((b) => [b.name, b.attention])).toEqual(
    [1, 2, 3].flatMap((l) => [
      [`layer${l}.add1`, true],
      [`layer${l}.add2`, false],
    ]),
  );
  expect(blocks[1]!.weights.map((v) => v.name)).toEqual(
    ["norm2.weight", "norm2.bias", "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"].map((n) => expect.stringContaining(`layer1.${n}`)),
  );
  const residual = await blocksOf(resnet20({ size: 8, width: 4 }), images);
  expect(residual.map((b) => b.name)).toEqual([1, 2, 3].flatMap((s) => [1, 2, 3].map((b) => `stage${s}.block${b}.add`)));
  expect(residual[3]!.skip.name).toContain("stage2.block1.short");
  expect(residual[3]!.nodes.some((n) => n.name.includes("short"))).toBe(false);
});

test("a block without an effect is removed without one, from the middle and behind a projection", async () => {
  const model = zero(encoder(), "layer2.attention.out.weight", "layer2.attention.out.bias", "layer2.fc2.weight", "layer2.fc2.bias");
  const want = await outputs(model, sequences);
  const blocks = await blocksOf(model, sequences);
  removeBlocks(model, [blocks[2]!, blocks[3]!]);
  check(model);
  expect(await outputs(model, sequences)).toEqual(want);
  expect(find(model.graph, "layer2.fc1.weight")).toBeNull();

  const net = zero(resnet20({ size: 8, width: 4 }), "stage2.block1.2.bn.weight", "stage2.block1.2.bn.bias");
  const was = await outputs(net, images);
  removeBlocks(net, [(await blocksOf(net, images))[3]!]);
  expect(await outputs(net, images)).toEqual(was);
  expect(find(net.graph, "stage2.block1.1.conv.weight")).toBeNull();
});

/** x → what `build` makes of it, [4, 8]. */
function made(build: (b: Build, x: Value, weight: () => Value) => Value): Model {
  const model = newModel("m", 17);
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", [4, 8]);
  let seed = 0;
  const weight = () => model.graph.initializer("w", tensor("float32", [8, 8], random(seed++, "w").fillNormal(new Float32Array(64))));
  model.graph.addOutput(build(b, x, weight));
  return model;
}
const rows = fromArrays({ x: tensor("float32", [4, 8], r.fillNormal(new Float32Array(32))) });

test("what is no block: arithmetic without weights, a bias, two sums of different things, an inner value that others need", async () => {
  const none = [
    made((b, x) => b.add(x, b.mul(b.f32(0.04), b.mul(x, b.mul(x, x))))),
    made((b, x, w) => b.add(b.matmul(x, w()), b.graph.initializer("bias", tensor("float32", [8], new Array(8).fill(1))))),
    made((b, x, w) => b.add(b.op("Relu", [b.matmul(x, w())]), b.op("Tanh", [b.matmul(x, w())]))),
  ];
  for (const model of none) expect(await blocksOf(model, rows)).toEqual([]);
  const shared = made((b, x, w) => {
    const h = b.op("Relu", [b.matmul(x, w())]);
    return b.mul(h, b.add(x, b.matmul(h, w())));
  });
  // What is read elsewhere too stays.
  expect((await blocksOf(shared, rows)).map((block) => block.nodes.map((n) => n.opType))).toEqual([["MatMul"]]);
});

test("post-norm blocks go with their normalization; parallel branches are two blocks; an output keeps its name", async () => {
  const norm = (b: Build, x: Value) =>
    b.op("LayerNormalization", [x, b.graph.initializer("scale", tensor("float32", [8], new Array(8).fill(2)))], { epsilon: float(1e-5) });
  const post = made((b, x, w) => {
    const y = norm(b, x);
    return b.op("Tanh", [norm(b, b.add(y, b.op("Relu", [b.matmul(y, w())])))]);
  });
  const [block, ...others] = await blocksOf(post, rows);
  expect(others).toEqual([]);
  removeBlocks(post, [block!]);
  expect([...post.graph.nodes].map((n) => n.opType)).toEqual(["LayerNormalization", "Tanh"]);

  const parallel = made((b, x, w) => {
    const y = b.op("Tanh", [x]);
    const attention = b.matmul(b.op("Softmax", [b.matmul(y, w())]), w());
    return b.add(b.add(x, attention), b.matmul(b.op("Relu", [b.matmul(y, w())]), w()));
  });
  const name = parallel.graph.outputs[0]!.name;
  const two = await blocksOf(parallel, rows);
  expect(two.map((b) => b.attention)).toEqual([true, false]);
  removeBlocks(parallel, two);
  check(parallel);
  expect(parallel.graph.outputs.map((v) => v.name)).toEqual([name]);
  expect(await outputs(parallel, rows)).toEqual([...numbersOf(rows.take([0, 1, 2, 3]).x!)]);
});

test("layers without a skip go too, where that is asked for", async () => {
  const net = mlp({ sizes: [8, 16, 16, 16, 3], seed: 1 });
  // What Relu gave is what it gets.
  const eye = Float32Array.from({ length: 256 }, (_, i) => (i % 17 === 0 ? 1 : 0));
  net.graph.setData(find(net.graph, "fc3.weight")!, wrap("float32", [16, 16], eye));
  zero(net, "fc3.bias");
  const want = await outputs(net, rows);
  const here = context(cloneModel(net), rows);
  await depth({ plain: true, importance: "output", epochs: 0 }).apply(net, here);
  expect(here.notes[0]).toMatch(/^removed fc3/);
  expect([...net.graph.nodes].map((n) => n.opType)).toEqual(["Gemm", "Relu", "Gemm", "Relu", "Gemm"]);
  expect(await outputs(net, rows)).toEqual(want);
  const none = context(net, rows);
  await depth({ epochs: 0 }).apply(cloneModel(net), none);
  expect(none.notes).toEqual([expect.stringContaining("no residual block")]);
  // Inside residual blocks there is none, and the first layer changes the shape.
  const cnn = resnet20({ size: 8, width: 4 });
  const shapes = await shapesOf(cnn, images);
  expect(plainLayers(cnn, shapes, residualBlocks(cnn, shapes))).toEqual([]);
  expect(plainLayers(cnn, shapes, []).length).toBeGreaterThan(7);
});

test("gates give the loss of the net without the blocks; their gradient is that of the branch's size", async () => {
  const model = encoder();
  const blocks = await blocksOf(model, sequences);
  const options = { threads: 1, batchSize: 48 };
  const lossOf = async (m: Model) => {
    const session = await lossesWithout(m, [], sequences, crossEntropy(), options);
    try {
      return await session.without([]);
    } finally {
      await session.release();
    }
  };
  const gated = await lossesWithout(model, blocks, sequences, crossEntropy(), options);
  const base = await gated.without([]);
  expect(base).toBeCloseTo(await lossOf(model), 5);
  for (const off of [[0], [2, 3], [5], [0, 1, 2, 3, 4, 5]]) {
    const copies = new Map<Value, Value>();
    const copy = cloneModel(model, copies);
    removeBlocks(
      copy,
      off.map((i) => ({ ...blocks[i]!, skip: copies.get(blocks[i]!.skip)!, output: copies.get(blocks[i]!.output)! })),
    );
    expect(await gated.without(off)).toBeCloseTo(await lossOf(copy), 5);
  }
  await gated.release();
  const slope = await slopes(model, blocks, [[3]], [], sequences, crossEntropy(), { threads: 1, batchSize: 240 });
  const scaled = (by: number) => {
    const copy = cloneModel(model);
    for (const name of ["layer2.fc2.weight", "layer2.fc2.bias"]) {
      const v = find(copy.graph, name)!;
      copy.graph.setData(
        v,
        wrap(
          "float32",
          v.data!.shape,
          Float32Array.from(numbersOf(v.data!), (x) => x * by),
        ),
      );
    }
    return lossOf(copy);
  };
  const h = 0.02;
  expect(slope[0]).toBeCloseTo(Math.abs((await scaled(1 + h)) - (await scaled(1 - h))) / (2 * h), 3);
});

const idle = zero(encoder(), "layer2.attention.out.weight", "layer2.attention.out.bias", "layer2.fc2.weight", "layer2.fc2.bias");
beforeAll(async () => {
  await fit(idle, { data: sequences, loss: crossEntropy(), epochs: 10, frozen: "layer2.*", threads: 1 });
});

test.each(["loss", "output", "influence", "taylor"] as const)("by %s the layer that does nothing goes first", async (importance) => {
  const model = cloneModel(idle);
  const want = await outputs(model, sequences);
  const here = context(cloneModel(model), sequences);
  await depth({ importance, unit: "layer", epochs: 0 }).apply(model, here);
  expect(here.notes[0]).toMatch(/^removed layer2\.add1 \+ layer2\.add2 \(attention\), layer2\.[^:]+: \d+ parameters; /);
  expect(here.notes.at(-1)).toMatch(/^1 of 3 layers removed; \d+ of \d+ parameters are left \([\d.]+ %\)$/);
  expect(await outputs(model, sequences)).toEqual(want);
});

test("training wins back what removing cost; a share of the parameters; a selector; too many", async () => {
  const full = encoder();
  await fit(full, { data: sequences, loss: crossEntropy(), epochs: 30, threads: 1 });
  const lossOf = async (m: Model) =>
    (await fit(cloneModel(m), { data: sequences, loss: crossEntropy(), steps: 1, batchSize: 240, threads: 1 })).losses[0]!;
  const raw = cloneModel(full);
  await depth({ ratio: 0.5, epochs: 0 }).apply(raw, context(full, sequences));
  const healed = cloneModel(full);
  await depth({ ratio: 0.5, rounds: 2, epochs: 20, learningRate: 3e-3, loss: "crossEntropy" }).apply(
    healed,
    context(full, sequences, true),
  );
  check(healed);
  removeDead(healed.graph);
  const count = (m: Model) => [...m.graph.initializers].reduce((n, v) => n + numbersOf(v.data!).length, 0);
  for (const m of [raw, healed]) {
    expect(count(m)).toBeLessThanOrEqual(0.51 * count(full));
    expect(count(m)).toBeGreaterThan(0.15 * count(full));
  }
  expect(await lossOf(healed)).toBeLessThan(0.5 * (await lossOf(raw)));

  const chosen = cloneModel(full);
  await depth({ include: "layer3.*", exclude: "*attention*", blocks: 1, epochs: 0 }).apply(chosen, context(full, sequences));
  expect((await blocksOf(chosen, sequences)).map((b) => b.name)).not.toContain("layer3.add2");
  await expect(depth({ blocks: 7, epochs: 0 }).apply(cloneModel(full), context(full, sequences))).rejects.toThrow(
    "depth: blocks must be at most 6, as many units as there are; got 7",
  );
});
