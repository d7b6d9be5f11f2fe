import { expect, test } from "vitest";
import { memoryOf } from "../kernel.ts";
import { random } from "../random.ts";
import { optimizerKernel } from "./optimizer.ts";

const f = Math.fround;
const tiny = 2 ** -126;
const flush = (x: number) => (Math.abs(x) < tiny ? 0 : x);

// The plain twin: every operation rounded to float32, in the kernel's order, so that results are equal bit for bit.
function sgd(p: Float32Array, g: Float32Array, m: Float32Array, k: Record<string, number>) {
  for (let i = 0; i < p.length; i++) {
    const d = f(f(f(k.scale!) * g[i]!) + f(f(k.decay!) * p[i]!));
    m[i] = flush(f(f(f(k.momentum!) * m[i]!) + d));
    p[i] = p[i]! - f(f(k.rate!) * f(f(f(k.own!) * d) + f(f(k.mixed!) * m[i]!)));
  }
}
function adam(p: Float32Array, g: Float32Array, m: Float32Array, v: Float32Array, k: Record<string, number>) {
  for (let i = 0; i < p.length; i++) {
    const d = f(f(f(k.scale!) * g[i]!) + f(f(k.decay!) * p[i]!));
    m[i] = flush(f(f(f(k.b1!) * m[i]!) + f(f(k.c1!) * d)));
    v[i] = flush(f(f(f(k.b2!) * v[i]!) + f(f(k.c2!) * f(d * d))));
    const under = f(f(f(k.root!) * f(Math.sqrt(v[i]!))) + f(k.epsilon!));
    p[i] = f(f(k.shrink!) * p[i]!) - f(f(f(k.rate!) * m[i]!) / under);
  }
}

const n = 52;
function setUp() {
  const memory = memoryOf(4 * n * 4);
  const views = [0, 1, 2, 3].map((i) => new Float32Array(memory.buffer, i * n * 4, n));
  views.forEach((x, i) => {
    random(i + 1).fillNormal(x);
  });
  views[3]!.forEach((x, i) => {
    views[3]![i] = Math.abs(x);
  });
  views[2]![5] = 1e-38;
  views[3]![5] = 1e-38;
  views[1]![5] = 0;
  return { kernel: optimizerKernel(memory), views, twins: views.map((x) => x.slice()), at: [0, 1, 2, 3].map((i) => i * n * 4) };
}

test("sgd with (Nesterov) momentum, decay and scale, as its twin", () => {
  for (const nesterov of [false, true]) {
    const { kernel, views, twins, at } = setUp();
    const k = { rate: 0.1, momentum: 0.9, own: nesterov ? 1 : 0, mixed: nesterov ? 0.9 : 1, decay: 0.01, scale: 0.5 };
    for (let step = 0; step < 3; step++) {
      kernel.sgd(at[0]!, at[1]!, at[2]!, n, k.rate, k.momentum, k.own, k.mixed, k.decay, k.scale);
      sgd(twins[0]!, twins[1]!, twins[2]!, k);
    }
    expect(views).toEqual(twins);
  }
});

test("adam with both decays, as its twin; subnormal moments become 0", () => {
  const { kernel, views, twins, at } = setUp();
  const k = { rate: 0.01, root: 1.5, epsilon: 1e-8, b1: 0.9, c1: 0.1, b2: 0.999, c2: 0.001, decay: 0, shrink: 0.99, scale: 0.25 };
  for (let step = 0; step < 3; step++) {
    kernel.adam(at[0]!, at[1]!, at[2]!, at[3]!, n, k.rate, k.root, k.epsilon, k.b1, k.c1, k.b2, k.c2, k.decay, k.shrink, k.scale);
    adam(twins[0]!, twins[1]!, twins[2]!, twins[3]!, k);
  }
  expect(views).toEqual(twins);
  expect(views[2]![5]).toBe(0);
});

test("the sum of squares is float64 and shows what is not finite", () => {
  const { kernel, views, at } = setUp();
  const want = views[1]!.reduce((s, x) => s + x * x, 0);
  expect(Math.abs(kernel.sumSquares(at[1]!, n) / want - 1)).toBeLessThan(1e-14);
  views[1]![3] = 1e30;
  expect(kernel.sumSquares(at[1]!, n)).toBeCloseTo(f(1e30) ** 2, -45);
  views[1]![7] = Number.NaN;
  expect(kernel.sumSquares(at[1]!, n)).toBeNaN();
});
