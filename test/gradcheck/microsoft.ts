import { float } from "../../src/ir/graph.ts";
import type { Row } from "./check.ts";

const domain = "com.microsoft";

export const rows: readonly Row[] = (
  [
    { op: "Gelu", inputs: [[2, 5]] },
    { op: "QuickGelu", inputs: [[2, 5]] },
    { op: "QuickGelu", inputs: [[2, 5]], attrs: { alpha: float(0.9) } },
    { op: "BiasGelu", inputs: [[2, 5], [5]] },
    { op: "FastGelu", inputs: [[2, 5], [5]] },
    { op: "FastGelu", inputs: [[2, 5]] },
    { op: "SkipLayerNormalization", inputs: [[1, 2, 5], [1, 2, 5], [5], [5], [5]], attrs: { epsilon: float(0.01) } },
    { op: "SkipLayerNormalization", inputs: [[1, 2, 5], [1, 2, 5], [5]], outputs: ["y", "", "", "sum"], through: [0, 3] },
    { op: "SkipSimplifiedLayerNormalization", inputs: [[1, 2, 5], [1, 2, 5], [5], [5]], attrs: { epsilon: float(0.01) } },
    {
      op: "FusedMatMul",
      inputs: [
        [2, 3],
        [3, 2],
      ],
      attrs: { alpha: float(0.5) },
    },
    {
      op: "FusedMatMul",
      inputs: [
        [2, 3, 2],
        [2, 2, 3],
      ],
      attrs: { transA: 1, transB: 1 },
    },
    {
      op: "FusedMatMul",
      inputs: [
        [2, 2, 3],
        [2, 3],
      ],
      attrs: { transB: 1 },
    },
  ] as const
).map((r): Row => ({ ...r, domain }));
