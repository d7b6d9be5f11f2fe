import { float } from "../../src/ir/graph.ts";
import type { Row } from "./check.ts";

export const rows: readonly Row[] = [
  { op: "LayerNormalization", inputs: [[2, 5], [5], [5]] },
  {
    op: "LayerNormalization",
    inputs: [
      [2, 3, 4],
      [3, 4],
    ],
    attrs: { axis: 1, epsilon: float(0.1) },
  },
  { op: "LayerNormalization", inputs: [[2, 5], [5], [5]], outputs: 3, note: "through the statistics" },
  { op: "RMSNormalization", opset: 23, inputs: [[2, 5], [5]] },
  {
    op: "RMSNormalization",
    opset: 23,
    inputs: [
      [2, 3, 4],
      [3, 4],
    ],
    attrs: { axis: 1, epsilon: float(0.1) },
  },
  { op: "SimplifiedLayerNormalization", inputs: [[2, 5], [5]], attrs: { axis: -1, epsilon: float(0.01) } },
  { op: "InstanceNormalization", inputs: [[2, 3, 4], [3], [3]], attrs: { epsilon: float(0.1) } },
  { op: "InstanceNormalization", inputs: [[1, 2, 2, 3], [2], [2]] },
  { op: "GroupNormalization", opset: 18, inputs: [[2, 4, 3], [2], [2]], attrs: { num_groups: 2 } },
  { op: "GroupNormalization", opset: 21, inputs: [[2, 4, 3], [4], [4]], attrs: { num_groups: 2, epsilon: float(0.1) } },
  { op: "MeanVarianceNormalization", inputs: [[2, 2, 2, 2]] },
  { op: "MeanVarianceNormalization", inputs: [[3, 5]], attrs: { axes: [1] } },
  { op: "LpNormalization", inputs: [[3, 4]] },
  { op: "LpNormalization", inputs: [[3, 4]], attrs: { axis: 0, p: 1 } },
];
