import { expect, test } from "vitest";
import { memoryOf } from "../kernel.ts";
import { random } from "../random.ts";
import { vectorsKernel } from "./vectors.ts";

// The plain twins, in the kernel's order of summation (eight interleaved sums, then the rest), so that results are equal bit for bit.
function dot(x: Float64Array, y: Float64Array): number {
  const s = new Float64Array(8);
  const blocks = x.length & ~7;
  for (let i = 0; i < blocks; i++) s[i & 7]! += x[i]! * y[i]!;
  const lane = (l: number) => s[l]! + s[l + 2]! + (s[l + 4]! + s[l + 6]!);
  let sum = lane(0) + lane(1);
  for (let i = blocks; i < x.length; i++) sum += x[i]! * y[i]!;
  return sum;
}
const axpy = (a: number, x: Float64Array, y: Float64Array) => y.map((v, i) => v + a * x[i]!);

test.each([0, 1, 2, 3, 4, 7, 8, 9, 15, 64, 101])("dot, axpy, reflect and rotate of %i elements, aligned or not", (n) => {
  for (const offset of [0, 8]) {
    const memory = memoryOf(4096);
    const k = vectorsKernel(memory);
    const x = random(n).fillNormal(new Float64Array(memory.buffer, offset, n));
    const y = random(n, 1).fillNormal(new Float64Array(memory.buffer, 2048, n));
    const guard = new Float64Array(memory.buffer, 2048 + n * 8, 1).fill(7);
    const [x0, y0] = [x.slice(), y.slice()];
    expect(k.dot(offset, 2048, n)).toBe(dot(x0, y0));
    k.axpy(0.3, offset, 2048, n);
    expect(y).toEqual(axpy(0.3, x0, y0));
    y.set(y0);
    k.reflect(offset, 1.5, 2048, n);
    expect(y).toEqual(axpy(-1.5 * dot(x0, y0), x0, y0));
    y.set(y0);
    k.rotate(offset, 2048, n, 0.8, 0.6);
    expect(x).toEqual(x0.map((v, i) => 0.8 * v + 0.6 * y0[i]!));
    expect(y).toEqual(y0.map((v, i) => 0.8 * v - 0.6 * x0[i]!));
    expect(guard[0]).toBe(7);
  }
});
