/**
 * Races the formulations of a convolution's two gradients, shape by shape, with the weights as inputs as in training.
 * Writes bench/results/conv-gradients.json. Run: npx tsx --conditions=source bench/conv-gradients.ts [threads] [only shapes that hold this text]
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { host } from "#host";
import { newModel, type Value } from "../src/ir/graph.ts";
import { latency } from "../src/measure/latency.ts";
import { Build } from "../src/ops/build.ts";
import {
  type Convolution,
  inputByFlip,
  inputByTranspose,
  inputForm,
  weightByColumns,
  weightByCross,
  weightByShifts,
  weightBySwap,
  weightForm,
} from "../src/ops/convgrad.ts";
import { sizeOf } from "../src/tensor/dtype.ts";
import { random } from "../src/tensor/random.ts";
import { tensor } from "../src/tensor/tensor.ts";

interface Square {
  readonly n: number;
  readonly from: number;
  readonly to: number;
  readonly size: number;
  readonly kernel: number;
  readonly stride?: number;
  readonly pad?: number;
  readonly group?: number;
}

const shapes: Record<string, Square> = {
  "LeNet-5 conv1": { n: 64, from: 1, to: 20, size: 28, kernel: 5 },
  "LeNet-5 conv2": { n: 64, from: 20, to: 50, size: 12, kernel: 5 },
  "ResNet-20 stem": { n: 32, from: 3, to: 16, size: 32, kernel: 3, pad: 1 },
  "ResNet-20 stage 1": { n: 32, from: 16, to: 16, size: 32, kernel: 3, pad: 1 },
  "ResNet-20 to stage 2": { n: 32, from: 16, to: 32, size: 32, kernel: 3, pad: 1, stride: 2 },
  "ResNet-20 stage 2": { n: 32, from: 32, to: 32, size: 16, kernel: 3, pad: 1 },
  "ResNet-20 to stage 3": { n: 32, from: 32, to: 64, size: 16, kernel: 3, pad: 1, stride: 2 },
  "ResNet-20 stage 3": { n: 32, from: 64, to: 64, size: 8, kernel: 3, pad: 1 },
  "ResNet-20 projection": { n: 32, from: 16, to: 32, size: 32, kernel: 1, stride: 2 },
  "1×1": { n: 32, from: 64, to: 128, size: 16, kernel: 1 },
  "wide, one example": { n: 1, from: 64, to: 64, size: 28, kernel: 3, pad: 1 },
  "wide, 4 examples, stride 2": { n: 4, from: 64, to: 128, size: 28, kernel: 3, pad: 1, stride: 2 },
  "wide, 8 examples": { n: 8, from: 128, to: 128, size: 14, kernel: 3, pad: 1 },
  "ImageNet stem": { n: 8, from: 3, to: 64, size: 112, kernel: 7, pad: 3, stride: 2 },
  "4 groups": { n: 32, from: 64, to: 64, size: 16, kernel: 3, pad: 1, group: 4 },
  depthwise: { n: 32, from: 64, to: 64, size: 16, kernel: 3, pad: 1, group: 64 },
  "depthwise, stride 2": { n: 32, from: 64, to: 64, size: 17, kernel: 3, pad: 1, stride: 2, group: 64 },
};

function convolution({ n, from, to, size, kernel, stride = 1, pad = 0, group = 1 }: Square): Convolution {
  const output = Math.floor((size + 2 * pad - kernel) / stride) + 1;
  const both = (x: number) => [x, x];
  return {
    n,
    group,
    ci: from / group,
    co: to / group,
    input: both(size),
    output: both(output),
    kernel: both(kernel),
    strides: both(stride),
    dilations: both(1),
    begin: both(pad),
    end: both((output - 1) * stride + kernel - size - pad),
  };
}

type Rule = (b: Build, c: Convolution, first: Value, dy: Value) => Value;

async function race(
  c: Convolution,
  first: "x" | "w",
  rules: Readonly<Record<string, Rule>>,
  threads: number,
): Promise<Record<string, number>> {
  const dims = {
    x: [c.n, c.group * c.ci, ...c.input],
    w: [c.group * c.co, c.ci, ...c.kernel],
    dy: [c.n, c.group * c.co, ...c.output],
  };
  const r = random(0, "conv-gradients");
  const values = (shape: readonly number[]) => tensor("float32", shape, r.fillNormal(new Float32Array(sizeOf(shape))));
  const feeds = { [first]: values(dims[first]), dy: values(dims.dy) };
  const models = Object.entries(rules).map(([name, rule]) => {
    const model = newModel(name);
    const [a, dy] = [first, "dy" as const].map((n) => model.graph.input(n, "float32", dims[n]));
    model.graph.addOutput(rule(Build.of(model), c, a!, dy!));
    return { model, feeds };
  });
  const results = await latency(models, { threads, seconds: 0.5 });
  return Object.fromEntries(Object.keys(rules).map((name, i) => [name, Number(results[i]![0]!.value.toPrecision(4))]));
}

const threads = Number(process.argv[2] ?? 2);
const only = process.argv[3] ?? "";
const results = [];
for (const [name, square] of Object.entries(shapes)) {
  if (!name.includes(only)) continue;
  const c = convolution(square);
  const unit = c.strides.every((s) => s === 1);
  const weight = await race(
    c,
    "x",
    { swap: weightBySwap, shifts: weightByShifts, columns: weightByColumns, ...(unit ? { cross: weightByCross } : {}) },
    threads,
  );
  const input = await race(c, "w", { transpose: inputByTranspose, ...(unit ? { flip: inputByFlip } : {}) }, threads);
  const entry = { name, ...square, weight: { chosen: weightForm(c), ms: weight }, input: { chosen: inputForm(c), ms: input } };
  results.push(entry);
  const line = (e: typeof entry.weight | typeof entry.input) =>
    Object.entries(e.ms)
      .sort(([, a], [, b]) => a - b)
      .map(([form, ms]) => `${form === e.chosen ? "→" : ""}${form} ${ms}`)
      .join("  ");
  console.log(`${name}\n  dW  ${line(entry.weight)}\n  dX  ${line(entry.input)}`);
}
if (!only) {
  const folder = join(import.meta.dirname, "results");
  mkdirSync(folder, { recursive: true });
  const record = {
    benchmark: "conv-gradients",
    date: new Date().toISOString(),
    machine: host.machine(),
    threads,
    seed: 0,
    unit: "ms, median",
    results,
  };
  writeFileSync(join(folder, "conv-gradients.json"), `${JSON.stringify(record, null, 1)}\n`);
}
