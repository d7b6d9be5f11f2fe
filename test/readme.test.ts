import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { fromArrays } from "../src/data/dataset.ts";
import { writeNpz } from "../src/data/npz.ts";
import { mlp } from "../src/nets/mlp.ts";
import { save } from "../src/onnx/file.ts";
import * as techniques from "../src/techniques/index.ts";
import { random } from "../src/tensor/random.ts";
import { tensor } from "../src/tensor/tensor.ts";
import { fit } from "../src/train/fit.ts";
import { crossEntropy } from "../src/train/loss.ts";

const root = join(import.meta.dirname, "..");
const readme = readFileSync(join(root, "README.md"), "utf8");

test("the library example in the README is examples/compress.ts, and runs", async () => {
  const code = readFileSync(join(root, "examples/compress.ts"), "utf8");
  expect(readme).toContain(`\`\`\`ts\n${code}\`\`\``);
  const folder = mkdtempSync(join(tmpdir(), "pith-"));
  const r = random(1, "readme");
  const labels = Array.from({ length: 2000 }, () => r.below(3));
  const x = Float32Array.from({ length: 2000 * 48 }, (_, i) => 0.3 * r.normal() + (i % 3 === labels[Math.floor(i / 48)]! ? 1 : 0));
  const arrays = { x: tensor("float32", [2000, 48], x), labels: tensor("int64", [2000], labels) };
  const model = mlp({ sizes: [48, 32, 3], seed: 1 });
  await fit(model, { data: fromArrays(arrays), loss: crossEntropy(), epochs: 3, threads: 1 });
  save(model, join(folder, "model.onnx"));
  for (const name of ["train.npz", "test.npz"]) writeFileSync(join(folder, name), writeNpz(arrays));
  const args = ["--import", import.meta.resolve("tsx"), "--conditions=source", join(root, "examples/compress.ts")];
  expect(execFileSync(process.execPath, args, { cwd: folder, encoding: "utf8" })).toMatch(/^model +accuracy.*before.*after/s);
  expect(readdirSync(folder)).toContain("small.onnx");
}, 120_000);

test("every technique stands in the README with its own words, and every folder", () => {
  for (const t of Object.values(techniques)) expect(readme).toContain(`| \`${t.technique}\` | ${t.family} | ${t.doc} |`);
  const folders = readdirSync(join(root, "src"), { withFileTypes: true }).filter((f) => f.isDirectory());
  for (const f of folders) expect(readme).toMatch(new RegExp(`^ {2}${f.name}/ +\\S`, "m"));
});

test("the command and the code for transformers.js users run as they are written", () => {
  const section = /<!-- transformers -->([\s\S]*?)<!-- \/transformers -->/.exec(readme)![1]!;
  const [command, code] = ["sh", "js"].map((language) => new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``).exec(section)![1]!.trim());
  const folder = mkdtempSync(join(tmpdir(), "pith-"));
  cpSync(join(root, "test/fixtures/spam"), join(folder, "my-model"), { recursive: true });
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  const [name, ...args] = command!.split(" ");
  expect(name).toBe("pith");
  const pith = ["--import", import.meta.resolve("tsx"), "--conditions=source", join(root, "src/cli/main.ts")];
  const printed = execFileSync(process.execPath, [...pith, ...args, "--quiet"], { cwd: folder, encoding: "utf8" });
  for (const suffix of ["_fp16", "_quantized", "_int8", "_uint8", "_q4", "_q4f16", "_bnb4", "_q2", "_q1"]) {
    expect(printed).toContain(`model${suffix}.onnx`);
    expect(existsSync(join(folder, `my-model/onnx/model${suffix}.onnx`)), suffix).toBe(true);
  }
  expect(printed).toMatch(/q1: 1-bit codes are carried in 2 bits.*the same size as q2/);
  writeFileSync(join(folder, "use.mjs"), code!);
  expect(execFileSync(process.execPath, ["use.mjs"], { cwd: folder, encoding: "utf8" })).toMatch(/label: 'spam', score: 0\.9/);
}, 120_000);
