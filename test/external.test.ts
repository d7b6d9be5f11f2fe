import { linkSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { TensorProto_DataLocation, TensorProtoSchema } from "onnx-buf";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { check } from "../src/ir/check.ts";
import { cloneModel, Graph, type Model, newModel } from "../src/ir/graph.ts";
import { find } from "../src/ir/walk.ts";
import { fileBytes, load, save } from "../src/onnx/file.ts";
import { readModel } from "../src/onnx/read.ts";
import { open } from "../src/runtime/session.ts";
import { Fault } from "../src/tensor/fault.ts";
import { numbersOf, type Tensor, tensor } from "../src/tensor/tensor.ts";
import * as proto from "./protos.ts";

const root = mkdtempSync(join(tmpdir(), "pith-external-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(root, "t-"));
});

const n = 1000;
const ramp = (from: number): Tensor =>
  tensor(
    "float32",
    [n],
    Float32Array.from({ length: n }, (_, i) => from + i),
  );

/** y = x + a + b + a': `a` and `a'` over the same bytes, tied. */
function small(): Model {
  const model = newModel("external");
  const g = model.graph;
  const a = ramp(0);
  let v = g.input("x", "float32", [n]);
  for (const [name, t] of [
    ["a", a],
    ["b", ramp(1)],
    ["tied", a],
  ] as const)
    v = g.append("Add", [v, g.initializer(name, t)]).outputs[0]!;
  g.addOutput(v);
  return model;
}

async function run(model: Model): Promise<number[]> {
  const s = await open(model, { threads: 1 });
  const y = await s.run({ x: tensor("float32", [n], new Float32Array(n)) });
  await s.release();
  return Array.from(numbersOf(Object.values(y)[0]!));
}

const expected = Array.from({ length: n }, (_, i) => 3 * i + 1);

/** A saved model whose weights lie in m.onnx.data. */
function saved(): string {
  const path = join(dir, "m.onnx");
  save(small(), path, { external: "always" });
  return path;
}

test("weights go to a file of their own, tied ones once, and are read from there", async () => {
  const path = saved();
  expect(readFileSync(`${path}.data`).byteLength).toBe(4032 + 4000);
  expect(fileBytes(path)).toBe(readFileSync(path).byteLength + 8032);
  const model = load(path);
  check(model);
  expect(model.externalFiles).toEqual(["m.onnx.data"]);
  const bytes = (name: string) => find(model.graph, name)!.data!.data;
  expect(bytes("a")).not.toBeInstanceOf(Uint8Array);
  expect(bytes("tied")).toBe(bytes("a"));
  expect(await run(model)).toEqual(expected);
});

test("an untouched model is copied byte for byte, a touched one takes its weights along", async () => {
  const path = saved();
  const copy = join(dir, "sub/other.onnx");
  const model = load(path);
  save(model, copy);
  expect(readFileSync(copy)).toEqual(readFileSync(path));
  expect(readFileSync(join(dir, "sub/m.onnx.data"))).toEqual(readFileSync(`${path}.data`));
  expect(await run(load(copy))).toEqual(expected);

  const touched = cloneModel(model);
  touched.metadata.set("touched", "yes");
  expect(await run(touched)).toEqual(expected);
  save(touched, join(dir, "far/t.onnx"));
  const again = load(join(dir, "far/t.onnx"));
  expect(again.externalFiles).toEqual(["t.onnx.data"]);
  expect(await run(again)).toEqual(expected);

  save(touched, join(dir, "one.onnx"), { external: "never" });
  expect(load(join(dir, "one.onnx")).externalFiles).toEqual([]);
  expect(await run(load(join(dir, "one.onnx")))).toEqual(expected);
});

test("one changed weight goes inside for a session, the others stay where they are", async () => {
  const model = load(saved());
  const v = find(model.graph, "b")!;
  model.graph.setData(v, ramp(2));
  expect(await run(model)).toEqual(expected.map((x) => x + 1));
});

test("from bytes alone external data is refused by name", () => {
  expect(() => readModel(readFileSync(saved()))).toThrow('needs the external file "m.onnx.data"');
});

test("subgraphs' initializers go out too, Constant nodes' tensors come in: the runtime takes both so", async () => {
  const model = newModel("if");
  const g = model.graph;
  const x = g.input("x", "float32", [n]);
  const branch = (from: number) => {
    const b = new Graph("branch", g);
    b.addOutput(b.append("Add", [x, b.initializer("w", ramp(from))]).outputs[0]!);
    return b;
  };
  const k = g.append("Constant", [], { attrs: { value: ramp(5) } }).outputs[0]!;
  const yes = g.initializer("yes", tensor("bool", [], [1]));
  const y = g.append("If", [yes], { attrs: { then_branch: branch(1), else_branch: branch(2) } }).outputs[0]!;
  g.addOutput(g.append("Add", [y, k]).outputs[0]!);
  const want = Array.from({ length: n }, (_, i) => 2 * i + 6);
  expect(await run(model)).toEqual(want);
  save(model, join(dir, "if.onnx"), { external: "always" });
  expect(readFileSync(join(dir, "if.onnx.data")).byteLength).toBe(4032 + 4000);
  expect(await run(load(join(dir, "if.onnx")))).toEqual(want);
});

/** y = x + w, w described by these entries. */
function located(entries: Record<string, string>): string {
  const w = create(TensorProtoSchema, {
    name: "w",
    dims: [BigInt(n)],
    dataType: 1,
    dataLocation: TensorProto_DataLocation.EXTERNAL,
    externalData: Object.entries(entries).map(([key, value]) => proto.entry(key, value)),
  });
  const path = join(dir, "h.onnx");
  const io = { input: [proto.info("x", 1, [n])], output: [proto.info("y", 1, [n])] };
  writeFileSync(path, proto.model({ ...io, initializer: [w], node: [proto.node("Add", ["x", "w"], ["y"])] }));
  return path;
}

describe("where external data may be", () => {
  beforeEach(() => {
    writeFileSync(join(dir, "w.bin"), Buffer.alloc(8000));
    mkdirSync(join(dir, "sub"));
    writeFileSync(join(dir, "sub/w.bin"), Buffer.alloc(8000));
    writeFileSync(join(root, "outside.bin"), Buffer.alloc(8000));
  });

  test.each<Record<string, string>>([
    { location: "w.bin" },
    { location: "./w.bin", offset: "4000", length: "4000" },
    { location: "sub/w.bin", offset: "1", checksum: "0" },
    { location: "sub/../w.bin", offset: "" },
  ])("%j is read", async (entries) => {
    const model = load(located(entries));
    check(model);
    expect(numbersOf(find(model.graph, "w")!.data!)).toEqual(new Float32Array(n));
    save(model, join(dir, "out/h.onnx"));
    expect(await run(load(join(dir, "out/h.onnx")))).toEqual(Array.from({ length: n }, () => 0));
  });

  test.each<[Record<string, string>, string]>([
    [{ location: "../outside.bin" }, "leads out of the model's folder"],
    [{ location: "/etc/passwd" }, "leads out of the model's folder"],
    [{ location: "sub/../../outside.bin" }, "leads out of the model's folder"],
    [{ location: "." }, "leads out of the model's folder"],
    [{ location: "sub" }, "is no regular file"],
    [{ location: "none.bin" }, 'external file "none.bin" is missing beside the model'],
    [{ location: "sub\\w.bin" }, "is missing beside the model"],
    [{ location: "w.bin\0" }, "holds a zero byte"],
    [{}, "names no location"],
    [{ location: "w.bin", offset: "4001" }, "has 8000 bytes; bytes 4001 to 8001 were asked for"],
    [{ location: "w.bin", offset: "-8" }, 'its external offset is no size; got "-8"'],
    [{ location: "w.bin", offset: "9007199254740993" }, "is no size"],
    [{ location: "w.bin", offset: "1e999" }, "is no size"],
    [{ location: "w.bin", length: "3999" }, "its external length is 3999 bytes; its shape takes 4000"],
  ])("%j is refused in one line", (entries, message) => {
    const path = located(entries);
    expect(() => load(path)).toThrow(Fault);
    expect(() => load(path)).toThrow(message);
    expect(() => load(path)).toThrow(/^h\.onnx: tensor "w": [^\n]*$/);
  });

  test("a link out of the folder is refused, one inside is followed", () => {
    symlinkSync(join(root, "outside.bin"), join(dir, "out.bin"));
    symlinkSync(root, join(dir, "up"));
    symlinkSync(join(dir, "w.bin"), join(dir, "in.bin"));
    expect(() => load(located({ location: "out.bin" }))).toThrow("is a link out of the model's folder");
    expect(() => load(located({ location: "up/outside.bin" }))).toThrow("is a link out of the model's folder");
    expect(load(located({ location: "in.bin" })).externalFiles).toEqual(["in.bin"]);
  });
});

describe("saving is all or nothing", () => {
  const files = () => (readdirSync(dir, { recursive: true }) as string[]).sort();

  test("a model's own weights are never written over", () => {
    const model = load(saved());
    model.metadata.set("touched", "yes");
    expect(() => save(model, join(dir, "m.onnx.data"))).toThrow("holds weights that the model is still read from; choose another name");
    // In place, its weights would go to the very file they come from.
    expect(() => save(model, join(dir, "m.onnx"))).toThrow("m.onnx.data: holds weights");
    linkSync(join(dir, "m.onnx.data"), join(dir, "linked.onnx"));
    expect(() => save(model, join(dir, "linked.onnx"))).toThrow("holds weights");
    expect(files()).toEqual(["linked.onnx", "m.onnx", "m.onnx.data"]);
    // Without the data file nothing stands in the way.
    save(model, join(dir, "m.onnx"), { external: "never" });
    expect(load(join(dir, "m.onnx")).metadata.get("touched")).toBe("yes");
  });

  test("another file of the same name is not replaced by a copied one", () => {
    const model = load(saved());
    mkdirSync(join(dir, "to"));
    writeFileSync(join(dir, "to/m.onnx.data"), "something else");
    expect(() => save(model, join(dir, "to/m.onnx"))).toThrow("is there already and is another file than the model's own");
    expect(files()).toEqual(["m.onnx", "m.onnx.data", "to", "to/m.onnx.data"]);
    rmSync(join(dir, "to/m.onnx.data"));
    save(model, join(dir, "to/m.onnx"));
    save(model, join(dir, "to/m.onnx"));
  });

  test("weights that changed after loading are noticed, and nothing half-written stays", () => {
    const model = load(saved());
    model.metadata.set("touched", "yes");
    writeFileSync(join(dir, "o.onnx"), "old");
    truncateSync(join(dir, "m.onnx.data"), 5000);
    expect(() => save(model, join(dir, "o.onnx"))).toThrow("m.onnx.data: was changed since the model that uses it was loaded");
    expect(files()).toEqual(["m.onnx", "m.onnx.data", "o.onnx"]);
    expect(readFileSync(join(dir, "o.onnx"), "utf8")).toBe("old");
    expect(() => load(join(dir, "m.onnx"))).toThrow("has 5000 bytes");
  });

  test("what the system refuses is one line", () => {
    const model = small();
    mkdirSync(join(dir, "folder.onnx"));
    expect(() => save(model, join(dir, "folder.onnx"))).toThrow(/^\S+folder\.onnx: is a folder; [^\n]+$/);
    writeFileSync(join(dir, "file"), "");
    expect(() => save(model, join(dir, "file/m.onnx"))).toThrow(/cannot be reached: [^\n]+$/);
    expect(files()).toEqual(["file", "folder.onnx"]);
  });
});

test("what is no model is refused in one line", () => {
  expect(() => load(join(dir, "none.onnx"))).toThrow(/none\.onnx: cannot be read: no such file or folder$/);
  expect(() => load(dir)).toThrow("is a folder; an .onnx file was expected");
  expect(() => load("/dev/zero")).toThrow("is no regular file");
  writeFileSync(join(dir, "t.onnx"), "This is a text file, not a model.\n");
  expect(() => load(join(dir, "t.onnx"))).toThrow(/^t\.onnx: [^\n]+$/);
  writeFileSync(join(dir, "e.onnx"), "");
  expect(() => load(join(dir, "e.onnx"))).toThrow("e.onnx: holds no graph; an ONNX model file was expected");
  save(small(), join(dir, "m.onnx"));
  truncateSync(join(dir, "m.onnx"), 6000);
  expect(() => load(join(dir, "m.onnx"))).toThrow(/^m\.onnx: is not a readable ONNX file: [^\n]+$/);
});
