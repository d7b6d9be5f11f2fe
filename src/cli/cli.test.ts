import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { newModel } from "../ir/graph.ts";
import { save } from "../onnx/file.ts";
import { Build } from "../ops/build.ts";
import { tensor } from "../tensor/tensor.ts";

const root = join(import.meta.dirname, "../..");

/** Runs the real command. */
function pith(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const command = ["--import", "tsx", "--conditions=source", join(root, "src/cli/main.ts"), ...args];
  return new Promise((resolve) => {
    execFile(process.execPath, command, { cwd: root, env: { ...process.env, NO_COLOR: "1" } }, (e, out, err) => {
      resolve({ code: e ? Number(e.code) : 0, out, err });
    });
  });
}

const folder = mkdtempSync(join(tmpdir(), "pith-"));
const net = join(folder, "net.onnx");
{
  const model = newModel("net");
  const b = Build.of(model);
  const x = model.graph.input("x", "float32", ["n", 4]);
  const w = model.graph.initializer("fc.weight", tensor("float32", [4, 3], new Float32Array(12)));
  model.graph.addOutput(b.op("Relu", [b.matmul(x, w)]));
  save(model, net);
}

test("show prints what a model is made of, and JSON", async () => {
  const plain = await pith("show", net);
  expect(plain.err).toBe("");
  expect(plain.out).toContain("float32[n, 4]");
  expect(plain.out).toContain("12 parameters");
  const json = await pith("show", net, "--json");
  expect(JSON.parse(json.out)).toMatchObject({ file: "net.onnx", nodes: 2, parameters: 12, inputs: [{ name: "x", shape: ["n", 4] }] });
  const selected = await pith("show", net, "--select", "fc.*");
  expect(selected.out).toContain('"fc.*" matches 1 of 2 nodes');
});

test("wrong input is one line and exit code 1; wrong usage is 2", async () => {
  const text = join(folder, "readme.onnx");
  writeFileSync(text, "this is not a model\n");
  const faults = [await pith("show", text), await pith("show", join(folder, "absent.onnx")), await pith("show", net, "--select", "a,")];
  for (const { code, out, err } of faults) {
    expect([code, out]).toEqual([1, ""]);
    expect(err).toMatch(/^pith: .+\n$/);
  }
  const usage = await pith("show");
  expect(usage.code).toBe(2);
  expect(usage.err).toContain("missing required argument");
  expect(readdirSync(folder).sort()).toEqual(["net.onnx", "readme.onnx"]);
});
