/** Every reader of a stranger's bytes: a broken file gives a Fault or an array, never a crash, a hang or memory for what it merely claims. */

import fc from "fast-check";
import { gzipSync } from "fflate";
import { describe, expect, test } from "vitest";
import { Fault } from "../tensor/fault.ts";
import { tensor } from "../tensor/tensor.ts";
import { readIdx, writeIdx } from "./idx.ts";
import { readNpy, writeNpy } from "./npy.ts";
import { readNpz, writeNpz } from "./npz.ts";
import { readSafetensors, writeSafetensors } from "./safetensors.ts";

const t = tensor("float32", [2, 3], [1, 2, 3, 4, 5, 6]);
const readers: Record<string, { read: (b: Uint8Array) => unknown; good: Uint8Array }> = {
  npy: { read: readNpy, good: writeNpy(t) },
  npz: { read: readNpz, good: writeNpz({ a: t, b: t }) },
  "deflated npz": { read: readNpz, good: writeNpz({ a: t, b: t }, { compress: true }) },
  idx: { read: readIdx, good: writeIdx(t) },
  "gzipped idx": { read: readIdx, good: gzipSync(writeIdx(t)) },
  safetensors: { read: readSafetensors, good: writeSafetensors({ a: t, b: t }, { format: "pt" }) },
};

describe.each(Object.entries(readers))("%s", (_, { read, good }) => {
  const survives = (bytes: Uint8Array) => {
    try {
      read(bytes);
    } catch (e) {
      expect(e).toBeInstanceOf(Fault);
    }
  };

  test("cut short anywhere: a Fault", () => {
    for (let n = 0; n < good.length; n++) expect(() => read(good.slice(0, n)), `${n} bytes`).toThrow(Fault);
    expect(() => read(new Uint8Array([...good, 0]))).toThrow(Fault);
  });

  test("bytes changed: a Fault or an array", () => {
    const change = fc.tuple(fc.nat(good.length - 1), fc.constantFrom(0, 1, 0x20, 0x39, 0x7f, 0x80, 0xff));
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
        const bad = good.slice();
        for (const [at, to] of changes) bad[at] = to;
        survives(bad);
      }),
      { numRuns: 1500, seed: 1 },
    );
  });

  test("any bytes: a Fault", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        survives(bytes);
        survives(new Uint8Array([...good.slice(0, 12), ...bytes]));
      }),
      { numRuns: 300, seed: 2 },
    );
  });
});
