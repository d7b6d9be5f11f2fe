/** What must hold of every model that is read and written, whatever it is made of. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import type { NodeProto } from "onnx-buf";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { expect } from "vitest";
import { check } from "../src/ir/check.ts";
import { cloneModel, type Model } from "../src/ir/graph.ts";
import { allNodes } from "../src/ir/walk.ts";
import { readModel } from "../src/onnx/read.ts";
import { isUntouched, writeModel } from "../src/onnx/write.ts";
import { toOrt } from "../src/runtime/session.ts";
import { sizeOf } from "../src/tensor/dtype.ts";
import { random } from "../src/tensor/random.ts";
import { tensor } from "../src/tensor/tensor.ts";

/** The models of reference/fixtures/corpus.gz, made by reference/corpus.py, by name. */
export function corpus(): Map<string, Uint8Array> {
  const data = gunzipSync(readFileSync(join(import.meta.dirname, "reference/fixtures/corpus.gz")));
  const out = new Map<string, Uint8Array>();
  let at = 0;
  const word = () => {
    const end = data.indexOf(0, at);
    const s = data.toString("utf8", at, end);
    at = end + 1;
    return s;
  };
  while (at < data.length) {
    const name = word();
    const length = Number(word());
    out.set(name, new Uint8Array(data.subarray(at, at + length)));
    at += length;
  }
  return out;
}

/** Reads the model and holds that it and a clone of it are written as they came, and that it stays so when written anew. Returns the rewritten bytes. */
export function rewritten(bytes: Uint8Array): Uint8Array {
  const model = readModel(bytes);
  check(model);
  const copy = cloneModel(model);
  check(copy);
  expect(isUntouched(model) && isUntouched(copy)).toBe(true);
  expect(Buffer.compare(writeModel(copy), bytes)).toBe(0);
  touch(copy);
  expect(isUntouched(copy)).toBe(false);
  check(copy);
  const touched = writeModel(copy);
  const again = readModel(touched);
  check(again);
  expect(isUntouched(again)).toBe(true);
  expect(again.metadata.get("touched")).toBe("yes");
  // Everything is written from the nouns now, and reading it gives the same nouns.
  const third = cloneModel(again);
  for (const n of allNodes(third.graph)) if (!(n.source as NodeProto).overload) n.source = undefined;
  third.metadata.set("touched", "twice");
  third.metadata.set("touched", "yes");
  expect(Buffer.compare(writeModel(third), touched)).toBe(0);
  expect(isUntouched(model)).toBe(true);
  return touched;
}

/** Changes a little of everything, but nothing that the outputs depend on: metadata, one more output, every node's message written anew. */
function touch(model: Model): void {
  const g = model.graph;
  model.metadata.set("touched", "yes");
  for (const n of allNodes(g)) if (!(n.source as NodeProto).overload) n.source = undefined;
  const out = g.outputs[0];
  if (out?.type && model.opsets.has("")) g.addOutput(g.append("Identity", [out]).outputs[0]!);
}

const settings: InferenceSession.SessionOptions = { graphOptimizationLevel: "disabled", intraOpNumThreads: 1, logSeverityLevel: 4 };

type Answer = { readonly outputs: ReadonlyMap<string, Tensor>; readonly refused?: undefined } | { readonly refused: string };

/** Outputs of the model in ONNX Runtime on inputs that depend on their names, types and shapes alone, or why it does not run. */
export async function answer(bytes: Uint8Array): Promise<Answer> {
  let session: InferenceSession | null = null;
  try {
    session = await InferenceSession.create(bytes, settings);
    const feeds: Record<string, Tensor> = {};
    for (const m of session.inputMetadata) {
      if (!m.isTensor) return { refused: "an input that is no tensor" };
      const shape = m.shape.map((d) => (typeof d === "number" && d >= 0 ? d : 2));
      feeds[m.name] = example(m.type, shape);
    }
    // The binding has no tensors of 4-bit types.
    const names = session.outputMetadata.flatMap((m) => (m.isTensor && !m.type.endsWith("int4") ? [m.name] : []));
    if (!names.length) return { refused: "no output that is a tensor" };
    return { outputs: new Map(Object.entries(await session.run(feeds, names))) };
  } catch (e) {
    return { refused: (e as Error).message.split("\n")[0]! };
  } finally {
    await session?.release();
  }
}

function example(type: string, shape: number[]): Tensor {
  const n = sizeOf(shape);
  if (type === "string")
    return new Tensor(
      "string",
      Array.from({ length: n }, (_, i) => `s${i}`),
      shape,
    );
  const r = random(0, `${type}[${shape}]`);
  const values = Array.from({ length: n }, () => (type.startsWith("float") ? r.normal() : r.below(2)));
  return toOrt(tensor(type as "float32", shape, values)) as Tensor;
}

/** Equal element types, shapes and bits. */
export function sameTensor(a: Tensor, b: Tensor): boolean {
  if (a.type !== b.type || a.dims.join() !== b.dims.join()) return false;
  if (a.type === "string") return (a.data as string[]).every((s, i) => s === b.data[i]);
  const bytes = (t: Tensor) => {
    const { buffer, byteOffset, byteLength } = t.data as Uint8Array;
    return Buffer.from(buffer, byteOffset, byteLength);
  };
  return bytes(a).equals(bytes(b));
}
