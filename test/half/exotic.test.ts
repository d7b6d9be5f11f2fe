import { describe, expect, test } from "vitest";
import type { Batch } from "../../src/data/dataset.ts";
import { cloneModel, type Model } from "../../src/ir/graph.ts";
import { readModel } from "../../src/onnx/read.ts";
import { writeModel } from "../../src/onnx/write.ts";
import { contextOf } from "../../src/recipe/compress.ts";
import { open } from "../../src/runtime/session.ts";
import { sampleFeeds } from "../../src/runtime/shapes.ts";
import { half } from "../../src/techniques/quantize/half.ts";
import { floatsOf } from "../../src/tensor/tensor.ts";
import { exotic } from "../exotic.ts";

async function outputs(model: Model, feeds: Batch) {
  const session = await open(model, { threads: 1 });
  try {
    return await session.run(feeds);
  } finally {
    await session.release();
  }
}

describe.each(Object.entries(exotic()).filter(([, e]) => e.runs))("%s", (_, { bytes }) => {
  test.each([
    {},
    { compute: "float32" },
    { dtype: "bfloat16" },
  ] as const)("is converted with %o, loads, and gives nearly the same", async (params) => {
    const model = readModel(bytes);
    const converted = cloneModel(model);
    await half(params).apply(converted, contextOf(model, { threads: 1 }));
    const after = readModel(writeModel(converted));
    let feeds: Batch;
    let want: Awaited<ReturnType<typeof outputs>>;
    try {
      feeds = sampleFeeds(model);
      want = await outputs(model, feeds);
    } catch {
      // It takes no feeds of ours, or gives nothing that can be fetched: loading, as the original does, has to do.
      const optimization = "disabled";
      await (await open(model, { threads: 1, optimization })).release();
      await (await open(after, { threads: 1, optimization })).release();
      return;
    }
    const got = await outputs(after, feeds);
    expect(Object.keys(got)).toEqual(Object.keys(want));
    for (const [name, t] of Object.entries(want)) {
      const u = got[name]!;
      expect([u.dtype, u.shape, u.strings]).toEqual([t.dtype, t.shape, t.strings]);
      if (t.strings || !t.dtype.startsWith("float")) continue;
      const [a, b] = [floatsOf(t), floatsOf(u)];
      a.forEach((v, i) => {
        if (!Object.is(v, b[i])) expect(Math.abs(v - b[i]!)).toBeLessThanOrEqual(2e-2 * Math.max(1, Math.abs(v)));
      });
    }
  });
});
