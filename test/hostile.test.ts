import { fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import * as onnx from "onnx-buf";
import { describe, expect, test } from "vitest";
import { check } from "../src/ir/check.ts";
import { cloneModel, type Model } from "../src/ir/graph.ts";
import { printModel } from "../src/ir/print.ts";
import { removeDead, stored } from "../src/ir/walk.ts";
import { readModel } from "../src/onnx/read.ts";
import { isUntouched, writeModel } from "../src/onnx/write.ts";
import { Fault } from "../src/tensor/fault.ts";
import { type Random, random } from "../src/tensor/random.ts";
import { valuesOf } from "../src/tensor/tensor.ts";
import { exotic } from "./exotic.ts";
import * as proto from "./protos.ts";
import { corpus } from "./roundtrip.ts";

/** Every fourth model from elsewhere, and those by hand. */
const models = [...[...corpus().values()].filter((_, i) => i % 4 === 0), ...Object.values(exotic()).map((e) => e.bytes)];

/** A file either is a model, which is written as it came and works with everything a graph can do, or it is refused by a Fault of one line. */
function survives(bytes: Uint8Array): "refused" | "unsound" | "sound" {
  let model: Model;
  try {
    model = readModel(bytes);
  } catch (e) {
    expect(e).toBeInstanceOf(Fault);
    expect((e as Fault).message).not.toMatch(/[\n\r]/);
    return "refused";
  }
  expect(isUntouched(model)).toBe(true);
  expect(Buffer.compare(writeModel(model), bytes)).toBe(0);
  for (const s of stored(model.graph)) valuesOf(s.tensor);
  const copy = cloneModel(model);
  expect(isUntouched(copy)).toBe(true);
  try {
    check(model);
  } catch (e) {
    expect(e).toBeInstanceOf(Fault);
    return "unsound";
  }
  printModel(model);
  copy.metadata.set("touched", "yes");
  const again = readModel(writeModel(copy));
  check(again);
  expect(isUntouched(again)).toBe(true);
  removeDead(copy.graph);
  check(copy);
  check(readModel(writeModel(copy)));
  return "sound";
}

/** Bytes changed, cut out, doubled, cut off, lengths blown up. */
function mangled(bytes: Uint8Array, r: Random): Uint8Array {
  let b = Array.from(bytes);
  for (let k = 1 + r.below(3); k > 0 && b.length; k--) {
    const at = r.below(b.length);
    const some = 1 + r.below(12);
    switch (r.below(6)) {
      case 0:
        b[at] = r.below(256);
        break;
      case 1:
        b[at]! ^= 1 << r.below(8);
        break;
      case 2:
        b = b.slice(0, at);
        break;
      case 3:
        b.splice(at, some);
        break;
      case 4:
        b.splice(at, 0, ...b.slice(r.below(b.length)).slice(0, some));
        break;
      case 5:
        b.splice(at, 1, ...[0xff, 0xff, 0xff, 0xff, 0x07].slice(r.below(5)));
    }
  }
  return Uint8Array.from(b);
}

interface Site {
  readonly value: unknown;
  readonly set: (value: unknown) => void;
  readonly list: unknown[] | null;
  readonly index: number;
}

/** Every place in a message where something stands. */
function sites(m: object, out: Site[] = []): Site[] {
  for (const [key, value] of Object.entries(m)) {
    if (key === "$typeName" || key === "$unknown") continue;
    const visit = (v: unknown, set: (v: unknown) => void, list: unknown[] | null, index: number) => {
      out.push({ value: v, set, list, index });
      if (v && typeof v === "object" && !ArrayBuffer.isView(v)) sites(v, out);
    };
    if (Array.isArray(value)) for (let i = 0; i < value.length; i++) visit(value[i], (v) => (value[i] = v), value, i);
    else visit(value, (v) => ((m as Record<string, unknown>)[key] = v), null, 0);
  }
  return out;
}

const extremes = [0n, 1n, -1n, 3n, 255n, 2n ** 31n - 1n, 2n ** 32n, 2n ** 53n, 2n ** 62n, -(2n ** 63n)];

/** A well-formed file of a malformed model: sizes, types and names exchanged, parts lost, doubled and moved. */
function disordered(bytes: Uint8Array, r: Random): Uint8Array {
  const message = fromBinary(onnx.ModelProtoSchema, bytes as Uint8Array<ArrayBuffer>);
  for (let k = 1 + r.below(3); k > 0; k--) {
    const all = sites(message);
    const { value, set, list, index } = all[r.below(all.length)]!;
    const act = r.below(6);
    if (list && act === 0) list.splice(index, 1);
    else if (list && act === 1) list.push(value);
    else if (list && act === 2) list.splice(r.below(list.length), 0, ...list.splice(index, 1));
    else if (typeof value === "bigint") set(extremes[r.below(extremes.length)]);
    else if (typeof value === "number") set(r.below(30) - 1);
    else if (typeof value === "string") {
      const names = all.map((s) => s.value).filter((v) => typeof v === "string");
      set(names[r.below(names.length)]);
    } else if (value instanceof Uint8Array) set(value.slice(0, r.below(value.length + 1)));
  }
  return toBinary(onnx.ModelProtoSchema, message);
}

describe.each([
  ["mangled bytes", mangled, 3],
  ["disordered messages", disordered, 300],
] as const)("%s", (_, change, leastSound) => {
  test("are refused in one line or make a model that works", () => {
    const outcomes = { refused: 0, unsound: 0, sound: 0 };
    fc.assert(
      fc.property(fc.nat(models.length - 1), fc.nat(), (i, seed) => {
        outcomes[survives(change(models[i]!, random(seed)))]++;
      }),
      { numRuns: 1000, seed: 1 },
    );
    // All three ways were gone.
    expect(outcomes.refused).toBeGreaterThan(20);
    expect(outcomes.unsound).toBeGreaterThan(5);
    expect(outcomes.sound).toBeGreaterThan(leastSound);
  });
});

describe("claims", () => {
  const tensor = (more: proto.Init<typeof onnx.TensorProtoSchema>) => proto.model({ initializer: [proto.tensor({ name: "w", ...more })] });
  const sparse = (dims: bigint[], indices: bigint[], n: number) =>
    proto.model({
      sparseInitializer: [
        {
          $typeName: "onnx.SparseTensorProto",
          dims,
          values: proto.floats("w", [n], new Array(n).fill(1)),
          indices: proto.raw("", 7, [indices.length], BigInt64Array.from(indices)),
        },
      ],
    });
  test.each<[string, Uint8Array, string]>([
    ["a shape without bytes", tensor({ dataType: 1, dims: [2n ** 40n] }), "holds 0 bytes; float32[1099511627776] takes 4398046511104"],
    ["a shape beyond numbers", tensor({ dataType: 1, dims: [2n ** 62n, 2n ** 62n] }), "more elements than any file holds"],
    ["zeros that hide a shape", tensor({ dataType: 1, dims: [0n, 2n ** 62n] }), "more elements than any file holds"],
    ["a negative size", tensor({ dataType: 1, dims: [-1n] }), "has a negative dimension in [-1]"],
    ["too many dimensions", tensor({ dataType: 1, dims: new Array(65).fill(1n) }), "claims 65 dimensions; the limit is 64"],
    [
      "strings that are not there",
      tensor({ dataType: 8, dims: [2n ** 40n] }),
      "holds 0 strings; its shape [1099511627776] needs 1099511627776",
    ],
    ["an unknown type", tensor({ dataType: 27, dims: [] }), "element type 27 is unknown; ONNX defines 1 to 26"],
    ["a vast sparse tensor", sparse([2n ** 40n], [0n], 1), "claims 1099511627776 elements; the limit for sparse tensors is 1073741824"],
    ["a sparse index outside", sparse([4n], [4n], 1), "has the index 4 where 4 is the size"],
    ["a negative sparse index", sparse([4n], [-1n], 1), "has the index -1 where 4 is the size"],
    ["a sparse index twice", sparse([4n], [1n, 1n], 2), "its indices must ascend, each once; got the place 1 behind 1"],
    ["sparse indices out of order", sparse([4n], [2n, 1n], 2), "its indices must ascend, each once; got the place 1 behind 2"],
    ["too few sparse indices", sparse([4n], [1n], 2), "has 1 indices for 2 values"],
  ])("%s", (_, bytes, message) => {
    expect(() => readModel(bytes)).toThrow(message);
    expect(() => readModel(bytes)).toThrow(Fault);
  });

  /** A graph of one field, repeated. */
  const repeated = (field: number[], times: number) => {
    const bytes = new Uint8Array(6 + field.length * times);
    const length = field.length * times;
    bytes.set([0x3a, (length & 127) | 128, ((length >> 7) & 127) | 128, ((length >> 14) & 127) | 128, (length >> 21) | 128, 0]);
    for (let i = 0; i < times; i++) bytes.set(field, 6 + i * field.length);
    return bytes;
  };
  test("millions of empty parts are refused before they become objects", () => {
    const before = process.memoryUsage().rss;
    expect(() => readModel(repeated([0x0a, 0], 3_000_000))).toThrow("is not a readable ONNX file: it has more than 2097152 parts");
    expect(process.memoryUsage().rss - before).toBeLessThan(200e6);
    expect(readModel(repeated([0x0a, 0], 1000)).graph.nodes.size).toBe(1000);
  });

  test("lengths beyond what surrounds them, and messages without end", () => {
    expect(() => readModel(Uint8Array.of(0x3a, 0xff, 0xff, 0xff, 0xff, 0x07))).toThrow("2147483647 bytes are missing behind byte 6");
    // A node that claims more than its graph holds, with a field of the model behind.
    expect(() => readModel(Uint8Array.of(0x3a, 2, 0x0a, 2, 8, 8))).toThrow("2 bytes are missing behind byte 4");
    expect(() => readModel(Uint8Array.of(0x08, 0x80))).toThrow("it is cut off at byte 2");
    let deep = proto.graph({ name: "bottom" });
    for (let i = 0; i < 40; i++)
      deep = proto.graph({ node: [proto.node("If", [], [], { attribute: [proto.graphAttr("then_branch", deep)] })] });
    const bytes = toBinary(onnx.GraphProtoSchema, deep);
    const framed = Uint8Array.of(0x3a, (bytes.length & 127) | 128, bytes.length >> 7, ...bytes);
    expect(() => readModel(framed)).toThrow("its messages nest deeper than 100");
  });
});
