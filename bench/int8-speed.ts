/**
 * int8 beside fp32: latency in alternating blocks, one session each, spinning off. Run again where other work shares the cores.
 *   npx tsx --conditions=source bench/int8-speed.ts [name …]
 * Writes bench/results/int8-speed.json: the nets' names → threads → variant → speed-up over fp32 with its interval.
 */

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { fromArrays } from "../src/data/dataset.ts";
import { cloneModel, type Model, newModel } from "../src/ir/graph.ts";
import { latency } from "../src/measure/latency.ts";
import { lenet5 } from "../src/nets/lenet5.ts";
import { lenet300 } from "../src/nets/mlp.ts";
import { resnet20 } from "../src/nets/resnet20.ts";
import { writeModel } from "../src/onnx/write.ts";
import { Build } from "../src/ops/build.ts";
import { int8 } from "../src/techniques/quantize/int8.ts";
import { random } from "../src/tensor/random.ts";
import { tensor } from "../src/tensor/tensor.ts";

const seed = 0;

/** Four MatMuls, 768 ↔ 3072. */
function stack(rows: number): Model {
  const model = newModel("matmul-stack", 17);
  const b = Build.of(model);
  let h = model.graph.input("x", "float32", [1, rows, 768]);
  for (let i = 0; i < 4; i++) {
    const shape = i % 2 ? [3072, 768] : [768, 3072];
    const w = random(seed, `w${i}`).fillNormal(new Float32Array(768 * 3072));
    h = b.matmul(
      h,
      model.graph.initializer(
        "w",
        tensor(
          "float32",
          shape,
          w.map((v) => v / Math.sqrt(shape[0]!)),
        ),
      ),
    );
  }
  model.graph.addOutput(h);
  return model;
}

/** Six 3×3 convolutions with BatchNormalization and Relu, two poolings, one dense layer. */
function cnn(size = 64): Model {
  const model = newModel("plain-cnn", 17);
  const b = Build.of(model);
  let h = model.graph.input("x", "float32", [1, 3, size, size]);
  const w = (name: string, shape: number[], fan: number) => {
    const values = random(seed, name).fillNormal(new Float32Array(shape.reduce((a, d) => a * d, 1)));
    return model.graph.initializer(
      name,
      tensor(
        "float32",
        shape,
        values.map((v) => v * Math.sqrt(2 / fan)),
      ),
    );
  };
  const all = (n: number, v: number) => b.constant(tensor("float32", [n], new Float32Array(n).fill(v)));
  let ci = 3;
  for (const [i, co] of [32, 32, 64, 64, 128, 128].entries()) {
    h = b.op("Conv", [h, w(`conv${i}`, [co, ci, 3, 3], 9 * ci)], { pads: [1, 1, 1, 1] });
    h = b.op("Relu", [b.op("BatchNormalization", [h, all(co, 1), all(co, 0), all(co, 0), all(co, 1)])]);
    if (i % 2) h = b.op("MaxPool", [h], { kernel_shape: [2, 2], strides: [2, 2] });
    ci = co;
  }
  const flat = b.op("Flatten", [h]);
  model.graph.addOutput(b.op("Gemm", [flat, w("fc", [128 * (size / 8) ** 2, 10], 128), all(10, 0)]));
  return model;
}

const cases: Record<string, { model: Model; shape: number[]; modes: ("dynamic" | "static")[]; threads: number[] }> = {
  "matmul-stack-1": { model: stack(1), shape: [1, 1, 768], modes: ["dynamic", "static"], threads: [1] },
  "matmul-stack-128": { model: stack(128), shape: [1, 128, 768], modes: ["dynamic", "static"], threads: [1, 2] },
  "plain-cnn": { model: cnn(), shape: [1, 3, 64, 64], modes: ["static"], threads: [1, 2] },
  "resnet20-8": { model: resnet20(), shape: [8, 3, 32, 32], modes: ["static"], threads: [1] },
  "lenet5-32": { model: lenet5(), shape: [32, 1, 28, 28], modes: ["static"], threads: [1] },
  "lenet300-1": { model: lenet300(), shape: [1, 784], modes: ["dynamic", "static"], threads: [1] },
  "lenet300-128": { model: lenet300(), shape: [128, 784], modes: ["dynamic", "static"], threads: [1] },
};

const file = join(dirname(fileURLToPath(import.meta.url)), "results", "int8-speed.json");
const wanted = process.argv.slice(2);
const main = async () => {
  let results: Record<string, unknown> = {};
  try {
    results = (JSON.parse(readFileSync(file, "utf8")) as { nets: Record<string, unknown> }).nets;
  } catch {}
  for (const [name, { model, shape, modes, threads }] of Object.entries(cases)) {
    if (wanted.length && !wanted.includes(name)) continue;
    const input = model.graph.inputs[0]!.name;
    const example = (n: number) =>
      tensor(
        "float32",
        [n * shape[0]!, ...shape.slice(1)],
        random(seed, "x").fillNormal(new Float32Array(n * shape.reduce((a, d) => a * d, 1))),
      );
    const calibration = fromArrays({ [input]: example(8) });
    const variants = [model];
    for (const mode of modes) {
      const m = cloneModel(model);
      const note = (line: string) => console.log(`  ${name}: ${line}`);
      await int8({ mode }).apply(m, {
        seed,
        train: null,
        calibration,
        original: model,
        threads: 1,
        note,
        load: async () => model,
        progress: () => {},
      });
      variants.push(m);
    }
    const bytes = variants.map((m) => writeModel(m).byteLength);
    const out: Record<string, unknown> = {};
    for (const t of threads) {
      const feeds = { [input]: example(1) };
      const rows = await latency(
        variants.map((m) => ({ model: m, feeds })),
        { threads: t, seconds: 4, rounds: 11 },
      );
      out[t] = Object.fromEntries(
        modes.map((mode, i) => {
          const of = (metric: string) => rows[i + 1]!.find((m) => m.metric === metric)!;
          const s = of("speedup");
          console.log(`${name}, ${t} thread(s), ${mode}: ${s.value.toFixed(2)}× (${s.interval?.map((v) => v.toFixed(2)).join(" … ")})`);
          return [
            mode,
            {
              speedup: s.value,
              interval: s.interval,
              milliseconds: of("latency").value,
              float: rows[0]![0]!.value,
              bytes: bytes[i + 1],
              floatBytes: bytes[0],
            },
          ];
        }),
      );
    }
    results[name] = out;
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(
      file,
      `${JSON.stringify({ seed, machine: { cpu: cpus()[0]?.model, cores: cpus().length, node: process.version }, nets: results }, null, 1)}\n`,
    );
  }
};
main();
