import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { newModel } from "../ir/graph.ts";
import { save, writeBytes } from "../onnx/file.ts";
import { checkOutput } from "./output.ts";

const folder = mkdtempSync(join(tmpdir(), "pith-"));
const input = join(folder, "in.onnx");
writeFileSync(input, "x");

test("an output that is an input, also by a link, a folder, or in no folder is refused; trying leaves nothing behind", () => {
  const link = join(folder, "link.onnx");
  symlinkSync(input, link);
  expect(() => checkOutput(link, [undefined, input])).toThrow("link.onnx: is also an input");
  expect(() => checkOutput(folder, [input])).toThrow("is a folder");
  expect(() => checkOutput(join(input, "out.onnx"), [])).toThrow("cannot be written: ENOTDIR");
  // Node's recursive mkdir never comes back from there.
  expect(() => checkOutput("/proc/none/out.onnx", [])).toThrow("cannot be written");
  checkOutput(join(folder, "new/er/out.onnx"), [input]);
  expect(readdirSync(folder).sort()).toEqual(["in.onnx", "link.onnx"]);
});

test("a file in a new folder is written whole", () => {
  writeBytes(join(folder, "some/where/a.json"), "{}");
  expect(readdirSync(join(folder, "some/where"))).toEqual(["a.json"]);
});

test("a device, a pipe or a socket is not replaced by a file", () => {
  const pipe = join(folder, "pipe");
  execFileSync("mkfifo", [pipe]);
  const refused = "pipe: is no regular file, and would be replaced by one; choose another name";
  expect(() => checkOutput(pipe, [])).toThrow(refused);
  expect(() => writeBytes(pipe, "x")).toThrow(refused);
  expect(() => save(newModel("m"), pipe)).toThrow(refused);
});
