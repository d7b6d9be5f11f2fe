import { describe, expect, test } from "vitest";
import { decodeSmallFloat, toBfloat16, toHalf } from "./dtype.ts";
import { type Half, narrow, range, survey } from "./half.ts";
import { random } from "./random.ts";
import { bytesOf, tensor, valuesOf } from "./tensor.ts";

const f32 = (values: readonly number[]) => tensor("float32", [values.length], values);

/** Every float16, the numbers half way between neighbours, those one float32 step to each side, and random bits. */
function samples(): Float32Array {
  const out: number[] = [Infinity, -Infinity, Number.NaN, 65504, 65519.996, 65520, 1e38, 3.4e38, 1e-45, -0];
  const step = new Float32Array(1);
  const bits = new Uint32Array(step.buffer);
  for (let h = 0; h < 0x7c00; h++) {
    const [x, y] = [decodeSmallFloat("float16", h), decodeSmallFloat("float16", h + 1)];
    step[0] = y === Infinity ? 65520 : (x + y) / 2;
    const mid = bits[0]!;
    for (const d of [-1, 0, 1]) {
      bits[0] = mid + d;
      out.push(step[0]!);
    }
    out.push(-x);
  }
  const r = random(1, "half");
  for (let i = 0; i < 50_000; i++) {
    bits[0] = r.below(2 ** 32);
    out.push(step[0]!);
  }
  return Float32Array.from(out);
}

describe.each([
  ["float16", toHalf],
  ["bfloat16", toBfloat16],
] as const)("%s", (to, one) => {
  test("is what the conversion of one number gives, everywhere", () => {
    const x = samples();
    const got = valuesOf(narrow(tensor("float32", [x.length], x), to as Half));
    x.forEach((v, i) => {
      if (got[i] !== one(v)) throw new Error(`${v}: ${got[i]} instead of ${one(v)}`);
    });
  });

  test("a tensor in a file gives the same bytes, whatever part is read", () => {
    const x = f32(Array.from({ length: 101 }, (_, i) => (i - 50) / 7));
    const whole = bytesOf(x);
    let most = 0;
    const read = (a = 0, z = whole.length) => {
      most = Math.max(most, z - a);
      return whole.slice(a, z);
    };
    const lazy = { byteLength: whole.length, read };
    const want = bytesOf(narrow(x, to as Half));
    const got = narrow({ ...x, data: lazy }, to as Half).data;
    expect(got instanceof Uint8Array).toBe(false);
    if (got instanceof Uint8Array) return;
    expect(most).toBe(0);
    for (const [a, z] of [
      [0, 202],
      [3, 8],
      [7, 7],
      [101, 202],
    ] as const)
      expect([...got.read(a, z)]).toEqual([...want.subarray(a, z)]);
  });
});

test("a survey counts what is lost, exactly at the edges", () => {
  const least = 2 ** -24;
  const s = survey(f32([0, 1, least, least / 2, -least / 2.5, least * 0.51, 65504, -65505, 1e9, Infinity, -Infinity]), "float16");
  expect(s).toEqual({ nonZero: 10, vanishing: 2, beyond: 2, largest: 1e9 });
  expect(survey(f32([3.3e38, 3.4e38]), "bfloat16")).toMatchObject({ beyond: 1 });
  expect(range.float16).toEqual({ largest: decodeSmallFloat("float16", 0x7bff), smallest: decodeSmallFloat("float16", 1) });
  expect(range.bfloat16).toEqual({ largest: decodeSmallFloat("bfloat16", 0x7f7f), smallest: decodeSmallFloat("bfloat16", 1) });
});

test("bounds hold on both sides and spare 0, infinities and NaN", () => {
  const t = narrow(f32([1e9, -1e9, 1e-9, -1e-9, 0, Infinity, Number.NaN, 3]), "float16", { largest: 1e4, smallest: 1e-7 });
  const got = [...(valuesOf(t) as Uint16Array)].map((b) => decodeSmallFloat("float16", b));
  const tiny = decodeSmallFloat("float16", toHalf(1e-7));
  expect(got).toEqual([1e4, -1e4, tiny, -tiny, 0, Infinity, Number.NaN, 3]);
});
