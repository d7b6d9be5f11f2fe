import { float } from "../../src/ir/graph.ts";
import type { Row } from "./check.ts";

const x = [2, 7];

export const rows: readonly Row[] = [
  ...["Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "LeakyRelu", "Elu", "Celu", "Selu", "HardSigmoid"].map(
    (op): Row => ({ op, inputs: [x] }),
  ),
  { op: "LeakyRelu", inputs: [x], attrs: { alpha: float(0.3) } },
  { op: "LeakyRelu", inputs: [x], attrs: { alpha: float(-0.5) } },
  { op: "Elu", inputs: [x], attrs: { alpha: float(0.4) } },
  { op: "Celu", inputs: [x], attrs: { alpha: float(0.4) } },
  { op: "Selu", inputs: [x], attrs: { alpha: float(1.2), gamma: float(0.8) } },
  { op: "ThresholdedRelu", inputs: [{ shape: [2, 7], from: -1.9, to: 2.1 }] },
  { op: "ThresholdedRelu", inputs: [x], attrs: { alpha: float(0.33) } },
  { op: "HardSigmoid", inputs: [x], attrs: { alpha: float(0.7), beta: float(0.4) } },
  { op: "HardSwish", inputs: [{ shape: [2, 7], from: -5, to: 5 }] },
  { op: "Mish", opset: 18, inputs: [x] },
  { op: "Swish", opset: 24, inputs: [x] },
  { op: "Swish", opset: 24, inputs: [x], attrs: { alpha: float(0.6) } },
  { op: "Gelu", opset: 20, inputs: [x] },
  { op: "Gelu", opset: 20, inputs: [x], attrs: { approximate: "tanh" } },
  {
    op: "PRelu",
    inputs: [
      [2, 3, 2],
      [3, 1],
    ],
  },
  { op: "PRelu", inputs: [[2, 3], []] },
  {
    op: "PRelu",
    inputs: [
      [2, 3],
      [2, 3],
    ],
  },
  { op: "Shrink", inputs: [x] },
  { op: "Shrink", inputs: [x], attrs: { bias: float(0.3), lambd: float(0.6) } },
  { op: "Softmax", inputs: [[2, 5]] },
  { op: "Softmax", inputs: [[2, 3, 2]], attrs: { axis: 1 } },
  { op: "LogSoftmax", inputs: [[2, 5]] },
  { op: "LogSoftmax", inputs: [[2, 3, 2]], attrs: { axis: -2 } },
  { op: "Dropout", inputs: [[2, 3]] },
];
