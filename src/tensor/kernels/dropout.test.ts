import { expect, test } from "vitest";
import { memoryOf } from "../kernel.ts";
import { random } from "../random.ts";
import { dropoutKernel, thresholdOf } from "./dropout.ts";

test("masks are the generator's words against a threshold, kept elements scaled up", () => {
  const n = 4096;
  const memory = memoryOf(n * 4);
  const out = new Float32Array(memory.buffer, 0, n);
  const draw = dropoutKernel(memory);
  for (const [seed, ratio] of [
    [7, 0.3],
    [2 ** 40 + 5, 0.5],
  ] as const) {
    draw.mask(0, n, ratio, seed, "dropout/3");
    const r = random(seed, "dropout/3");
    const want = Float32Array.from({ length: n }, () => (r.uint32() < thresholdOf(ratio) ? 0 : 1 / (1 - ratio)));
    expect(Buffer.compare(new Uint8Array(memory.buffer, 0, n * 4), new Uint8Array(want.buffer))).toBe(0);
    // Standard deviation of the share: below 0.008.
    expect(Math.abs(out.filter((v) => v === 0).length / n - ratio)).toBeLessThan(0.03);
  }
});

test("uniform numbers are the upper 24 bits of the generator's words", () => {
  const n = 4096;
  const memory = memoryOf(n * 4);
  const out = new Float32Array(memory.buffer, 0, n);
  dropoutKernel(memory).uniform(0, n, 7, "noise/3");
  const r = random(7, "noise/3");
  expect(out).toEqual(Float32Array.from({ length: n }, () => (r.uint32() >>> 8) * 2 ** -23 - 1));
  // Standard deviation of the mean: 0.009.
  expect(Math.abs(out.reduce((a, b) => a + b) / n)).toBeLessThan(0.036);
});
