import { expect, test } from "vitest";
import { fromArrays } from "../data/dataset.ts";
import { mlp } from "../nets/mlp.ts";
import { tensor } from "../tensor/tensor.ts";
import { passesOver } from "./finetune.ts";
import { retaught } from "./teacher.ts";

test("few examples are gone over more often", () => {
  expect([1, 500, 6000, 16_000, 60_000].map(passesOver)).toEqual([60, 60, 8, 3, 3]);
});

test("few labelled examples are learned from the original's answers; many, and what is asked for, as it was", async () => {
  const original = mlp({ sizes: [2, 3] });
  const notes: string[] = [];
  const context = {
    seed: 0,
    train: null,
    calibration: null,
    original,
    threads: 1,
    load: () => Promise.reject(new Error("none")),
    note: (s: string) => notes.push(s),
    progress: () => {},
  };
  const data = (n: number, labels: boolean) => {
    const x = tensor("float32", [n, 2], new Float32Array(2 * n));
    return fromArrays(labels ? { x, labels: tensor("int64", [n], new Array(n).fill(0)) } : { x });
  };
  const lossOf = async (n: number, labels: boolean, text: string | null) =>
    (await retaught(data(n, labels), text, context, true)).loss.name;
  expect(await lossOf(8, true, null)).toBe("kl");
  expect(await lossOf(16_000, true, null)).toBe("crossEntropy");
  expect(await lossOf(8, true, "crossEntropy")).toBe("crossEntropy");
  expect(await lossOf(8, false, null)).toBe("kl");
  const fresh = async (n: number, text: string | null, mix = true) => (await retaught(data(n, true), text, context, mix)).fresh;
  expect([await fresh(8, null, false), await fresh(8, "0.5*crossEntropy + 0.5*teacher"), await fresh(16_000, "teacher")]).toEqual(
    new Array(3).fill(undefined),
  );
  const given = data(8, true);
  const answered = await (await fresh(8, null))!(given, 0, 1);
  expect([answered.length, answered.names, answered.take([3]).teacher!.shape]).toEqual([8, ["x", "labels", "teacher"], [1, 3]]);
  expect(notes).toEqual([]);
});
