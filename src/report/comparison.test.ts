import { expect, test } from "vitest";
import type { Measurement } from "../measure/measurement.ts";
import { comparison } from "./comparison.ts";

const m = (metric: string, value: number, more: Partial<Measurement> = {}): Measurement => ({
  metric,
  value,
  unit: "",
  n: 0,
  interval: null,
  ...more,
});

test("rows compare with the first: sizes and times as quotients, accuracy as points", () => {
  const row = (name: string, accuracy: number, file: number, ms: number) => ({
    name,
    measured: [
      m("accuracy", accuracy, { unit: "%", n: 1000, interval: [accuracy - 1, accuracy + 1] }),
      m("accuracyChange", accuracy - 97, { unit: "points", n: 1000, interval: [accuracy - 97.5, accuracy - 96.5] }),
      m("file", file, { unit: "B" }),
      m("latency", ms, { unit: "ms", at: { percentile: 50, batch: 1 } }),
      m("latency", ms * 2, { unit: "ms", at: { percentile: 95, batch: 1 } }),
    ],
  });
  expect(`\n${comparison([row("a.onnx", 97, 1000, 1), row("b.onnx", 96.5, 250, 0.5), row("c.onnx", 97.25, 2000, 2)])}`).toBe(`
model             accuracy   file  median   p95
                 n = 1,000
───────────────────────────────────────────────
a.onnx             97.00 %   1 kB    1 ms  2 ms
               96.00–98.00
b.onnx             96.50 %  250 B  0.5 ms  1 ms
        −0.50  95.50–97.50     4×      2×
c.onnx             97.25 %   2 kB    2 ms  4 ms
        +0.25  96.25–98.25   0.5×    0.5×`);
});

test("what was not measured has no column, and metrics of one's own have one", () => {
  const text = comparison([
    { name: "a", measured: [m("characterError", 0.125)] },
    { name: "b", measured: [] },
  ]);
  expect(text.split("\n")[0]).toBe("model  characterError");
});

test("a figure measured under several conditions has a column for each, told apart below its title", () => {
  const at = (batch: number) => m("latency", batch, { unit: "ms", at: { percentile: 50, batch, threads: 1 } });
  const text = comparison([
    { name: "a", measured: [at(1), at(32)] },
    { name: "b", measured: [at(1), at(32)] },
  ]);
  expect(text.split("\n").slice(0, 2)).toEqual(["model   median    median", "       batch 1  batch 32"]);
});
