import { tensor } from "../../src/tensor/tensor.ts";
import { numbers, positive, type Row } from "./check.ts";

const condition = (shape: number[], ...values: number[]) => tensor("bool", shape, values);

export const rows: readonly Row[] = [
  ...["Add", "Sub", "Mul"].flatMap((op): Row[] => [
    {
      op,
      inputs: [
        [2, 3],
        [2, 3],
      ],
    },
    { op, inputs: [[2, 3], [3]] },
    {
      op,
      inputs: [
        [2, 1, 3],
        [4, 1],
      ],
    },
    { op, inputs: [[], [2, 2]] },
    { op, inputs: [[2, 3], 0], note: "shared" },
  ]),
  { op: "Div", inputs: [[2, 3], positive(2, 3)] },
  { op: "Div", inputs: [[3], positive(2, 1)] },
  { op: "Div", inputs: [positive(4), 0], note: "shared" },
  // Sums of many rows, in one stage and in two.
  ...[
    [128, 3],
    [62, 3],
    [61, 3],
    [65, 3],
    [67, 3],
    [2, 40, 3],
    [100, 2, 3],
    [2, 3, 50, 3],
  ].flatMap((shape): Row[] => [
    { op: "Add", inputs: [shape, [3]], note: "bias" },
    { op: "Mul", inputs: [[1], shape], note: "scale" },
  ]),
  {
    op: "Mul",
    inputs: [
      [3, 4, 5, 2],
      [1, 4, 1, 1],
    ],
    note: "by channel",
  },
  {
    op: "Mul",
    inputs: [
      [3, 4, 5, 2],
      [4, 1, 2],
    ],
  },
  {
    op: "Mul",
    inputs: [
      [70, 4, 5],
      [1, 4, 1],
    ],
    note: "by channel",
  },
  {
    op: "Mul",
    inputs: [
      [2, 1, 3],
      [1, 1, 1, 1],
    ],
  },
  { op: "Neg", inputs: [[2, 3]] },
  { op: "Pow", inputs: [[2, 3], numbers([], 2)], note: "square" },
  { op: "Pow", inputs: [[2, 3], numbers([1], 3)], note: "cube" },
  { op: "Pow", inputs: [[2, 3], numbers([], -2)], note: "negative base" },
  { op: "Pow", inputs: [[2, 3], numbers([], 0)], note: "zero" },
  { op: "Pow", inputs: [[2, 3], tensor("int64", [3], [0, 1, 4])], note: "integer exponents" },
  { op: "Pow", inputs: [positive(2, 3), numbers([], 0.5)], note: "root" },
  { op: "Pow", inputs: [positive(2, 3), [3]] },
  { op: "Pow", inputs: [positive(2, 1), [2, 3]] },
  { op: "Mod", inputs: [[2, 3], { shape: [3], from: 0.7, to: 1.1 }], attrs: { fmod: 1 } },
  ...["Max", "Min", "Sum", "Mean"].flatMap((op): Row[] => [
    {
      op,
      inputs: [
        [2, 3],
        [2, 3],
      ],
    },
    { op, inputs: [[2, 3], [3], [2, 1]] },
    { op, inputs: [[3]] },
    { op, inputs: [[2, 3], numbers([], 0.01)], note: "with a constant" },
  ]),
  { op: "Where", inputs: [condition([2, 3], 1, 0, 1, 1, 0, 0), [2, 3], [2, 3]] },
  { op: "Where", inputs: [condition([3], 1, 0, 1), [2, 1], []] },
  { op: "Clip", inputs: [[3, 4]] },
  { op: "Clip", inputs: [[3, 4], numbers([], -1.01), null] },
  { op: "Clip", inputs: [[3, 4], null, numbers([], 0.51)] },
  { op: "Clip", inputs: [[3, 4], { shape: [], from: -1.3, to: -0.6 }, { shape: [], from: 0.3, to: 1.1 }], note: "learned bounds" },
];
