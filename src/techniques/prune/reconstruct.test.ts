import { describe, expect, test } from "vitest";
import { type Dataset, fromArrays } from "../../data/dataset.ts";
import { cloneModel, type Model } from "../../ir/graph.ts";
import { find } from "../../ir/walk.ts";
import { net } from "../../nets/net.ts";
import { writeModel } from "../../onnx/write.ts";
import { open } from "../../runtime/session.ts";
import { solve } from "../../tensor/linalg/solve.ts";
import { random } from "../../tensor/random.ts";
import { numbersOf, type Tensor, wrap } from "../../tensor/tensor.ts";
import { findGroups } from "../../transform/groups.ts";
import { keptAlong, removeChannels } from "../../transform/remove.ts";
import { shapes } from "../sample.ts";
import { depth } from "./depth.ts";
import { corrected } from "./leastsquares.ts";
import { reconstruct } from "./reconstruct.ts";
import { sitesOf } from "./sites.ts";
import { structured } from "./structured.ts";

const r = random(3, "reconstruct");
const normal = (...shape: number[]): Tensor =>
  wrap("float32", shape, r.fillNormal(new Float32Array(shape.reduce((a, d) => a * d, 1))) as Float32Array<ArrayBuffer>);
const images = fromArrays({ x: normal(60, 3, 6, 6) });
const vectors = fromArrays({ x: normal(300, 12) });

const notes: string[] = [];
const context = {
  seed: 0,
  train: null,
  threads: 1,
  load: () => Promise.reject(new Error("none")),
  note: (s: string) => notes.push(s),
  progress: () => {},
};
const around = (original: Model, calibration: Dataset | null) => ({ ...context, original, calibration });

async function run(model: Model, data: Dataset): Promise<Float32Array> {
  const session = await open(model, { threads: 1 });
  try {
    return numbersOf((await session.run(data.take(Array.from({ length: 40 }, (_, i) => i)))).logits!) as Float32Array;
  } finally {
    await session.release();
  }
}

/** ‖a − b‖² / ‖b‖². */
function distance(a: Float32Array, b: Float32Array): number {
  let [off, all] = [0, 0];
  b.forEach((x, i) => {
    off += (x - a[i]!) ** 2;
    all += x * x;
  });
  return off / all;
}

function set(model: Model, name: string, values: (i: number) => number): void {
  const v = find(model.graph, name)!;
  const { shape } = v.data!;
  const n = shape.reduce((a, d) => a * d, 1);
  model.graph.setData(
    v,
    wrap(
      "float32",
      shape,
      Float32Array.from({ length: n }, (_, i) => values(i)),
    ),
  );
}

/** Makes the second half of a weight's (or vector's) outputs copies of the first. */
function doubled(model: Model, ...names: string[]): void {
  for (const name of names) {
    const x = numbersOf(find(model.graph, name)!.data!);
    set(model, name, (i) => x[i % (x.length / 2)]!);
  }
}

describe("least squares", () => {
  const [n, rows, columns] = [50, 3, 5];
  const x = normal(n, columns);
  const y = normal(n, rows);
  const sums = (sign = 1) => {
    const [xs, ys] = [numbersOf(x), numbersOf(y)];
    const gram = new Float64Array(columns * columns);
    const cross = new Float64Array(columns * rows);
    for (let i = 0; i < n; i++)
      for (let k = 0; k < columns; k++) {
        const at = (j: number) => (j === columns - 1 ? 1 : xs[i * columns + j]!);
        for (let j = 0; j < columns; j++) gram[k * columns + j]! += at(k) * at(j);
        for (let o = 0; o < rows; o++) cross[k * rows + o]! += sign * at(k) * ys[i * rows + o]!;
      }
    return { gram, cross };
  };

  test("are the normal equations' solution, with a ridge on all but the bias", () => {
    const s = sums();
    const damp = 0.05;
    const a = s.gram.slice();
    let trace = 0;
    for (let k = 0; k < columns - 1; k++) trace += a[k * columns + k]!;
    for (let k = 0; k < columns - 1; k++) a[k * columns + k]! += (damp * trace) / (columns - 1);
    const want = solve(a, columns, s.cross, rows);
    const { delta, gain } = corrected(s, s, { rows, columns, bias: true, damp });
    let fell = 0;
    for (let o = 0; o < rows; o++)
      for (let k = 0; k < columns; k++) {
        expect(delta[o * columns + k]).toBeCloseTo(want[k * rows + o]!, 9);
        fell += 2 * want[k * rows + o]! * s.cross[k * rows + o]!;
        for (let j = 0; j < columns; j++) fell -= want[k * rows + o]! * s.gram[k * columns + j]! * want[j * rows + o]!;
      }
    expect(gain).toBeCloseTo(fell, 9);
  });

  test("change nothing where held-out rows say otherwise", () => {
    const { delta, gain } = corrected(sums(), sums(-1), { rows, columns, bias: true, damp: 0.01 });
    expect(Math.max(...delta.map(Math.abs))).toBe(0);
    expect(gain).toBe(0);
  });
});

/** Two Convs with BatchNormalization, whose hidden channels come in pairs of equals. */
function pairs(): Model {
  const n = net("pairs", 2);
  const x = n.model.graph.input("x", "float32", ["batch", 3, 6, 6]);
  const h = n.relu("relu", n.batchNorm("bn", n.conv("a", x, [3, 16], { kernel: 3, pad: 1 }), 16));
  const y = n.batchNorm("bn2", n.conv("b", h, [16, 8], { kernel: 3, pad: 1, bias: false }), 8);
  const model = n.done(n.dense("fc", n.op("flat", "Flatten", [n.op("pool", "GlobalAveragePool", [y])]), [8, 4]), ["batch", 4]);
  for (const name of ["bn.weight", "bn2.weight"]) if (find(model.graph, name)) set(model, name, (i) => 0.5 + (i % 8) / 8);
  doubled(model, "a.weight", "a.bias");
  return model;
}

/** The model without a group's channels that `keep` says 0 for, before and after fitting. */
async function without(model: Model, name: string, keep: (i: number) => boolean, data: Dataset): Promise<{ cut: Model; fitted: Model }> {
  const cut = cloneModel(model);
  const groups = await findGroups(cut, data.take([0]));
  const group = groups.groups.find((g) => g.name === name)!;
  const masks = new Map([[group, Uint8Array.from({ length: group.size }, (_, i) => Number(keep(i)))]]);
  await removeChannels(cut, groups, masks);
  const before = cloneModel(cut);
  await reconstruct(cut, { model, kept: keptAlong(groups, masks) }, data, context, { damp: 1e-9 });
  return { cut: before, fitted: cut };
}

describe("reconstruction", () => {
  test("is exact where what went is a combination of what stays", async () => {
    const model = pairs();
    const { cut, fitted } = await without(model, "a.weight[0]", (i) => i < 8, images);
    expect(find(fitted.graph, "b.weight")!.shape).toEqual([8, 8, 3, 3]);
    const want = await run(model, images);
    expect(distance(await run(cut, images), want)).toBeGreaterThan(0.01);
    expect(distance(await run(fitted, images), want)).toBeLessThan(1e-8);
  });

  test("compares what is left of outputs that lost channels themselves", async () => {
    const model = pairs();
    const { cut, fitted } = await without(model, "b.weight[0]", (i) => i % 3 > 0, images);
    // The Conv's own channels are as they were; its reader alone has lost something, which its bias can make up for in part.
    for (const name of ["a.weight", "b.weight"]) expect(find(fitted.graph, name)!.data).toBe(find(cut.graph, name)!.data);
    const want = await run(model, images);
    expect(distance(await run(fitted, images), want)).toBeLessThan(distance(await run(cut, images), want));
  });

  test("leaves a model alone that nothing was removed from", async () => {
    const model = pairs();
    const same = cloneModel(model);
    await reconstruct(same, { model, kept: () => null }, images, context);
    expect(writeModel(same)).toEqual(writeModel(model));
  });

  test("makes the last layer of a branch make up for what the other one lacks", async () => {
    const n = net("sum", 4);
    const x = n.model.graph.input("x", "float32", ["batch", 12]);
    const shared = n.weight("shared", [12, 12], "glorot");
    const short = n.op("short2", "MatMul", [n.op("short1", "MatMul", [x, shared]), shared]);
    const branch = n.op("bias", "Add", [n.op("branch", "MatMul", [x, n.weight("w", [12, 12], "glorot")]), n.weight("b", [12], 0.1)]);
    const model = n.done(n.op("sum", "Add", [short, branch]), ["batch", 12]);
    const { sites, left } = sitesOf(model, await shapes(model, vectors, 1));
    expect(sites.map((s) => [s.layer.node.name, s.bias?.value.name, s.sum?.value.name])).toEqual([["branch", "b", "logits"]]);
    expect([...left]).toEqual([["several layers share the weight", ["short1"]]]);
    const other = cloneModel(model);
    const w = numbersOf(find(model.graph, "shared")!.data!);
    set(other, "shared", (i) => w[i]! * (i % 2));
    const want = await run(model, vectors);
    expect(distance(await run(other, vectors), want)).toBeGreaterThan(0.01);
    await reconstruct(other, { model, kept: () => null }, vectors, context, { damp: 1e-9 });
    expect(distance(await run(other, vectors), want)).toBeLessThan(1e-8);
  });

  test("of a BatchNormalization's Conv without a bias moves the mean", async () => {
    const model = pairs();
    const site = sitesOf(model, await shapes(model, images, 1)).sites.find((s) => s.layer.node.name === "b")!;
    expect(site.bias!.value.name).toBe(find(model.graph, "bn2.out")!.producer!.inputs[3]!.name);
    const gamma = numbersOf(find(model.graph, "bn2.out")!.producer!.inputs[1]!.data!);
    gamma.forEach((g, i) => {
      expect(site.scale[i]).toBeCloseTo(g / Math.sqrt(1 + 1e-5), 6);
    });
  });
});

describe("techniques", () => {
  /** Two residual blocks of dense layers, the first without a nonlinearity. */
  function stream(): Model {
    const n = net("stream", 6);
    const x = n.model.graph.input("x", "float32", ["batch", 12]);
    const s0 = n.dense("stem", x, [12, 12], "glorot");
    const s1 = n.op("add1", "Add", [s0, n.dense("linear", s0, [12, 12], "glorot")]);
    const s2 = n.op("add2", "Add", [s1, n.dense("down", n.relu("relu", n.dense("up", s1, [12, 32])), [32, 12])]);
    return n.done(n.dense("head", s2, [12, 5], "glorot"), ["batch", 5]);
  }

  test("depth: what a block did linearly, the layer before it does", async () => {
    const model = stream();
    const want = await run(model, vectors);
    const after: number[] = [];
    for (const fit of [false, true]) {
      const out = cloneModel(model);
      await depth({ blocks: 1, include: "add1", importance: "output", epochs: 0, reconstruct: fit }).apply(out, around(model, vectors));
      expect(find(out.graph, "linear.weight")).toBeNull();
      after.push(distance(await run(out, vectors), want));
    }
    expect(after[0]).toBeGreaterThan(0.01);
    expect(after[1]).toBeLessThan(1e-4);
  });

  test("structured: nearer to the original on data it has not seen; without data, or without reconstruct, as it was", async () => {
    const model = stream();
    const fresh = fromArrays({ x: normal(40, 12) });
    const want = await run(model, fresh);
    const after = async (reconstruct: boolean, data: Dataset | null) => {
      const out = cloneModel(model);
      await structured({ ratio: 0.4, importance: "l2", include: "up", epochs: 0, check: false, reconstruct }).apply(
        out,
        around(model, data),
      );
      return out;
    };
    const [fitted, plain, blind] = [await after(true, vectors), await after(false, vectors), await after(true, null)];
    expect(writeModel(blind)).toEqual(writeModel(plain));
    expect(find(fitted.graph, "up.weight")!.shape).toEqual(find(plain.graph, "up.weight")!.shape);
    expect(distance(await run(fitted, fresh), want)).toBeLessThan(0.6 * distance(await run(plain, fresh), want));
    expect(notes.some((s) => /^\d layers fitted/.test(s))).toBe(true);
  });
});
