/**
 * A model of 2.5 GB (a sparse file: nothing is downloaded) loaded, changed, saved and run, each in a process of its own, with its peak memory.
 *   npx tsx --conditions=source bench/large.ts [GiB, default 2.5] [folder for some 6 GB]
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statfsSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { check } from "../src/ir/check.ts";
import { type Model, newModel } from "../src/ir/graph.ts";
import { fileBytes, load, save } from "../src/onnx/file.ts";
import { writeModel } from "../src/onnx/write.ts";
import { open } from "../src/runtime/session.ts";
import { numbersOf, tensor, wrap } from "../src/tensor/tensor.ts";

const mebi = 2 ** 20;
const [gibi = "2.5", parent = tmpdir(), step, folder = mkdtempSync(join(parent, "pith-large-"))] = process.argv.slice(2);

const rows = 128 * mebi;

/** y = x + w₀[i] + w₁[i] + …, every w of 512 MiB, all zeros that are nowhere. */
function large(count: number): Model {
  const model = newModel("large");
  const g = model.graph;
  const i = g.input("i", "int64", []);
  let y = g.input("x", "float32", []);
  for (let k = 0; k < count; k++) {
    const data = { byteLength: rows * 4, read: (a = 0, b = rows * 4) => new Uint8Array(b - a) };
    const w = g.initializer(`w${k}`, { dtype: "float32", shape: [rows], data });
    y = g.append("Add", [y, g.append("Gather", [w, i]).outputs[0]!]).outputs[0]!;
  }
  g.addOutput(y);
  return model;
}

function make(path: string, count: number): void {
  const place = (offset: number) => ({ location: "weights.bin", offset, length: rows * 4 });
  let at = -rows * 4;
  writeFileSync(path, writeModel(large(count), { place: () => place((at += rows * 4)) }));
  writeFileSync(join(folder, "in/weights.bin"), "");
  truncateSync(join(folder, "in/weights.bin"), count * rows * 4);
}

const source = join(folder, "in/model.onnx");
const target = join(folder, "out/model.onnx");

async function run(model: Model): Promise<number> {
  const session = await open(model, { threads: 1 });
  const y = await session.run({ x: tensor("float32", [], [1]), i: tensor("int64", [], [2]) });
  await session.release();
  return numbersOf(Object.values(y)[0]!)[0]!;
}

const steps: Record<string, () => unknown> = {
  load: () => check(load(source)),
  save: () => {
    const model = load(source);
    model.metadata.set("touched", "yes");
    save(model, target);
    check(load(target));
    return fileBytes(target);
  },
  run: () => run(load(source)),
  "run a changed one": () => {
    const model = load(source);
    model.graph.setData([...model.graph.initializers][0]!, wrap("float32", [4], Float32Array.of(1, 2, 3, 4)));
    return run(model);
  },
  "run the saved one": () => run(load(target)),
  "run one that is in no file": () => run(large(Number(gibi) * 2)),
};

if (step) {
  const start = performance.now();
  const result = await steps[step]!();
  const seconds = (performance.now() - start) / 1000;
  console.log(JSON.stringify({ step, seconds: +seconds.toFixed(2), peakMB: Math.round(process.resourceUsage().maxRSS / 1024), result }));
} else {
  try {
    const disk = statfsSync(folder);
    if (disk.bavail * disk.bsize < 3 * Number(gibi) * 2 ** 30) throw new Error(`${parent} has too little room; name another folder`);
    mkdirSync(join(folder, "in"));
    make(source, Number(gibi) * 2);
    for (const name of Object.keys(steps)) {
      const args = [...process.execArgv, import.meta.filename, gibi, parent, name, folder];
      process.stdout.write(execFileSync(process.execPath, args, { env: { ...process.env, TMPDIR: folder } }));
    }
    console.log("left behind:", readdirSync(folder).filter((f) => f.startsWith("pith-")).length);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
