/**
 * A model of 1 GB and one of 3 GB, random weights in external data, to 4 bits by `pith compress`: seconds and peak memory of the command, in
 * a process of its own; then the result run by ONNX Runtime. Writes bench/results/weight-only.json.
 *   npx tsx --conditions=source bench/weight-only.ts [GB, default 1,3] [folder for some 8 GB]
 */
import { execFileSync } from "node:child_process";
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { host } from "#host";
import { type Model, newModel } from "../src/ir/graph.ts";
import { fileBytes } from "../src/onnx/file.ts";
import { writeModel } from "../src/onnx/write.ts";
import { open } from "../src/runtime/session.ts";
import { random } from "../src/tensor/random.ts";
import { numbersOf, tensor } from "../src/tensor/tensor.ts";

const width = 4096;
const vocabulary = 32768;
const [sizes = "1,3", parent = tmpdir(), step, folder = mkdtempSync(join(parent, "pith-large-"))] = process.argv.slice(2);

/** A tied table of 512 MiB, read by Gather and as the last layer, and square layers of 64 MiB; Gemms with transB and MatMuls in turn. */
function large(layers: number): Model {
  const model = newModel("large");
  const g = model.graph;
  const weight = (name: string, shape: readonly number[]) => {
    const byteLength = shape.reduce((a, d) => a * d, 4);
    return g.initializer(name, { dtype: "float32", shape, data: { byteLength, read: () => new Uint8Array(byteLength) } });
  };
  const table = weight("table", [vocabulary, width]);
  let x = g.append("Gather", [table, g.input("ids", "int64", ["n"])]).outputs[0]!;
  for (let i = 0; i < layers; i++) {
    const w = weight(`w${i}`, [width, width]);
    x = g.append("Tanh", [g.append(i % 2 ? "Gemm" : "MatMul", [x, w], i % 2 ? { attrs: { transB: 1 } } : {}).outputs[0]!]).outputs[0]!;
  }
  g.addOutput(g.append("Gemm", [x, table], { attrs: { transB: 1 } }).outputs[0]!);
  return model;
}

/** The file and its weights: numbers drawn once, each tensor beginning elsewhere in them. */
function make(path: string, layers: number): number {
  const numbers = random(1).fillNormal(new Float32Array(1 << 24));
  const bytes = new Uint8Array(numbers.map((x) => x / 64).buffer);
  const fd = openSync(join(path, "..", "weights.bin"), "w");
  let offset = 0;
  const place = ({ data }: { data: { byteLength: number } }) => {
    const length = data.byteLength;
    const at = { location: "weights.bin", offset, length };
    for (let done = 0; done < length; ) {
      const from = ((offset * 97) % bytes.length) & ~3;
      const part = bytes.subarray(from, Math.min(bytes.length, from + length - done));
      writeSync(fd, part);
      done += part.length;
      offset += part.length;
    }
    return at;
  };
  writeFileSync(path, writeModel(large(layers), { place }));
  closeSync(fd);
  return offset;
}

const steps: Record<string, () => Promise<unknown>> = {
  async compress() {
    process.argv = [...process.argv.slice(0, 2), "compress", join(folder, "in/model.onnx"), "-o", join(folder, "out/model.onnx")];
    process.argv.push("--step", "weightOnly:type=int4", "--no-measure", "--quiet");
    await import("../src/cli/main.ts");
    return fileBytes(join(folder, "out/model.onnx"));
  },
  async run() {
    const session = await open(join(folder, "out/model.onnx"), { threads: 2 });
    const y = await session.run({ ids: tensor("int64", [2], [5, 30_000]) });
    const numbers = numbersOf(Object.values(y)[0]!);
    return numbers.length === 2 * vocabulary && numbers.every((v) => Number.isFinite(v));
  },
};

if (step) {
  const start = performance.now();
  const result = await steps[step]!();
  const report = {
    seconds: +((performance.now() - start) / 1000).toFixed(2),
    peakMB: Math.round(process.resourceUsage().maxRSS / 1024),
    result,
  };
  writeFileSync(join(folder, "report.json"), JSON.stringify(report));
} else {
  const results = [];
  for (const gb of sizes.split(",").map(Number)) {
    try {
      mkdirSync(join(folder, "in"), { recursive: true });
      const bytes = make(join(folder, "in/model.onnx"), Math.max(1, Math.round((gb * 1e9) / 2 ** 26) - 8));
      const result: Record<string, unknown> = { bytes, largestTensor: vocabulary * width * 4 };
      for (const name of Object.keys(steps)) {
        const args = [...process.execArgv, import.meta.filename, sizes, parent, name, folder];
        execFileSync(process.execPath, args, { stdio: ["ignore", "inherit", "inherit"] });
        result[name] = JSON.parse(readFileSync(join(folder, "report.json"), "utf8"));
      }
      console.log(JSON.stringify(result));
      results.push(result);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
  writeFileSync(
    join(import.meta.dirname, "results/weight-only.json"),
    `${JSON.stringify({ machine: host.machine(), results }, null, 2)}\n`,
  );
}
