import { expect, test } from "vitest";
import type { Measurement } from "../measure/measurement.ts";
import type { Run } from "../recipe/run.ts";
import { front, linearTicks, logTicks } from "./chart.ts";
import { page } from "./page.ts";

const measured = (accuracy: number, brotli: number): Measurement[] => [
  { metric: "accuracy", value: accuracy, unit: "%", n: 2000, interval: [accuracy - 1, accuracy + 1] },
  { metric: "accuracyChange", value: accuracy - 97, unit: "points", n: 2000, interval: [accuracy - 97.5, accuracy - 96.5] },
  { metric: "brotli", value: brotli, unit: "B", n: 0, interval: null },
];
const run = (name: string, accuracy: number, brotli: number, more: Partial<Run> = {}): Run => ({
  pith: "0.1.0",
  date: "2026-01-02T03:04:05.000Z",
  name,
  model: { name: "net.onnx", sha256: "ab".repeat(32) },
  recipe: { seed: 7, steps: [{ technique: "fade", share: 0.5 }] },
  seed: 7,
  data: { name: "digits", length: 2000 },
  machine: { processor: "any" },
  before: measured(97, 1e6),
  steps: [{ technique: "fade", params: { share: 0.5 }, notes: ["half of it went"], seconds: 2 }],
  gate: null,
  after: measured(accuracy, brotli),
  findings: [],
  unmeasured: null,
  ...more,
});

test("findings stand with what was done, escaped", () => {
  const finding = { level: "warning", what: "slower (0.65×): <3 of 4>", nodes: ["a", "b"], basis: "measured" } as const;
  expect(page([run("a.onnx", 96.5, 1e5, { findings: [finding] })])).toContain("<li><b>a.onnx</b> slower (0.65×): &#60;3 of 4&#62;</li>");
  expect(page([run("a.onnx", 96.5, 1e5, { findings: [finding] })])).toContain(
    '<li><b>warning</b> slower (0.65×): &#60;3 of 4&#62; <span class="soft">a, b · measured</span></li>',
  );
});

test("a page is self-contained and shows every run, its recipe and its notes", () => {
  const html = page([run("a.onnx", 96.5, 1e5), run("bad.onnx", 40, 2e5)]);
  expect(html).not.toMatch(/https?:|<script|<link|<img|url\(/);
  for (const text of [
    "net.onnx on digits",
    "a.onnx",
    "bad.onnx",
    "40.00 %",
    "fade:share=0.5",
    "half of it went",
    "&#34;seed&#34;: 7",
    "any",
  ])
    expect(html).toContain(text);
  expect(html).toContain("10× smaller");
  expect(html.match(/<g class="point/g)).toHaveLength(3);
});

test("other data makes a section of its own", () => {
  const html = page([run("a.onnx", 96.5, 1e5), run("b.onnx", 90, 1e5, { data: { name: "inverted digits", length: 100 } })]);
  expect(html.match(/<h2>/g)).toHaveLength(3);
  expect(html).toContain("<h2>On inverted digits</h2>");
});

test("names are text, never markup", () => {
  const html = page([run('<img src="x">', 96.5, 1e5, { machine: { "a&b": "<b>" } })]);
  expect(html).not.toContain("<img");
  expect(html).not.toContain("<b>&");
  expect(html).toContain("&#60;img src=&#34;x&#34;&#62;");
});

test("no result within a point is said so", () => {
  expect(page([run("bad.onnx", 40, 2e5)])).toContain("None of the 1 results stays within 1 point");
});

test("a page without measurements, or without runs, is still a page", () => {
  expect(page([run("a.onnx", 0, 0, { before: [], after: [] })])).toContain("half of it went");
  expect(page([])).toContain("Nothing measured");
});

test("ticks are round and inside; the front keeps what nothing beats", () => {
  expect(linearTicks(93.1, 97.4)).toEqual([94, 95, 96, 97]);
  expect(linearTicks(0, 1)).toEqual([0, 0.2, 0.4, 0.6, 0.8, 1]);
  expect(logTicks(4e4, 1.1e6)).toEqual([5e4, 1e5, 2e5, 5e5, 1e6]);
  expect(logTicks(900, 2e6)).toEqual([1e3, 1e4, 1e5, 1e6]);
  const points = [
    [10, 1],
    [1, 0.5],
    [2, 0.4],
    [5, 1],
  ].map(([x, y]) => ({ x: x!, y: y! }));
  expect(front(points).map((p) => p.x)).toEqual([1, 5]);
});
