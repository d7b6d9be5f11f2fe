import { describe, expect, test } from "vitest";
import { halfOps, noHalf } from "../../src/techniques/quantize/halfops.ts";
import { difference, modelOf, Refused, samples } from "./samples.ts";

const rows = Object.entries(samples).map(([name, sample]) => {
  const [node] = modelOf(name, "float32").model.graph.nodes;
  return { name, sample, can: noHalf(node!, sample.opset ?? 21) === null };
});

describe("ONNX Runtime", () => {
  test.each(rows.filter((r) => r.can))("takes $name in float16", async ({ name, sample }) => {
    const d = await difference(name);
    // 2⁻¹⁰ is one step of the last bit at the largest number.
    if (!sample.random) expect(d).toBeLessThan(2 ** -10);
  });

  test.each(rows.filter((r) => !r.can))("refuses $name in float16, which the table knows", async ({ name }) => {
    await expect(difference(name)).rejects.toThrow(Refused);
  });
});

test("every op of the table has a sample", () => {
  const have = rows.filter((r) => r.can).map((r) => r.name);
  const named = [...halfOps].flatMap(([domain, ops]) => [...ops.keys()].map((op) => (domain ? `${domain}.${op}` : op)));
  expect(have.sort()).toEqual(named.sort());
});
